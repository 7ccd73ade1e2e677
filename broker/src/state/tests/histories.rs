//! Random histories against a model that knows little: who holds what until when, what is done, and how often each
//! message was handed out. With crashes: replay from the flushed state ends in the same state. With cuts: what came by
//! old entries is gone, all of it and nothing else, and dead letters keep their contents. With installations: a copy of the
//! state, labelled with an earlier entry, goes on like the original.

use super::harness::{Node, message};
use crate::state::command::Action;
use crate::state::handle::ReceiptHandle;
use crate::state::identity::QueueOffset;
use crate::state::kv::memory::MemoryKv;
use crate::state::level::FORMAT_LEVEL;
use crate::state::outcome::{CutError, Outcome};
use crate::state::plan::{Filter, Reserved};
use ledgermq_raft_store::LogIndex;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const QUEUES: u32 = 3;
const MAX_ATTEMPTS: u32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Send {
        queue_id: u32,
        count: u32,
        message_group: usize,
    },
    Receive {
        max: usize,
        attempt: usize,
    },
    Stale {
        max: usize,
    },
    Ack {
        choice: usize,
    },
    Change {
        choice: usize,
        invisible_ms: u64,
        suspend: bool,
    },
    Wait {
        ms: u64,
    },
    Flush,
    Crash,
    Cut {
        back: u64,
        carry: bool,
    },
    Install {
        part_bytes: usize,
        back: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..QUEUES, 1..6u32, 0..3usize)
            .prop_map(|(queue_id, count, message_group)| Step::Send { queue_id, count, message_group }),
        5 => (1..12usize, 0..6usize).prop_map(|(max, attempt)| Step::Receive { max, attempt }),
        1 => (1..6usize).prop_map(|max| Step::Stale { max }),
        6 => any::<usize>().prop_map(|choice| Step::Ack { choice }),
        2 => (any::<usize>(), 0..9_000u64, any::<bool>())
            .prop_map(|(choice, invisible_ms, suspend)| Step::Change { choice, invisible_ms, suspend }),
        3 => (0..7_000u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Flush),
        1 => Just(Step::Crash),
        2 => (0..12u64, prop::bool::weighted(0.7)).prop_map(|(back, carry)| Step::Cut { back, carry }),
        1 => (1..3_000usize, 0..20u64).prop_map(|(part_bytes, back)| Step::Install { part_bytes, back }),
    ]
}

type Place = (u32, u64);

#[derive(Default)]
struct Model {
    /// Message group of each message sent, and its entry.
    sent: BTreeMap<Place, (usize, LogIndex)>,
    /// Acknowledged, dead or forgotten.
    done: BTreeSet<Place>,
    forgotten: BTreeSet<Place>,
    /// The entry by which each dead letter came, and its message id once it was seen.
    dead: Vec<(LogIndex, Option<String>)>,
    attempts: BTreeMap<Place, u32>,
    suspended: BTreeSet<Place>,
    /// Handle and end of each lease.
    held: BTreeMap<Place, (ReceiptHandle, u64)>,
}

struct History {
    node: Node,
    kv: MemoryKv,
    model: Model,
    fifo: bool,
    ids: u32,
    stale: Vec<crate::state::command::Command>,
}

impl History {
    fn new(fifo: bool) -> History {
        let kv = MemoryKv::new();
        let mut node = Node::new(Arc::new(kv.clone()));
        node.act(Action::RaiseFormatLevel { to: FORMAT_LEVEL });
        node.topic("t", QUEUES);
        node.group("g", fifo, MAX_ATTEMPTS);
        History {
            node,
            kv,
            model: Model::default(),
            fifo,
            ids: 0,
            stale: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send {
                queue_id,
                count,
                message_group,
            } => self.send(queue_id, count, message_group),
            Step::Receive { max, attempt } => self.receive(max, attempt),
            Step::Stale { max } => {
                if let Some(command) = self.stale.pop() {
                    self.lease(&command, false);
                }
                let plan = self.node.plan_upto("g", "t", "", &Filter::All, &Reserved::new(), max);
                let command = self.node.lease_command("g", "t", "", &plan.ranges);
                self.stale.push(command);
            }
            Step::Ack { choice } => self.ack(choice),
            Step::Change {
                choice,
                invisible_ms,
                suspend,
            } => self.change(choice, invisible_ms, suspend),
            Step::Wait { ms } => self.node.now_ms += ms,
            Step::Flush => {
                self.node.view.flush().expect("flush");
            }
            Step::Crash => {
                let digest = self.node.digest();
                self.kv.crash();
                self.node.reopen(Arc::new(self.kv.clone()));
                assert_eq!(self.node.digest(), digest, "replay ends in the same state");
            }
            Step::Cut { back, carry } => self.cut(back, carry),
            Step::Install { part_bytes, back } => {
                let digest = self.node.digest();
                let cut = self.node.view.cut();
                // The export of a later entry may have a later cut than the entry that it is installed under.
                let label = LogIndex(self.node.last().get().saturating_sub(back));
                self.kv = MemoryKv::new();
                self.node.install_into(Arc::new(self.kv.clone()), part_bytes, label);
                assert_eq!(self.node.digest(), digest, "a copy goes on like the original");
                let released = self.node.view.released();
                assert_eq!(released, cut.min(label), "it is installed durably, no more");
            }
        }
        self.see_dead_letters();
    }

    fn cut(&mut self, back: u64, carry: bool) {
        let upto = LogIndex(self.node.last().get().saturating_sub(back));
        let upto = self.node.view.cut_step(upto, upto).expect("read");
        while let Some(command) = carry.then(|| self.node.carry_over(upto)).flatten() {
            let outcome = self.node.propose(&command);
            assert!(
                matches!(outcome, Outcome::CarriedOver { moved } if moved > 0),
                "{outcome:?}"
            );
        }
        let before = self.node.view.cut();
        match self.node.cut(upto) {
            Ok(cut) => assert_eq!(cut, upto.max(before)),
            Err(CutError::InTheWay { index, .. }) => {
                assert!(!carry && index <= upto && index > before);
                assert_eq!(self.node.view.cut(), before);
                return;
            }
            Err(error) => panic!("{error}"),
        }
        let gone = self.model.sent.iter().filter(|(_, (_, entry))| *entry <= upto);
        for (place, _) in gone {
            self.model.forgotten.insert(*place);
            self.model.done.insert(*place);
            self.model.held.remove(place);
        }
        for (queue_id, bounds) in (0..).zip(self.node.view.queue_bounds("t").expect("bounds")) {
            let first = self.model.forgotten.range((queue_id, 0)..=(queue_id, u64::MAX)).count() as u64;
            assert_eq!(bounds.first.0, first, "queue {queue_id} begins behind the cut");
        }
        for queue in self.node.view.progress("g", "t").into_iter().flatten() {
            assert!(
                queue.floor.0
                    >= self
                        .model
                        .forgotten
                        .range((queue.queue_id, 0)..=(queue.queue_id, u64::MAX))
                        .count() as u64
            );
        }
    }

    /// Reads the dead letters that are kept: each is the message it was when it was seen first.
    fn see_dead_letters(&mut self) {
        let Some(bounds) = self.node.view.queue_bounds("%DLQ%g") else {
            return;
        };
        let cut = self.node.view.cut();
        let gone = self.model.dead.iter().filter(|(came, _)| *came <= cut).count();
        assert_eq!(
            (bounds[0].first.0, bounds[0].end.0),
            (gone as u64, self.model.dead.len() as u64)
        );
        let topic = self.node.view.topic("%DLQ%g").expect("topic").id;
        for offset in gone..self.model.dead.len() {
            let location = self
                .node
                .view
                .location(topic, 0, QueueOffset(offset as u64))
                .expect("read");
            let id = self.node.read(location.expect("kept")).message_id;
            assert_eq!(*self.model.dead[offset].1.get_or_insert_with(|| id.clone()), id);
        }
    }

    fn send(&mut self, queue_id: u32, count: u32, message_group: usize) {
        let first = self.ids;
        self.ids += count;
        let name = ["", "a", "b"][message_group];
        let batch = (first..self.ids)
            .map(|id| message("t", queue_id, &id.to_string(), "", name))
            .collect();
        for result in self.node.send_all("t", batch).expect("sent") {
            let before = self.model.sent.range((queue_id, 0)..=(queue_id, u64::MAX)).count() as u64;
            assert_eq!(result.offset.0, before, "offsets are dense");
            let sent = (message_group, self.node.last());
            self.model.sent.insert((queue_id, result.offset.0), sent);
        }
    }

    fn receive(&mut self, max: usize, attempt: usize) {
        let attempt = ["", "", "", "", "x", "y"][attempt];
        let plan = self
            .node
            .plan_upto("g", "t", attempt, &Filter::All, &Reserved::new(), max);
        assert!(plan.records.len() <= max);
        for planned in &plan.records {
            let record = self.node.read(planned.location);
            let (message_group, _) = self.model.sent[&(planned.queue_id, planned.offset.0)];
            assert_eq!(record.message_group, ["", "a", "b"][message_group]);
        }
        let command = self.node.lease_command("g", "t", attempt, &plan.ranges);
        self.lease(&command, !attempt.is_empty());
    }

    fn lease(&mut self, command: &crate::state::command::Command, may_repeat: bool) {
        let leased = self.node.lease(command);
        let now = self.node.now_ms.max(self.node.view.log_time_ms());
        let mut fresh = BTreeSet::new();
        for granted in &leased.granted {
            let place = (granted.queue_id, granted.offset.0);
            let handle = self.node.handle("t", granted);
            assert!(self.model.sent.contains_key(&place), "it was sent");
            assert!(!self.model.done.contains(&place), "nothing comes again after its end");
            let held = self.model.held.get(&place).filter(|(_, until)| *until > now);
            let attempts = self.model.attempts.entry(place).or_default();
            if let Some((held, _)) = held {
                assert!(
                    may_repeat && *held == handle,
                    "what is held is given to its holder alone"
                );
            } else {
                *attempts += 1;
            }
            assert_eq!(granted.attempt, *attempts);
            assert!(*attempts <= MAX_ATTEMPTS);
            if self.fifo {
                self.check_order(place, &fresh);
            }
            fresh.insert(place);
            self.model.suspended.remove(&place);
            self.model.held.insert(place, (handle, granted.visible_at_ms));
        }
        let dead = (0..leased.dead_lettered).map(|_| (self.node.last(), None));
        self.model.dead.extend(dead);
        let bound = (0..QUEUES).map(|queue_id| {
            self.node.view.progress("g", "t").expect("progress")[queue_id as usize]
                .floor
                .0
        });
        for (queue_id, floor) in (0..).zip(bound.collect::<Vec<_>>()) {
            // What is below the floor and was not acknowledged is dead.
            for offset in 0..floor {
                if self.model.done.insert((queue_id, offset)) {
                    assert!(
                        self.model.attempts[&(queue_id, offset)] >= MAX_ATTEMPTS,
                        "only the dead go unasked"
                    );
                }
            }
        }
    }

    fn check_order(&self, place: Place, fresh: &BTreeSet<Place>) {
        let (message_group, _) = self.model.sent[&place];
        for (earlier, (group, _)) in self.model.sent.range((place.0, 0)..place) {
            let ended = self.model.done.contains(earlier) || fresh.contains(earlier);
            let attempts = self.model.attempts.get(earlier).copied().unwrap_or(0);
            assert!(
                *group != message_group || ended || attempts >= MAX_ATTEMPTS,
                "{place:?} before {earlier:?} of its message group"
            );
        }
    }

    fn chosen(&self, choice: usize) -> Option<(Place, ReceiptHandle, u64)> {
        let count = self.model.held.len().max(1);
        let (place, (handle, until)) = self.model.held.iter().nth(choice % count)?;
        Some((*place, handle.clone(), *until))
    }

    fn ack(&mut self, choice: usize) {
        let Some((place, handle, until)) = self.chosen(choice) else {
            return;
        };
        let acked = self.node.ack("g", "t", &handle);
        let now = self.node.view.log_time_ms();
        let done = self.model.done.contains(&place);
        assert!(acked || !done || self.model.attempts[&place] >= MAX_ATTEMPTS);
        if until > now {
            assert!(acked, "the current lease within its time");
        }
        if acked {
            self.model.done.insert(place);
        }
    }

    fn change(&mut self, choice: usize, invisible_ms: u64, suspend: bool) {
        let Some((place, handle, until)) = self.chosen(choice) else {
            return;
        };
        let changed = self.node.change("g", "t", &handle, invisible_ms, suspend);
        let now = self.node.view.log_time_ms();
        assert_eq!(changed.is_some(), until > now && !self.model.done.contains(&place));
        if let Some(handle) = changed {
            self.model.held.insert(place, (handle, now + invisible_ms));
            let was_suspended = self.model.suspended.remove(&place);
            if suspend {
                self.model.suspended.insert(place);
            }
            let attempts = self.model.attempts.get_mut(&place).expect("handed out");
            *attempts = *attempts + u32::from(was_suspended) - u32::from(suspend);
        }
    }

    /// Consumes all that is left.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            self.node.now_ms += 10_000;
            self.receive(32, 0);
            let held: Vec<Place> = self.model.held.keys().copied().collect();
            for place in held {
                let (handle, _) = self.model.held[&place].clone();
                if self.node.ack("g", "t", &handle) {
                    self.model.done.insert(place);
                }
            }
            let progress = self.node.view.progress("g", "t").expect("progress");
            if progress.iter().all(|queue| queue.lag() == 0) {
                break;
            }
        }
        let progress = self.node.view.progress("g", "t").expect("progress");
        assert!(
            progress.iter().all(|queue| queue.lag() == 0),
            "all is handed out in the end"
        );
        let dead = self
            .node
            .view
            .queue_bounds("%DLQ%g")
            .map_or(0, |queues| queues[0].end.0);
        assert_eq!(dead, self.model.dead.len() as u64);
        let unasked = self
            .model
            .sent
            .keys()
            .filter(|place| !self.model.done.contains(place))
            .count();
        assert_eq!(unasked, 0, "done or dead");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn plain(steps in proptest::collection::vec(step(), 1..120)) {
        let mut history = History::new(false);
        steps.iter().for_each(|step| history.step(step));
        history.drain();
    }

    #[test]
    fn in_order(steps in proptest::collection::vec(step(), 1..120)) {
        let mut history = History::new(true);
        steps.iter().for_each(|step| history.step(step));
        history.drain();
    }
}
