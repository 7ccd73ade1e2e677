//! The empty server: SendMessage answers at once; what a producer needs to start is answered as shortly as possible.

use std::{os::unix::process::parent_id, pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _};
use ledgermq_proto::{
    net::{Net as _, TcpNet},
    rocketmq::{messaging_service_server::*, *},
};
use tonic::{Request, Response, Status as Refusal, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Refusal>> + Send>>;

/// Serves on a port of the system's choice until the process that started this one is gone.
pub async fn serve() -> anyhow::Result<()> {
    let listener = TcpNet.bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("ready {address}");
    let empty = Empty {
        port: i32::from(address.port()),
    };
    let parent = parent_id();
    let orphaned = async move {
        while parent_id() == parent {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tonic::transport::Server::builder()
        .add_service(MessagingServiceServer::new(empty))
        .serve_with_incoming_shutdown(ledgermq_proto::net::incoming(listener), orphaned)
        .await?;
    Ok(())
}

struct Empty {
    port: i32,
}

fn ok() -> Option<Status> {
    Some(Status {
        code: Code::Ok as i32,
        message: "OK".to_owned(),
    })
}

/// Verbs that no producer calls.
macro_rules! not_served {
    ($($verb:ident($request:ident) -> $reply:ident;)*) => { $(
        fn $verb<'life0, 'async_trait>(
            &'life0 self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<$reply>, Refusal>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Refusal::unimplemented("an empty handler")) })
        }
    )* };
}

#[tonic::async_trait]
impl MessagingService for Empty {
    type ReceiveMessageStream = Answers<ReceiveMessageResponse>;
    type PullMessageStream = Answers<PullMessageResponse>;
    type TelemetryStream = Answers<TelemetryCommand>;

    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Refusal> {
        let answer = |message: Message| SendResultEntry {
            status: ok(),
            message_id: message
                .system_properties
                .map(|system| system.message_id)
                .unwrap_or_default(),
            ..SendResultEntry::default()
        };
        let entries = request.into_inner().messages.into_iter().map(answer).collect();
        Ok(Response::new(SendMessageResponse { status: ok(), entries }))
    }

    async fn query_route(&self, request: Request<QueryRouteRequest>) -> Result<Response<QueryRouteResponse>, Refusal> {
        let address = Address {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        };
        let endpoints = Endpoints {
            scheme: AddressScheme::IPv4 as i32,
            addresses: vec![address],
        };
        let queue = MessageQueue {
            topic: request.into_inner().topic,
            id: 0,
            permission: Permission::ReadWrite as i32,
            broker: Some(Broker {
                name: "empty".to_owned(),
                id: 0,
                endpoints: Some(endpoints),
            }),
            accept_message_types: vec![MessageType::Normal as i32],
        };
        Ok(Response::new(QueryRouteResponse {
            status: ok(),
            message_queues: vec![queue],
        }))
    }

    async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Refusal> {
        Ok(Response::new(HeartbeatResponse { status: ok() }))
    }

    async fn notify_client_termination(
        &self,
        _: Request<NotifyClientTerminationRequest>,
    ) -> Result<Response<NotifyClientTerminationResponse>, Refusal> {
        Ok(Response::new(NotifyClientTerminationResponse { status: ok() }))
    }

    async fn receive_message(
        &self,
        _: Request<ReceiveMessageRequest>,
    ) -> Result<Response<Self::ReceiveMessageStream>, Refusal> {
        Err(Refusal::unimplemented("an empty handler"))
    }

    async fn pull_message(&self, _: Request<PullMessageRequest>) -> Result<Response<Self::PullMessageStream>, Refusal> {
        Err(Refusal::unimplemented("an empty handler"))
    }

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Result<Response<Self::TelemetryStream>, Refusal> {
        // Settings are answered as they came.
        let answers = request.into_inner().map(|command| {
            command.map(|command| TelemetryCommand {
                status: ok(),
                ..command
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    not_served! {
        query_assignment(QueryAssignmentRequest) -> QueryAssignmentResponse;
        ack_message(AckMessageRequest) -> AckMessageResponse;
        forward_message_to_dead_letter_queue(ForwardMessageToDeadLetterQueueRequest) -> ForwardMessageToDeadLetterQueueResponse;
        update_offset(UpdateOffsetRequest) -> UpdateOffsetResponse;
        get_offset(GetOffsetRequest) -> GetOffsetResponse;
        query_offset(QueryOffsetRequest) -> QueryOffsetResponse;
        end_transaction(EndTransactionRequest) -> EndTransactionResponse;
        change_invisible_duration(ChangeInvisibleDurationRequest) -> ChangeInvisibleDurationResponse;
        recall_message(RecallMessageRequest) -> RecallMessageResponse;
        sync_lite_subscription(SyncLiteSubscriptionRequest) -> SyncLiteSubscriptionResponse;
    }
}
