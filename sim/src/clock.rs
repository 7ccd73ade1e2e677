//! The wall clock of each machine: simulated time, a little off from birth, and wrong when a fault says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::world;

/// A machine's wall clock. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct MachineClock(Arc<Mutex<Wrong>>);

#[derive(Debug, Default)]
struct Wrong {
    /// Distance from the right time that nobody mends, milliseconds.
    born_ms: i64,
    /// Distance by a fault, milliseconds.
    offset_ms: i64,
    /// Milliseconds that it gains in a million since `since_ms`.
    drift_ppm: i64,
    since_ms: u64,
}

impl MachineClock {
    /// A clock that is `born_ms` off for ever.
    pub fn new(born_ms: i64) -> MachineClock {
        let wrong = Wrong {
            born_ms,
            ..Wrong::default()
        };
        MachineClock(Arc::new(Mutex::new(wrong)))
    }

    fn wrong(&self) -> MutexGuard<'_, Wrong> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it shows, unix milliseconds.
    pub fn unix_ms(&self) -> u64 {
        let right = world::unix_ms();
        self.wrong().shows(right)
    }

    /// Jumps by `offset_ms` and gains `drift_ppm` millionths from `right_ms` on.
    pub fn break_at(&self, right_ms: u64, offset_ms: i64, drift_ppm: i64) {
        let mut wrong = self.wrong();
        (wrong.offset_ms, wrong.drift_ppm, wrong.since_ms) = (offset_ms, drift_ppm, right_ms);
    }

    /// Is right again.
    pub fn mend(&self) {
        let mut wrong = self.wrong();
        (wrong.offset_ms, wrong.drift_ppm) = (0, 0);
    }
}

impl Wrong {
    fn shows(&self, right_ms: u64) -> u64 {
        let passed = i64::try_from(right_ms.saturating_sub(self.since_ms)).unwrap_or(0);
        let gained = match self.drift_ppm {
            0 => 0,
            drift => passed.saturating_mul(drift) / 1_000_000,
        };
        right_ms.saturating_add_signed(self.born_ms.saturating_add(self.offset_ms).saturating_add(gained))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_drifts_and_is_mended() {
        let clock = MachineClock::new(-7);
        clock.break_at(1_000_000, 5_000, 50_000);
        assert_eq!(clock.wrong().shows(1_000_000), 1_004_993);
        assert_eq!(clock.wrong().shows(1_010_000), 1_015_493);
        clock.break_at(1_000_000, -2_000_000, 0);
        assert_eq!(clock.wrong().shows(1_000_000), 0);
        clock.mend();
        assert_eq!(clock.wrong().shows(1_000_000), 999_993);
    }
}
