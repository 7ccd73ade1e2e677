//! Where long polls park: a lane for each pair of topic and consumer group. An arrival wakes one poll of each lane of the
//! topic; a poll that finds more than it takes wakes the next one.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, watch};

use crate::limits;
use crate::state::effects::Effects;
use crate::state::plan::Reserved;

/// One topic and consumer group.
#[derive(Default)]
pub struct Lane {
    /// Wakes one poll; a wake-up without a waiting poll is kept for the next.
    pub wake: Notify,
    /// What receives in flight have planned.
    pub reserved: Mutex<Reserved>,
    /// A poll found nothing but what others have planned: it is to look again once one of them ends. Set and taken under the
    /// lock of the reservations.
    pub hindered: AtomicBool,
    /// Where the next plan begins to look.
    pub start_queue: AtomicU32,
    parked: AtomicUsize,
}

impl Lane {
    /// The reservations.
    pub fn reserved(&self) -> MutexGuard<'_, Reserved> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All lanes of the process.
#[derive(Default)]
pub struct Lanes {
    /// By topic, then by consumer group.
    lanes: Mutex<HashMap<String, BTreeMap<String, Arc<Lane>>>>,
    count: AtomicUsize,
    parked: AtomicUsize,
}

/// Counts a parked poll until it is dropped.
pub struct Parked {
    lanes: Arc<Lanes>,
    lane: Arc<Lane>,
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.lane.parked.fetch_sub(1, Ordering::Relaxed);
        self.lanes.parked.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lanes {
    /// The lane of a topic and consumer group; None when too many are in use.
    pub fn lane(&self, topic: &str, consumer_group: &str) -> Option<Arc<Lane>> {
        let mut lanes = self.lock();
        if let Some(lane) = lanes.get(topic).and_then(|groups| groups.get(consumer_group)) {
            return Some(Arc::clone(lane));
        }
        if self.count.load(Ordering::Relaxed) >= limits::LANES_MAX {
            for groups in lanes.values_mut() {
                groups.retain(|_, lane| Arc::strong_count(lane) > 1);
            }
            lanes.retain(|_, groups| !groups.is_empty());
            self.count
                .store(lanes.values().map(BTreeMap::len).sum(), Ordering::Relaxed);
        }
        if self.count.load(Ordering::Relaxed) >= limits::LANES_MAX {
            return None;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let lane = Arc::new(Lane::default());
        lanes
            .entry(topic.to_owned())
            .or_default()
            .insert(consumer_group.to_owned(), Arc::clone(&lane));
        Some(lane)
    }

    /// Counts a poll that parks; None when too many are parked.
    pub fn park(self: &Arc<Self>, lane: &Arc<Lane>) -> Option<Parked> {
        let parked = Parked {
            lanes: Arc::clone(self),
            lane: Arc::clone(lane),
        };
        let in_lane = lane.parked.fetch_add(1, Ordering::Relaxed);
        let in_all = self.parked.fetch_add(1, Ordering::Relaxed);
        (in_lane < limits::POLLS_PER_LANE_MAX && in_all < limits::POLLS_MAX).then_some(parked)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<String, Arc<Lane>>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries apply's hints to the lanes and to registration.
pub struct Hints {
    /// The lanes to wake.
    pub lanes: Arc<Lanes>,
    topics: watch::Sender<u64>,
    clock: OnceLock<Arc<dyn Fn() -> u64 + Send + Sync>>,
}

impl Hints {
    /// Hints that wake `lanes`; `clock` answers unix milliseconds.
    pub fn new(lanes: Arc<Lanes>, clock: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        Self {
            lanes,
            topics: watch::Sender::new(1),
            clock: OnceLock::from(clock),
        }
    }

    /// Grows with every change of the topics.
    pub fn topics(&self) -> watch::Receiver<u64> {
        self.topics.subscribe()
    }
}

impl Effects for Hints {
    fn arrived(&self, topic: &str) {
        if let Some(groups) = self.lanes.lock().get(topic) {
            for lane in groups.values() {
                lane.wake.notify_one();
            }
        }
    }

    /// What lies further ahead is found by the parked polls themselves, which look again every
    /// [`limits::POLL_RECHECK`] and then sleep exactly as long as needed.
    fn visible_at(&self, topic: &str, consumer_group: &str, at_ms: u64) {
        let soon = self.clock.get().map_or(u64::MAX, |clock| clock().saturating_add(1000));
        if at_ms > soon {
            return;
        }
        if let Some(lane) = self
            .lanes
            .lock()
            .get(topic)
            .and_then(|groups| groups.get(consumer_group))
        {
            lane.wake.notify_one();
        }
    }

    fn topics_changed(&self) {
        self.topics.send_modify(|version| *version += 1);
    }
}
