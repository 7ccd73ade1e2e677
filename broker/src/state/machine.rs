//! The state machine as the log drives it: entries in, outcomes out, one batch to the store for each entry.

use super::apply::{ApplyError, Entry, Hints};
use super::digests::Digests;
use super::effects::Effects;
use super::export::{Assembly, StateExport};
use super::hot::Hot;
use super::kv::Kv;
use super::level::{self, FORMAT_LEVEL};
use super::limits;
use super::meta::{self, Meta};
use super::outcome::Outcome;
use super::queue::IndexError;
use super::view::View;
use crate::marks::mark;
use crate::planted::{Bug, Planted};
use bytes::Bytes;
use ledgermq_raft_store::types::EntryId;
use ledgermq_raft_store::{Applied, Export, LogIndex, Machine, MachineError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

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
    /// The highest level that this replica supports, 1 to [`FORMAT_LEVEL`]. A state beyond it is not opened, and an
    /// entry that raises the level beyond it stops the replica.
    pub format_level_max: u32,
    /// A bug on purpose; none outside of tests.
    pub planted: Planted,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            dedupe_ids: limits::DEDUPE_IDS,
            request_ids: limits::REQUEST_IDS,
            cached_records: limits::CACHED_RECORDS,
            format_level_max: FORMAT_LEVEL,
            planted: Planted::default(),
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
    #[error(
        "the state is at format level {found}, and this replica supports {max} with version {}; start it with a newer release",
        level::VERSION
    )]
    FormatLevel {
        /// As found.
        found: u32,
        /// The highest that is supported here.
        max: u32,
    },
}

/// What machine and views share.
pub(crate) struct Shared {
    hot: RwLock<Hot>,
    pub kv: Arc<dyn Kv>,
    pub applied_bytes: AtomicU64,
    /// The cut that is in the durable state.
    pub released: watch::Sender<LogIndex>,
    /// The level of the state.
    pub format_level: watch::Sender<u32>,
    pub digests: Digests,
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
    /// Whether the store holds a whole state: not while one is being installed, nor after a crash in that.
    is_whole: bool,
    /// The installation under way.
    assembly: Option<Assembly>,
}

impl StateMachine {
    /// Loads the state from its store; an empty one where an installation broke off ([`Machine::is_whole`]). The caller
    /// compares [`Machine::applied`] with the log: a state beyond it is an error.
    pub fn open(
        kv: Arc<dyn Kv>,
        broker_group: &str,
        settings: Settings,
        effects: Arc<dyn Effects>,
    ) -> Result<(StateMachine, View), OpenError> {
        let is_whole = !meta::is_installing(&*kv).map_err(IndexError::from)?;
        let hot = match is_whole {
            true => {
                // Before anything that a later level may write in another way.
                supports(settings, Meta::of(&*kv).map_err(IndexError::from)?.format_level)?;
                Hot::load(&*kv, &settings)?
            }
            false => Hot::empty(&settings),
        };
        let released = watch::Sender::new(hot.meta.released());
        let format_level = watch::Sender::new(hot.meta.format_level);
        let shared = Arc::new(Shared {
            hot: RwLock::new(hot),
            kv,
            applied_bytes: AtomicU64::new(0),
            released,
            format_level,
            digests: Digests::default(),
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
                is_whole,
                assembly: None,
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
        if !self.is_whole {
            return Err(MachineError::new(format!("entry {id} comes before the state is whole")));
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
        let hints = entry.finish().map_err(stopped)?;
        if hints.digest {
            let view = self.shared.kv.view().map_err(stopped)?;
            self.shared.digests.leave(id.index, view);
        }
        Ok((value, hints))
    }

    /// Whether an installed export holds the effect of this entry already.
    ///
    /// Until all such entries are applied the state is that of a later entry A, and must not be served. It is not: A
    /// was applied where the export was made, so it is committed, and every later leader's log holds it. A replica
    /// serves once the first entry of its own term is applied, which lies behind A.
    fn is_covered(&self, id: EntryId) -> bool {
        let covered = self.shared.read().covered;
        let is_covered = covered.is_some_and(|covered| id.index <= covered.index);
        is_covered && !self.settings.planted.has(Bug::SkipUntilIgnored)
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
        if let Some(level) = hints.format_level {
            self.shared.format_level.send_replace(level);
        }
    }
}

/// Fails where the state is of a later release.
fn supports(settings: Settings, found: u32) -> Result<(), OpenError> {
    let max = settings.format_level_max;
    match found <= max {
        true => Ok(()),
        false => Err(OpenError::FormatLevel { found, max }),
    }
}

fn stopped(error: impl std::fmt::Display) -> MachineError {
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
                mark("covered_entry_skipped");
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

    fn view(&mut self) -> Result<Arc<dyn Export>, MachineError> {
        let hot = self.shared.read();
        let applied = hot.holds().filter(|_| self.is_whole);
        if applied.is_none() {
            return Err(MachineError::new("there is no state to export"));
        }
        let meta = Meta {
            applied,
            ..hot.meta.clone()
        };
        let view = self.shared.kv.view().map_err(stopped)?;
        Ok(Arc::new(StateExport::new(&meta, view, self.settings.planted)))
    }

    fn install_begin(&mut self) -> Result<(), MachineError> {
        let mut hot = self.shared.write();
        self.is_whole = false;
        self.assembly = None;
        *hot = Hot::empty(&self.settings);
        let kv = &self.shared.kv;
        let begun = kv.write(meta::begin_installation()).and_then(|()| kv.flush());
        begun.map_err(stopped)?;
        self.assembly = Some(Assembly::default());
        Ok(())
    }

    fn install_part(&mut self, part: Bytes) -> Result<(), MachineError> {
        let assembly = self.assembly.as_mut().ok_or_else(no_installation)?;
        let batch = assembly.add(&part).map_err(stopped)?;
        // Before anything of it is written: a replica with a newer release goes on from what was received.
        if let Some(meta) = Meta::among(&batch).map_err(stopped)? {
            supports(self.settings, meta.format_level).map_err(stopped)?;
        }
        self.shared.kv.write(batch).map_err(stopped)
    }

    fn install_finish(&mut self, label: Applied) -> Result<(), MachineError> {
        let assembly = self.assembly.take().ok_or_else(no_installation)?;
        let exported = assembly
            .complete()
            .ok_or_else(|| MachineError::new("the installed export is not complete"))?;
        let mut hot = self.shared.write();
        let kv = &self.shared.kv;
        let meta = Meta {
            applied: Some(label.id),
            membership: label.membership,
            ..Meta::of(&**kv).map_err(stopped)?
        };
        // The export may be of a later entry than its label; what lies between is then in it already.
        let covered = (exported.index > label.id.index).then_some(exported);
        let finished = kv
            .write(meta::finish_installation(&meta, covered))
            .and_then(|()| kv.flush());
        finished.map_err(stopped)?;
        *hot = Hot::load(&**kv, &self.settings).map_err(stopped)?;
        drop(hot);
        self.is_whole = true;
        self.failed = None;
        self.shared.released.send_replace(meta.released());
        self.shared.format_level.send_replace(meta.format_level);
        self.effects.topics_changed();
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.is_whole
    }

    fn released(&self) -> watch::Receiver<LogIndex> {
        self.shared.released.subscribe()
    }

    fn level(&self) -> watch::Receiver<u32> {
        self.shared.format_level.subscribe()
    }
}

fn no_installation() -> MachineError {
    MachineError::new("no installation was begun")
}
