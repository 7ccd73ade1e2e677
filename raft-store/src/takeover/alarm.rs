//! When a leader counts as gone: its connection closed, or nothing came from it for too long.
//!
//! An alarm rings once. It rings again for the same leader only at another close, or at another silence after that
//! leader was heard; so a replica that alone believes the leader dead fences it once and then leaves the matter to
//! openraft's timers.

use std::time::Duration;

use tokio::time::Instant;

use crate::peer::presence::{Cause, Presence};
use crate::raft::config::Vote;

/// What this replica knows about the leader it follows.
pub struct Alarm {
    own: u64,
    silence: Duration,
    /// The committed vote followed, and since when.
    following: Option<(Vote, Instant)>,
    /// When the alarm for this vote was last given up.
    spent: Option<Instant>,
}

/// What the alarm says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No leader to watch.
    Idle,
    /// The leader is fine; silence would be noticed at this time.
    Quiet(Instant),
    /// The leader with this vote is gone.
    Rings(Vote, Cause),
}

impl Alarm {
    /// An alarm for replica `own`, ringing after `silence` without a word.
    pub fn new(own: u64, silence: Duration) -> Alarm {
        Alarm {
            own,
            silence,
            following: None,
            spent: None,
        }
    }

    /// Takes note of the vote in force.
    pub fn follow(&mut self, vote: Vote) {
        let followed = (vote.committed && vote.leader_id.voted_for != self.own).then_some(vote);
        if self.following.map(|(vote, _)| vote) != followed {
            self.following = followed.map(|vote| (vote, Instant::now()));
            self.spent = None;
        }
    }

    /// The takeover for the present vote came to nothing.
    pub fn spend(&mut self) {
        self.spent = Some(Instant::now());
    }

    /// Whether the leader is gone, by what was heard.
    pub fn look(&self, presence: &Presence) -> Verdict {
        let Some((vote, since)) = self.following else {
            return Verdict::Idle;
        };
        let leader = vote.leader_id.voted_for;
        let heard = presence.last_heard(leader);
        // A close before this replica followed the leader is the end of another life of it, if it was heard since.
        let closed = presence
            .closed_at(leader)
            .filter(|at| *at >= since || heard.is_some_and(|heard| heard <= *at));
        if closed.is_some_and(|at| self.spent.is_none_or(|spent| at > spent)) {
            return Verdict::Rings(vote, Cause::Closed);
        }
        if self.spent.is_some_and(|spent| heard.is_none_or(|heard| heard <= spent)) {
            return Verdict::Quiet(Instant::now() + self.silence);
        }
        let due = heard.map_or(since, |heard| heard.max(since)) + self.silence;
        if due <= Instant::now() {
            Verdict::Rings(vote, Cause::Silent)
        } else {
            Verdict::Quiet(due)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Release;

    const SILENCE: Duration = Duration::from_millis(250);

    fn alarm() -> (Alarm, std::sync::Arc<Presence>, Vote) {
        (Alarm::new(2, SILENCE), Presence::new(), Vote::new_committed(5, 1))
    }

    #[tokio::test(start_paused = true)]
    async fn rings_at_a_close() {
        let (mut alarm, presence, vote) = alarm();
        assert_eq!(alarm.look(&presence), Verdict::Idle);
        let guard = presence.opened(1, Release::told(1, ""));
        alarm.follow(vote);
        assert!(matches!(alarm.look(&presence), Verdict::Quiet(_)));
        drop(guard);
        assert_eq!(alarm.look(&presence), Verdict::Rings(vote, Cause::Closed));
        alarm.spend();
        assert!(matches!(alarm.look(&presence), Verdict::Quiet(_)));
        // Heard through another connection: alive after all, and no reason to ring for the same close.
        tokio::time::advance(Duration::from_millis(10)).await;
        presence.heard(1);
        assert!(matches!(alarm.look(&presence), Verdict::Quiet(_)));
        let guard = presence.opened(1, Release::told(1, ""));
        drop(guard);
        assert_eq!(alarm.look(&presence), Verdict::Rings(vote, Cause::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn rings_after_silence_once() {
        let (mut alarm, presence, vote) = alarm();
        let _guard = presence.opened(1, Release::told(1, ""));
        alarm.follow(vote);
        tokio::time::advance(SILENCE - Duration::from_millis(1)).await;
        assert!(matches!(alarm.look(&presence), Verdict::Quiet(_)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(alarm.look(&presence), Verdict::Rings(vote, Cause::Silent));
        alarm.spend();
        tokio::time::advance(SILENCE * 4).await;
        assert!(matches!(alarm.look(&presence), Verdict::Quiet(_)));
        presence.heard(1);
        tokio::time::advance(SILENCE).await;
        assert_eq!(alarm.look(&presence), Verdict::Rings(vote, Cause::Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn never_rings_for_itself_or_a_candidate() {
        let (mut alarm, presence, _) = alarm();
        for vote in [Vote::new_committed(5, 2), Vote::new(6, 1)] {
            alarm.follow(vote);
            tokio::time::advance(SILENCE * 2).await;
            assert_eq!(alarm.look(&presence), Verdict::Idle);
        }
    }
}
