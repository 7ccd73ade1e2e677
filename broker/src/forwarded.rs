//! What a door answers to other doors: it does their calls while it leads, and says so when it does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ledgermq_proto::door::door_server::Door as DoorRpc;
use ledgermq_proto::door::forward_reply::Result as Forwarded;
use ledgermq_proto::door::{ForwardReply, ForwardRequest};
use prost::Message as _;
use tokio::time::{Instant, timeout_at};

use crate::admin;
use crate::call::Call;
use crate::door::forward::{not_leader, write};
use crate::language::Language;
use crate::leader::{Leader, Verb};
use crate::refusal::LeadError;
use crate::rpc;
use crate::state::identity::RequestId;

/// What answers other doors.
pub struct DoorService {
    leader: Arc<Leader>,
}

impl DoorService {
    /// Answers with this replica's leader side.
    pub fn new(leader: Arc<Leader>) -> Self {
        Self { leader }
    }

    async fn serve<V: Verb>(&self, call: &Call, request: Bytes) -> Result<Forwarded, tonic::Status> {
        let request = V::Request::decode(request)
            .map_err(|error| tonic::Status::invalid_argument(format!("{}: {error}", V::NAME)))?;
        let answer = match timeout_at(call.deadline, V::lead(&self.leader, call, &request)).await {
            Ok(answer) => answer,
            Err(_) => Err(LeadError::Unknown("not done in the time left".into())),
        };
        Ok(write::<V>(answer, &self.leader))
    }
}

macro_rules! dispatch {
    ($self:ident, $call:ident, $forward:ident, $($verb:ty),* $(,)?) => {
        match $forward.verb.as_str() {
            $(<$verb>::NAME => $self.serve::<$verb>(&$call, $forward.request).await?,)*
            other => return Err(tonic::Status::invalid_argument(format!("{other} is not implemented yet"))),
        }
    };
}

#[tonic::async_trait]
impl DoorRpc for DoorService {
    async fn forward(
        &self,
        request: tonic::Request<ForwardRequest>,
    ) -> Result<tonic::Response<ForwardReply>, tonic::Status> {
        let forward = request.into_inner();
        if forward.broker_group != self.leader.broker_group || !self.leader.role().serving {
            return Ok(tonic::Response::new(ForwardReply {
                result: Some(not_leader(&self.leader)),
            }));
        }
        let id: [u8; 16] = forward.request_id[..]
            .try_into()
            .map_err(|_| tonic::Status::invalid_argument("request_id must have 16 bytes"))?;
        let call = Call {
            client_id: forward.client_id,
            language: Language::of(&forward.language),
            client_version: String::new(),
            peer_host: forward.peer_host,
            request_id: RequestId(id),
            client_deadline: None,
            deadline: Instant::now() + Duration::from_millis(forward.remaining_ms.into()),
        };
        let result = dispatch!(
            self,
            call,
            forward,
            rpc::send::Send,
            rpc::receive::Receive,
            rpc::ack::Ack,
            rpc::change::Change,
            rpc::confirm::Confirm,
            rpc::release::Release,
            rpc::route::EnsureTopic,
            rpc::heartbeat::Heartbeat,
            rpc::termination::Terminate,
            crate::probe::Probe,
            admin::topics::CreateTopic,
            admin::topics::DeleteTopic,
            admin::topics::ListTopics,
            admin::topics::DescribeTopic,
            admin::consumer_groups::CreateConsumerGroup,
            admin::consumer_groups::ListConsumerGroups,
            admin::consumer_groups::DescribeConsumerGroup,
            admin::cluster::DescribeGroup,
            admin::cluster::Transfer,
            admin::replicas::AddReplica,
            admin::replicas::PromoteReplica,
            admin::replicas::RemoveReplica,
            admin::replicas::ReplaceReplica,
            admin::replicas::ChangeAddresses,
            admin::digest::ProposeDigest,
        );
        Ok(tonic::Response::new(ForwardReply { result: Some(result) }))
    }
}
