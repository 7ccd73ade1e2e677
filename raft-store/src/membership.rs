//! Replicas that come and go: the leader's side of a change of the membership.
//!
//! ```text
//! add      identify (who are you, are you free?) ─▶ adopt the cluster id ─▶ learner
//! promote  caught up? ─▶ joint ─▶ voter
//! remove   would a majority of the rest live? ─▶ joint ─▶ gone           (the leader hands over first)
//! replace  add ─▶ caught up? ─▶ joint: new votes, old does not ─▶ old is gone
//! ```
//!
//! One change at a time. Each step looks at the membership first, so a change that broke off anywhere is finished by asking for
//! it again. One that broke off between the two halves of a joint change, by the death of its leader, the next leader finishes.

pub mod steps;

use std::sync::Arc;
use std::time::Duration;

use openraft::RaftMetrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::bootstrap::Candidate;
use crate::errors::MembershipError;
use crate::limits;
use crate::peer::presence::Presence;
use crate::raft::config::Config;
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
pub enum Changed {
    /// It is done; what the operator must hear all the same.
    Done(Option<String>),
    /// This replica leads and is to go: another must lead first.
    HandOver(ReplicaId),
}

/// How a change ends.
pub type Outcome = Result<Changed, MembershipError>;

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

    /// Keeps changes away until the permit is dropped; `None` while one is under way.
    pub fn hold(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turn).try_acquire_owned().ok()
    }

    /// Asks for a change and waits for what came of it.
    pub async fn ask(&self, change: Change) -> Outcome {
        let _turn = self.hold().ok_or(MembershipError::UnderWay)?;
        let stopped = || MembershipError::Stopped("its tasks have ended".to_owned());
        let (reply, outcome) = oneshot::channel();
        let asked = Asked { change, _turn, reply };
        self.asked.send(asked).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
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
