//! What the harness sees of the replicas while a run goes on, and hands to the checkers: their own word every few
//! milliseconds, their hashes of the state, their disks every few seconds, and at the end everything in their queues.
//!
//! ```text
//!   on each replica's host   watch(): roles, marks, readiness, hashes, progress; the queues when the audit is wanted
//!   outside of all hosts     step():  disks as a loss of power would leave them now
//! ```
//! What is wrong goes to the board at once; what belongs into the history is recorded there.

mod audit;
mod disks;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ledgermq_broker::kv::memory::MemoryKv;
use ledgermq_raft_store::disk::FaultyDisk;

pub use self::{disks::DiskLook, watch::watch};
use crate::{
    board::Board,
    checkers::{
        committed_entries::CommittedEntries,
        digests::Digests,
        health::{self, Health},
        marks,
        one_leader::OneLeader,
        routes::{self, Told},
        votes::Votes,
    },
    history::{History, What},
    limits,
};

/// A replica's own word.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The host.
    pub replica: String,
    /// Its broker group.
    pub broker_group: String,
    /// Its number.
    pub id: u64,
    /// How often it started before.
    pub boot: u64,
    /// When, seconds.
    pub at: f64,
    /// Its term.
    pub term: u64,
    /// It leads the term.
    pub leads: bool,
    /// It leads, and an entry of its term is applied.
    pub serving: bool,
    /// It reaches committed probes.
    pub ready: bool,
    /// The last entry in its log.
    pub last: Option<u64>,
    /// The last entry it knows committed.
    pub committed: Option<u64>,
    /// The last entry it applied.
    pub applied: Option<u64>,
    /// Records of entries up to it are forgotten.
    pub cut: u64,
    /// Who votes, as it knows.
    pub voters: BTreeSet<u64>,
}

/// Handle to the witness; clones share it.
#[derive(Clone)]
pub struct Witness {
    board: Board,
    history: History,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    nodes: BTreeMap<String, Node>,
    one_leader: OneLeader,
    votes: Votes,
    digests: Digests,
    health: Health,
    committed: BTreeMap<String, CommittedEntries>,
    told: Vec<Told>,
    audit_wanted: bool,
    looked_at_ms: u64,
    disks_looked_at: u64,
}

struct Node {
    broker_group: String,
    id: u64,
    disk: FaultyDisk,
    kv: Option<MemoryKv>,
    boots: u64,
    up: bool,
    /// Its disk lost something by a fault that destroys: what lies there proves nothing.
    spoiled: bool,
    last: Option<Snapshot>,
    audited: bool,
}

impl Witness {
    /// A witness that has seen nothing.
    pub fn new(board: Board, history: History) -> Witness {
        Witness {
            board,
            history,
            inner: Arc::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A replica is on the stage: its host, its broker group, its number and its disks. `kv` is absent where the state is
    /// not in simulated memory.
    pub fn add(&self, replica: &str, broker_group: &str, id: u64, disk: FaultyDisk, kv: Option<MemoryKv>) {
        let node = Node {
            broker_group: broker_group.to_owned(),
            id,
            disk,
            kv,
            boots: 0,
            up: false,
            spoiled: false,
            last: None,
            audited: false,
        };
        let mut inner = self.inner();
        inner.votes.forget(replica);
        inner.nodes.insert(replica.to_owned(), node);
    }

    /// A fault destroyed something on a replica's disk that was synced.
    pub fn spoil(&self, replica: &str) {
        if let Some(node) = self.inner().nodes.get_mut(replica) {
            node.spoiled = true;
        }
    }

    /// A replica died.
    pub fn down(&self, replica: &str) {
        if let Some(node) = self.inner().nodes.get_mut(replica) {
            node.up = false;
        }
    }

    /// The broker groups on the stage.
    pub fn broker_groups(&self) -> Vec<String> {
        let groups: BTreeSet<String> = self
            .inner()
            .nodes
            .values()
            .map(|node| node.broker_group.clone())
            .collect();
        groups.into_iter().collect()
    }

    fn violations(&self, wrong: impl IntoIterator<Item = String>) {
        for what in wrong {
            self.board.violation(what);
        }
    }

    /// A replica starts; how often it started before.
    fn boots(&self, replica: &str) -> u64 {
        let mut inner = self.inner();
        let Some(node) = inner.nodes.get_mut(replica) else {
            return 0;
        };
        node.boots += 1;
        (node.up, node.audited) = (true, false);
        node.boots - 1
    }

    fn saw(&self, snapshot: Snapshot) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let Some(node) = inner.nodes.get_mut(&snapshot.replica) else {
            return;
        };
        let mut wrong = marks::check(node.last.as_ref(), &snapshot);
        if snapshot.leads {
            wrong.extend(
                inner
                    .one_leader
                    .see(&snapshot.broker_group, snapshot.term, &snapshot.replica),
            );
        }
        wrong.extend(inner.health.see(&snapshot));
        node.last = Some(snapshot);
        self.violations(wrong);
    }

    fn saw_digest(&self, broker_group: &str, replica: &str, index: u64, digest: u128) {
        let wrong = self.inner().digests.see(broker_group, replica, index, digest);
        self.violations(wrong);
    }

    /// What brokers and name servers say of the routes, all at one time; replaces what they said before.
    pub fn told(&self, told: Vec<Told>) {
        self.inner().told = told;
    }

    /// Looks at the disks when it is time again.
    pub fn step(&self, now_ms: u64) {
        let due = {
            let inner = self.inner();
            now_ms >= inner.looked_at_ms + limits::LOOK_AT_DISKS_MS
        };
        if due {
            self.look_at_disks(now_ms);
        }
    }

    /// What is not as it should be once all is mended; `None` when everything is: replicas up, equally far and ready,
    /// routes true.
    pub fn unsettled(&self) -> Option<String> {
        let inner = self.inner();
        let mut groups: BTreeMap<&str, BTreeMap<&str, Option<u64>>> = BTreeMap::new();
        for (name, node) in &inner.nodes {
            let applied = node.last.as_ref().filter(|_| node.up).and_then(|last| last.applied);
            groups.entry(&node.broker_group).or_default().insert(name, applied);
        }
        for applied in groups.values() {
            let first = applied.values().next().copied().flatten();
            if first.is_none() || applied.values().any(|index| *index != first) {
                return Some(format!("replicas have applied {applied:?}"));
            }
        }
        if let Some(unready) = health::not_ready(inner.nodes.values().filter_map(|node| node.last.as_ref())) {
            return Some(unready);
        }
        let truth = inner.truth();
        if inner.told.is_empty() || truth.len() < groups.len() {
            return Some("nobody has told the routes yet".to_owned());
        }
        routes::check(&truth, &inner.told).into_iter().next()
    }

    /// Has every replica write down what lies in its queues; `None` once all have.
    pub fn audit(&self) -> Option<String> {
        let mut inner = self.inner();
        inner.audit_wanted = true;
        let missing = inner.nodes.iter().find(|(_, node)| !node.audited);
        missing.map(|(name, _)| format!("{name} has not written down its queues yet"))
    }

    fn is_audit_due(&self, replica: &str) -> bool {
        let inner = self.inner();
        inner.audit_wanted && inner.nodes.get(replica).is_some_and(|node| !node.audited)
    }

    fn audited(&self, replica: &str) {
        if let Some(node) = self.inner().nodes.get_mut(replica) {
            node.audited = true;
        }
    }

    fn record(&self, what: What) {
        self.history.record(what);
    }

    /// Counts for the report.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let inner = self.inner();
        vec![
            ("digests", inner.digests.count() as u64),
            ("disk_looks", inner.disks_looked_at),
        ]
    }
}

impl Inner {
    /// Term and leader of each broker group by the highest term that serves.
    fn truth(&self) -> BTreeMap<String, (u64, u64)> {
        let mut truth: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let up = self.nodes.values().filter(|node| node.up);
        for last in up.filter_map(|node| node.last.as_ref()).filter(|last| last.serving) {
            let known = truth.entry(last.broker_group.clone()).or_default();
            *known = (last.term, last.id).max(*known);
        }
        truth
    }
}
