//! NotifyClientTermination (grpc.md B.11): forgets a client; what it holds in self-renewing leases comes back soon. Always
//! OK for unknown clients.

use std::sync::Arc;

use ledgermq_proto::rocketmq::{NotifyClientTerminationRequest, NotifyClientTerminationResponse};

use super::Messaging;
use super::release::Done;
use crate::call::{self, Call};
use crate::leader::{Leader, Verb};
use crate::refusal::{LeadError, Refusal, ok};
use crate::state::command::{Action, ReleaseClient};
use crate::validate::names;

/// The verb between doors.
pub struct Terminate;

impl Messaging {
    pub(super) async fn terminate(
        &self,
        request: tonic::Request<NotifyClientTerminationRequest>,
    ) -> tonic::Response<NotifyClientTerminationResponse> {
        let language = call::language(request.metadata());
        let answer = match self.read(&request) {
            Ok(call) => self.terminate_checked(&call, request.get_ref()).await,
            Err(refusal) => Err(refusal),
        };
        let status = answer.map_or_else(|refusal| refusal.status(language), |()| ok());
        tonic::Response::new(NotifyClientTerminationResponse { status: Some(status) })
    }

    async fn terminate_checked(&self, call: &Call, request: &NotifyClientTerminationRequest) -> Result<(), Refusal> {
        self.leader().clients.gone(&call.client_id);
        // Go's producer sends a group with an empty name.
        if request.group.as_ref().is_none_or(|group| group.name.is_empty()) {
            return Ok(());
        }
        names::consumer_group(request.group.as_ref())?;
        self.door.call::<Terminate>(call, request).await.map(|_| ())
    }
}

impl Verb for Terminate {
    const NAME: &'static str = "NotifyClientTermination";
    type Request = NotifyClientTerminationRequest;
    type Reply = Done;

    async fn lead(
        leader: &Arc<Leader>,
        call: &Call,
        request: &NotifyClientTerminationRequest,
    ) -> Result<Done, LeadError> {
        leader.clients.gone(&call.client_id);
        let consumer_group = names::consumer_group(request.group.as_ref())?.to_owned();
        if leader.view.consumer_group(&consumer_group).is_some() {
            let release = ReleaseClient {
                consumer_group,
                client_id: call.client_id.clone(),
            };
            leader.propose(call.request_id, Action::ReleaseClient(release)).await?;
        }
        Ok(Done {})
    }
}
