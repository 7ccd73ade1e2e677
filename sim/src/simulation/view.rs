//! What a user's check sees of the world.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ledgermq_raft_store::disk::{Disk, FaultyDisk};

use super::store::Store;
use crate::seed::Seed;

/// The world at the moment of a check.
pub struct View<'a> {
    pub(super) seed: Seed,
    pub(super) now: Duration,
    pub(super) kept: &'a BTreeMap<String, Kept>,
}

/// What a host keeps over its crashes.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) store: Store,
    pub(super) disk: FaultyDisk,
    pub(super) boots: Arc<std::sync::atomic::AtomicU64>,
}

impl View<'_> {
    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.seed.0
    }

    /// Simulated time since the start of the run.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The store of an application host; `None` when there is no host of that name.
    pub fn store(&self, app: &str) -> Option<Store> {
        self.kept.get(app).map(|kept| kept.store.clone())
    }

    /// The files of an application host; `None` when there is no host of that name.
    pub fn disk(&self, app: &str) -> Option<Arc<dyn Disk>> {
        let kept = self.kept.get(app)?;
        Some(Arc::new(kept.disk.clone()))
    }

    /// How often an application host started; 0 as well when there is no host of that name.
    pub fn boots(&self, app: &str) -> u64 {
        let boots = |kept: &Kept| kept.boots.load(std::sync::atomic::Ordering::Relaxed);
        self.kept.get(app).map_or(0, boots)
    }
}
