//! A leader whose own disk stalls hands over.
//!
//! ```text
//! the log's writer is at one batch for STALL_HANDOVER, and a majority of the voters has, without this replica, more than
//! is durable here ──▶ leadership goes to the one of them with the longest log
//! ```
//!
//! Who follows the role of this replica is told at once: its core may be stuck on the disk when it is to follow.
//!
//! The others commit without this disk, but an entry is applied, and so answered, only once it is durable here: every
//! send would wait as long as the disk does. Where the others wait as well, as on a shared disk, nothing is handed over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits;
use crate::log::Log;
use crate::peer::presence::Presence;
use crate::raft::adapter::Adapter;
use crate::raft::config::{Config, KeptMembership, entry_id};
use crate::raft::roles::Resigned;
use crate::types::{EntryId, ReplicaId, Term};

/// The task that watches this replica's own disk.
pub struct Stall {
    /// The core.
    pub raft: Raft<Config, Adapter>,
    /// The log.
    pub log: Log,
    /// Who is heard.
    pub presence: Arc<Presence>,
    /// Unheard for longer, a replica is handed nothing.
    pub silence: Duration,
    /// Tells those who follow the role, as the core may be stuck on the disk by then.
    pub resigned: watch::Sender<Resigned>,
}

impl Stall {
    /// Runs until the core has ended.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(limits::STALL_CHECK).await;
            let stalled = self.log.writing_for();
            if stalled < limits::STALL_HANDOVER {
                continue;
            }
            let Some((term, to)) = self.successor() else { continue };
            let stalled_ms = stalled.as_millis();
            tracing::warn!(stalled_ms, to, "the disk of the log stalls, another replica is to lead");
            if self.raft.trigger().transfer_leader(to).await.is_err() {
                return;
            }
            self.resign(term, to).await;
        }
    }

    /// Serves nobody from now on, until the core knows who leads, or it is clear that nobody else does.
    async fn resign(&self, term: Term, to: u64) {
        let asked = Instant::now();
        self.resigned.send_replace(Some((term, ReplicaId(to))));
        while self.term() == term {
            tokio::time::sleep(limits::STALL_CHECK).await;
            let newer = self.presence.led_by().filter(|vote| Term(vote.leader_id.term) > term);
            match newer {
                Some(vote) => self.follow(term, ReplicaId(vote.leader_id.voted_for)),
                None if asked.elapsed() >= limits::STALL_RESIGNED => break,
                None => {}
            }
        }
        self.resigned.send_replace(None);
        tokio::time::sleep(limits::STALL_PAUSE.saturating_sub(asked.elapsed())).await;
    }

    fn term(&self) -> Term {
        Term(self.raft.metrics().borrow_watched().current_term)
    }

    fn follow(&self, term: Term, leader: ReplicaId) {
        let word = Some((term, leader));
        self.resigned
            .send_if_modified(|known| std::mem::replace(known, word) != word);
    }

    /// Whom to hand over to, and in which term; `None` where this replica does not lead, or nobody would do better.
    fn successor(&self) -> Option<(Term, u64)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        // Only a leader knows how far the others are.
        let replication = metrics.replication.as_ref()?;
        let matched: BTreeMap<u64, EntryId> = replication
            .iter()
            .filter(|(id, _)| **id != metrics.id)
            .filter_map(|(id, matched)| Some((*id, entry_id(matched.as_ref()?))))
            .collect();
        let heard = |id: u64| self.presence.heard_ago(id).is_some_and(|ago| ago <= self.silence);
        let to = successor(&metrics.membership_config, &matched, self.log.state().durable, heard)?;
        Some((Term(metrics.current_term), to))
    }
}

/// The voter with the longest log (tie: lowest id) among those that have more than `durable`, if they are a majority, in
/// both configurations while one is joint. `matched` is of the other replicas.
fn successor(
    membership: &KeptMembership,
    matched: &BTreeMap<u64, EntryId>,
    durable: Option<EntryId>,
    heard: impl Fn(u64) -> bool,
) -> Option<u64> {
    let ahead = |id: &u64| matched.get(id).is_some_and(|matched| Some(*matched) > durable);
    let goes_on =
        |voters: &std::collections::BTreeSet<u64>| voters.iter().filter(|id| ahead(id)).count() > voters.len() / 2;
    let configs = membership.get_joint_config();
    if !configs.iter().all(goes_on) {
        return None;
    }
    let voters = configs.last()?.iter().filter(|id| ahead(id) && heard(**id));
    voters
        .copied()
        .max_by_key(|id| (matched.get(id).copied(), std::cmp::Reverse(*id)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::raft::config::{Members, Node};

    fn membership(configs: &[&[u64]]) -> KeptMembership {
        let configs: Vec<BTreeSet<u64>> = configs.iter().map(|ids| ids.iter().copied().collect()).collect();
        let nodes: BTreeMap<u64, Node> = configs.iter().flatten().map(|id| (*id, Node::default())).collect();
        KeptMembership::new(None, Members::new(configs, nodes).expect("valid"))
    }

    fn found(configs: &[&[u64]], matched: &[(u64, u64)], durable: u64, deaf_to: u64) -> Option<u64> {
        let matched = matched
            .iter()
            .map(|(id, index)| (*id, EntryId::new(3, *index)))
            .collect();
        let durable = Some(EntryId::new(3, durable));
        successor(&membership(configs), &matched, durable, |id| id != deaf_to)
    }

    #[test]
    fn hands_over_only_where_a_majority_goes_on() {
        let three: &[&[u64]] = &[&[1, 2, 3]];
        assert_eq!(found(three, &[(2, 9), (3, 8)], 7, 0), Some(2));
        assert_eq!(found(three, &[(2, 8), (3, 9)], 7, 0), Some(3), "the longest log");
        assert_eq!(found(three, &[(2, 9), (3, 9)], 7, 0), Some(2), "tie: the lowest id");
        assert_eq!(
            found(three, &[(2, 9), (3, 9)], 7, 2),
            Some(3),
            "not to one that is not heard"
        );
        assert_eq!(found(three, &[(2, 9), (3, 7)], 7, 0), None, "one alone commits nothing");
        assert_eq!(found(three, &[(2, 9), (3, 9)], 9, 0), None, "nobody is ahead");
        assert_eq!(found(&[&[1]], &[], 7, 0), None);
        assert_eq!(found(&[&[1, 2]], &[(2, 9)], 7, 0), None, "two need both");
    }

    #[test]
    fn learners_do_not_count_and_joint_ones_count_twice() {
        assert_eq!(found(&[&[1, 2, 3]], &[(2, 9), (4, 9)], 7, 0), None);
        let joint: &[&[u64]] = &[&[1, 2, 3], &[1, 4, 5]];
        assert_eq!(found(joint, &[(2, 9), (3, 9)], 7, 0), None);
        assert_eq!(found(joint, &[(2, 9), (3, 9), (4, 8), (5, 9)], 7, 0), Some(5));
    }
}
