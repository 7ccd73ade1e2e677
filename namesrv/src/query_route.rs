//! `apache.rocketmq.v2` QueryRoute from the table; a name server serves no other call of the public protocol.
//!
//! A broker group is one broker name. All its living replicas are in the endpoints of each queue, the leader first; queues
//! of the broker groups interleave, so that a client that walks the list spreads its load.

use futures::stream::BoxStream;
use ledgermq_proto::{
    names::{self, BadTopic},
    registry::{BrokerGroupRoute, Routes, TopicRoute},
    rocketmq::{
        self as wire, Address, AddressScheme, Broker, Code, Endpoints, MessageQueue, MessageType, Permission,
        QueryRouteRequest, QueryRouteResponse, Resource, messaging_service_server::MessagingService,
    },
};
use tonic::{Request, Response, Status, Streaming};

use crate::{limits, registry::Registry};

pub(crate) struct RouteService {
    registry: Registry,
}

impl RouteService {
    pub(crate) fn new(registry: Registry) -> Self {
        Self { registry }
    }

    fn answer(&self, request: &Request<QueryRouteRequest>) -> QueryRouteResponse {
        let client_id = request
            .metadata()
            .get("x-mq-client-id")
            .and_then(|value| value.to_str().ok());
        if client_id.is_none_or(|id| id.trim().is_empty()) {
            return refused(Code::ClientIdRequired, "header x-mq-client-id is missing".to_owned());
        }
        let Some(topic) = &request.get_ref().topic else {
            return refused(Code::IllegalTopic, "topic is missing".to_owned());
        };
        if let Err(BadTopic(reason)) = names::topic(&topic.name) {
            return refused(Code::IllegalTopic, reason);
        }
        let routes = self.registry.routes();
        if routes.broker_groups.is_empty() {
            return refused(Code::HaNotAvailable, "no broker has registered here".to_owned());
        }
        let message_queues = queues(&routes, topic);
        if message_queues.is_empty() {
            return refused(Code::TopicNotFound, format!("no route of topic {:?}", topic.name));
        }
        QueryRouteResponse {
            status: Some(status(Code::Ok, "OK".to_owned())),
            message_queues,
        }
    }
}

fn refused(code: Code, message: String) -> QueryRouteResponse {
    QueryRouteResponse {
        status: Some(status(code, message)),
        message_queues: Vec::new(),
    }
}

fn status(code: Code, message: String) -> wire::Status {
    wire::Status {
        code: code.into(),
        message,
    }
}

/// Ordered by queue id, then by broker name.
fn queues(routes: &Routes, topic: &Resource) -> Vec<MessageQueue> {
    let mut queues = Vec::new();
    for broker_group in &routes.broker_groups {
        // Topics are ordered by name.
        let Ok(found) = broker_group
            .topics
            .binary_search_by(|candidate| candidate.name.cmp(&topic.name))
        else {
            continue;
        };
        let Some(endpoints) = endpoints(broker_group) else {
            continue;
        };
        let broker = Broker {
            name: broker_group.name.clone(),
            id: 0,
            endpoints: Some(endpoints),
        };
        queues.extend(queues_of(&broker_group.topics[found], topic, &broker));
    }
    queues.sort_by_key(|queue: &MessageQueue| queue.id);
    queues
}

fn queues_of(route: &TopicRoute, topic: &Resource, broker: &Broker) -> impl Iterator<Item = MessageQueue> {
    let accepted = accepted(&route.r#type);
    let count = i32::try_from(route.queues.min(limits::QUEUES_MAX)).unwrap_or_default();
    (0..count).map(move |id| MessageQueue {
        topic: Some(topic.clone()),
        id,
        permission: Permission::ReadWrite.into(),
        broker: Some(broker.clone()),
        accept_message_types: accepted.iter().map(|kind| i32::from(*kind)).collect(),
    })
}

fn accepted(topic_type: &str) -> Vec<MessageType> {
    match topic_type {
        "normal" => vec![MessageType::Normal],
        "fifo" => vec![MessageType::Fifo],
        "delay" => vec![MessageType::Delay],
        "transaction" => vec![MessageType::Transaction],
        "mixed" => vec![
            MessageType::Normal,
            MessageType::Fifo,
            MessageType::Delay,
            MessageType::Transaction,
        ],
        _ => vec![MessageType::Unspecified],
    }
}

/// The leader first, then the other living replicas; when none lives, all: one of them may be back before the next beat.
/// Clients take several addresses only when all are IPs of one kind; else they get the first alone.
fn endpoints(broker_group: &BrokerGroupRoute) -> Option<Endpoints> {
    let any_alive = broker_group.replicas.iter().any(|replica| replica.alive);
    let mut replicas: Vec<_> = broker_group
        .replicas
        .iter()
        .filter(|replica| replica.alive || !any_alive)
        .collect();
    replicas.sort_by_key(|replica| (Some(replica.id) != broker_group.leader, replica.id));
    let mut addresses: Vec<Address> = replicas
        .iter()
        .filter_map(|replica| address(&replica.client_address))
        .collect();

    let all = |is: fn(&Address) -> bool| !addresses.is_empty() && addresses.iter().all(is);
    let scheme = if all(|address| address.host.parse::<std::net::Ipv4Addr>().is_ok()) {
        AddressScheme::IPv4
    } else if all(|address| address.host.parse::<std::net::Ipv6Addr>().is_ok()) {
        AddressScheme::IPv6
    } else {
        addresses.truncate(1);
        AddressScheme::DomainName
    };
    (!addresses.is_empty()).then(|| Endpoints {
        scheme: scheme.into(),
        addresses,
    })
}

fn address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Address {
        host,
        port: port.parse().ok()?,
    })
}

/// Refuses every call but QueryRoute with gRPC UNIMPLEMENTED.
macro_rules! only_on_brokers {
    ($($verb:ident: $request:ty => $response:ty;)*) => {
        #[tonic::async_trait]
        impl MessagingService for RouteService {
            type ReceiveMessageStream = BoxStream<'static, Result<wire::ReceiveMessageResponse, Status>>;
            type PullMessageStream = BoxStream<'static, Result<wire::PullMessageResponse, Status>>;
            type TelemetryStream = BoxStream<'static, Result<wire::TelemetryCommand, Status>>;

            async fn query_route(
                &self,
                request: Request<QueryRouteRequest>,
            ) -> Result<Response<QueryRouteResponse>, Status> {
                Ok(Response::new(self.answer(&request)))
            }

            $(async fn $verb(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("a name server answers QueryRoute only; ask a broker"))
            })*
        }
    };
}

only_on_brokers! {
    heartbeat: wire::HeartbeatRequest => wire::HeartbeatResponse;
    send_message: wire::SendMessageRequest => wire::SendMessageResponse;
    query_assignment: wire::QueryAssignmentRequest => wire::QueryAssignmentResponse;
    receive_message: wire::ReceiveMessageRequest => Self::ReceiveMessageStream;
    ack_message: wire::AckMessageRequest => wire::AckMessageResponse;
    forward_message_to_dead_letter_queue: wire::ForwardMessageToDeadLetterQueueRequest
        => wire::ForwardMessageToDeadLetterQueueResponse;
    pull_message: wire::PullMessageRequest => Self::PullMessageStream;
    update_offset: wire::UpdateOffsetRequest => wire::UpdateOffsetResponse;
    get_offset: wire::GetOffsetRequest => wire::GetOffsetResponse;
    query_offset: wire::QueryOffsetRequest => wire::QueryOffsetResponse;
    end_transaction: wire::EndTransactionRequest => wire::EndTransactionResponse;
    telemetry: Streaming<wire::TelemetryCommand> => Self::TelemetryStream;
    notify_client_termination: wire::NotifyClientTerminationRequest => wire::NotifyClientTerminationResponse;
    change_invisible_duration: wire::ChangeInvisibleDurationRequest => wire::ChangeInvisibleDurationResponse;
    recall_message: wire::RecallMessageRequest => wire::RecallMessageResponse;
    sync_lite_subscription: wire::SyncLiteSubscriptionRequest => wire::SyncLiteSubscriptionResponse;
}
