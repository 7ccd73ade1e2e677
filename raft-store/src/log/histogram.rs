//! How long syncs take, counted in buckets: since the start, and lately.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Upper bounds of the buckets in microseconds; a last bucket takes the rest.
const BOUNDS_US: [u64; 15] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 100_000, 200_000, 1_000_000, 5_000_000,
];
const BUCKETS: usize = BOUNDS_US.len() + 1;
/// What happened lately is counted in slices of so long, so many of them.
const SLICE: Duration = Duration::from_secs(10);
const SLICES: usize = 6;

/// Durations of the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// How many.
    pub count: u64,
    /// 99 of 100 took at most so long, in microseconds: the upper bound of a bucket, `u64::MAX` for the last. 0 for none.
    pub p99_us: u64,
}

struct Slice {
    began: Instant,
    counts: [u64; BUCKETS],
}

/// Counts of durations.
#[derive(Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    /// The newest last, at most [`SLICES`].
    slices: Mutex<VecDeque<Slice>>,
}

impl Histogram {
    /// Counts one that ends now.
    pub fn count(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        let bucket = BOUNDS_US.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
        let now = Instant::now();
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        if slices
            .back()
            .is_none_or(|slice| now.duration_since(slice.began) >= SLICE)
        {
            if slices.len() == SLICES {
                slices.pop_front();
            }
            slices.push_back(Slice {
                began: now,
                counts: [0; BUCKETS],
            });
        }
        if let Some(slice) = slices.back_mut() {
            slice.counts[bucket] += 1;
        }
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

    /// What happened within about a minute.
    pub fn recent(&self) -> Recent {
        let now = Instant::now();
        let mut counts = [0; BUCKETS];
        {
            let slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
            let life = SLICE * SLICES as u32;
            for slice in slices.iter().filter(|slice| now.duration_since(slice.began) < life) {
                for (sum, count) in counts.iter_mut().zip(slice.counts) {
                    *sum += count;
                }
            }
        }
        let count: u64 = counts.iter().sum();
        let wanted = (count * 99).div_ceil(100);
        let mut seen = 0;
        let reached = counts.iter().position(|in_bucket| {
            seen += in_bucket;
            count > 0 && seen >= wanted
        });
        Recent {
            count,
            p99_us: reached.map_or(0, |bucket| BOUNDS_US.get(bucket).copied().unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn durations_fall_into_their_buckets() {
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

    #[tokio::test(start_paused = true)]
    async fn one_of_a_hundred_may_be_slow_and_what_is_old_is_forgotten() {
        let histogram = Histogram::default();
        assert_eq!(histogram.recent(), Recent::default());
        for _ in 0..99 {
            histogram.count(Duration::from_millis(100));
        }
        histogram.count(Duration::from_millis(101));
        let recent = histogram.recent();
        assert_eq!((recent.count, recent.p99_us), (100, 100_000));
        tokio::time::advance(Duration::from_secs(30)).await;
        histogram.count(Duration::from_millis(101));
        assert_eq!(histogram.recent().p99_us, 200_000);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(
            histogram.recent(),
            Recent {
                count: 1,
                p99_us: 200_000
            }
        );
        for _ in 0..20 {
            tokio::time::advance(SLICE).await;
            histogram.count(Duration::from_micros(1));
        }
        let recent = histogram.recent();
        assert_eq!((recent.count, recent.p99_us), (SLICES as u64, 50));
    }
}
