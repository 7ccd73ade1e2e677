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
//! `LEDGERMQ_HISTORIES=100000` runs more of them, `LEDGERMQ_HISTORY=<seed>` one alone.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::*;
use crate::log::Writer;

const HISTORIES: u64 = 2_000;
const STEPS: u64 = 40;

struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// What the log must hold.
#[derive(Default)]
struct Model {
    purged: Option<EntryId>,
    entries: BTreeMap<u64, Frame>,
    vote: Option<Bytes>,
    term: u64,
    votes: u64,
}

impl Model {
    fn first(&self) -> u64 {
        self.purged.map_or(0, |id| id.index.get() + 1)
    }

    fn end(&self) -> u64 {
        self.entries
            .last_key_value()
            .map_or(self.first(), |(index, _)| index + 1)
    }

    fn truncate(&mut self, end: u64) {
        self.entries.split_off(&end);
        self.term += 1;
    }

    fn purge(&mut self, upto: EntryId) {
        self.purged = Some(upto);
        self.entries = self.entries.split_off(&(upto.index.get() + 1));
        self.term = self.term.max(upto.term.get());
    }
}

/// An operation that was interrupted: it may have happened or not.
enum Flight {
    Truncate { end: u64 },
    Purge { upto: EntryId },
    Vote { vote: Bytes },
}

struct World {
    draws: Draws,
    disk: Arc<FaultyDisk>,
    log: Log,
    writer: JoinHandle<()>,
    model: Model,
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
    async fn new(seed: u64) -> World {
        let disk = faulty(seed);
        let mut draws = Draws(seed ^ 0x5EED);
        if draws.below(3) > 0 {
            disk.sync_delay(Duration::ZERO..Duration::from_millis(1 + draws.below(20)));
        }
        let (log, writer) = Log::open(disk.clone(), options()).await.expect("a new log opens");
        let sweeps = draws.below(3) > 0;
        let writer = run(writer, sweeps);
        let model = Model {
            term: 1,
            ..Model::default()
        };
        World {
            draws,
            disk,
            log,
            writer,
            sweeps,
            model,
            acked: Arc::default(),
            flight: None,
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
            self.model.term += u64::from(self.draws.one_in(20));
            let len = self.draws.below(len_max) as usize;
            batch.push(frame(EntryId::new(self.model.term, index), len));
        }
        for frame in &batch {
            self.model.entries.insert(frame.id.index.get(), frame.clone());
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
            self.acked.fetch_min(kept, Ordering::SeqCst);
            assert_eq!(self.log.state().durable.map_or(0, |id| id.index.get() + 1), kept);
        }
    }

    async fn purge(&mut self) {
        let (first, end) = (self.model.first(), self.model.end());
        let ahead = self.draws.one_in(6);
        let upto = match self.draws.below(end - first + 1) {
            _ if ahead => EntryId::new(self.model.term + 1, end + self.draws.below(5)),
            0 => return,
            count => self.model.entries[&(first + count - 1)].id,
        };
        let log = self.log.clone();
        if self
            .attempt(async move { log.purge(upto).await }, Flight::Purge { upto })
            .await
        {
            self.model.purge(upto);
            self.acked.fetch_max(upto.index.get() + 1, Ordering::SeqCst);
        }
    }

    async fn vote(&mut self) {
        self.model.votes += 1;
        let vote = Bytes::from(format!("vote {}", self.model.votes));
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
            let _ = (&mut self.writer).await;
        } else {
            self.writer.abort();
        }
        self.disk.capacity_bytes(None);
        if !self.draws.one_in(8) {
            self.disk.heal();
        }
        match end {
            End::Crash => self.disk.crash(),
            End::Kill | End::Close => self.disk.kill(),
        }
        let opened = match Log::open(self.disk.clone(), options()).await {
            Err(OpenLogError::Io(_)) => {
                // A fault that was left over hit recovery.
                self.disk.heal();
                if self.draws.one_in(2) {
                    self.disk.crash()
                } else {
                    self.disk.kill()
                }
                Log::open(self.disk.clone(), options()).await
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
        let held = read_all(&self.log).expect("readable");
        let expected: Vec<Frame> = self.model.entries.values().cloned().collect();
        assert_eq!(held.len(), expected.len());
        assert!(held == expected, "entries differ");
        let mut starts: Vec<EntryId> = Vec::new();
        for frame in &expected {
            if starts.last().is_none_or(|start| start.term < frame.id.term) {
                starts.push(frame.id);
            }
        }
        assert_eq!(self.log.term_starts(), starts);
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
        let Ok((log, _writer)) = Log::open(self.disk.clone(), options()).await else {
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

fn history(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut world = World::new(seed).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        world.rot().await;
    });
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_histories() {
    let seeds = match setting("LEDGERMQ_HISTORY") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("LEDGERMQ_HISTORIES").unwrap_or(HISTORIES),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| history(seed));
        if let Err(panic) = outcome {
            eprintln!("history {seed} failed; run it alone with LEDGERMQ_HISTORY={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
