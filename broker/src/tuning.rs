//! What is fixed in production and set by the simulation and by tests: how often a replica looks after its state, and
//! how much of it is kept in memory.

use std::time::Duration;

use crate::limits;
use crate::state::machine::Settings;

/// Times and sizes of a replica's housekeeping. The default is production's.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Bounds of the state in memory; they must be equal on all replicas of a broker group.
    pub state: Settings,
    /// How often the state's flusher looks; positive.
    pub flush_check: Duration,
    /// The state is flushed after so many bytes of commands.
    pub flush_bytes: u64,
    /// The state is flushed after so long, if anything was applied.
    pub flush_interval: Duration,
    /// How often the leader looks whether something of the log is to be forgotten; positive.
    pub retention_check: Duration,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            state: Settings::default(),
            flush_check: limits::FLUSH_CHECK,
            flush_bytes: limits::FLUSH_BYTES,
            flush_interval: limits::FLUSH_INTERVAL,
            retention_check: limits::RETENTION_CHECK,
        }
    }
}
