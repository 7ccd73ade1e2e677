//! Whether this replica was removed from the membership.
//!
//! A removed replica usually never gets the entry that removes it: the leader stops sending once it appends it. So the
//! members tell it when it calls: their committed membership, of this entry, lacks you. It believes them if its own
//! membership is no newer and no leader has spoken to it for a while; a leader that speaks to it after all is the
//! stronger word, as leaders speak to members only.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits;
use crate::marks::mark;
use crate::types::EntryId;

#[derive(Default)]
struct State {
    /// A membership that this replica knew had it.
    was_member: bool,
    /// When a leader last spoke to it.
    led: Option<Instant>,
}

/// The standing of this replica.
pub struct Standing {
    state: Mutex<State>,
    removed: watch::Sender<bool>,
}

impl Standing {
    /// Nothing is known yet.
    pub fn new() -> Standing {
        Standing {
            state: Mutex::default(),
            removed: watch::Sender::new(false),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this replica was removed.
    pub fn is_removed(&self) -> bool {
        *self.removed.borrow()
    }

    /// The same, and its changes.
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
    }

    fn set(&self, removed: bool) {
        let changed = self
            .removed
            .send_if_modified(|before| std::mem::replace(before, removed) != removed);
        match (changed, removed) {
            (true, true) => {
                mark("removal_learned");
                tracing::warn!("this replica was removed from its broker group");
            }
            (true, false) => tracing::info!("this replica is a member again"),
            (false, _) => {}
        }
    }

    /// The membership known here has this replica or not, or `None` where it does not matter: it is not committed.
    pub fn learn(&self, member: Option<bool>) {
        match member {
            Some(true) => self.with(|state| state.was_member = true),
            Some(false) if self.with(|state| state.was_member) => self.set(true),
            Some(false) | None => {}
        }
    }

    /// A leader spoke to this replica.
    pub fn led(&self) {
        self.with(|state| state.led = Some(Instant::now()));
        if self.is_removed() {
            self.set(false);
        }
    }

    /// A member says that its committed membership, of entry `theirs`, lacks this replica, whose own is of `own`.
    pub fn told(&self, theirs: EntryId, own: Option<EntryId>) {
        let unled = self.with(|state| state.led.is_none_or(|at| at.elapsed() >= limits::REMOVED_SILENCE));
        if unled && own.is_some_and(|own| own <= theirs) {
            self.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_members_are_believed_when_no_leader_speaks() {
        let standing = Standing::new();
        let (old, new) = (EntryId::new(1, 5), EntryId::new(2, 9));
        standing.told(new, None);
        standing.told(old, Some(new));
        assert!(!standing.is_removed());
        standing.led();
        standing.told(new, Some(old));
        assert!(!standing.is_removed());
        tokio::time::advance(limits::REMOVED_SILENCE).await;
        standing.told(new, Some(old));
        assert!(standing.is_removed());
        standing.led();
        assert!(!standing.is_removed());
    }

    #[test]
    fn a_committed_removal_is_seen_but_a_learner_of_old_entries_is_none() {
        let standing = Standing::new();
        standing.learn(Some(false));
        assert!(!standing.is_removed());
        standing.learn(Some(true));
        standing.learn(None);
        assert!(!standing.is_removed());
        standing.learn(Some(false));
        assert!(standing.is_removed());
    }
}
