//! Heartbeat (grpc.md B.2): notes that a client lives, here and at the leader. Never asks for earlier Settings.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_proto::rocketmq::{ClientType, Code, HeartbeatRequest, HeartbeatResponse};
use tokio::time::Instant;

use super::Messaging;
use super::release::Done;
use crate::call::{self, Call};
use crate::leader::{Leader, Verb};
use crate::refusal::{LeadError, Refusal, ok};
use crate::validate::names;

/// The verb between doors.
pub struct Heartbeat;

/// A door does not hold a heartbeat for longer: it is soft state.
const WAIT: Duration = Duration::from_millis(500);

impl Messaging {
    pub(super) async fn heartbeat(
        &self,
        request: tonic::Request<HeartbeatRequest>,
    ) -> tonic::Response<HeartbeatResponse> {
        let language = call::language(request.metadata());
        let answer = match self.read(&request) {
            Ok(call) => self.heartbeat_checked(call, request.get_ref()).await,
            Err(refusal) => Err(refusal),
        };
        let status = answer.map_or_else(|refusal| refusal.status(language), |()| ok());
        tonic::Response::new(HeartbeatResponse { status: Some(status) })
    }

    async fn heartbeat_checked(&self, mut call: Call, request: &HeartbeatRequest) -> Result<(), Refusal> {
        match ClientType::try_from(request.client_type) {
            Ok(ClientType::Producer) => {}
            Ok(ClientType::Unspecified) | Err(_) => {
                let text = format!("unknown client type {}", request.client_type);
                return Err(Refusal::new(Code::UnrecognizedClientType, text));
            }
            Ok(_) => _ = names::consumer_group(request.group.as_ref())?,
        }
        self.leader().clients.heard(&call.client_id);
        if !self.leader().role().serving {
            call.deadline = call.deadline.min(Instant::now() + WAIT);
            // The client is served all the same when the leader does not hear of it.
            let _told = self.door.call::<Heartbeat>(&call, request).await;
        }
        Ok(())
    }
}

impl Verb for Heartbeat {
    const NAME: &'static str = "Heartbeat";
    type Request = HeartbeatRequest;
    type Reply = Done;

    async fn lead(leader: &Arc<Leader>, call: &Call, _request: &HeartbeatRequest) -> Result<Done, LeadError> {
        leader.clients.heard(&call.client_id);
        Ok(Done {})
    }
}
