//! Every bound of the simulation in one place.

use std::time::Duration;

/// Events between two hash lines of a trace.
pub const TRACE_HASH_EVERY: u64 = 1_000;

/// Events kept for the report of a failure.
pub const TRACE_TAIL: usize = 200;

/// Lines kept of what a seed drew of the world.
pub const DRAWN_LINES_MAX: usize = 100;

/// Violations kept; the first one ends the run.
pub const VIOLATIONS_MAX: usize = 16;

/// Segments that a simulated connection holds in flight. A full accept queue panics turmoil, so this is generous.
pub const TCP_CAPACITY: usize = 16_384;

/// Simulated time of one step.
pub const TICK: Duration = Duration::from_millis(1);

/// Simulated milliseconds between two looks at the replicas' disks.
pub const LOOK_AT_DISKS_MS: u64 = 3_700;

/// Simulated time after the last fault is healed within which the cluster must have made progress and caught up. A message whose
/// delivery got lost just before waits for the end of its lease, 60 s where it would have renewed by itself.
pub const LIVENESS_BOUND: Duration = Duration::from_secs(90);

/// Seconds after which no name server may call a replica alive that runs no more: the 5 s for which it bears silence, and
/// what a connection that was held back still brings of the replica's last words.
pub const CALLED_ALIVE_MAX: f64 = 20.0;

/// Real time after which a run counts as hanging (watchdog of the parent process).
pub const RUN_WALL_BOUND: Duration = Duration::from_secs(300);

/// The wall clock at the start of every run, unix seconds: 2026-01-01T00:00:00Z.
pub const EPOCH_UNIX_SECONDS: u64 = 1_767_225_600;

/// Lines that are kept of what a process said on stderr before it died without a verdict.
pub const LAST_WORDS_LINES: usize = 20;

/// The longest run: simulated seconds until everything heals.
pub const SECONDS_MAX: u64 = 86_400 / 2;

/// Faults of a plan that is read from a file, and of a script.
pub const PLAN_FAULTS_MAX: usize = 10_000;

/// How far a fault may move a wall clock, milliseconds: a hundred years.
pub const CLOCK_JUMP_MS_MAX: u64 = 100 * 366 * 86_400_000;

/// How many millionths a fault may let a wall clock gain or lose: its whole speed, so that it stands still.
pub const CLOCK_DRIFT_PPM_MAX: u64 = 1_000_000;

/// Bytes of a replay file, a plan or a ledger that are read.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// Failures of a profile that a soak keeps by seed; all are counted.
pub const FOUND_MAX: usize = 1_000;

/// Processes that a command runs at a time.
pub const JOBS_MAX: u64 = 256;

/// Replicas of a broker group in a user's simulation.
pub const REPLICAS_MAX: usize = 7;

/// Broker groups in a user's simulation.
pub const BROKER_GROUPS_MAX: usize = 4;

/// Name servers in a user's simulation.
pub const NAME_SERVERS_MAX: usize = 5;

/// Application hosts in a user's simulation.
pub const APPS_MAX: usize = 32;

/// Bytes of the name of an application host.
pub const HOST_NAME_BYTES_MAX: usize = 40;

/// Keys and values that the store of an application host holds.
pub const STORE_BYTES_MAX: usize = 64 << 20;

/// Simulated milliseconds that a commit of such a store takes at most.
pub const STORE_COMMIT_MS_MAX: u64 = 8;
