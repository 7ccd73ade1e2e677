//! The cluster clock: the median of the replicas' wall clocks, advanced by monotonic time.
//!
//! Each replica's wall clock is kept as its distance from this process's monotonic clock, so a jump of one wall clock
//! moves one distance and the median hardly at all. Where only an even number of clocks is known, as by a leader that has
//! just started, the earlier of the two middle ones counts: time that is late makes a lease longer, and time that is early
//! would hand a message out twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A sample older than this no longer counts.
const SAMPLE_LIFE: Duration = Duration::from_secs(60);

/// Unix milliseconds agreed upon by the replicas.
pub struct ClusterClock {
    wall: Arc<dyn Fn() -> u64 + Send + Sync>,
    anchor: Instant,
    /// By replica: wall clock minus monotonic clock in milliseconds, and when it was sampled.
    peers: Mutex<BTreeMap<u64, (i64, Instant)>>,
    last: AtomicU64,
}

impl ClusterClock {
    /// A clock that knows only this replica's own wall clock.
    pub fn new(wall: Arc<dyn Fn() -> u64 + Send + Sync>) -> ClusterClock {
        ClusterClock {
            wall,
            anchor: Instant::now(),
            peers: Mutex::new(BTreeMap::new()),
            last: AtomicU64::new(0),
        }
    }

    /// This replica's own wall clock.
    pub fn wall(&self) -> u64 {
        (self.wall)()
    }

    /// The reading of it.
    pub fn wall_clock(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        Arc::clone(&self.wall)
    }

    /// Takes a sample: peer `id` said `wall_ms` at some time between `sent` and now.
    pub fn sample(&self, id: u64, wall_ms: u64, sent: Instant) {
        let now = Instant::now();
        let middle = sent + now.duration_since(sent) / 2;
        let distance = signed(wall_ms) - self.monotonic(middle);
        self.peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, (distance, now));
    }

    /// How many milliseconds this replica's wall clock is ahead of the median; negative where it is behind. `None` while
    /// no other clock is known.
    pub fn offset_ms(&self) -> Option<i64> {
        let now = Instant::now();
        let own = signed(self.wall()) - self.monotonic(now);
        let mut distances = self.distances(own, now);
        (distances.len() > 1).then(|| own - median(&mut distances))
    }

    /// The own distance and those of the peers that were heard lately.
    fn distances(&self, own: i64, now: Instant) -> Vec<i64> {
        let mut distances = vec![own];
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = peers.values().filter(|(_, at)| now.duration_since(*at) <= SAMPLE_LIFE);
        distances.extend(fresh.map(|(distance, _)| *distance));
        distances
    }

    /// Unix milliseconds; never goes back.
    pub fn now(&self) -> u64 {
        let now = Instant::now();
        let monotonic = self.monotonic(now);
        let mut distances = self.distances(signed(self.wall()) - monotonic, now);
        let time = u64::try_from(monotonic + earlier_middle(&mut distances)).unwrap_or(0);
        self.last.fetch_max(time, Ordering::Relaxed).max(time)
    }

    fn monotonic(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.anchor).as_millis()).unwrap_or(i64::MAX)
    }
}

fn signed(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX / 2).min(i64::MAX / 2)
}

/// The middle value, or the smaller of the two middle ones.
fn earlier_middle(values: &mut [i64]) -> i64 {
    values.sort_unstable();
    values[(values.len() - 1) / 2]
}

/// The middle value, or the mean of the two middle ones.
fn median(values: &mut [i64]) -> i64 {
    values.sort_unstable();
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        values[middle - 1].midpoint(values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_wrong_clock_moves_nothing() {
        let clock = ClusterClock::new(Arc::new(|| 1_000_000));
        clock.sample(2, 1_000_010, Instant::now());
        clock.sample(3, 99, Instant::now());
        assert_eq!(clock.now(), 1_000_000);
        clock.sample(3, 9_000_000_000, Instant::now());
        assert_eq!(clock.now(), 1_000_010);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_clocks_neither_can_hurry_time() {
        let own_ahead = ClusterClock::new(Arc::new(|| 1_060_000));
        own_ahead.sample(2, 1_000_000, Instant::now());
        assert_eq!(own_ahead.now(), 1_000_000);
        let own_right = ClusterClock::new(Arc::new(|| 1_000_000));
        own_right.sample(2, 1_060_000, Instant::now());
        assert_eq!(own_right.now(), 1_000_000);
        own_right.sample(3, 1_000_005, Instant::now());
        assert_eq!(own_right.now(), 1_000_005, "of three the middle one");
    }

    #[tokio::test(start_paused = true)]
    async fn the_offset_is_from_the_median() {
        let clock = ClusterClock::new(Arc::new(|| 1_000_000));
        assert_eq!(clock.offset_ms(), None);
        clock.sample(2, 1_002_000, Instant::now());
        assert_eq!(
            clock.offset_ms(),
            Some(-1_000),
            "two clocks: half of what lies between them"
        );
        clock.sample(3, 1_002_000, Instant::now());
        assert_eq!(clock.offset_ms(), Some(-2_000));
        tokio::time::advance(SAMPLE_LIFE + Duration::from_secs(1)).await;
        assert_eq!(clock.offset_ms(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn advances_with_monotonic_time_and_never_goes_back() {
        let clock = ClusterClock::new(Arc::new(|| 5_000));
        let start = Instant::now();
        clock.sample(2, 5_000, start);
        clock.sample(3, 5_000, start);
        assert_eq!(clock.now(), 5_000);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now(), 5_250);
        clock.sample(2, 4_000, Instant::now());
        clock.sample(3, 4_000, Instant::now());
        assert_eq!(clock.now(), 5_250);
    }
}
