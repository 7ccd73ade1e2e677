//! A small server of the public protocol in this process: stores sends, hands them out, and fails as it is told.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use ledgermq_proto::{
    headers,
    net::{Net as _, TcpNet, incoming},
    rocketmq::{
        self as wire, Address, AddressScheme, Broker, Code, Endpoints, MessageQueue, MessageType, Permission,
        messaging_service_server::{MessagingService, MessagingServiceServer},
        receive_message_response::Content,
    },
};
use tokio::task::AbortHandle;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap, transport::Server};

/// What the next sends meet, one each; then they are stored.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Code(Code),
    Grpc(tonic::Code),
    /// Stored, but the answer gets lost.
    StoredUnanswered,
    /// No answer before the client's deadline.
    Silent,
}

#[derive(Default)]
pub struct State {
    pub faults: VecDeque<Fault>,
    pub stored: Vec<wire::Message>,
    /// Message ids of every try, in order.
    pub tries: Vec<String>,
    /// The door of each send, in order.
    pub doors: Vec<SocketAddr>,
    pub acked: Vec<String>,
    pub headers: Vec<BTreeMap<String, String>>,
    pub routes_asked: usize,
    pub settings: Vec<wire::Settings>,
    pub heartbeats: usize,
    pub farewells: usize,
    /// Addresses that routes name.
    pub addresses: Vec<SocketAddr>,
    handed_out: usize,
    changes: usize,
}

/// One address; several share one state, as the replicas of a broker group do.
#[derive(Clone)]
pub struct Mock {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: AbortHandle,
}

impl Mock {
    pub async fn start() -> Self {
        Self::with(Arc::default()).await
    }

    /// Another door to the same state.
    pub async fn door(&self) -> Self {
        Self::with(self.state.clone()).await
    }

    async fn with(state: Arc<Mutex<State>>) -> Self {
        let listener = TcpNet.bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .addresses
            .push(address);
        let service = MessagingServiceServer::new(Service(state.clone(), address));
        let server = Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming(listener));
        let serving = tokio::spawn(server).abort_handle();
        Self {
            address,
            state,
            serving,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Closes the listener. Open connections stay.
    pub fn stop_listening(&self) {
        self.serving.abort();
    }
}

struct Service(Arc<Mutex<State>>, SocketAddr);

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(code: Code) -> Option<wire::Status> {
    Some(wire::Status {
        code: code.into(),
        message: code.as_str_name().to_owned(),
    })
}

fn texts(metadata: &MetadataMap) -> BTreeMap<String, String> {
    let text = |name: &&str| Some(((*name).to_owned(), metadata.get(*name)?.to_str().ok()?.to_owned()));
    [
        headers::CLIENT_ID,
        headers::LANGUAGE,
        headers::CLIENT_VERSION,
        headers::PROTOCOL,
        headers::REQUEST_ID,
    ]
    .iter()
    .filter_map(text)
    .collect()
}

type Frames<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl MessagingService for Service {
    type ReceiveMessageStream = Frames<wire::ReceiveMessageResponse>;
    type PullMessageStream = Frames<wire::PullMessageResponse>;
    type TelemetryStream = Frames<wire::TelemetryCommand>;

    async fn query_route(
        &self,
        request: Request<wire::QueryRouteRequest>,
    ) -> Result<Response<wire::QueryRouteResponse>, Status> {
        let topic = request.into_inner().topic.unwrap_or_default();
        let mut state = self.state();
        state.routes_asked += 1;
        if topic.name == "missing" {
            let reply = wire::QueryRouteResponse {
                status: status(Code::TopicNotFound),
                message_queues: Vec::new(),
            };
            return Ok(Response::new(reply));
        }
        let addresses = state.addresses.iter();
        let addresses = addresses
            .map(|at| Address {
                host: at.ip().to_string(),
                port: at.port().into(),
            })
            .collect();
        let endpoints = Endpoints {
            scheme: AddressScheme::IPv4.into(),
            addresses,
        };
        let queue = |id| MessageQueue {
            topic: Some(topic.clone()),
            id,
            permission: Permission::ReadWrite.into(),
            broker: Some(Broker {
                name: "broker-a".to_owned(),
                id: 0,
                endpoints: Some(endpoints.clone()),
            }),
            accept_message_types: vec![MessageType::Normal.into()],
        };
        let message_queues = (0..4).map(queue).collect();
        Ok(Response::new(wire::QueryRouteResponse {
            status: status(Code::Ok),
            message_queues,
        }))
    }

    async fn send_message(
        &self,
        request: Request<wire::SendMessageRequest>,
    ) -> Result<Response<wire::SendMessageResponse>, Status> {
        let headers = texts(request.metadata());
        let placement = request.metadata().contains_key(headers::PLACEMENT);
        let messages = request.into_inner().messages;
        let id = |message: &wire::Message| message.system_properties.clone().unwrap_or_default().message_id;
        let fault = {
            let mut state = self.state();
            state.headers.push(headers);
            state.doors.push(self.1);
            state.tries.extend(messages.iter().map(id));
            let fault = state.faults.pop_front();
            if matches!(fault, None | Some(Fault::StoredUnanswered)) {
                state.stored.extend(messages.iter().cloned());
            }
            fault
        };
        match fault {
            None => {}
            Some(Fault::Code(code)) => {
                let reply = wire::SendMessageResponse {
                    status: status(code),
                    entries: Vec::new(),
                };
                return Ok(Response::new(reply));
            }
            Some(Fault::Grpc(code)) => return Err(Status::new(code, "told to fail")),
            Some(Fault::StoredUnanswered) => return Err(Status::unavailable("the answer got lost")),
            Some(Fault::Silent) => tokio::time::sleep(Duration::from_secs(60)).await,
        }
        let count = self.state().stored.len();
        let first = count - messages.len();
        let entries = messages
            .iter()
            .enumerate()
            .map(|(number, message)| wire::SendResultEntry {
                status: status(Code::Ok),
                message_id: id(message),
                offset: i64::try_from(first + number).unwrap_or_default(),
                ..Default::default()
            });
        let reply = wire::SendMessageResponse {
            status: status(Code::Ok),
            entries: entries.collect(),
        };
        let mut response = Response::new(reply);
        if placement {
            let ids = vec!["3"; messages.len()].join(",");
            response
                .metadata_mut()
                .insert(headers::QUEUE_IDS, ids.parse().expect("ASCII"));
            response
                .metadata_mut()
                .insert(headers::BROKER_GROUP, "broker-z".parse().expect("ASCII"));
        }
        Ok(response)
    }

    async fn receive_message(
        &self,
        request: Request<wire::ReceiveMessageRequest>,
    ) -> Result<Response<Self::ReceiveMessageStream>, Status> {
        let count = usize::try_from(request.into_inner().batch_size).unwrap_or_default();
        let mut state = self.state();
        let first = state.handed_out;
        let messages: Vec<wire::Message> = state.stored.iter().skip(first).take(count).cloned().collect();
        state.handed_out += messages.len();
        let code = if messages.is_empty() {
            Code::MessageNotFound
        } else {
            Code::Ok
        };
        let mut frames = vec![Content::Status(status(code).unwrap_or_default())];
        for (number, mut message) in messages.into_iter().enumerate() {
            let system = message.system_properties.get_or_insert_default();
            system.receipt_handle = Some(format!("handle-{}", first + number));
            system.delivery_attempt = Some(1);
            system.queue_offset = i64::try_from(first + number).ok();
            frames.push(Content::Message(message));
        }
        frames.push(Content::DeliveryTimestamp(prost_types::Timestamp::default()));
        let frames = frames
            .into_iter()
            .map(|content| Ok(wire::ReceiveMessageResponse { content: Some(content) }));
        Ok(Response::new(stream::iter(frames).boxed()))
    }

    async fn ack_message(
        &self,
        request: Request<wire::AckMessageRequest>,
    ) -> Result<Response<wire::AckMessageResponse>, Status> {
        let entries = request.into_inner().entries.into_iter().map(|entry| {
            let code = if entry.receipt_handle.starts_with("handle-") {
                Code::Ok
            } else {
                Code::InvalidReceiptHandle
            };
            self.state().acked.push(entry.receipt_handle.clone());
            wire::AckMessageResultEntry {
                message_id: entry.message_id,
                receipt_handle: entry.receipt_handle,
                status: status(code),
            }
        });
        let reply = wire::AckMessageResponse {
            status: status(Code::MultipleResults),
            entries: entries.collect(),
        };
        Ok(Response::new(reply))
    }

    async fn change_invisible_duration(
        &self,
        _: Request<wire::ChangeInvisibleDurationRequest>,
    ) -> Result<Response<wire::ChangeInvisibleDurationResponse>, Status> {
        let mut state = self.state();
        state.changes += 1;
        let receipt_handle = format!("handle-changed-{}", state.changes);
        Ok(Response::new(wire::ChangeInvisibleDurationResponse {
            status: status(Code::Ok),
            receipt_handle,
        }))
    }

    async fn telemetry(
        &self,
        request: Request<Streaming<wire::TelemetryCommand>>,
    ) -> Result<Response<Self::TelemetryStream>, Status> {
        let state = self.0.clone();
        let replies = request.into_inner().map(move |command| {
            let command = command?;
            if let Some(wire::telemetry_command::Command::Settings(settings)) = &command.command {
                state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .settings
                    .push(settings.clone());
            }
            Ok(wire::TelemetryCommand {
                status: status(Code::Ok),
                command: command.command,
            })
        });
        Ok(Response::new(replies.boxed()))
    }

    async fn heartbeat(&self, _: Request<wire::HeartbeatRequest>) -> Result<Response<wire::HeartbeatResponse>, Status> {
        self.state().heartbeats += 1;
        Ok(Response::new(wire::HeartbeatResponse {
            status: status(Code::Ok),
        }))
    }

    async fn notify_client_termination(
        &self,
        _: Request<wire::NotifyClientTerminationRequest>,
    ) -> Result<Response<wire::NotifyClientTerminationResponse>, Status> {
        self.state().farewells += 1;
        Ok(Response::new(wire::NotifyClientTerminationResponse {
            status: status(Code::Ok),
        }))
    }

    async fn query_assignment(
        &self,
        _: Request<wire::QueryAssignmentRequest>,
    ) -> Result<Response<wire::QueryAssignmentResponse>, Status> {
        Err(Status::unimplemented("mock"))
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        _: Request<wire::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Result<Response<wire::ForwardMessageToDeadLetterQueueResponse>, Status> {
        Err(Status::unimplemented("mock"))
    }

    async fn pull_message(
        &self,
        _: Request<wire::PullMessageRequest>,
    ) -> Result<Response<Self::PullMessageStream>, Status> {
        Err(Status::unimplemented("mock"))
    }

    async fn update_offset(
        &self,
        _: Request<wire::UpdateOffsetRequest>,
    ) -> Result<Response<wire::UpdateOffsetResponse>, Status> {
        Err(Status::unimplemented("mock"))
    }

    async fn get_offset(
        &self,
        _: Request<wire::GetOffsetRequest>,
    ) -> Result<Response<wire::GetOffsetResponse>, Status> {
        Err(Status::unimplemented("mock"))
    }

    async fn query_offset(
        &self,
        _: Request<wire::QueryOffsetRequest>,
    ) -> Result<Response<wire::QueryOffsetResponse>, Status> {
        Err(Status::unimplemented("mock"))
    }

    async fn end_transaction(
        &self,
        _: Request<wire::EndTransactionRequest>,
    ) -> Result<Response<wire::EndTransactionResponse>, Status> {
        Err(Status::unimplemented("mock"))
    }

    async fn recall_message(
        &self,
        _: Request<wire::RecallMessageRequest>,
    ) -> Result<Response<wire::RecallMessageResponse>, Status> {
        Err(Status::unimplemented("mock"))
    }

    async fn sync_lite_subscription(
        &self,
        _: Request<wire::SyncLiteSubscriptionRequest>,
    ) -> Result<Response<wire::SyncLiteSubscriptionResponse>, Status> {
        Err(Status::unimplemented("mock"))
    }
}
