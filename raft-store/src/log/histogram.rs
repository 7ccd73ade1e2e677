//! How long syncs take, counted in buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in microseconds; a last bucket takes the rest.
const BOUNDS_US: [u64; 15] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 1_000_000, 5_000_000,
];

/// Counts of durations.
#[derive(Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn count(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        let bucket = BOUNDS_US.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Upper bound in microseconds (`u64::MAX` for the last) and count of each bucket.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        let bounds = BOUNDS_US.iter().copied().chain([u64::MAX]);
        bounds
            .zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
            .collect()
    }

    /// All durations together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for micros in [1, 50, 51, 10_000_000] {
            histogram.count(Duration::from_micros(micros));
        }
        let buckets = histogram.buckets();
        assert_eq!(
            (buckets[0], buckets[1], buckets[15]),
            ((50, 2), (100, 1), (u64::MAX, 1))
        );
        assert_eq!(histogram.sum_us(), 10_000_102);
    }
}
