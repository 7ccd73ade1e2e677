//! The cluster clock: the median of the replicas' wall clocks, advanced by monotonic time.
//!
//! Each replica's wall clock is kept as its distance from this process's monotonic clock, so a jump of one wall clock
//! moves one distance and the median hardly at all. Of two middle ones the earlier counts: time that is early would hand a
//! message out twice.
//!
//! The median is right as long as most clocks are, and all are known. A leader that does not know them all, as replicas are
//! down, may know more wrong ones than right ones: then those count that agree with most others, and of several such the
//! earliest.
//!
//! While it is asked, its time runs at most a twentieth faster or slower than monotonic time, whatever the clocks say: a
//! leader that knows two clocks, one of which is wrong and then put right, would cut the leases short by all that it was late.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A sample older than this no longer counts.
const SAMPLE_LIFE: Duration = Duration::from_secs(60);

/// Its time runs faster or slower than monotonic time by at most one part in so many.
const SLEW: i64 = 20;

/// Clocks that are no further apart agree, milliseconds: more than what a slow connection adds to a sample.
const AGREE_MS: i64 = 1_000;

const NANOS_PER_MS: i64 = 1_000_000;

/// A time that is late by more is put right at once: catching up would take half an hour.
const LATE_MAX: Duration = Duration::from_secs(60);

/// Unix milliseconds agreed upon by the replicas.
pub struct ClusterClock {
    wall: Arc<dyn Fn() -> u64 + Send + Sync>,
    anchor: Instant,
    /// By replica: wall clock minus monotonic clock in milliseconds, and when it was sampled.
    peers: Mutex<BTreeMap<u64, (i64, Instant)>>,
    /// How many replicas there are, this one included; 0 until it is known.
    members: AtomicUsize,
    told: Mutex<Option<Told>>,
}

/// What was told last.
#[derive(Clone, Copy)]
struct Told {
    /// Unix nanoseconds: what is cut off at each question adds up when there are a hundred thousand a second.
    time: i64,
    at: Instant,
}

impl ClusterClock {
    /// A clock that knows only this replica's own wall clock.
    pub fn new(wall: Arc<dyn Fn() -> u64 + Send + Sync>) -> ClusterClock {
        ClusterClock {
            wall,
            anchor: Instant::now(),
            peers: Mutex::new(BTreeMap::new()),
            members: AtomicUsize::new(0),
            told: Mutex::new(None),
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
        lock(&self.peers).insert(id, (distance, now));
    }

    /// The replicas that there are, this one included: the clock of any other counts no more.
    pub fn set_members(&self, members: &BTreeSet<u64>) {
        lock(&self.peers).retain(|id, _| members.contains(id));
        self.members.store(members.len(), Ordering::Relaxed);
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
        let peers = lock(&self.peers);
        let fresh = peers.values().filter(|(_, at)| now.duration_since(*at) <= SAMPLE_LIFE);
        distances.extend(fresh.map(|(distance, _)| *distance));
        distances
    }

    /// Unix milliseconds, not before `floor`, which is the newest time that anybody was told; never goes back.
    pub fn now(&self, floor: u64) -> u64 {
        let mut told = lock(&self.told);
        let at = Instant::now();
        let monotonic = self.monotonic(at);
        let mut distances = self.distances(signed(self.wall()) - monotonic, at);
        let wanted =
            (monotonic + agreed(&mut distances, self.members.load(Ordering::Relaxed))).saturating_mul(NANOS_PER_MS);
        let time = told.map_or(wanted, |before| before.go_on(at, wanted));
        let time = time.max(signed(floor).saturating_mul(NANOS_PER_MS));
        *told = Some(Told { time, at });
        u64::try_from(time / NANOS_PER_MS).unwrap_or(0)
    }

    fn monotonic(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.anchor).as_millis()).unwrap_or(i64::MAX)
    }
}

impl Told {
    /// The time at a later moment, where `wanted` is what the clocks say then.
    fn go_on(self, at: Instant, wanted: i64) -> i64 {
        let passed = nanos(at.saturating_duration_since(self.at));
        let (slow, fast) = (self.time + passed - passed / SLEW, self.time + passed + passed / SLEW);
        match wanted.saturating_sub(fast) > nanos(LATE_MAX) {
            true => wanted,
            false => wanted.clamp(slow, fast),
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX / 4)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn signed(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX / 2).min(i64::MAX / 2)
}

/// What these clocks of so many members say together; there is at least one.
fn agreed(clocks: &mut [i64], members: usize) -> i64 {
    clocks.sort_unstable();
    if clocks.len() >= members {
        return earlier_middle(clocks);
    }
    let agreeing = |first: usize| {
        let length = clocks[first..].partition_point(|clock| *clock <= clocks[first].saturating_add(AGREE_MS));
        &clocks[first..first + length]
    };
    let sets = (0..clocks.len()).map(agreeing);
    // The last of the largest, counted from the end: the earliest.
    sets.rev().max_by_key(|set| set.len()).map_or(0, earlier_middle)
}

/// The middle one of sorted values, or the smaller of the two middle ones.
fn earlier_middle(values: &[i64]) -> i64 {
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
        for (wrong, time) in [(99, 1_000_000), (9_000_000_000, 1_000_010)] {
            let clock = ClusterClock::new(Arc::new(|| 1_000_000));
            clock.sample(2, 1_000_010, Instant::now());
            clock.sample(3, wrong, Instant::now());
            assert_eq!(clock.now(0), time);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_clocks_neither_can_hurry_time() {
        let own_ahead = ClusterClock::new(Arc::new(|| 1_060_000));
        own_ahead.sample(2, 1_000_000, Instant::now());
        assert_eq!(own_ahead.now(0), 1_000_000);
        let own_right = ClusterClock::new(Arc::new(|| 1_000_000));
        own_right.sample(2, 1_060_000, Instant::now());
        assert_eq!(own_right.now(0), 1_000_000);
    }

    /// What a replica of five tells whose own clock says `own`, and that hears these two others alone.
    fn of_three_of_five(own: u64, others: [u64; 2]) -> u64 {
        let clock = ClusterClock::new(Arc::new(move || own));
        clock.set_members(&BTreeSet::from([1, 2, 3, 4, 5]));
        for (id, wall_ms) in (2..).zip(others) {
            clock.sample(id, wall_ms, Instant::now());
        }
        clock.now(0)
    }

    /// Found by `ledgermq-sim run --seed 41688 --profile default`: two replicas with right clocks were down, and the middle of
    /// the three others was wrong. Log time ran 53 s ahead, and a message was stored twice.
    #[tokio::test(start_paused = true)]
    async fn two_wrong_clocks_of_three_that_are_heard_cannot_hurry_time() {
        assert_eq!(of_three_of_five(1_049_000, [64_000_000, 1_000_000]), 1_000_000);
        assert_eq!(of_three_of_five(1_000_000, [64_000_000, 1_049_000]), 1_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_that_agree_are_believed() {
        assert_eq!(of_three_of_five(20, [1_000_000, 1_000_900]), 1_000_000);
        assert_eq!(of_three_of_five(1_000_900, [64_000_000, 1_000_000]), 1_000_000);
        assert_eq!(of_three_of_five(1_000_500, [1_000_900, 1_000_000]), 1_000_500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_left_has_no_say() {
        let clock = ClusterClock::new(Arc::new(|| 1_000_000));
        for (id, wall_ms) in [(2, 1_000_010), (3, 9_000_000), (4, 9_000_000)] {
            clock.sample(id, wall_ms, Instant::now());
        }
        clock.set_members(&BTreeSet::from([1, 2, 3]));
        assert_eq!(clock.now(0), 1_000_010);
    }

    /// A clock that knows a right one besides its own, and by how much its own is behind, to be changed.
    fn beside_a_right_one(start_ms: u64, behind_ms: u64) -> (ClusterClock, Arc<Mutex<u64>>) {
        let start = Instant::now();
        let wrong_by = Arc::new(Mutex::new(behind_ms));
        let behind = Arc::clone(&wrong_by);
        let wall = move || start_ms + start.elapsed().as_millis() as u64 - *lock(&behind);
        let clock = ClusterClock::new(Arc::new(wall));
        clock.sample(2, start_ms, start);
        (clock, wrong_by)
    }

    /// Found by `ledgermq-sim run --seed 9 --profile quick`: time stood still, and then left 1.6 s out.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_put_right_is_caught_up_with_slowly() {
        const START: u64 = 100_000_000;
        let (clock, wrong_by) = beside_a_right_one(START, 0);
        assert_eq!(clock.now(0), START);
        *lock(&wrong_by) = 40_000_000;
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now(0), START + 1_900, "it does not stand still");
        *lock(&wrong_by) = 0;
        assert_eq!(clock.now(0), START + 1_900, "nor jump");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(0), START + 2_950);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(0), START + 4_000);
    }

    #[tokio::test(start_paused = true)]
    async fn many_questions_do_not_hold_time_back() {
        const START: u64 = 100_000_000;
        const BETWEEN: Duration = Duration::from_nanos(10_900);
        let (clock, _) = beside_a_right_one(START, 0);
        for _ in 0..100_000 {
            clock.now(0);
            tokio::time::advance(BETWEEN).await;
        }
        let late = START + 1_090 - clock.now(0);
        assert!(late <= 1, "{late} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn time_goes_on_from_what_others_told_and_is_not_late_for_hours() {
        let (clock, wrong_by) = beside_a_right_one(100_000_000, 3_600_000);
        assert_eq!(clock.now(99_000_000), 99_000_000);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.now(99_000_000), 99_009_500);
        *lock(&wrong_by) = 0;
        assert_eq!(clock.now(99_000_000), 100_010_000);
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
        assert_eq!(clock.now(0), 5_000);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now(0), 5_250);
        clock.sample(2, 4_000, Instant::now());
        clock.sample(3, 4_000, Instant::now());
        assert_eq!(clock.now(0), 5_250);
    }
}
