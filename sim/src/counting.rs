//! Profile `log`: raft-store alone. Three replicas of the replicated log drive a machine that counts operations;
//! proposers on every replica propose whenever their replica leads.
//!
//! Checked: an index holds the same entry on every replica, forever; an operation is applied at most once; one that was
//! acknowledged is applied where it was told; one that was refused never is.

mod book;
mod machine;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use ledgermq_proto::net::{Net, incoming};
use ledgermq_raft_store::{
    BootstrapError, Connect, Durability, Handle, Options, PeerStream, ProposeError, Release, ReplicaId, Seams, Timings,
    disk::FaultyDisk, open, seeded,
};

use self::{
    book::Book,
    machine::{Counting, Flushed},
};
use crate::{
    board::{Board, replica_name},
    chaos::{Chaos, Stage},
    clock::MachineClock,
    fleet::Fleet,
    history::History,
    limits,
    net::SimNet,
    plant::Plant,
    run::Scene,
    seed::Seed,
    trace::Trace,
    witness::{self, Ground, Witness},
    world,
};

/// Replicas of the broker group.
const REPLICAS: usize = 3;
const BROKER_GROUP: &str = "counting";
const FOLDER: &str = "/log";
const PEER_PORT: u16 = 9090;
const PROPOSERS: u64 = 3;
/// Acknowledgements after the healing that count as progress.
const PROGRESS: usize = 30;

/// Everything a replica needs to start, again and again.
#[derive(Clone)]
struct Plan {
    seed: Seed,
    plant: Plant,
    replica: usize,
    disk: FaultyDisk,
    clock: MachineClock,
    flushed: Flushed,
    flush_every: u64,
    keep_entries: u64,
    segment_bytes: u64,
    value_bytes: (u64, u64),
    board: Board,
    trace: Trace,
    book: Book,
    witness: Witness,
    quiet: Arc<AtomicBool>,
}

struct Judge {
    board: Board,
    book: Book,
    witness: Witness,
    quiet: Arc<AtomicBool>,
}

/// Sets the stage of profile `log`.
pub fn scene(seed: Seed, plant: Plant, board: &Board, trace: &Trace) -> (Stage<'static>, Box<dyn Scene>) {
    let mut sim = world::build(seed, trace);
    let book = Book::new(board.clone());
    let quiet = Arc::new(AtomicBool::new(false));
    let mut options = seed.stream("options");
    let flush_every = options.pick(&[1, 20, 200]);
    let keep_entries = options.pick(&[20, 100, 500, 1_000_000]);
    let segment_bytes = options.pick(&[1 << 16, 1 << 18, 1 << 20]);
    // Where all values are as long as each other, frames of an earlier use of a file lie where new ones will.
    let value_bytes = options.pick(&[(0, 16), (0, 1_000), (0, 30_000), (200, 200), (4_000, 4_000)]);
    trace.tell(
        "options",
        format!("flush_every={flush_every} keep_entries={keep_entries} segment_bytes={segment_bytes} value_bytes={value_bytes:?}"),
    );
    let fleet = Fleet::new(seed, &[0; REPLICAS], &[REPLICAS], false);
    let states: [Flushed; REPLICAS] = Default::default();
    let ground = {
        let states = states.clone();
        Ground::new(FOLDER, move |machine, _| {
            Ok(states[machine].applied().map(|applied| (applied, 0)))
        })
    };
    let history = History::new(trace.clone());
    let witness = Witness::new(
        board.clone(),
        history,
        (fleet.clone(), ground),
        vec![BROKER_GROUP.to_owned()],
    );
    let mut hosts = Vec::new();
    let mut on_crash: Vec<crate::chaos::OnCrash> = Vec::new();
    for (replica, flushed) in states.iter().enumerate() {
        let Some(seat) = fleet.seat(replica) else {
            continue;
        };
        let plan = Plan {
            seed,
            plant,
            replica,
            disk: seat.disk,
            clock: fleet.clock(replica),
            flushed: flushed.clone(),
            flush_every,
            keep_entries,
            segment_bytes,
            value_bytes,
            board: board.clone(),
            trace: trace.clone(),
            book: book.clone(),
            witness: witness.clone(),
            quiet: quiet.clone(),
        };
        let fleet = fleet.clone();
        let name = replica_name(replica);
        sim.host(name.as_str(), move || replica_host(plan.clone()));
        hosts.push(name);
        on_crash.push(Box::new(move |power| {
            fleet.crash(replica, power);
        }));
    }
    let stage = Stage {
        sim,
        hosts,
        on_crash,
        name_servers: 0,
        latency: world::latency(seed),
        fleet,
        board: board.clone(),
        trace: trace.clone(),
    };
    (
        stage,
        Box::new(Judge {
            board: board.clone(),
            book,
            witness,
            quiet,
        }),
    )
}

impl Scene for Judge {
    fn step(&mut self, now_ms: u64, _stage: &mut Stage<'_>, _chaos: &mut Chaos) {
        self.witness.step(now_ms);
    }

    fn healed(&mut self, _stage: &mut Stage<'_>, _chaos: &mut Chaos) {
        self.book.healed();
    }

    fn missing(&self) -> Option<String> {
        let acked = self.book.acked_since_healed();
        if acked < PROGRESS {
            return Some(format!("{acked} acknowledgements since all faults healed"));
        }
        self.quiet.store(true, Ordering::Relaxed);
        let (last, applied) = (self.book.last(), self.board.applied_indexes());
        if applied.iter().all(|index| *index == Some(last)) {
            return None;
        }
        Some(format!("applied {applied:?} of {last}"))
    }

    fn judge(&self) -> Vec<String> {
        let mut wrong = self.book.judge();
        if self
            .book
            .counts()
            .iter()
            .any(|(name, count)| *name == "acked" && *count < PROGRESS as u64)
        {
            wrong.push("a run that did nothing".to_owned());
        }
        wrong
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut counts = self.book.counts();
        counts.extend(self.witness.counts());
        counts
    }
}

async fn replica_host(plan: Plan) -> turmoil::Result {
    let boot = plan.board.boot(plan.replica);
    let boot_seed = plan.seed.child(&replica_name(plan.replica), boot);
    seeded(boot_seed.derive("raft"), serve(plan, boot_seed)).await
}

async fn serve(plan: Plan, boot_seed: Seed) -> turmoil::Result {
    let name = replica_name(plan.replica);
    let flushing = (plan.flush_every, plan.keep_entries);
    let machine = Counting::open(plan.replica, plan.flushed.clone(), flushing, plan.book.clone());
    let address = format!("{name}:{PEER_PORT}");
    let options = Options {
        id: ReplicaId(plan.replica as u64 + 1),
        broker_group: BROKER_GROUP.to_owned(),
        dir: PathBuf::from(FOLDER),
        peer_address: address.clone(),
        client_address: address.clone(),
        segment_bytes: plan.segment_bytes,
        tail_cache_bytes: 1 << 20,
        in_flight_bytes: 1 << 20,
        durability: Durability::FsyncQuorum,
        timings: Timings::default(),
        planted: plan.plant.log(),
        release: Release {
            level: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    };
    let clock = plan.clock.clone();
    let seams = Seams {
        disk: Arc::new(plan.disk.clone()),
        connect: Arc::new(PeerConnect),
        wall_clock: Arc::new(move || clock.unix_ms()),
        seed: boot_seed.derive("own"),
    };
    let (handle, driver) = open(options, seams, machine).await?;
    tokio::spawn(driver.writer.run());
    tokio::spawn(driver.sweeper.run());
    let listener = SimNet.bind(&address).await?;
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_millis(500)))
        .http2_keepalive_timeout(Some(Duration::from_millis(500)))
        .add_service(handle.peer_service())
        .serve_with_incoming(incoming(listener));
    tokio::spawn(world::observe(plan.board.clone(), plan.replica, handle.clone()));
    tokio::spawn(witness::watch_log(
        plan.witness.clone(),
        plan.replica,
        BROKER_GROUP.to_owned(),
        handle.clone(),
    ));
    for proposer in 0..PROPOSERS {
        tokio::spawn(propose(
            plan.clone(),
            boot_seed.child("proposer", proposer),
            handle.clone(),
        ));
    }
    if plan.replica == 0 {
        tokio::spawn(bootstrap(plan.clone(), handle.clone()));
    }
    server.await?;
    Ok(())
}

/// Bootstraps the broker group once; a failure is tried again, as an operator would.
async fn bootstrap(plan: Plan, handle: Handle<Counting>) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let member = |replica| {
            let address = format!("{}:{PEER_PORT}", replica_name(replica));
            (ReplicaId(replica as u64 + 1), address.clone(), address)
        };
        match handle.bootstrap((0..REPLICAS).map(member).collect()).await {
            Ok(cluster) => return plan.trace.tell("operator", format!("bootstrapped cluster {cluster}")),
            Err(BootstrapError::AlreadyBootstrapped) => return,
            Err(error) => plan.trace.event("operator", format!("bootstrap: {error}")),
        }
    }
}

async fn propose(plan: Plan, seed: Seed, handle: Handle<Counting>) {
    const PATIENCE: Duration = Duration::from_secs(3);
    let name = replica_name(plan.replica);
    let mut draws = seed.stream("workload");
    let role = handle.role();
    loop {
        tokio::time::sleep(Duration::from_millis(draws.between(1, 60))).await;
        // Now and then a replica that does not lead is asked as well: it must refuse.
        let serving = role.borrow().serving;
        if plan.quiet.load(Ordering::Relaxed) || (!serving && !draws.percent(2)) {
            continue;
        }
        let operation = plan.book.propose();
        let mut command = operation.to_le_bytes().to_vec();
        let (least, most) = plan.value_bytes;
        command.resize(8 + usize::try_from(draws.between(least, most)).unwrap_or(0), 0x5a);
        plan.trace.event(&name, format!("propose {operation}"));
        match tokio::time::timeout(PATIENCE, handle.propose(Bytes::from(command))).await {
            Ok(Ok(proposed)) => {
                plan.trace.event(
                    &name,
                    format!("acked {operation} at {} as {}", proposed.id.index, proposed.outcome),
                );
                plan.book.acked(operation, proposed.id);
            }
            Ok(Err(ProposeError::Unknown(reason))) => {
                plan.trace.event(&name, format!("unknown {operation}: {reason}"));
                plan.book.unknown(operation);
            }
            Ok(Err(error)) => {
                plan.trace.event(&name, format!("refused {operation}: {error}"));
                plan.book.refused(operation);
            }
            Err(_) => {
                plan.trace.event(&name, format!("unknown {operation}: no answer"));
                plan.book.unknown(operation);
            }
        }
    }
}

/// raft-store's own connection seam over the simulated network.
struct PeerConnect;

impl Connect for PeerConnect {
    fn connect(&self, authority: &str) -> BoxFuture<'static, std::io::Result<Box<dyn PeerStream>>> {
        SimNet
            .connect(authority)
            .map(|stream| stream.map(|stream| Box::new(stream) as Box<dyn PeerStream>))
            .boxed()
    }
}

const _: () = assert!(limits::TCP_CAPACITY >= 4_096);
