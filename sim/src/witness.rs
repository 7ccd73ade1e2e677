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

use ledgermq_raft_store::{Role, State, Status};

pub use self::{
    disks::{DiskLook, Ground},
    watch::{watch, watch_log},
};
use crate::{
    board::{Board, replica_name},
    checkers::{
        committed_entries::CommittedEntries,
        digests::Digests,
        health::{self, Health},
        kept,
        living::Living,
        marks,
        one_leader::OneLeader,
        routes::{self, Memory, Told, Truth},
        votes::Votes,
    },
    fleet::Fleet,
    history::{History, What},
    limits, world,
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
    /// Since when what it applied is beyond what it calls committed or the end of its log, seconds.
    pub ahead_since: Option<f64>,
    /// Records of entries up to it are forgotten; `None` while a snapshot is being installed, and nothing is known.
    pub cut: Option<u64>,
    /// Who votes, as it knows.
    pub voters: BTreeSet<u64>,
    /// A change of the membership is half done, as it knows.
    pub joint: bool,
    /// What consumer groups have not done yet: their names, topics and counts; those that consume all of a topic.
    pub lags: Vec<(String, String, u64)>,
}

impl Snapshot {
    /// The part that its status tells.
    fn of(status: &Status, role: Role, at: f64) -> Snapshot {
        Snapshot {
            id: status.id.get(),
            at,
            term: role.term.get(),
            leads: role.state == State::Leader,
            serving: role.serving,
            last: status.last.map(|id| id.index.get()),
            committed: status.committed.map(|id| id.index.get()),
            applied: status.applied.map(|id| id.index.get()),
            joint: status.membership.joint,
            voters: status.members.iter().filter(|m| m.voter).map(|m| m.id.get()).collect(),
            ..Snapshot::default()
        }
    }
}

/// Handle to the witness; clones share it.
#[derive(Clone)]
pub struct Witness {
    board: Board,
    history: History,
    fleet: Fleet,
    ground: Arc<Ground>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Names of the broker groups, in the order of the fleet.
    groups: Vec<String>,
    /// What is known of the replica on each machine.
    nodes: BTreeMap<usize, Node>,
    one_leader: OneLeader,
    votes: Votes,
    digests: Digests,
    health: Health,
    committed: BTreeMap<String, CommittedEntries>,
    told: Vec<Told>,
    memory: Memory,
    living: Living,
    /// Nothing may ever be forgotten.
    keeps_all: bool,
    /// By broker group: the states are to be compared at its entry at the latest. `None` until that is wanted.
    compare_at: Option<BTreeMap<String, u64>>,
    audit_wanted: bool,
    looked_at_ms: u64,
    disks_looked_at: u64,
}

#[derive(Default)]
struct Node {
    id: u64,
    boots: u64,
    /// What lies on its disk proves nothing: something there was damaged.
    spoiled: bool,
    last: Option<Snapshot>,
    /// The last entry whose state it has hashed since it started.
    hashed: u64,
    audited: bool,
}

impl Witness {
    /// Where its findings go.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// A witness of the fleet that has seen nothing; `groups` are the names of its broker groups.
    pub fn new(board: Board, history: History, (fleet, ground): (Fleet, Ground), groups: Vec<String>) -> Witness {
        let inner = Inner {
            groups,
            ..Inner::default()
        };
        Witness {
            board,
            history,
            fleet,
            ground: Arc::new(ground),
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// There is no bound on what is kept: whoever forgets anything is wrong.
    pub fn keep_all(&self) {
        self.inner().keeps_all = true;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The history into which it writes.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The broker groups on the stage.
    pub fn broker_groups(&self) -> Vec<String> {
        self.inner().groups.clone()
    }

    /// The hosts that have a replica now.
    pub fn seated_hosts(&self) -> BTreeSet<String> {
        self.fleet.seated().into_iter().map(replica_name).collect()
    }

    fn violations(&self, wrong: impl IntoIterator<Item = String>) {
        for what in wrong {
            self.board.violation(what);
        }
    }

    /// Replica `id` starts on a machine; how often it started before.
    fn boots(&self, machine: usize, id: u64) -> u64 {
        let mut inner = self.inner();
        let node = inner.nodes.entry(machine).or_default();
        if node.id != id {
            *node = Node { id, ..Node::default() };
        }
        node.boots += 1;
        (node.hashed, node.audited) = (0, false);
        node.boots - 1
    }

    fn saw(&self, machine: usize, mut snapshot: Snapshot) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let Some(node) = inner.nodes.get_mut(&machine) else {
            return;
        };
        snapshot.ahead_since = marks::ahead_since(node.last.as_ref(), &snapshot);
        let mut wrong = marks::check(node.last.as_ref(), &snapshot);
        if snapshot.leads {
            let name = format!("{} ({})", snapshot.replica, snapshot.id);
            wrong.extend(inner.one_leader.see(&snapshot.broker_group, snapshot.term, &name));
        }
        wrong.extend(kept::check(inner.keeps_all, &snapshot));
        wrong.extend(inner.health.see(&snapshot));
        inner.living.runs(&snapshot.broker_group, snapshot.id, snapshot.at);
        node.last = Some(snapshot);
        self.violations(wrong);
    }

    fn saw_digest(&self, machine: usize, broker_group: &str, (index, digest): (u64, u128)) {
        let mut inner = self.inner();
        let wrong = inner.digests.see(broker_group, &replica_name(machine), index, digest);
        if let Some(node) = inner.nodes.get_mut(&machine) {
            node.hashed = index;
        }
        drop(inner);
        self.violations(wrong);
    }

    /// Broker groups whose replicas are to hash their state because all else is as it should be.
    pub fn to_compare(&self) -> Vec<String> {
        let inner = self.inner();
        let groups = inner.groups.iter().enumerate();
        let uncompared =
            groups.filter(|(group, _)| inner.compare_at.is_some() && self.uncompared(&inner, *group).is_some());
        uncompared.map(|(_, name)| name.clone()).collect()
    }

    /// The replicas of a broker group were asked to hash the state as of an entry.
    pub fn asked_to_hash(&self, broker_group: &str, index: u64) {
        if let Some(at) = self.inner().compare_at.as_mut() {
            at.insert(broker_group.to_owned(), index);
        }
    }

    /// Why the states of a broker group's replicas are not known to be equal; `None` once they are.
    fn uncompared(&self, inner: &Inner, group: usize) -> Option<String> {
        let wanted = inner.compare_at.as_ref().and_then(|at| at.get(&inner.groups[group]));
        let seats = self.fleet.seats(group).into_values();
        let hashed: Vec<u64> = seats
            .map(|machine| inner.nodes.get(&machine).map_or(0, |node| node.hashed))
            .collect();
        let compared = wanted.is_some_and(|wanted| hashed.iter().all(|index| index == &hashed[0] && index >= wanted));
        (!compared).then(|| format!("the replicas have hashed their states as of {hashed:?}, wanted is {wanted:?}"))
    }

    /// What brokers and name servers say of the routes, all at one time; replaces what they said before.
    pub fn told(&self, told: Vec<Told>) {
        self.inner().told = told;
    }

    /// What name servers say of the routes while the run goes on.
    pub fn told_meanwhile(&self, told: &[Told]) {
        let now = world::seconds();
        let mut inner = self.inner();
        let mut wrong: Vec<String> = told.iter().flat_map(|told| inner.memory.see(told)).collect();
        wrong.extend(told.iter().flat_map(|told| inner.living.see(told, now)));
        self.violations(wrong);
    }

    /// Looks at the disks when it is time again.
    pub fn step(&self, now_ms: u64) {
        let looked_at_ms = self.inner().looked_at_ms;
        if now_ms >= looked_at_ms + limits::LOOK_AT_DISKS_MS {
            self.look_at_disks(now_ms);
        }
    }

    /// What is not as it should be once all is mended; `None` when everything is: memberships as wanted, replicas up,
    /// equally far and ready, routes true, states equal.
    pub fn unsettled(&self) -> Option<String> {
        let mut inner = self.inner();
        for group in 0..inner.groups.len() {
            let seats = self.fleet.seats(group);
            let applied_of = |machine: &usize| {
                let node = inner.nodes.get(machine).filter(|_| self.board.is_up(*machine));
                node.and_then(|node| node.last.as_ref()).and_then(|last| last.applied)
            };
            let applied: Vec<Option<u64>> = seats.values().map(applied_of).collect();
            if !self.fleet.is_settled(group) {
                return Some(format!(
                    "the membership is not as wanted, replicas have applied {applied:?}"
                ));
            }
            if applied.first().is_none_or(Option::is_none) || applied.iter().any(|index| *index != applied[0]) {
                return Some(format!("replicas {:?} have applied {applied:?}", seats.keys()));
            }
            let last = seats
                .values()
                .filter_map(|machine| inner.nodes.get(machine)?.last.as_ref());
            if let Some(half) = last.clone().find(|last| last.joint) {
                return Some(format!("the membership is joint, as {} says", half.replica));
            }
            if let Some(unready) = health::not_ready(last) {
                return Some(unready);
            }
        }
        // A replica that was replaced in the meantime said its last word long ago.
        let seated = self.fleet.seated().into_iter();
        let mut last = seated.filter_map(|machine| inner.nodes.get(&machine)?.last.as_ref());
        if let Some(behind) = last.find(|last| last.serving && !last.lags.is_empty()) {
            return Some(format!("not done, as {} says: {:?}", behind.replica, behind.lags));
        }
        let truth = self.truth(&inner);
        if inner.told.is_empty() || truth.len() < inner.groups.len() {
            return Some("nobody has told the routes yet".to_owned());
        }
        if let Some(wrong) = routes::check(&truth, &inner.told).into_iter().next() {
            return Some(wrong);
        }
        inner.compare_at.get_or_insert_default();
        (0..inner.groups.len()).find_map(|group| self.uncompared(&inner, group))
    }

    /// Each broker group by the highest term that serves.
    fn truth(&self, inner: &Inner) -> BTreeMap<String, Truth> {
        let mut truth: BTreeMap<String, Truth> = BTreeMap::new();
        let up = inner.nodes.iter().filter(|(machine, _)| self.board.is_up(**machine));
        let serving = up
            .filter_map(|(_, node)| node.last.as_ref())
            .filter(|last| last.serving);
        for last in serving {
            let known = truth.entry(last.broker_group.clone()).or_default();
            (known.term, known.leader) = (last.term, last.id).max((known.term, known.leader));
        }
        for (group, name) in inner.groups.iter().enumerate() {
            if let Some(known) = truth.get_mut(name) {
                known.replicas = self.fleet.seats(group).into_keys().collect();
            }
        }
        truth
    }

    /// Has every replica write down what lies in its queues; `None` once all have.
    pub fn audit(&self) -> Option<String> {
        let mut inner = self.inner();
        inner.audit_wanted = true;
        let seated = self.fleet.seated();
        let audited = |machine: &usize| inner.nodes.get(machine).is_some_and(|node| node.audited);
        let missing = seated.into_iter().find(|machine| !audited(machine));
        missing.map(|machine| format!("{} has not written down its queues yet", replica_name(machine)))
    }

    fn is_audit_due(&self, machine: usize) -> bool {
        let inner = self.inner();
        inner.audit_wanted && inner.nodes.get(&machine).is_some_and(|node| !node.audited)
    }

    fn audited(&self, machine: usize) {
        if let Some(node) = self.inner().nodes.get_mut(&machine) {
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
