//! Who was heard when and runs what, whose connection closed, and which leader counts as gone.
//!
//! The mark `gone` names the committed vote of a leader that this replica believes dead. While it stands, appends with
//! that vote are refused (the fence): so a leader that is alive after all cannot move this replica's log between its
//! answer to "do you see it too?" and the election.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits;
use crate::raft::config::Vote;
use crate::release::Release;

/// Why a leader counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its connection to this replica closed.
    Closed,
    /// Nothing was heard from it for too long.
    Silent,
}

impl Cause {
    /// For the log.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Closed => "connection closed",
            Cause::Silent => "silent",
        }
    }
}

#[derive(Clone, Default)]
struct Seen {
    heard: Option<Instant>,
    streams: u32,
    closed: Option<Instant>,
    trouble: Option<Trouble>,
    /// As told when its newest stream came up; nothing once all are closed, as it may come back as another.
    release: Option<Release>,
}

/// Why this replica does not get through to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// It answers, and refuses.
    pub refuses: bool,
    /// What it or the network said last.
    pub reason: String,
    /// Since when nothing got through.
    pub since: Instant,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<u64, Seen>,
    gone: Option<Vote>,
    led: Option<Vote>,
}

/// Shared by the service (which hears), the takeover (which decides) and the status.
pub struct Presence {
    state: Mutex<State>,
    /// Counts the changes worth waking up for: a connection closed or came up.
    changes: watch::Sender<u64>,
}

/// Stands for one open presence stream of a peer; the stream's end drops it.
pub struct StreamGuard {
    presence: Arc<Presence>,
    id: u64,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.presence.closed(self.id);
    }
}

impl Presence {
    /// Nobody was heard yet.
    pub fn new() -> Arc<Presence> {
        Arc::new(Presence {
            state: Mutex::new(State::default()),
            changes: watch::Sender::new(0),
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes when a connection closes or comes up.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Something came from this replica.
    pub fn heard(&self, id: u64) {
        self.with(|state| state.peers.entry(id).or_default().heard = Some(Instant::now()));
    }

    /// When something last came from this replica.
    pub fn last_heard(&self, id: u64) -> Option<Instant> {
        self.with(|state| state.peers.get(&id).and_then(|seen| seen.heard))
    }

    /// How long ago something last came from this replica.
    pub fn heard_ago(&self, id: u64) -> Option<Duration> {
        self.last_heard(id).map(|at| at.elapsed())
    }

    /// This replica did not get through to another, or got through once more (`None`).
    pub fn tried(&self, id: u64, failed: Option<(bool, &str)>) {
        self.with(|state| {
            let seen = state.peers.entry(id).or_default();
            let since = seen.trouble.as_ref().map_or_else(Instant::now, |trouble| trouble.since);
            seen.trouble = failed.map(|(refuses, reason)| Trouble {
                refuses,
                reason: reason.chars().take(limits::REASON_CHARS_MAX).collect(),
                since,
            });
        });
    }

    /// Why this replica does not get through to another, if so.
    pub fn trouble(&self, id: u64) -> Option<Trouble> {
        self.with(|state| state.peers.get(&id).and_then(|seen| seen.trouble.clone()))
    }

    /// A presence stream of this replica, which runs this release, is up. A mark against it falls.
    pub fn opened(self: &Arc<Self>, id: u64, release: Release) -> StreamGuard {
        self.with(|state| {
            let seen = state.peers.entry(id).or_default();
            seen.heard = Some(Instant::now());
            seen.streams += 1;
            seen.closed = None;
            seen.release = Some(release);
            if state.gone.is_some_and(|vote| vote.leader_id.voted_for == id) {
                state.gone = None;
            }
        });
        self.changes.send_modify(|count| *count += 1);
        StreamGuard {
            presence: Arc::clone(self),
            id,
        }
    }

    fn closed(&self, id: u64) {
        self.with(|state| {
            let seen = state.peers.entry(id).or_default();
            seen.streams = seen.streams.saturating_sub(1);
            if seen.streams == 0 {
                seen.closed = Some(Instant::now());
                seen.release = None;
            }
        });
        self.changes.send_modify(|count| *count += 1);
    }

    /// When the last connection of this replica closed, if none has come up since.
    pub fn closed_at(&self, id: u64) -> Option<Instant> {
        self.with(|state| state.peers.get(&id).and_then(|seen| seen.closed))
    }

    /// What this replica runs, while it is connected.
    pub fn release(&self, id: u64) -> Option<Release> {
        self.with(|state| state.peers.get(&id).and_then(|seen| seen.release.clone()))
    }

    /// Whether this replica was never heard, or its last connection closed.
    pub fn is_away(&self, id: u64) -> bool {
        self.with(|state| {
            let seen = state.peers.get(&id);
            seen.is_none_or(|seen| seen.heard.is_none() || seen.closed.is_some())
        })
    }

    /// Resolves once this replica is away.
    pub async fn goes_away(&self, id: u64) {
        let mut changes = self.changes();
        while !self.is_away(id) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// A leader with this vote appends or beats.
    pub fn led(&self, vote: &Vote) {
        self.with(|state| {
            let term = vote.leader_id.term;
            if state.led.is_none_or(|led| led.leader_id.term < term) {
                state.led = Some(*vote);
            }
        });
    }

    /// The leader of the highest term that appended or beat, also while the core is too busy to know of it.
    pub fn led_by(&self) -> Option<Vote> {
        self.with(|state| state.led)
    }

    /// Marks the leader with this vote as gone.
    pub fn mark(&self, vote: Vote) {
        self.with(|state| state.gone = Some(vote));
    }

    /// Takes the mark away.
    pub fn clear(&self) {
        self.with(|state| state.gone = None);
    }

    /// Whether the leader with this vote is marked: its appends are refused.
    pub fn is_gone(&self, vote: &Vote) -> bool {
        self.with(|state| state.gone.as_ref() == Some(vote))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_lasts_from_its_first_failure_to_the_next_success() {
        let presence = Presence::new();
        presence.tried(2, Some((false, "refused")));
        let since = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        presence.tried(2, Some((true, "another incarnation")));
        let trouble = presence.trouble(2).expect("trouble");
        assert_eq!((trouble.refuses, trouble.since), (true, since));
        assert_eq!(trouble.reason, "another incarnation");
        presence.heard(2);
        assert!(presence.trouble(2).is_some(), "to be heard is not to get through");
        presence.tried(2, None);
        assert_eq!((presence.trouble(2), presence.trouble(3)), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_clears_the_mark_and_the_last_end_closes() {
        let presence = Presence::new();
        let vote = Vote::new_committed(3, 1);
        let release = |level| Release::told(level, "1.0");
        let first = presence.opened(1, release(1));
        let second = presence.opened(1, release(2));
        drop(first);
        assert_eq!(presence.closed_at(1), None);
        assert_eq!(presence.release(1), Some(release(2)));
        assert!(!presence.is_away(1) && presence.is_away(2));
        drop(second);
        assert!(presence.closed_at(1).is_some() && presence.is_away(1));
        assert_eq!(presence.release(1), None, "it may come back as another");
        presence.goes_away(1).await;
        presence.mark(vote);
        assert!(presence.is_gone(&vote));
        assert!(!presence.is_gone(&Vote::new_committed(4, 1)));
        let _other = presence.opened(2, release(1));
        assert!(presence.is_gone(&vote));
        let _again = presence.opened(1, release(1));
        assert!(!presence.is_gone(&vote));
        assert_eq!(presence.closed_at(1), None);
    }
}
