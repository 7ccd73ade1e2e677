//! The takeover itself.
//!
//! ```text
//! alarm ──▶ mark the leader's vote as gone (this fences it) ──▶ ask all other voters: do you see it too?
//!    majority agrees ──▶ the longest log goes at once (tie: lowest id), the others yield 40 ms
//!                    ──▶ openraft's transfer of leadership to itself: voters skip the lease, every other check remains
//!    no majority     ──▶ ask again after a few ms; after 500 ms the mark falls and openraft's timers take over
//! ```
//!
//! Raft's own safety is untouched: a vote still needs the longer log, the higher term and a quorum.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use tokio::time::Instant;

use crate::draws::Draws;
use crate::limits;
use crate::marks::mark;
use crate::peer::client::{Network, call};
use crate::peer::presence::Cause;
use crate::peer::wire;
use crate::raft::adapter::Adapter;
use crate::raft::config::{Config, KeptMembership, Vote, entry_id};
use crate::takeover::alarm::{Alarm, Verdict};
use crate::types::EntryId;

/// The task that watches the leader.
pub struct Takeover {
    /// The core.
    pub raft: Raft<Config, Adapter>,
    /// Who was heard, and how to ask.
    pub network: Network,
    /// How long a leader may be silent.
    pub silence: Duration,
    /// Elections this replica started here.
    pub started: Arc<AtomicU64>,
    /// The jitter between two rounds of asking.
    pub draws: Draws,
}

/// How a round of asking ended.
enum Agreed {
    /// No majority sees it.
    No,
    /// A majority sees it, and this replica has the longest log.
    Go,
    /// A majority sees it, and another replica has a longer log, or an equal one and a lower id.
    Yield,
}

impl Takeover {
    /// Watches until the core ends.
    pub async fn run(mut self) {
        let own = self.network.passport.identity().id.get();
        let mut alarm = Alarm::new(own, self.silence);
        let mut metrics = self.raft.server_metrics();
        let mut changes = self.network.presence.changes();
        loop {
            let (vote, voter) = {
                let metrics = metrics.borrow_and_update();
                (metrics.vote, metrics.membership_config.voter_ids().any(|id| id == own))
            };
            let voter = voter && !self.network.passport.standing.is_removed();
            alarm.follow(vote);
            let wake = match alarm.look(&self.network.presence) {
                Verdict::Rings(vote, cause) if voter => {
                    self.replace(vote, cause).await;
                    alarm.spend();
                    continue;
                }
                Verdict::Quiet(due) => due,
                Verdict::Idle | Verdict::Rings(..) => Instant::now() + Duration::from_secs(3600),
            };
            tokio::select! {
                biased;
                changed = metrics.changed() => if changed.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// One attempt to replace a leader: at most as long as the mark stands.
    async fn replace(&mut self, vote: Vote, cause: Cause) {
        let term = vote.leader_id.term;
        let leader = vote.leader_id.voted_for;
        tracing::info!(term, leader, cause = cause.name(), "the leader seems gone");
        let presence = Arc::clone(&self.network.presence);
        presence.mark(vote);
        let deadline = Instant::now() + limits::GONE_LIFE;
        let mut yielded: Option<Instant> = None;
        while presence.is_gone(&vote) && Instant::now() < deadline && self.vote() == vote {
            let go = match self.ask(vote).await {
                Agreed::No => false,
                Agreed::Go => true,
                Agreed::Yield => {
                    mark("takeover_yielded");
                    let since = *yielded.get_or_insert_with(Instant::now);
                    since.elapsed() >= limits::GONE_YIELD
                }
            };
            if go && presence.is_gone(&vote) && self.vote() == vote {
                self.elect(vote, cause);
                self.vote_changed(vote, limits::GONE_ELECTION).await;
            } else {
                let pause = Duration::from_micros(2_000 + self.draws.draw() % 2_000);
                self.vote_changed(vote, pause).await;
            }
            if self.has_ended() {
                return;
            }
        }
        // Only this replica's own mark: a new connection may have cleared it already.
        if presence.is_gone(&vote) {
            presence.clear();
        }
        if self.vote() == vote {
            mark("false_alarm");
            tracing::info!(term, leader, "no agreement that the leader is gone");
        }
    }

    fn has_ended(&self) -> bool {
        self.raft.metrics().borrow_watched().running_state.is_err()
    }

    fn vote(&self) -> Vote {
        self.raft.server_metrics().borrow_watched().vote
    }

    async fn vote_changed(&self, vote: Vote, at_most: Duration) {
        let mut metrics = self.raft.server_metrics();
        let changed = metrics.wait_until(|metrics| metrics.vote != vote);
        if let Ok(Err(_)) = tokio::time::timeout(at_most, changed).await {
            // The core has ended; do not spin until the loop sees it.
            tokio::time::sleep(at_most).await;
        }
    }

    /// Asks all voters but the dead one, and weighs the answers.
    async fn ask(&self, vote: Vote) -> Agreed {
        let own = self.network.passport.identity().id.get();
        let standing = self.raft.with_raft_state(|state| {
            (
                *state.vote_ref(),
                state.log_ids.last().map(entry_id),
                Arc::clone(state.membership_state.effective()),
            )
        });
        let Ok(Ok((current, last, membership))) = tokio::time::timeout(limits::GONE_DEADLINE, standing).await else {
            return Agreed::No;
        };
        if current != vote {
            return Agreed::No;
        }
        let dead = vote.leader_id.voted_for;
        let voters: BTreeSet<u64> = membership.voter_ids().filter(|id| *id != own && *id != dead).collect();
        let questions = voters.iter().map(|id| self.question(*id, &membership, vote));
        let answers = join_all(questions).await;
        let agreeing: Vec<(u64, Option<EntryId>)> = voters.into_iter().zip(answers).filter_map(agreed).collect();
        if !is_majority(&membership, own, &agreeing) {
            return Agreed::No;
        }
        let better = agreeing
            .iter()
            .any(|(id, log)| *log > last || (*log == last && *id < own));
        if better { Agreed::Yield } else { Agreed::Go }
    }

    /// `None` is "no", whatever went wrong.
    async fn question(&self, id: u64, membership: &KeptMembership, vote: Vote) -> Option<Option<EntryId>> {
        let node = membership.get_node(&id)?;
        let link = self.network.links.to(&node.peer_address);
        let header = self.network.passport.header(id, node);
        let request = wire::LeaderGoneRequest {
            header: Some(header),
            vote: Some(wire::vote_out(&vote)),
        };
        let reply = call(limits::GONE_DEADLINE, link.heartbeat.clone().leader_gone(request))
            .await
            .ok()?;
        reply.agree.then(|| reply.last.map(EntryId::from))
    }

    /// Starts the election in a task of its own: openraft may wait for its log to be flushed first.
    fn elect(&self, vote: Vote, cause: Cause) {
        let own = self.network.passport.identity().id.get();
        self.started.fetch_add(1, Ordering::Relaxed);
        mark("takeover_by_agreement");
        tracing::info!(
            term = vote.leader_id.term + 1,
            cause = cause.name(),
            "taking over by agreement"
        );
        let raft = self.raft.clone();
        tokio::spawn(async move {
            let request = TransferLeaderRequest::new(vote, own, None);
            match raft.handle_transfer_leader(request).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    mark("takeover_refused");
                    tracing::info!(%error, "the takeover was refused");
                }
                Err(error) => tracing::info!(%error, "the takeover failed"),
            }
        });
    }
}

fn agreed((id, answer): (u64, Option<Option<EntryId>>)) -> Option<(u64, Option<EntryId>)> {
    answer.map(|log| (id, log))
}

/// Whether `own` and those that agree are a majority of the voters, in both configurations while one is joint.
fn is_majority(membership: &KeptMembership, own: u64, agreeing: &[(u64, Option<EntryId>)]) -> bool {
    let yes: BTreeSet<u64> = agreeing.iter().map(|(id, _)| *id).chain([own]).collect();
    let configs = membership.get_joint_config();
    !configs.is_empty()
        && configs
            .iter()
            .all(|config| config.intersection(&yes).count() > config.len() / 2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::raft::config::{Members, Node};

    fn membership(configs: &[&[u64]]) -> KeptMembership {
        let configs: Vec<BTreeSet<u64>> = configs.iter().map(|ids| ids.iter().copied().collect()).collect();
        let nodes: BTreeMap<u64, Node> = configs.iter().flatten().map(|id| (*id, Node::default())).collect();
        KeptMembership::new(None, Members::new(configs, nodes).expect("valid"))
    }

    #[test]
    fn majority_counts_all_voters_in_both_configurations() {
        let three = membership(&[&[1, 2, 3]]);
        assert!(!is_majority(&three, 2, &[]));
        assert!(is_majority(&three, 2, &[(3, None)]));
        let joint = membership(&[&[1, 2, 3], &[3, 4, 5]]);
        assert!(!is_majority(&joint, 2, &[(3, None)]));
        assert!(is_majority(&joint, 2, &[(3, None), (4, None)]));
        assert!(is_majority(&membership(&[&[7]]), 7, &[]));
    }
}
