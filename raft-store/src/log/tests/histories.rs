//! Random histories on the faulty disk, checked against a model: appends, votes, truncations, purges, seals, crashes
//! in the middle of each, kills, failed writes and syncs (also during recovery), a full disk, rotten bits, restarts.
//!
//! What is checked after each restart, and in between:
//! * no acknowledged entry is lost, and what recovery reported once is acknowledged from then on;
//! * no truncated or purged entry comes back, and nothing is there that was not appended;
//! * the vote is the newest acknowledged one, or the one that was being saved;
//! * no damaged byte is served;
//! * the log opens, unless a bit was flipped.
//!
//! `LEDGERMQ_HISTORIES=100000` runs more of them, `LEDGERMQ_HISTORY=<seed>` one alone. What the machine above the log makes
//! of it is in `src/tests/world.rs`.

use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::*;
use crate::log::Writer;
use crate::tests::held::Held;
use crate::tests::seeds::{self, Choices};

const HISTORIES: u64 = 2_000;
const STEPS: u64 = 40;

/// An operation that was interrupted: it may have happened or not.
enum Flight {
    Truncate { end: u64 },
    Purge { upto: EntryId },
    Vote { vote: Bytes },
}

struct World {
    draws: Choices,
    planted: Planted,
    disk: Arc<FaultyDisk>,
    log: Log,
    writer: JoinHandle<()>,
    /// What the log must hold.
    model: Held,
    /// Of the next entry.
    term: u64,
    votes: u64,
    /// Whether purged segments are swept up and written over.
    sweeps: bool,
    /// Entries below were acknowledged.
    acked: Arc<AtomicU64>,
    flight: Option<Flight>,
}

/// The writer, and with it what sweeps behind it.
fn run(mut writer: Writer, sweeps: bool) -> JoinHandle<()> {
    let sweeper = if sweeps { writer.sweeper() } else { None };
    tokio::spawn(async move {
        let sweeping = async {
            if let Some(sweeper) = sweeper {
                sweeper.run().await;
            }
        };
        tokio::join!(writer.run(), sweeping);
    })
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Crash,
    Kill,
    Close,
}

impl World {
    async fn new(seed: u64, planted: Planted) -> World {
        let disk = faulty(seed);
        let mut draws = Choices::new(seed ^ 0x5EED);
        if draws.below(3) > 0 {
            disk.sync_delay(Duration::ZERO..Duration::from_millis(1 + draws.below(20)));
        }
        let opened = Log::open(disk.clone(), LogOptions { planted, ..options() }).await;
        let (log, writer) = opened.expect("a new log opens");
        let sweeps = draws.below(3) > 0;
        let writer = run(writer, sweeps);
        World {
            draws,
            planted,
            disk,
            log,
            writer,
            sweeps,
            model: Held::default(),
            term: 1,
            votes: 0,
            acked: Arc::default(),
            flight: None,
        }
    }

    fn options(&self) -> LogOptions {
        LogOptions {
            planted: self.planted,
            ..options()
        }
    }

    /// Runs an operation; sometimes the machine dies in the middle. `true` when it succeeded.
    async fn attempt(&mut self, operation: impl Future<Output = io::Result<()>>, flight: Flight) -> bool {
        let patience = match self.draws.below(4) {
            0 => Duration::from_micros(self.draws.below(30_000)),
            _ => Duration::from_secs(60),
        };
        let outcome = tokio::time::timeout(patience, operation).await;
        if matches!(outcome, Ok(Ok(()))) {
            return true;
        }
        self.flight = Some(flight);
        let end = if self.draws.one_in(2) { End::Crash } else { End::Kill };
        self.restart(end).await;
        false
    }

    async fn append(&mut self) {
        let count = 1 + self.draws.below(4);
        let len_max = [1, 100, 600, 3000, 6000][self.draws.below(5) as usize];
        let start = self.model.end();
        let mut batch = Vec::new();
        for index in start..start + count {
            self.term += u64::from(self.draws.one_in(20));
            let len = self.draws.below(len_max) as usize;
            batch.push(frame(EntryId::new(self.term, index), len));
        }
        for frame in &batch {
            self.model.append(frame.clone());
        }
        let acked = self.acked.clone();
        let (sender, receiver) = oneshot::channel();
        let done = move |result: io::Result<()>| {
            if result.is_ok() {
                let before = acked.swap(start + count, Ordering::SeqCst);
                assert!(before <= start, "acknowledged out of order: {before} before {start}");
            }
            let _ = sender.send(());
        };
        if self.log.append(batch, Box::new(done)).is_err() {
            assert!(self.log.poison().is_some());
            return self.restart(End::Crash).await;
        }
        if self.draws.one_in(2) {
            let _ = receiver.await;
        }
    }

    async fn truncate(&mut self) {
        let (first, end) = (self.model.first(), self.model.end());
        let kept = first + self.draws.below(end - first + 1);
        let log = self.log.clone();
        let operation = async move { log.truncate_after(kept.checked_sub(1).map(LogIndex)).await };
        if self.attempt(operation, Flight::Truncate { end: kept }).await {
            self.model.truncate(kept);
            self.term += 1;
            self.acked.fetch_min(kept, Ordering::SeqCst);
            assert_eq!(self.log.state().durable.map_or(0, |id| id.index.get() + 1), kept);
        }
    }

    async fn purge(&mut self) {
        let (first, end) = (self.model.first(), self.model.end());
        let ahead = self.draws.one_in(6);
        let upto = match self.draws.below(end - first + 1) {
            _ if ahead => EntryId::new(self.term + 1, end + self.draws.below(5)),
            0 => return,
            count => self.model.entries[&(first + count - 1)].id,
        };
        let log = self.log.clone();
        if self
            .attempt(async move { log.purge(upto).await }, Flight::Purge { upto })
            .await
        {
            self.model.purge(upto);
            self.term = self.term.max(upto.term.get());
            self.acked.fetch_max(upto.index.get() + 1, Ordering::SeqCst);
        }
    }

    async fn vote(&mut self) {
        self.votes += 1;
        let vote = Bytes::from(format!("vote {}", self.votes));
        let (log, saved) = (self.log.clone(), vote.clone());
        let before = self.model.end();
        if self
            .attempt(
                async move { log.save_vote(saved).await },
                Flight::Vote { vote: vote.clone() },
            )
            .await
        {
            self.model.vote = Some(vote);
            assert!(self.acked.load(Ordering::SeqCst) >= before, "a vote before the appends");
        }
    }

    fn break_something(&mut self) {
        match self.draws.below(3) {
            0 => self.disk.fail_next_write(),
            1 => self.disk.fail_next_sync(),
            _ => self
                .disk
                .capacity_bytes(Some(self.disk.used_bytes() + self.draws.below(3) * 4096)),
        }
    }

    /// Ends the process in one way or another, opens the log again and compares.
    async fn restart(&mut self, end: End) {
        if end == End::Close {
            let nothing = Log::open(faulty(0), options()).await.expect("opens").0;
            self.log = nothing;
        } else {
            self.writer.abort();
        }
        self.disk.capacity_bytes(None);
        if !self.draws.one_in(8) {
            self.disk.heal();
        }
        match end {
            End::Crash => self.disk.crash(),
            End::Kill => self.disk.kill(),
            End::Close => {}
        }
        if let Err(error) = (&mut self.writer).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        if end == End::Close {
            self.disk.kill();
        }
        let opened = match Log::open(self.disk.clone(), self.options()).await {
            Err(OpenLogError::Io(_)) => {
                // A fault that was left over hit recovery.
                self.disk.heal();
                if self.draws.one_in(2) {
                    self.disk.crash()
                } else {
                    self.disk.kill()
                }
                Log::open(self.disk.clone(), self.options()).await
            }
            opened => opened,
        };
        let (log, writer) = opened.expect("no refusal to start");
        self.disk.heal();
        self.writer = run(writer, self.sweeps);
        self.log = log;
        self.compare_after_restart();
    }

    fn compare_after_restart(&mut self) {
        let state = self.log.state();
        assert_eq!(state.last, state.durable, "what was recovered is durable");
        let (mut acked, flight) = (self.acked.load(Ordering::SeqCst), self.flight.take());
        match flight {
            Some(Flight::Vote { vote }) if self.log.vote().as_ref() == Some(&vote) => self.model.vote = Some(vote),
            Some(Flight::Purge { upto }) if state.purged == Some(upto) => {
                self.model.purge(upto);
                self.term = self.term.max(upto.term.get());
                acked = acked.max(upto.index.get() + 1);
            }
            Some(Flight::Truncate { end }) => acked = acked.min(end),
            _ => {}
        }
        assert_eq!(self.log.vote(), self.model.vote, "the vote");
        assert_eq!(state.purged, self.model.purged, "the purged id");
        let end = state.last.map_or(0, |id| id.index.get() + 1);
        assert!(end >= acked, "acknowledged entries {end}..{acked} are lost");
        assert!(end <= self.model.end(), "entries {}..{end} came back", self.model.end());
        self.model.entries.split_off(&end);
        self.acked.store(end, Ordering::SeqCst);
        self.acked = Arc::new(AtomicU64::new(end));
        self.compare();
    }

    fn compare(&self) {
        self.model.compare(&self.log);
    }

    async fn step(&mut self) {
        if self.log.poison().is_some() {
            let end = [End::Crash, End::Kill, End::Close][self.draws.below(3) as usize];
            return self.restart(end).await;
        }
        match self.draws.below(32) {
            0..=13 => self.append().await,
            14..=15 => self.vote().await,
            16..=18 => self.truncate().await,
            19..=20 => self.purge().await,
            21 => idle().await,
            22..=23 => tokio::time::sleep(Duration::from_micros(self.draws.below(20_000))).await,
            24..=25 => self.restart(End::Crash).await,
            26 => self.restart(End::Kill).await,
            27 => self.restart(End::Close).await,
            28..=29 => self.break_something(),
            30 => {
                let id = self.model.entries.last_key_value().map(|(_, frame)| frame.id);
                let _ = self.log.save_committed(id).await;
            }
            _ => self.compare(),
        }
    }

    /// One flipped bit somewhere: the log refuses to open, or serves only what was appended. What was sealed is never
    /// cut.
    async fn rot(mut self) {
        self.disk.heal();
        self.disk.capacity_bytes(None);
        let sealed = self.draws.one_in(2);
        self.restart(if sealed { End::Close } else { End::Crash }).await;
        if sealed {
            idle().await;
        }
        self.writer.abort();
        self.disk.kill();
        let names = self.disk.list(Path::new(DIR)).expect("list");
        let path = Path::new(DIR).join(&names[self.draws.below(names.len() as u64) as usize]);
        let file = self.disk.open(&path, crate::disk::Open::Read).expect("open");
        let len = file.len().expect("len");
        if len == 0 || self.disk.flip_bit(&path, self.draws.below(len)).is_err() {
            return;
        }
        let Ok((log, _writer)) = Log::open(self.disk.clone(), self.options()).await else {
            return;
        };
        assert_eq!(log.vote(), self.model.vote, "the vote survives a rotten bit");
        assert_eq!(log.state().purged, self.model.purged);
        let end = log.state().last.map_or(0, |id| id.index.get() + 1);
        assert!(end <= self.model.end());
        assert!(!sealed || end == self.model.end(), "sealed entries were cut");
        for index in self.model.first()..end {
            match log.read(LogIndex(index), LogIndex(index + 1), 1) {
                Ok(frames) => assert_eq!(frames, [self.model.entries[&index].clone()]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData),
            }
        }
    }
}

/// Plays the history of a seed.
pub fn history(seed: u64, planted: Planted) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut world = World::new(seed, planted).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        world.rot().await;
    });
}

#[test]
fn random_histories() {
    seeds::play("log::tests::histories", HISTORIES, history);
}
