//! Hashes of the whole state as of a command's entry, made off the apply path: apply leaves a view here, the shell has
//! it hashed where work may block, and the newest results are kept to be asked for.

use super::export;
use super::kv::{KvError, KvView};
use super::limits;
use ledgermq_raft_store::types::LogIndex;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What is to be hashed, and what was.
#[derive(Debug)]
pub(crate) struct Digests {
    inner: Mutex<Inner>,
    /// The newest entry to hash.
    due: watch::Sender<LogIndex>,
    /// The newest entry hashed.
    done: watch::Sender<LogIndex>,
}

#[derive(Default)]
struct Inner {
    /// A newer one takes the place of one that was not begun.
    due: Option<(LogIndex, Arc<dyn KvView>)>,
    done: BTreeMap<LogIndex, u128>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl Default for Digests {
    fn default() -> Digests {
        Digests {
            inner: Mutex::default(),
            due: watch::Sender::new(LogIndex(0)),
            done: watch::Sender::new(LogIndex(0)),
        }
    }
}

impl Digests {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the state as of an entry to be hashed.
    pub fn leave(&self, index: LogIndex, view: Arc<dyn KvView>) {
        self.lock().due = Some((index, view));
        self.due.send_replace(index);
    }

    /// Follows what is to be hashed.
    pub fn due(&self) -> watch::Receiver<LogIndex> {
        self.due.subscribe()
    }

    /// Hashes what is due, if anything is. Reads the whole state.
    pub fn make(&self) -> Result<(), KvError> {
        let Some((index, view)) = self.lock().due.take() else {
            return Ok(());
        };
        let digest = export::digest(&*view)?;
        let mut inner = self.lock();
        inner.done.insert(index, digest);
        while inner.done.len() > limits::DIGESTS {
            inner.done.pop_first();
        }
        drop(inner);
        self.done.send_replace(index);
        Ok(())
    }

    /// Follows what was hashed.
    pub fn done(&self) -> watch::Receiver<LogIndex> {
        self.done.subscribe()
    }

    /// The hash of the state as of an entry, if it is remembered.
    pub fn of(&self, index: LogIndex) -> Option<u128> {
        self.lock().done.get(&index).copied()
    }
}
