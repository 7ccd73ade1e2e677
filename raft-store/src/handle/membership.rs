//! The verbs of the membership. See [`crate::membership`] for their steps.

use super::Handle;
use crate::bootstrap::Candidate;
use crate::errors::MembershipError;
use crate::machine::Machine;
use crate::membership::{Change, Changed};
use crate::status::State;
use crate::types::ReplicaId;
use tokio::sync::OwnedSemaphorePermit;

/// Keeps the membership as it is, as far as this replica changes it, until it is dropped.
#[derive(Debug)]
pub struct MembershipHold {
    _turn: OwnedSemaphorePermit,
}

impl<M: Machine> Handle<M> {
    /// Makes an empty, running replica a learner: it receives the log and does not vote.
    pub async fn add_replica(&self, new: Candidate) -> Result<(), MembershipError> {
        self.change(Change::Add(new)).await.map(drop)
    }

    /// Makes a learner that has caught up a voter.
    pub async fn promote_replica(&self, id: ReplicaId) -> Result<(), MembershipError> {
        self.change(Change::Promote(id)).await.map(drop)
    }

    /// Takes a member out. Refused where no majority of the remaining voters is heard, unless forced: the answer is a
    /// warning then.
    pub async fn remove_replica(&self, id: ReplicaId, force: bool) -> Result<Option<String>, MembershipError> {
        self.change(Change::Remove { id, force }).await
    }

    /// Puts an empty, running replica in the place of a member. Waits a little until it has caught up; answers
    /// [`MembershipError::Behind`] while it has not, to be asked again.
    pub async fn replace_replica(&self, old: ReplicaId, new: Candidate) -> Result<(), MembershipError> {
        self.change(Change::Replace { old, new }).await.map(drop)
    }

    /// Takes note that a member is reached at other addresses. It must answer there.
    pub async fn set_replica_address(&self, member: Candidate) -> Result<(), MembershipError> {
        self.change(Change::SetAddress(member)).await.map(drop)
    }

    /// Keeps this replica from changing the membership while what depends on all members is decided. `None` while a
    /// change is under way.
    pub fn hold_membership(&self) -> Option<MembershipHold> {
        self.parts.changes.hold().map(|_turn| MembershipHold { _turn })
    }

    async fn change(&self, change: Change) -> Result<Option<String>, MembershipError> {
        let role = *self.parts.role.borrow();
        if role.state != State::Leader {
            return Err(MembershipError::NotLeader { leader: role.leader });
        }
        match self.parts.changes.ask(change).await? {
            Changed::Done(warning) => Ok(warning),
            Changed::HandOver(to) => match self.transfer_leader(to).await {
                Ok(()) => Err(MembershipError::NotLeader { leader: Some(to) }),
                Err(source) => {
                    let id = self.parts.network.passport.identity().id;
                    Err(MembershipError::HandOver { id, source })
                }
            },
        }
    }
}
