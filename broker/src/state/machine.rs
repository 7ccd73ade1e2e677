//! The state machine as the log drives it: entries in, outcomes out, one batch to the store for each entry.

use super::apply::{ApplyError, Entry, Hints};
use super::effects::Effects;
use super::export;
use super::hot::{APPLIED_KEY, FORMAT_LEVEL, Hot, MEMBERSHIP_KEY};
use super::kv::{Family, Kv};
use super::limits;
use super::outcome::Outcome;
use super::queue::IndexError;
use super::view::View;
use bytes::Bytes;
use ledgermq_raft_store::types::EntryId;
use ledgermq_raft_store::{Applied, Machine, MachineError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Bounds of the state in memory. The first two decide what apply answers, so they must be equal on all replicas:
/// a process uses the default, tests use small ones.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most message ids within the window.
    pub dedupe_ids: usize,
    /// Most request ids within the window.
    pub request_ids: usize,
    /// Records of the newest runs kept in memory.
    pub cached_records: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            dedupe_ids: limits::DEDUPE_IDS,
            request_ids: limits::REQUEST_IDS,
            cached_records: limits::CACHED_RECORDS,
        }
    }
}

/// Why a state can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The store holds what it should not, or can't be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The state was written by a later release.
    #[error("the state has format level {found}, this release knows {known}")]
    FormatLevel {
        /// As found.
        found: u32,
        /// The highest known.
        known: u32,
    },
}

/// What machine and views share.
pub(crate) struct Shared {
    hot: RwLock<Hot>,
    pub kv: Arc<dyn Kv>,
    pub applied_bytes: AtomicU64,
}

impl Shared {
    /// The hot state, to read for a moment.
    pub fn read(&self) -> RwLockReadGuard<'_, Hot> {
        self.hot.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Hot> {
        self.hot.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of one broker group on this replica.
pub struct StateMachine {
    shared: Arc<Shared>,
    broker_group: String,
    settings: Settings,
    effects: Arc<dyn Effects>,
    /// Why an entry could not be applied. Memory and store may differ since, so nothing is applied after it.
    failed: Option<String>,
}

impl StateMachine {
    /// Loads the state from its store. The caller compares [`Machine::applied`] with the log: a state beyond it is
    /// an error.
    pub fn open(
        kv: Arc<dyn Kv>,
        broker_group: &str,
        settings: Settings,
        effects: Arc<dyn Effects>,
    ) -> Result<(StateMachine, View), OpenError> {
        let hot = Hot::load(&*kv, settings.cached_records)?;
        if hot.meta.format_level > FORMAT_LEVEL {
            return Err(OpenError::FormatLevel {
                found: hot.meta.format_level,
                known: FORMAT_LEVEL,
            });
        }
        let shared = Arc::new(Shared {
            hot: RwLock::new(hot),
            kv,
            applied_bytes: AtomicU64::new(0),
        });
        let view = View::new(shared.clone());
        let broker_group = broker_group.to_string();
        Ok((
            StateMachine {
                shared,
                broker_group,
                settings,
                effects,
                failed: None,
            },
            view,
        ))
    }

    /// Runs one entry through `each`, writes its batch, and then hints.
    fn entry<T>(
        &mut self,
        id: EntryId,
        each: impl FnOnce(&mut Entry<'_>) -> Result<T, ApplyError>,
    ) -> Result<T, MachineError> {
        if let Some(reason) = &self.failed {
            return Err(MachineError::new(format!("stopped before: {reason}")));
        }
        let result = self.entry_locked(id, each);
        match result {
            Ok((value, hints)) => {
                self.tell(hints);
                Ok(value)
            }
            Err(error) => {
                self.failed = Some(error.reason.clone());
                Err(error)
            }
        }
    }

    fn entry_locked<T>(
        &self,
        id: EntryId,
        each: impl FnOnce(&mut Entry<'_>) -> Result<T, ApplyError>,
    ) -> Result<(T, Hints), MachineError> {
        let mut hot = self.shared.write();
        if let Some(applied) = hot.meta.applied.filter(|applied| applied.index >= id.index) {
            return Err(MachineError::new(format!(
                "entry {id} comes after {applied} was applied"
            )));
        }
        let mut entry = Entry::new(&mut hot, &*self.shared.kv, &self.settings, &self.broker_group, id);
        let value = each(&mut entry).map_err(stopped)?;
        Ok((value, entry.finish().map_err(stopped)?))
    }

    /// Whether an installed export holds the effect of this entry already.
    fn is_covered(&self, id: EntryId) -> bool {
        id.index.0 < self.shared.read().meta.covered
    }

    fn tell(&self, hints: Hints) {
        hints
            .arrived
            .values()
            .for_each(|topic| self.effects.arrived(&topic.name));
        for (topic, group, at_ms) in hints.visible.values() {
            self.effects.visible_at(&topic.name, &group.name, *at_ms);
        }
        if hints.topics_changed {
            self.effects.topics_changed();
        }
    }
}

fn stopped(error: ApplyError) -> MachineError {
    MachineError::new(error.to_string())
}

impl Machine for StateMachine {
    type Outcome = Outcome;

    fn applied(&self) -> Option<Applied> {
        let hot = self.shared.read();
        hot.meta.applied.map(|id| Applied {
            id,
            membership: hot.meta.membership.clone(),
        })
    }

    fn apply(&mut self, id: EntryId, commands: &[(u32, Bytes)]) -> Result<Vec<Outcome>, MachineError> {
        let covered = self.is_covered(id);
        let outcomes = self.entry(id, |entry| {
            if covered {
                return Ok(commands.iter().map(|_| Outcome::Probed).collect());
            }
            let numbered = commands.iter().enumerate();
            numbered
                .map(|(number, (slot, bytes))| entry.command(number, *slot, bytes))
                .collect()
        })?;
        let bytes: usize = commands.iter().map(|(_, bytes)| bytes.len()).sum();
        self.shared.applied_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(outcomes)
    }

    fn apply_blank(&mut self, id: EntryId) -> Result<(), MachineError> {
        self.entry(id, |_| Ok(()))
    }

    fn apply_membership(&mut self, id: EntryId, membership: Bytes) -> Result<(), MachineError> {
        self.entry(id, |entry| {
            entry.set_membership(membership);
            Ok(())
        })
    }

    fn export(&mut self) -> Result<Bytes, MachineError> {
        let _hot = self.shared.read();
        export::write(&*self.shared.kv).map_err(|error| MachineError::new(error.to_string()))
    }

    fn install(&mut self, applied: Applied, export: Bytes) -> Result<(), MachineError> {
        let mut hot = self.shared.write();
        let failed = |error: IndexError| MachineError::new(error.to_string());
        let batch = export::read(&export).map_err(|error| MachineError::new(error.to_string()))?;
        self.shared.kv.write(batch).map_err(|error| failed(error.into()))?;
        let mut loaded = Hot::load(&*self.shared.kv, self.settings.cached_records).map_err(failed)?;
        // The export may be of a later entry than its label; what lies between is then in it already.
        let exported = loaded.meta.applied.map_or(0, |id| id.index.0 + 1);
        loaded.meta.covered = if exported > applied.id.index.0 + 1 { exported } else { 0 };
        loaded.meta.applied = Some(applied.id);
        loaded.meta.membership = applied.membership;
        let mut batch = super::kv::Batch::default();
        let mut put = |key: &[u8], value| {
            batch
                .changes
                .push(super::kv::Change::Put(Family::Meta, key.to_vec(), value));
        };
        put(APPLIED_KEY, loaded.meta.encode());
        put(MEMBERSHIP_KEY, loaded.meta.membership.to_vec());
        let written = self.shared.kv.write(batch).and_then(|()| self.shared.kv.flush());
        written.map_err(|error| failed(error.into()))?;
        *hot = loaded;
        self.failed = None;
        drop(hot);
        self.effects.topics_changed();
        Ok(())
    }
}
