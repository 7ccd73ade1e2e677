//! Replicas that come and go: add, promote, remove, replace, change addresses. The leader makes the changes.

use std::sync::Arc;

use ledgermq_proto::admin as wire;
use ledgermq_proto::rocketmq::Code;
use ledgermq_raft_store::ReplicaId;

use crate::call::Call;
use crate::leader::{Leader, Verb};
use crate::refusal::{LeadError, Refusal};

/// Makes an empty replica a learner.
pub struct AddReplica;
/// Makes a learner a voter.
pub struct PromoteReplica;
/// Takes a member out.
pub struct RemoveReplica;
/// Puts an empty replica in the place of a member.
pub struct ReplaceReplica;
/// Takes note that a member is reached elsewhere.
pub struct ChangeAddresses;

fn replica(replica: Option<&wire::Member>) -> Result<(ReplicaId, String, String), Refusal> {
    let replica = replica.ok_or_else(|| Refusal::new(Code::BadRequest, "replica is missing"))?;
    Ok((
        ReplicaId(replica.id),
        replica.peer_address.clone(),
        replica.client_address.clone(),
    ))
}

impl Verb for AddReplica {
    const NAME: &'static str = "Admin/AddReplica";
    type Request = wire::AddReplicaRequest;
    type Reply = wire::AddReplicaResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        leader.handle.add_replica(replica(request.replica.as_ref())?).await?;
        Ok(wire::AddReplicaResponse {})
    }
}

impl Verb for PromoteReplica {
    const NAME: &'static str = "Admin/PromoteReplica";
    type Request = wire::PromoteReplicaRequest;
    type Reply = wire::PromoteReplicaResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        leader.handle.promote_replica(ReplicaId(request.id)).await?;
        Ok(wire::PromoteReplicaResponse {})
    }
}

impl Verb for RemoveReplica {
    const NAME: &'static str = "Admin/RemoveReplica";
    type Request = wire::RemoveReplicaRequest;
    type Reply = wire::RemoveReplicaResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        let removed = leader.handle.remove_replica(ReplicaId(request.id), request.force);
        let warning = removed.await?.unwrap_or_default();
        Ok(wire::RemoveReplicaResponse { warning })
    }

    /// It is no member any more.
    fn done_before(refusal: &Refusal) -> Option<Self::Reply> {
        (refusal.code == Code::NotFound).then(wire::RemoveReplicaResponse::default)
    }
}

impl Verb for ReplaceReplica {
    const NAME: &'static str = "Admin/ReplaceReplica";
    type Request = wire::ReplaceReplicaRequest;
    type Reply = wire::ReplaceReplicaResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        let new = replica(request.replica.as_ref())?;
        leader.handle.replace_replica(ReplicaId(request.old), new).await?;
        Ok(wire::ReplaceReplicaResponse {})
    }
}

impl Verb for ChangeAddresses {
    const NAME: &'static str = "Admin/ChangeAddresses";
    type Request = wire::ChangeAddressesRequest;
    type Reply = wire::ChangeAddressesResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        let moved = replica(request.replica.as_ref())?;
        leader.handle.set_replica_address(moved).await?;
        Ok(wire::ChangeAddressesResponse {})
    }
}
