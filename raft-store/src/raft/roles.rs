//! Follows the core and the machine, and tells the members and the role of this replica to whoever watches: the members
//! first, so that who sees a leader serve finds its members.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Raft, ServerState};
use tokio::sync::watch;

use crate::raft::adapter::Adapter;
use crate::raft::config::Config;
use crate::raft::members;
use crate::status::{Member, Role, State};
use crate::types::{EntryId, ReplicaId, Term};

/// Our word for openraft's.
fn state(state: ServerState) -> State {
    match state {
        ServerState::Leader => State::Leader,
        ServerState::Candidate => State::Candidate,
        ServerState::Follower => State::Follower,
        // A core that stops serves nobody.
        ServerState::Learner | ServerState::Shutdown => State::Learner,
    }
}

/// A leader's word that another is to lead, and in which term it says so.
pub type Resigned = Option<(Term, ReplicaId)>;

/// Follows changes until the core ends. `elections` counts the leaders seen since the start. A leader that `resigned` does
/// not serve: its core may be stuck on the disk and unable to say so.
pub async fn follow(
    raft: Raft<Config, Adapter>,
    mut applied: watch::Receiver<Option<EntryId>>,
    mut resigned: watch::Receiver<Resigned>,
    told: watch::Sender<Vec<Member>>,
    role: watch::Sender<Role>,
    elections: Arc<AtomicU64>,
) {
    let mut metrics = raft.server_metrics();
    let mut led: Option<(Term, ReplicaId)> = None;
    // Nothing was told yet: the core may have read its membership after the watch was made, and before this ran.
    let mut membership = None;
    loop {
        let now = {
            let metrics = metrics.borrow_watched();
            if membership.as_ref() != Some(&metrics.membership_config) {
                let now = members::members(&metrics.membership_config);
                told.send_if_modified(|told| std::mem::replace(told, now.clone()) != now);
                membership = Some(Arc::clone(&metrics.membership_config));
            }
            let term = Term(metrics.vote.leader_id.term);
            let leader = metrics.current_leader.map(ReplicaId);
            let state = state(metrics.state);
            let caught_up = applied.borrow_and_update().is_some_and(|id| id.term == term);
            Role {
                term,
                state,
                leader,
                serving: state == State::Leader && leader.is_some() && caught_up,
            }
        };
        if let Some(leader) = now.leader
            && led != Some((now.term, leader))
        {
            led = Some((now.term, leader));
            elections.fetch_add(1, Ordering::Relaxed);
            tracing::info!(term = now.term.get(), leader = leader.get(), "leader elected");
        }
        let now = after(now, *resigned.borrow_and_update());
        role.send_if_modified(|role| std::mem::replace(role, now) != now);
        // Applying moves all the time; only the first entry of a term matters here.
        let waiting = now.state == State::Leader && !now.serving;
        tokio::select! {
            biased;
            changed = metrics.changed() => if changed.is_err() { break },
            changed = applied.changed(), if waiting => if changed.is_err() { break },
            changed = resigned.changed() => if changed.is_err() { break },
        }
    }
    role.send_modify(|role| {
        *role = Role {
            term: role.term,
            ..Role::default()
        }
    });
}

/// The role after a word that another is to lead.
fn after(role: Role, resigned: Resigned) -> Role {
    match resigned {
        Some((term, to)) if term == role.term && role.state == State::Leader => Role {
            term,
            state: State::Follower,
            leader: Some(to),
            serving: false,
        },
        _ => role,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_resigned_serves_nobody_in_that_term() {
        let leads = Role {
            term: Term(4),
            state: State::Leader,
            leader: Some(ReplicaId(1)),
            serving: true,
        };
        let resigned = |term| Some((Term(term), ReplicaId(2)));
        let follows = Role {
            state: State::Follower,
            leader: Some(ReplicaId(2)),
            serving: false,
            ..leads
        };
        assert_eq!(after(leads, None), leads);
        assert_eq!(after(leads, resigned(4)), follows);
        assert_eq!(after(leads, resigned(3)), leads, "of an earlier term");
        let third = Role {
            leader: Some(ReplicaId(3)),
            ..follows
        };
        assert_eq!(after(third, resigned(4)), third, "it follows already");
    }
}
