//! `apache.rocketmq.v2.MessagingService`: hands each call to its verb. Verbs that are not there yet say so in the payload
//! and store nothing.

use futures::stream::{Iter, iter};
use ledgermq_proto::rocketmq::messaging_service_server::MessagingService;
use ledgermq_proto::rocketmq::{
    AckMessageRequest, AckMessageResponse, ChangeInvisibleDurationRequest, ChangeInvisibleDurationResponse,
    EndTransactionRequest, EndTransactionResponse, ForwardMessageToDeadLetterQueueRequest,
    ForwardMessageToDeadLetterQueueResponse, GetOffsetRequest, GetOffsetResponse, HeartbeatRequest, HeartbeatResponse,
    NotifyClientTerminationRequest, NotifyClientTerminationResponse, PullMessageRequest, PullMessageResponse,
    QueryAssignmentRequest, QueryAssignmentResponse, QueryOffsetRequest, QueryOffsetResponse, QueryRouteRequest,
    QueryRouteResponse, RecallMessageRequest, RecallMessageResponse, ReceiveMessageRequest, SendMessageRequest,
    SendMessageResponse, Status, SyncLiteSubscriptionRequest, SyncLiteSubscriptionResponse, TelemetryCommand,
    UpdateOffsetRequest, UpdateOffsetResponse, pull_message_response,
};
use tonic::{Request, Response, Status as Grpc, Streaming};

use super::receive::Frames;
use super::{Messaging, telemetry};
use crate::call;
use crate::refusal::Refusal;

/// The status of a verb that is not there yet; the client id is asked for all the same.
fn missing<T>(messaging: &Messaging, request: &Request<T>, verb: &str) -> Option<Status> {
    let language = call::language(request.metadata());
    let refusal = messaging
        .read(request)
        .err()
        .unwrap_or_else(|| Refusal::not_implemented(verb));
    Some(refusal.status(language))
}

#[tonic::async_trait]
impl MessagingService for Messaging {
    async fn query_route(&self, request: Request<QueryRouteRequest>) -> Result<Response<QueryRouteResponse>, Grpc> {
        Ok(self.route(request).await)
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Grpc> {
        Ok(Messaging::heartbeat(self, request).await)
    }

    async fn send_message(&self, request: Request<SendMessageRequest>) -> Result<Response<SendMessageResponse>, Grpc> {
        Ok(self.send(request).await)
    }

    async fn query_assignment(
        &self,
        request: Request<QueryAssignmentRequest>,
    ) -> Result<Response<QueryAssignmentResponse>, Grpc> {
        Ok(self.assignment(request).await)
    }

    type ReceiveMessageStream = Frames;

    async fn receive_message(&self, request: Request<ReceiveMessageRequest>) -> Result<Response<Frames>, Grpc> {
        Ok(self.receive(request).await)
    }

    async fn ack_message(&self, request: Request<AckMessageRequest>) -> Result<Response<AckMessageResponse>, Grpc> {
        Ok(self.ack(request).await)
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<ForwardMessageToDeadLetterQueueRequest>,
    ) -> Result<Response<ForwardMessageToDeadLetterQueueResponse>, Grpc> {
        let status = missing(self, &request, "ForwardMessageToDeadLetterQueue");
        Ok(Response::new(ForwardMessageToDeadLetterQueueResponse { status }))
    }

    type PullMessageStream = Iter<std::vec::IntoIter<Result<PullMessageResponse, Grpc>>>;

    async fn pull_message(
        &self,
        request: Request<PullMessageRequest>,
    ) -> Result<Response<Self::PullMessageStream>, Grpc> {
        let content = missing(self, &request, "PullMessage").map(pull_message_response::Content::Status);
        Ok(Response::new(iter(vec![Ok(PullMessageResponse { content })])))
    }

    async fn update_offset(
        &self,
        request: Request<UpdateOffsetRequest>,
    ) -> Result<Response<UpdateOffsetResponse>, Grpc> {
        let status = missing(self, &request, "UpdateOffset");
        Ok(Response::new(UpdateOffsetResponse { status }))
    }

    async fn get_offset(&self, request: Request<GetOffsetRequest>) -> Result<Response<GetOffsetResponse>, Grpc> {
        let status = missing(self, &request, "GetOffset");
        Ok(Response::new(GetOffsetResponse {
            status,
            ..Default::default()
        }))
    }

    async fn query_offset(&self, request: Request<QueryOffsetRequest>) -> Result<Response<QueryOffsetResponse>, Grpc> {
        let status = missing(self, &request, "QueryOffset");
        Ok(Response::new(QueryOffsetResponse {
            status,
            ..Default::default()
        }))
    }

    async fn end_transaction(
        &self,
        request: Request<EndTransactionRequest>,
    ) -> Result<Response<EndTransactionResponse>, Grpc> {
        let status = missing(self, &request, "EndTransaction");
        Ok(Response::new(EndTransactionResponse { status }))
    }

    type TelemetryStream = telemetry::Commands;

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Result<Response<telemetry::Commands>, Grpc> {
        Ok(Messaging::telemetry(self, request))
    }

    async fn notify_client_termination(
        &self,
        request: Request<NotifyClientTerminationRequest>,
    ) -> Result<Response<NotifyClientTerminationResponse>, Grpc> {
        Ok(self.terminate(request).await)
    }

    async fn change_invisible_duration(
        &self,
        request: Request<ChangeInvisibleDurationRequest>,
    ) -> Result<Response<ChangeInvisibleDurationResponse>, Grpc> {
        Ok(self.change(request).await)
    }

    async fn recall_message(
        &self,
        request: Request<RecallMessageRequest>,
    ) -> Result<Response<RecallMessageResponse>, Grpc> {
        let status = missing(self, &request, "RecallMessage");
        Ok(Response::new(RecallMessageResponse {
            status,
            ..Default::default()
        }))
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<SyncLiteSubscriptionRequest>,
    ) -> Result<Response<SyncLiteSubscriptionResponse>, Grpc> {
        let status = missing(self, &request, "SyncLiteSubscription");
        Ok(Response::new(SyncLiteSubscriptionResponse { status }))
    }
}
