//! What snapshots are labelled with, and the copy of the state that transfers read.
//!
//! A label is the entry that the log begins behind, or will begin behind once it is purged. A copy is shared by all
//! transfers that it serves and outlives the interruption of one, for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::limits;
use crate::machine::Export;
use crate::types::{EntryId, LogIndex};

#[derive(Default)]
struct State {
    wanted: Option<LogIndex>,
    current: Option<EntryId>,
    view: Option<(Arc<dyn Export>, Instant)>,
}

/// Shared by the adapter, which labels, the retention, which says how far, and the transfers, which read.
#[derive(Default)]
pub struct Labels {
    state: Mutex<State>,
}

impl Labels {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next snapshot is to be labelled with this entry.
    pub fn want(&self, index: LogIndex) {
        self.state().wanted = Some(index);
    }

    /// What the next snapshot is to be labelled with.
    pub fn wanted(&self) -> Option<LogIndex> {
        self.state().wanted
    }

    /// The label of the newest snapshot.
    pub fn current(&self) -> Option<EntryId> {
        self.state().current
    }

    /// A snapshot has this label.
    pub fn set_current(&self, label: EntryId) {
        self.state().current = Some(label);
    }

    /// A snapshot with this label replaced the state: no copy of the old one is of use.
    pub fn installed(&self, label: EntryId) {
        let mut state = self.state();
        state.current = Some(label);
        state.view = None;
    }

    /// The copy at hand, if it is of this entry or a later one.
    pub fn view(&self, label: EntryId) -> Option<Arc<dyn Export>> {
        let mut state = self.state();
        let (view, read) = state.view.as_mut().filter(|(view, _)| view.id().index >= label.index)?;
        *read = Instant::now();
        Some(Arc::clone(view))
    }

    /// Keeps a copy for the transfers to come.
    pub fn keep_view(&self, view: &Arc<dyn Export>) {
        self.state().view = Some((Arc::clone(view), Instant::now()));
    }

    /// The copy is being read.
    pub fn touch(&self) {
        if let Some((_, read)) = &mut self.state().view {
            *read = Instant::now();
        }
    }

    /// Lets a copy go that nobody reads any more: it holds back the compaction of the state.
    pub fn expire(&self) {
        let mut state = self.state();
        if state
            .view
            .as_ref()
            .is_some_and(|(_, read)| read.elapsed() >= limits::VIEW_LIFE)
        {
            state.view = None;
        }
    }
}
