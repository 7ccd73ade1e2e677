//! What the harness knows about the replicas while a run goes on: their roles and how far they have applied, told by
//! observers on the hosts. The checks that need no history are made on the spot: one leader a term, terms and applied
//! indexes that never go back.

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ledgermq_raft_store::{Role, State};
use serde::{Deserialize, Serialize};

use crate::{limits, marks, trace::Trace};

/// What every error of a faulty disk that is somebody's doing says.
const INJECTED: &str = "injected";

/// Handle to the board; clones share it.
#[derive(Clone)]
pub struct Board {
    trace: Trace,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    replicas: Vec<Replica>,
    /// Who led each term of each broker group.
    leaders: BTreeMap<(usize, u64), usize>,
    /// The first offset still kept of a queue, the furthest that any replica told.
    queue_starts: BTreeMap<(String, i64), i64>,
    violations: Vec<String>,
    elections: Vec<f64>,
    marks: BTreeMap<&'static str, u64>,
    forbidden: Option<Forbidden>,
}

/// A mark that counts as a violation once it is reached so often: to look for a scenario that reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forbidden {
    /// The mark.
    pub mark: String,
    /// How often; at least 1.
    pub times: u64,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.mark, self.times)
    }
}

impl FromStr for Forbidden {
    type Err = String;

    /// Reads `MARK` or `MARK=TIMES`.
    fn from_str(text: &str) -> Result<Forbidden, String> {
        let (mark, times) = text.split_once('=').unwrap_or((text, "1"));
        let times = times.parse();
        let times = times.map_err(|_| format!("{text:?}: expected MARK or MARK=TIMES"))?;
        let mark = mark.to_owned();
        Forbidden { mark, times }.checked()
    }
}

impl Forbidden {
    /// An error where no run can reach it: no such mark, or not even once.
    pub fn checked(self) -> Result<Forbidden, String> {
        if self.times == 0 {
            return Err(format!("mark {}: at least once, not 0 times", self.mark));
        }
        match marks::listed(&self.mark) {
            Some(_) => Ok(self),
            None => Err(format!(
                "no mark is named {:?}; docs/simulation.md lists all",
                self.mark
            )),
        }
    }
}

#[derive(Clone, Default)]
struct Replica {
    group: usize,
    up: bool,
    boots: u64,
    role: Role,
    applied: u64,
    /// The first entry that its log still has, as far as it told.
    kept_from: u64,
    /// Why it may stop by itself, naming an injected failure: something was done to its disk since it started.
    excuse: Option<&'static str>,
    /// It goes on, also after a restart.
    excuse_stands: bool,
    /// It is asked to stop, so its log and core will.
    asked_to_stop: bool,
    /// Bytes on its disk were damaged, so it may refuse to start as well, until it is replaced.
    damaged: bool,
}

impl Replica {
    /// What is left when it is not running: what belongs to the machine.
    fn asleep(&self) -> Replica {
        Replica {
            group: self.group,
            boots: self.boots,
            damaged: self.damaged,
            kept_from: self.kept_from,
            excuse: self.excuse.filter(|_| self.excuse_stands),
            excuse_stands: self.excuse_stands,
            ..Replica::default()
        }
    }
}

impl Board {
    /// A board for `replicas` replicas of one broker group, all down.
    pub fn new(replicas: usize, trace: Trace) -> Board {
        Board::of_groups(&vec![0; replicas], trace)
    }

    /// A board for replicas of these broker groups, all down.
    pub fn of_groups(groups: &[usize], trace: Trace) -> Board {
        let replica = |group: &usize| Replica {
            group: *group,
            ..Replica::default()
        };
        let inner = Inner {
            replicas: groups.iter().map(replica).collect(),
            ..Inner::default()
        };
        Board {
            trace,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A replica starts; answers how often it started before. Replicas are counted from 0 here.
    pub fn boot(&self, replica: usize) -> u64 {
        let mut inner = self.inner();
        let asleep = inner.replicas[replica].asleep();
        let boots = asleep.boots;
        inner.replicas[replica] = Replica {
            up: true,
            boots: boots + 1,
            ..asleep
        };
        boots
    }

    /// A replica was killed.
    pub fn down(&self, replica: usize) {
        let mut inner = self.inner();
        inner.replicas[replica] = inner.replicas[replica].asleep();
    }

    /// The replica's folder is gone: what comes on its machine next is another replica.
    pub fn wiped(&self, replica: usize) {
        let mut inner = self.inner();
        let replica = &mut inner.replicas[replica];
        (replica.damaged, replica.kept_from) = (false, 0);
    }

    /// Something is done to the replica's disk for which it may stop by itself, until [`Board::excuse_ends`].
    pub fn excuse(&self, replica: usize, why: &'static str) {
        let mut inner = self.inner();
        let replica = &mut inner.replicas[replica];
        (replica.excuse, replica.excuse_stands) = (Some(why), true);
    }

    /// It is asked to stop in good order, so its log and core will stop. Answers whether it runs: one that is yet to
    /// start is not the one that was meant.
    pub fn asked_to_stop(&self, replica: usize) -> bool {
        let mut inner = self.inner();
        let replica = &mut inner.replicas[replica];
        replica.asked_to_stop = replica.up;
        replica.up
    }

    /// It is over; a replica that stopped for it meanwhile is still excused, until it is started again.
    pub fn excuse_ends(&self, replica: usize) {
        self.inner().replicas[replica].excuse_stands = false;
    }

    /// Whether the reason for which a replica stopped, or did not start, is a failure of its disk that was injected.
    pub fn is_injected(&self, replica: usize, reason: &str) -> bool {
        self.inner().replicas[replica].excuse.is_some() && reason.contains(INJECTED)
    }

    /// Whether the replica may have stopped by itself for this reason: it was asked to stop, its bytes are damaged, or its
    /// disk was made to fail.
    pub fn may_stop(&self, replica: usize, reason: &str) -> bool {
        let excused = self.is_injected(replica, reason);
        let inner = self.inner();
        let replica = &inner.replicas[replica];
        excused || replica.asked_to_stop || replica.damaged
    }

    /// Bytes on the replica's disk are damaged.
    pub fn damage(&self, replica: usize) {
        self.inner().replicas[replica].damaged = true;
    }

    /// Whether they are.
    pub fn is_damaged(&self, replica: usize) -> bool {
        self.inner().replicas[replica].damaged
    }

    /// The replica's log or core stopped for good. That is right only after its disk failed.
    pub fn poisoned(&self, replica: usize, reason: &str) {
        let name = replica_name(replica);
        if self.may_stop(replica, reason) {
            self.mark("poisoned");
            self.trace.event(&name, format!("stopped: {reason}"));
        } else {
            self.violation(format!("{name} stopped: {reason}"));
        }
    }

    /// The oldest entry in the replica's log.
    pub fn keeps_from(&self, replica: usize, index: u64) {
        let mut inner = self.inner();
        inner.replicas[replica].kept_from = inner.replicas[replica].kept_from.max(index);
    }

    /// The oldest entry that any replica of the broker group has surely forgotten.
    pub fn kept_from(&self, group: usize) -> u64 {
        let inner = self.inner();
        let of_group = inner.replicas.iter().filter(|replica| replica.group == group);
        of_group.map(|replica| replica.kept_from).max().unwrap_or(0)
    }

    /// Messages of the queue below `offset` are forgotten.
    pub fn queue_starts(&self, topic: &str, queue: i64, offset: i64) {
        if offset == 0 {
            return;
        }
        let mut inner = self.inner();
        let start = inner.queue_starts.entry((topic.to_owned(), queue)).or_default();
        *start = offset.max(*start);
    }

    /// The first offset of a queue that may not have been forgotten.
    pub fn queue_start(&self, topic: &str, queue: i64) -> i64 {
        let inner = self.inner();
        inner.queue_starts.get(&(topic.to_owned(), queue)).copied().unwrap_or(0)
    }

    /// How far the replica has applied since it started.
    pub fn applied_index(&self, replica: usize) -> u64 {
        self.inner().replicas[replica].applied
    }

    /// Whether it is running.
    pub fn is_up(&self, replica: usize) -> bool {
        self.inner().replicas[replica].up
    }

    /// The role of a replica changed.
    pub fn role(&self, replica: usize, role: Role) {
        let name = replica_name(replica);
        let term = role.term.get();
        let mut elected = false;
        let mut violation = None;
        {
            let mut inner = self.inner();
            let before = inner.replicas[replica].role;
            if role.term < before.term {
                violation = Some(format!(
                    "{name} went back from term {} to term {term}",
                    before.term.get()
                ));
            }
            inner.replicas[replica].role = role;
            let group = inner.replicas[replica].group;
            if role.state == State::Leader {
                let first = *inner.leaders.entry((group, term)).or_insert(replica);
                if first != replica {
                    violation = Some(format!(
                        "two leaders in term {term}: {} and {name}",
                        replica_name(first)
                    ));
                }
                let led = before.state == State::Leader && before.term == role.term;
                elected = role.serving && !(led && before.serving);
            }
        }
        let leader = role.leader.map_or(0, |id| id.get());
        let state = role.state.name();
        let serving = if role.serving { " serving" } else { "" };
        self.trace
            .event(&name, format!("role term={term} {state} leader={leader}{serving}"));
        if elected {
            self.mark("election");
            let now = self.trace.now().as_secs_f64();
            self.inner().elections.push(now);
            self.trace.tell(&name, format!("leads term {term}"));
        }
        if let Some(violation) = violation {
            self.violation(violation);
        }
    }

    /// A replica applied entries up to `index`.
    pub fn applied(&self, replica: usize, index: u64) {
        let name = replica_name(replica);
        let before = {
            let mut inner = self.inner();
            std::mem::replace(&mut inner.replicas[replica].applied, index)
        };
        if before == index {
            return;
        }
        self.trace.event(&name, format!("applied {index}"));
        if index < before {
            self.violation(format!("{name} went back from applied index {before} to {index}"));
        }
    }

    /// The replica that leads the highest term of a broker group at the moment and is up.
    pub fn leader(&self, group: usize) -> Option<usize> {
        let inner = self.inner();
        let leading = |(_, replica): &&(usize, &Replica)| {
            replica.group == group && replica.up && replica.role.state == State::Leader
        };
        let replicas: Vec<(usize, &Replica)> = inner.replicas.iter().enumerate().collect();
        replicas
            .iter()
            .filter(leading)
            .max_by_key(|(_, replica)| replica.role.term)
            .map(|(index, _)| *index)
    }

    /// The applied index of every replica; `None` for one that is down.
    pub fn applied_indexes(&self) -> Vec<Option<u64>> {
        self.inner()
            .replicas
            .iter()
            .map(|replica| replica.up.then_some(replica.applied))
            .collect()
    }

    /// One line a replica, for the report of a failure.
    pub fn lines(&self) -> Vec<String> {
        let inner = self.inner();
        let line = |(index, replica): (usize, &Replica)| {
            format!(
                "{} up={} boots={} term={} {} applied={}",
                replica_name(index),
                replica.up,
                replica.boots,
                replica.role.term.get(),
                replica.role.state.name(),
                replica.applied
            )
        };
        inner.replicas.iter().enumerate().map(line).collect()
    }

    /// From now on a mark counts as a violation.
    pub fn forbid(&self, forbidden: Forbidden) {
        self.inner().forbidden = Some(forbidden);
    }

    /// When leaders began to serve, in simulated seconds.
    pub fn elections(&self) -> Vec<f64> {
        self.inner().elections.clone()
    }

    /// Counts something worth counting: a fault, a rare branch.
    pub fn mark(&self, name: &'static str) {
        let count = {
            let mut inner = self.inner();
            let count = inner.marks.entry(name).or_default();
            *count += 1;
            *count
        };
        let reached = |forbidden: &Forbidden| forbidden.mark == name && forbidden.times == count;
        let forbidden = self.inner().forbidden.as_ref().is_some_and(reached);
        if forbidden {
            self.violation(format!("mark {name} was reached {count} times"));
        }
    }

    /// All counts.
    pub fn marks(&self) -> BTreeMap<&'static str, u64> {
        self.inner().marks.clone()
    }

    /// How often this mark was reached.
    pub fn count(&self, name: &str) -> u64 {
        self.inner().marks.get(name).copied().unwrap_or(0)
    }

    /// Something that must never happen happened.
    pub fn violation(&self, what: String) {
        self.trace.tell("VIOLATION", &what);
        let mut inner = self.inner();
        if inner.violations.len() < limits::VIOLATIONS_MAX {
            inner.violations.push(what);
        }
    }

    /// What went wrong so far.
    pub fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }
}

/// The host name of a replica counted from 0: `replica-1` is the first.
pub fn replica_name(replica: usize) -> String {
    format!("replica-{}", replica + 1)
}

#[cfg(test)]
mod tests {
    use super::{Board, Forbidden};
    use crate::trace::Trace;

    #[test]
    fn a_fault_of_the_disk_is_no_excuse_for_another_end() {
        let board = Board::new(3, Trace::open(None, false).expect("no file"));
        let (its, another) = ("injected: sync failed", "entry 7 follows entry 5");
        assert!(!board.may_stop(0, its));
        board.boot(0);
        board.excuse(0, "fail_sync");
        assert!(board.may_stop(0, its));
        assert!(!board.may_stop(0, another));
        board.excuse_ends(0);
        assert!(board.may_stop(0, its), "it may be noticed late");
        board.boot(0);
        assert!(!board.may_stop(0, its));
        assert!(board.asked_to_stop(0));
        assert!(board.may_stop(0, another));
        assert!(!board.is_injected(0, another), "it must start all the same");
        board.damage(1);
        assert!(board.may_stop(1, another));
    }

    #[test]
    fn only_a_replica_that_runs_is_asked_to_stop() {
        let board = Board::new(1, Trace::open(None, false).expect("no file"));
        assert!(!board.asked_to_stop(0), "it would start, and stop unasked");
        board.boot(0);
        assert!(!board.may_stop(0, "raft stopped"));
        assert!(board.asked_to_stop(0));
        assert!(board.may_stop(0, "raft stopped"));
        board.down(0);
        assert!(!board.asked_to_stop(0));
    }

    #[test]
    fn a_forbidden_mark_is_a_violation_when_it_is_reached_so_often() {
        assert_eq!(
            "kill".parse::<Forbidden>().map(|read| read.to_string()),
            Ok("kill=1".to_owned())
        );
        for text in ["", "=2", "kill=", "kill=0", "kill=-1", "kil"] {
            assert!(text.parse::<Forbidden>().is_err(), "{text:?} was taken");
        }
        let board = Board::new(3, Trace::open(None, false).expect("no file"));
        board.forbid("kill=2".parse().expect("a mark"));
        board.mark("hold");
        board.mark("kill");
        assert!(board.violations().is_empty());
        board.mark("kill");
        board.mark("kill");
        assert_eq!(board.violations(), ["mark kill was reached 2 times"]);
    }
}
