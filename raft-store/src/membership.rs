//! Replicas that come and go: the leader's side of a change of the membership.
//!
//! ```text
//! add      identify (who are you, are you free?) ─▶ adopt the cluster id ─▶ learner
//! promote  caught up? ─▶ joint ─▶ voter
//! remove   would a majority of the rest live? ─▶ joint ─▶ gone           (the leader hands over first)
//! replace  add ─▶ caught up? ─▶ joint: new votes, old does not ─▶ old is gone
//! ```
//!
//! One change at a time. Each step looks at the membership first, so a change that broke off anywhere, also by the
//! death of the leader between the two halves of a joint change, is finished by asking for it again; and whatever is
//! asked for next leaves a joint membership.

pub mod steps;

use std::sync::Arc;
use std::time::Duration;

use openraft::RaftMetrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::bootstrap::Candidate;
use crate::errors::MembershipError;
use crate::handle::Handle;
use crate::limits;
use crate::machine::Machine;
use crate::peer::presence::Presence;
use crate::raft::config::Config;
use crate::status::State;
use crate::types::ReplicaId;

/// A change asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An empty replica becomes a learner.
    Add(Candidate),
    /// A learner becomes a voter.
    Promote(ReplicaId),
    /// A member is one no more.
    Remove {
        /// Which one.
        id: ReplicaId,
        /// Also where no majority of the rest is heard.
        force: bool,
    },
    /// An empty replica takes the place of a member.
    Replace {
        /// The member.
        old: ReplicaId,
        /// The empty replica.
        new: Candidate,
    },
    /// A member is reached elsewhere.
    SetAddress(Candidate),
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Changed {
    /// It is done; what the operator must hear all the same.
    Done(Option<String>),
    /// This replica leads and is to go: another must lead first.
    HandOver(ReplicaId),
}

type Outcome = Result<Changed, MembershipError>;

/// The way of changes to the task that makes them.
pub struct Changes {
    asked: mpsc::Sender<Asked>,
    turn: Arc<Semaphore>,
}

/// A change on its way.
pub struct Asked {
    change: Change,
    /// Held until the change is done, whoever still waits for it.
    _turn: OwnedSemaphorePermit,
    reply: oneshot::Sender<Outcome>,
}

impl Changes {
    /// The callers' end and the task's.
    pub fn new() -> (Changes, mpsc::Receiver<Asked>) {
        let (asked, received) = mpsc::channel(1);
        let turn = Arc::new(Semaphore::new(1));
        (Changes { asked, turn }, received)
    }

    async fn ask(&self, change: Change) -> Outcome {
        let turn = Arc::clone(&self.turn).try_acquire_owned();
        let _turn = turn.map_err(|_| MembershipError::UnderWay)?;
        let stopped = || MembershipError::Stopped("its tasks have ended".to_owned());
        let (reply, outcome) = oneshot::channel();
        let asked = Asked { change, _turn, reply };
        self.asked.send(asked).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }
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

    async fn change(&self, change: Change) -> Result<Option<String>, MembershipError> {
        let role = *self.parts().role.borrow();
        if role.state != State::Leader {
            return Err(MembershipError::NotLeader { leader: role.leader });
        }
        match self.parts().changes.ask(change).await? {
            Changed::Done(warning) => Ok(warning),
            Changed::HandOver(to) => match self.transfer_leader(to).await {
                Ok(()) => Err(MembershipError::NotLeader { leader: Some(to) }),
                Err(source) => {
                    let id = self.parts().network.passport.identity().id;
                    Err(MembershipError::HandOver { id, source })
                }
            },
        }
    }
}

/// How far a member is, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Entries it lacks; `None` while nothing is known of its log.
    pub behind: Option<u64>,
    /// Milliseconds since it was heard.
    pub heard_ms_ago: Option<u64>,
    /// It lacks no more than what is on its way, and is heard.
    pub caught_up: bool,
}

/// How far a member is, by the core's metrics; only a leader's know.
pub fn progress(metrics: &RaftMetrics<Config>, presence: &Presence, silence: Duration, id: u64) -> Progress {
    let own = metrics.id == id;
    let next = metrics.last_log_index.map_or(0, |last| last + 1);
    let matched = metrics.replication.as_ref().and_then(|all| all.get(&id)?.as_ref());
    let behind = match own {
        true => Some(0),
        false => matched.map(|matched| next.saturating_sub(matched.index() + 1)),
    };
    let heard = match own {
        true => Some(Duration::ZERO),
        false => presence.heard_ago(id),
    };
    Progress {
        behind,
        heard_ms_ago: heard.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        caught_up: behind.is_some_and(|behind| behind <= limits::CAUGHT_UP_ENTRIES)
            && heard.is_some_and(|ago| ago <= silence),
    }
}
