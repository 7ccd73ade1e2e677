//! Every bound of the simulation in one place.

use std::time::Duration;

/// Events between two hash lines of a trace.
pub const TRACE_HASH_EVERY: u64 = 1_000;

/// Events kept for the report of a failure.
pub const TRACE_TAIL: usize = 200;

/// Violations kept; the first one ends the run.
pub const VIOLATIONS_MAX: usize = 16;

/// Segments that a simulated connection holds in flight. A full accept queue panics turmoil, so this is generous.
pub const TCP_CAPACITY: usize = 16_384;

/// Simulated time of one step.
pub const TICK: Duration = Duration::from_millis(1);

/// Simulated milliseconds between two looks at the replicas' disks.
pub const LOOK_AT_DISKS_MS: u64 = 3_700;

/// Simulated time after the last fault is healed within which the cluster must have made progress and caught up.
pub const LIVENESS_BOUND: Duration = Duration::from_secs(60);

/// Real time after which a run counts as hanging (watchdog of the parent process).
pub const RUN_WALL_BOUND: Duration = Duration::from_secs(300);

/// The wall clock at the start of every run, unix seconds: 2026-01-01T00:00:00Z.
pub const EPOCH_UNIX_SECONDS: u64 = 1_767_225_600;
