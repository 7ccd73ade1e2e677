//! The parts of the world that every profile shares: network, clock, disks, and the observer of a replica.

use std::time::Duration;

use ledgermq_raft_store::{Handle, Machine, disk::FaultyDisk};
use turmoil::{Builder, Sim};

use crate::{board::Board, limits, seed::Seed, trace::Trace};

/// Longest delay of a message on a link that nothing is wrong with.
pub fn latency(seed: Seed) -> Duration {
    Duration::from_millis(seed.stream("topology").pick(&[1, 5, 20, 50]))
}

/// An empty simulated network whose delays are drawn from the seed.
pub fn build(seed: Seed, trace: &Trace) -> Sim<'static> {
    let slow = latency(seed);
    trace.tell("options", format!("message latency up to {} ms", slow.as_millis()));
    let epoch = std::time::UNIX_EPOCH + Duration::from_secs(limits::EPOCH_UNIX_SECONDS);
    let mut builder = Builder::new();
    builder
        .rng_seed(seed.derive("network"))
        .epoch(epoch)
        .tick_duration(limits::TICK)
        .simulation_duration(Duration::from_secs(86_400))
        .min_message_latency(Duration::from_millis(0))
        .max_message_latency(slow)
        .tcp_capacity(limits::TCP_CAPACITY)
        .enable_random_order();
    builder.build()
}

/// A new disk for replica `id` on a machine; the machine's disks are all as fast or slow as the seed says.
pub fn disk(seed: Seed, machine: usize, id: u64) -> FaultyDisk {
    let disk = FaultyDisk::new(seed.child("disk", machine as u64).child("replica", id).0);
    disk.sync_delay(Duration::ZERO..sync_delay(seed, machine));
    disk
}

/// How long a sync takes at most on a machine whose disk is well.
pub fn sync_delay(seed: Seed, machine: usize) -> Duration {
    let seed = seed.child("disk", machine as u64);
    Duration::from_millis(seed.stream("delay").pick(&[2, 8, 30]))
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

/// The wall clock so long after the start of a run, unix milliseconds.
pub fn at_ms(since_start: Duration) -> u64 {
    let now = Duration::from_secs(limits::EPOCH_UNIX_SECONDS) + since_start;
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Tells the board every change of a replica's role, and how far it has applied.
pub async fn observe<M: Machine>(board: Board, replica: usize, handle: Handle<M>) {
    const EVERY: Duration = Duration::from_millis(20);
    let mut role = handle.role();
    let mut told = None;
    let mut looks = 0_u64;
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
            board.poisoned(replica, &reason);
            return;
        }
        // Listing the segments takes a lock of the log: not at every look.
        looks += 1;
        if looks.is_multiple_of(25)
            && let Some(oldest) = handle.log_spans().first()
        {
            board.keeps_from(replica, oldest.first.get());
        }
        // Until the role changes, or the next look at the applied index. A role that ended must not make this spin.
        if let Ok(Err(_)) = tokio::time::timeout(EVERY, role.changed()).await {
            tokio::time::sleep(EVERY).await;
        }
    }
}
