//! Random histories of one replica: its log, what it receives and its machine, on a disk that takes every liberty.
//!
//! The replica appends, votes, truncates, applies, flushes, labels snapshots, purges, and gets snapshots when it is behind or
//! was wiped; its process dies in the middle of each, power is lost, writes and syncs fail, the disk is full. After each
//! restart, and in between:
//!
//! * no acknowledged entry is lost, and what recovery reported once is acknowledged from then on;
//! * no truncated or purged entry comes back, and nothing is there that was not appended;
//! * the vote is the newest acknowledged one, or the one that was being saved;
//! * the state is what the committed entries make of it, not behind what was flushed nor ahead of the log;
//! * what a snapshot says, and the membership it is labelled with, is what the group knows;
//! * it opens. At the end a bit is flipped somewhere: it refuses to open, or nothing damaged is served.

mod rot;
mod snapshots;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::alias::OneshotReceiverOf;
use openraft_rt::{AsyncRuntime, Oneshot};

use crate::disk::{Disk, FaultyDisk, Open};
use crate::errors::OpenError;
use crate::log::OpenLogError;
use crate::machine::Machine;
use crate::planted::Planted;
use crate::raft::adapter::Content;
use crate::raft::config::{Config, Vote, entry_id, from_frame, log_id};
use crate::raft::format;
use crate::raft::memberships::Memberships;
use crate::raft::runtime::Runtime;
use crate::tests::counting::{Counting, told};
use crate::tests::held::Held;
use crate::tests::replica::{DIR, End, Patience, Replica, log_options};
use crate::tests::seeds::{self, Choices};
use crate::tests::truth::Truth;
use crate::types::{EntryId, LogIndex};

const HISTORIES: u64 = 2_000;
const STEPS: u64 = 40;

/// An operation that was interrupted: it may have happened or not.
enum Flight {
    Nothing,
    Truncate { end: u64 },
    Purge { upto: EntryId },
    Vote { vote: Vote },
    Install { label: EntryId },
}

type Ack = OneshotReceiverOf<Config, io::Result<()>>;

struct World {
    choices: Choices,
    planted: Planted,
    truth: Truth,
    disk: Arc<FaultyDisk>,
    machine: Counting,
    replica: Option<Replica>,
    sweeps: bool,
    held: Held,
    /// Entries below were acknowledged.
    acked: u64,
    /// Appends whose acknowledgement is awaited: the index behind each.
    waiting: VecDeque<(u64, Ack)>,
    flight: Flight,
    /// The snapshot that is on its way: its label.
    transfer: Option<EntryId>,
}

fn new_disk(choices: &mut Choices) -> Arc<FaultyDisk> {
    let disk = Arc::new(FaultyDisk::new(choices.below(u64::MAX)));
    if !choices.one_in(3) {
        disk.sync_delay(Duration::ZERO..Duration::from_millis(choices.between(1, 20)));
    }
    disk
}

fn is_of_the_disk(error: &OpenError) -> bool {
    matches!(error, OpenError::Io(_) | OpenError::Log(OpenLogError::Io(_)))
}

impl World {
    async fn new(seed: u64, planted: Planted) -> World {
        let mut choices = Choices::new(seed ^ 0x7065_7468_6572);
        let mut world = World {
            disk: new_disk(&mut choices),
            sweeps: !choices.one_in(3),
            choices,
            planted,
            truth: Truth::new(),
            machine: Counting::new(),
            replica: None,
            held: Held::default(),
            acked: 0,
            waiting: VecDeque::new(),
            flight: Flight::Nothing,
            transfer: None,
        };
        world.replica = Some(world.open().await.expect("a new folder opens"));
        world
    }

    async fn open(&mut self) -> Result<Replica, OpenError> {
        let options = log_options(self.choices.below(u64::MAX), self.planted);
        Replica::open(&self.disk, &self.machine, options, self.sweeps).await
    }

    fn replica(&mut self) -> &mut Replica {
        self.replica.as_mut().expect("it runs")
    }

    fn applied_end(&self) -> u64 {
        self.machine.applied().map_or(0, |applied| applied.id.index.get() + 1)
    }

    /// Index behind the entries that the replica shares with the leader.
    fn agreed(&self) -> u64 {
        let agrees = |index: &u64| self.held.entries.get(index).map(|frame| frame.id) == self.truth.id(*index);
        (self.held.first()..self.held.end())
            .take_while(agrees)
            .last()
            .map_or(self.held.first(), |last| last + 1)
    }

    fn draw_patience(&mut self) -> Patience {
        match self.choices.below(8) {
            0 => Patience::Time(Duration::from_micros(self.choices.below(30_000))),
            1 => Patience::Turns(self.choices.below(8)),
            _ => Patience::Endless,
        }
    }

    /// What an operation ended in: `true` when it succeeded, else the replica was restarted.
    async fn ended(&mut self, outcome: Option<io::Result<()>>, flight: Flight) -> bool {
        self.collect_acks();
        if matches!(outcome, Some(Ok(()))) {
            return true;
        }
        self.flight = flight;
        let end = if self.choices.one_in(2) { End::Crash } else { End::Kill };
        self.restart(end).await;
        false
    }

    /// Takes note of what was acknowledged, which must have been in order.
    fn collect_acks(&mut self) {
        let mut earlier_waits = false;
        self.waiting.retain_mut(|(end, ack)| match ack.now_or_never() {
            Some(Ok(Ok(()))) => {
                assert!(
                    !earlier_waits,
                    "entries up to {end} were acknowledged before earlier ones"
                );
                self.acked = self.acked.max(*end);
                false
            }
            Some(_) => {
                earlier_waits = true;
                false
            }
            None => {
                earlier_waits = true;
                true
            }
        });
    }

    async fn save_vote(&mut self, vote: Vote) -> bool {
        let (patience, before) = (self.draw_patience(), self.held.end());
        let saving = self.replica().store.save_vote(&vote);
        let outcome = patience.wait(saving).await;
        if self.ended(outcome, Flight::Vote { vote }).await {
            self.held.vote = Some(format::encode_vote(&vote));
            assert!(self.acked >= before, "a vote is durable before the appends");
            return true;
        }
        false
    }

    /// Hears the leader: its vote is saved, and what is not in its log goes. `false` when it came to a restart.
    async fn follow(&mut self) -> bool {
        let vote = self.truth.vote;
        if self.held.vote.as_ref() != Some(&format::encode_vote(&vote)) && !self.save_vote(vote).await {
            return false;
        }
        let agreed = self.agreed();
        if agreed == self.held.end() {
            return true;
        }
        let last = match agreed.checked_sub(1) {
            Some(last) if agreed > self.held.first() => self.truth.id(last),
            _ => self.held.purged,
        };
        let patience = self.draw_patience();
        let cutting = self.replica().store.truncate_after(last.map(log_id));
        let outcome = patience.wait(cutting).await;
        if self.ended(outcome, Flight::Truncate { end: agreed }).await {
            self.held.truncate(agreed);
            self.acked = self.acked.min(agreed);
            return true;
        }
        false
    }

    async fn append(&mut self) {
        if !self.follow().await {
            return;
        }
        for _ in 0..self.choices.below(5) {
            self.truth.grow(&mut self.choices);
        }
        let from = self.held.end();
        if from < self.truth.purged {
            return self.install().await;
        }
        let to = self.truth.end().min(from + self.choices.between(1, 6));
        let frames: Vec<_> = (from..to).map(|index| self.truth.entry(index).clone()).collect();
        let entries: Vec<_> = frames
            .iter()
            .map(|frame| from_frame(frame.clone()).expect("just made"))
            .collect();
        if entries.is_empty() {
            return;
        }
        let (sender, ack) = <<Runtime as AsyncRuntime>::Oneshot as Oneshot>::channel();
        let appended = self.replica().store.append(entries, IOFlushed::signal(sender)).await;
        if appended.is_err() {
            assert!(self.replica().log.poison().is_some());
            return self.restart(End::Crash).await;
        }
        frames.into_iter().for_each(|frame| self.held.append(frame));
        self.waiting.push_back((to, ack));
        if self.choices.one_in(2) {
            let log = self.replica().log.clone();
            while log.poison().is_none() && log.state().durable.is_none_or(|id| id.index.get() + 1 < to) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// More is committed, and the replica hears of it.
    async fn apply(&mut self) {
        self.truth.commit(&mut self.choices);
        if !self.follow().await {
            return;
        }
        let (first, known) = (self.applied_end(), self.truth.committed.min(self.agreed()));
        if first >= known {
            return;
        }
        let committed = self.truth.id(known - 1).map(log_id);
        if self.replica().store.save_committed(committed).await.is_err() {
            return self.restart(End::Crash).await;
        }
        let (end, patience) = (self.choices.between(first + 1, known), self.draw_patience());
        let outcome = patience.wait(self.replica().apply(first, end)).await;
        if self.ended(outcome, Flight::Nothing).await {
            assert_eq!(self.applied_end(), end);
            self.check_state();
        }
    }

    /// The machine's state is what the committed entries make of it.
    fn check_state(&self) {
        let live = self.machine.live();
        let Some(as_of) = live.as_of() else {
            return assert!(live.applied.is_none());
        };
        assert!(as_of.index.get() < self.truth.committed, "{as_of} is not committed");
        assert_eq!(
            self.truth.id(as_of.index.get()),
            Some(as_of),
            "another entry was applied"
        );
        assert_eq!(live.fold, self.truth.fold(as_of.index.get()), "the state as of {as_of}");
        let applied = live.applied.expect("a state has a place");
        let kept = Memberships::decode(&applied.membership).expect("intact");
        assert_eq!(kept.newest(), self.truth.membership_at(applied.id.index.get()));
    }

    fn flush(&mut self) {
        self.machine.flush();
        if let Some(flushed) = self.machine.flushed() {
            let upto = self.choices.below(flushed.index.get() + 1);
            self.machine.release(LogIndex(upto));
        }
    }

    async fn elect(&mut self) {
        let term = self.truth.vote.leader_id.term + self.choices.between(1, 2);
        if self.choices.one_in(2) {
            let candidate = self.choices.between(1, 3);
            self.save_vote(Vote::new(term, candidate)).await;
        }
        self.truth.elect(term, &mut self.choices);
    }

    /// The others go on without this replica.
    fn leave_behind(&mut self) {
        for _ in 0..self.choices.below(6) {
            self.truth.grow(&mut self.choices);
        }
        self.truth.commit(&mut self.choices);
        self.truth.forget(&mut self.choices);
    }

    /// The folder is lost, and the replica begins anew.
    async fn wipe(&mut self) {
        if let Some(replica) = self.replica.take() {
            replica.end(End::Kill, &self.disk).await;
        }
        self.disk = new_disk(&mut self.choices);
        self.machine = Counting::new();
        (self.held, self.acked, self.flight) = (Held::default(), 0, Flight::Nothing);
        self.waiting.clear();
        self.replica = Some(self.open().await.expect("a new folder opens"));
    }

    fn break_something(&mut self) {
        match self.choices.below(3) {
            0 => self.disk.fail_next_write(),
            1 => self.disk.fail_next_sync(),
            _ => {
                let room = self.choices.below(3) * 4096;
                self.disk.capacity_bytes(Some(self.disk.used_bytes() + room));
            }
        }
    }

    /// Ends the process in one way or another, opens the folder again and compares.
    async fn restart(&mut self, end: End) {
        if let Some(replica) = self.replica.take() {
            replica.end(end, &self.disk).await;
        }
        self.collect_acks();
        self.waiting.clear();
        self.disk.capacity_bytes(None);
        if !self.choices.one_in(8) {
            self.disk.heal();
        }
        self.machine.crash();
        let opened = match self.open().await {
            Err(error) if is_of_the_disk(&error) => {
                // A fault that was left over hit recovery.
                self.disk.heal();
                if self.choices.one_in(2) {
                    self.disk.crash();
                } else {
                    self.disk.kill();
                }
                self.machine.crash();
                self.open().await
            }
            opened => opened,
        };
        let replica = opened.unwrap_or_else(|error| panic!("it refuses to start: {error}"));
        self.disk.heal();
        self.replica = Some(replica);
        self.compare_after_restart();
        self.go_on().await;
    }

    fn compare_after_restart(&mut self) {
        let log = self.replica().log.clone();
        let state = log.state();
        assert_eq!(state.last, state.durable, "what was recovered is durable");
        let vote = log.vote();
        match std::mem::replace(&mut self.flight, Flight::Nothing) {
            Flight::Vote { vote: saved } if vote == Some(format::encode_vote(&saved)) => self.held.vote = vote.clone(),
            Flight::Purge { upto } if state.purged == Some(upto) => {
                self.held.purge(upto);
                self.acked = self.acked.max(upto.index.get() + 1);
            }
            Flight::Install { label } if state.purged == Some(label) => self.installed(label),
            Flight::Truncate { end } => self.acked = self.acked.min(end),
            _ => {}
        }
        assert_eq!(vote, self.held.vote, "the vote");
        assert_eq!(state.purged, self.held.purged, "the purged id");
        let end = state.last.map_or(0, |id| id.index.get() + 1);
        assert!(end >= self.acked, "acknowledged entries {end}..{} are lost", self.acked);
        assert!(end <= self.held.end(), "entries {}..{end} came back", self.held.end());
        self.held.truncate(end);
        self.acked = end;
        self.held.compare(&log);
        self.check_state();
    }

    /// Applies again what was known to be committed, as openraft does at a start.
    async fn go_on(&mut self) {
        let committed = self.replica().store.read_committed().await.expect("readable");
        if let Some(id) = committed.as_ref().map(entry_id) {
            assert!(id.index.get() < self.truth.committed, "{id} is not committed");
            assert_eq!(
                self.truth.id(id.index.get()),
                Some(id),
                "another entry counts as committed"
            );
            let first = self.applied_end();
            if first <= id.index.get() {
                let applied = self.replica().apply(first, id.index.get() + 1).await;
                applied.expect("what is durable is applied");
            }
        }
        let current = self.replica().adapter.get_current_snapshot().await;
        if let Some(current) = current.expect("the newest snapshot can be sent") {
            let label = current.meta.last_log_id.as_ref().map(entry_id);
            assert!(label >= self.held.purged, "a snapshot from before the log");
            let index = label.expect("there is a label").index.get();
            assert_eq!(label, self.truth.id(index), "another entry is a label");
            assert_eq!(current.meta.last_membership, self.truth.membership_at(index));
        }
        self.check_state();
    }

    async fn step(&mut self) {
        if self.replica().log.poison().is_some() {
            let end = [End::Crash, End::Kill, End::Close][self.choices.below(3) as usize];
            return self.restart(end).await;
        }
        match self.choices.below(36) {
            0..=11 => self.append().await,
            12..=15 => self.apply().await,
            16..=17 => self.flush(),
            18..=20 => self.forget().await,
            21..=22 => self.elect().await,
            23 => self.leave_behind(),
            24..=25 => self.install().await,
            26 => tokio::time::sleep(Duration::from_millis(200)).await,
            27 => tokio::time::sleep(Duration::from_micros(self.choices.below(20_000))).await,
            28..=29 => self.restart(End::Crash).await,
            30 => self.restart(End::Kill).await,
            31 => self.restart(End::Close).await,
            32..=33 => self.break_something(),
            34 if self.choices.one_in(4) => self.wipe().await,
            _ => {
                let log = self.replica().log.clone();
                self.held.compare(&log);
                self.check_state();
            }
        }
    }
}

fn run(history: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(history);
}

/// Plays the history of a seed.
pub fn history(seed: u64, planted: Planted) {
    run(async {
        let mut world = World::new(seed, planted).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        world.rot().await;
    });
}

#[test]
fn random_histories_of_log_and_machine() {
    seeds::play("random_histories_of_log_and_machine", HISTORIES, history);
}
