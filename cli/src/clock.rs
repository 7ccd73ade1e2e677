//! The seam for the wall clock and for fresh randomness: the one file of the command line that asks the machine.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// The machine's wall clock, in milliseconds since 1970 (0 if it stands before that).
#[expect(
    clippy::disallowed_methods,
    reason = "the process's outermost shell hands the clock to the rest as a parameter"
)]
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The same as a parameter for servers and clients.
pub fn wall_clock() -> Arc<dyn Fn() -> u64 + Send + Sync> {
    Arc::new(unix_ms)
}

/// A seed that differs in every process.
#[expect(
    clippy::disallowed_methods,
    reason = "the process's outermost shell draws the seed that the rest takes"
)]
pub fn fresh_seed() -> u64 {
    use rand::Rng;
    rand::rng().next_u64()
}
