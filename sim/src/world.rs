//! The parts of the world that every profile shares: network, clock, disks, and the observer of a replica.

use std::time::Duration;

use ledgermq_raft_store::{Handle, Machine, disk::FaultyDisk};
use turmoil::{Builder, Sim};

use crate::{board::Board, limits, seed::Seed, trace::Trace};

/// An empty simulated network whose delays are drawn from the seed.
pub fn build(seed: Seed, trace: &Trace) -> Sim<'static> {
    let mut draws = seed.stream("topology");
    let slow = draws.pick(&[1, 5, 20, 50]);
    trace.tell("options", format!("message latency up to {slow} ms"));
    let epoch = std::time::UNIX_EPOCH + Duration::from_secs(limits::EPOCH_UNIX_SECONDS);
    let mut builder = Builder::new();
    builder
        .rng_seed(seed.derive("network"))
        .epoch(epoch)
        .tick_duration(limits::TICK)
        .simulation_duration(Duration::from_secs(86_400))
        .min_message_latency(Duration::from_millis(0))
        .max_message_latency(Duration::from_millis(slow))
        .tcp_capacity(limits::TCP_CAPACITY)
        .enable_random_order();
    builder.build()
}

/// The disk of a replica, as fast or slow as the seed says.
pub fn disk(seed: Seed, replica: usize) -> FaultyDisk {
    let seed = seed.child("disk", replica as u64);
    let disk = FaultyDisk::new(seed.0);
    let slowest_ms = seed.stream("delay").pick(&[2, 8, 30]);
    disk.sync_delay(Duration::ZERO..Duration::from_millis(slowest_ms));
    disk
}

/// The wall clock inside the simulation, unix milliseconds.
pub fn unix_ms() -> u64 {
    let now = turmoil::since_epoch().unwrap_or(Duration::from_secs(limits::EPOCH_UNIX_SECONDS));
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since the start of the run, inside of a host; 0 outside.
pub fn seconds() -> f64 {
    turmoil::sim_elapsed().map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// Tells the board every change of a replica's role, and how far it has applied.
pub async fn observe<M: Machine>(board: Board, replica: usize, handle: Handle<M>) {
    const EVERY: Duration = Duration::from_millis(20);
    let mut role = handle.role();
    let mut told = None;
    loop {
        let now = *role.borrow_and_update();
        if told != Some(now) {
            told = Some(now);
            board.role(replica, now);
        }
        let status = handle.status();
        if let Some(applied) = status.applied {
            board.applied(replica, applied.index.get());
        }
        if let Some(reason) = status.poisoned {
            board.violation(format!("{} stopped: {reason}", crate::board::replica_name(replica)));
            return;
        }
        // Until the role changes, or the next look at the applied index. A role that ended must not make this spin.
        if let Ok(Err(_)) = tokio::time::timeout(EVERY, role.changed()).await {
            tokio::time::sleep(EVERY).await;
        }
    }
}
