//! Whether the replicas hold the same: the leader proposes a digest, then each replica tells its own hash of the state
//! as of that entry.

use std::sync::Arc;

use ledgermq_proto::admin as wire;
use ledgermq_raft_store::LogIndex;
use tokio::time::timeout;
use tonic::Status;

use super::{Administration, cluster};
use crate::call::Call;
use crate::leader::{Leader, Verb, unexpected};
use crate::limits;
use crate::refusal::LeadError;
use crate::state::command::Action;
use crate::state::outcome::Outcome;

/// Proposes a digest.
pub struct ProposeDigest;

impl Verb for ProposeDigest {
    const NAME: &'static str = "Admin/ProposeDigest";
    type Request = wire::ProposeDigestRequest;
    type Reply = wire::ProposeDigestResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, _request: &Self::Request) -> Result<Self::Reply, LeadError> {
        match leader.propose_at(leader.request_id(), Action::Digest).await? {
            (index, Outcome::Digesting) => Ok(wire::ProposeDigestResponse { index: index.get() }),
            (_, other) => Err(unexpected(&other)),
        }
    }
}

pub(super) async fn read(
    admin: &Administration,
    request: &wire::ReadDigestRequest,
) -> Result<wire::ReadDigestResponse, Status> {
    cluster::own_group(admin, &request.broker_group)?;
    let leader = &admin.door.leader;
    let index = LogIndex(request.index);
    let mut done = leader.view.digest_done();
    // Not made in time is an answer, too.
    let wait = timeout(limits::DIGEST_WAIT, done.wait_for(|done| *done >= index));
    let is_made = wait.await.is_ok();
    let digest = leader.view.digest_of(index);
    if digest.is_none() && is_made {
        return Err(Status::failed_precondition(format!(
            "replica {} remembers no digest as of entry {index}",
            leader.id
        )));
    }
    Ok(wire::ReadDigestResponse {
        replica: leader.id.get(),
        digest: digest.map(|digest| format!("{digest:032x}")),
    })
}
