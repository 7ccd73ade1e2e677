//! Known bugs behind a switch, for proving that the tests see them.
//!
//! The switch is passed in, like a seam: [`crate::Options`] and [`crate::log::LogOptions`] hold a [`Planted`]. Without the
//! feature `planted-bugs`, and outside of this crate's own tests, that is a type without content whose [`Planted::has`] is
//! always false, so that the product has no trace of the bugs. Each is one changed branch of production code. No checker
//! looks at the switch.

use std::fmt;

/// A bug that can be planted. The comment says what is then wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// An append is reported durable before it was synced.
    AckBeforeFsync,
    /// A leader counts a follower as having what it has only sent to it.
    AckFromLeaderAlone,
    /// A vote is written, and not synced.
    VoteNotSynced,
    /// A vote is made durable before the entries that were appended before it.
    VoteBeforeAppends,
    /// Recovery takes any intact frame for the next one, also one that an earlier use of the file left behind.
    RecycledBytesAccepted,
    /// A truncation leaves the bytes of what it cuts off in the file, where they continue the chain.
    TruncatedBytesAccepted,
    /// Recovery does not check the bodies of the newest frames.
    TornTailAccepted,
    /// A committed entry enters the machine before it is durable on this replica.
    KvAheadOfLog,
    /// A purge takes segments away before the marks say that they are purged.
    PurgeBeforeMarks,
    /// A purge goes on to the newest durable entry instead of ending at the label of the snapshot.
    PurgePastSnapshot,
    /// After a sync that failed it is tried again, and what that says is believed.
    SyncRetried,
    /// A truncation is not announced in the marks before it begins.
    CutUnannounced,
    /// A snapshot that was received is installed before it is durable.
    SnapshotNotSynced,
    /// A snapshot that was received is forgotten before the log begins behind its label.
    SnapshotForgottenEarly,
    /// The clock that commands are stamped by, and leases end by, is the wall clock of whoever leads.
    LeaseTimerOnLocalClock,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 15] = [
        Bug::AckBeforeFsync,
        Bug::AckFromLeaderAlone,
        Bug::VoteNotSynced,
        Bug::VoteBeforeAppends,
        Bug::RecycledBytesAccepted,
        Bug::TruncatedBytesAccepted,
        Bug::TornTailAccepted,
        Bug::KvAheadOfLog,
        Bug::PurgeBeforeMarks,
        Bug::PurgePastSnapshot,
        Bug::SyncRetried,
        Bug::CutUnannounced,
        Bug::SnapshotNotSynced,
        Bug::SnapshotForgottenEarly,
        Bug::LeaseTimerOnLocalClock,
    ];

    /// Its name on a command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Bug::AckBeforeFsync => "ack-before-fsync",
            Bug::AckFromLeaderAlone => "ack-from-leader-alone",
            Bug::VoteNotSynced => "vote-not-synced",
            Bug::VoteBeforeAppends => "vote-before-appends",
            Bug::RecycledBytesAccepted => "recycled-bytes-accepted",
            Bug::TruncatedBytesAccepted => "truncated-bytes-accepted",
            Bug::TornTailAccepted => "torn-tail-accepted",
            Bug::KvAheadOfLog => "kv-ahead-of-log",
            Bug::PurgeBeforeMarks => "purge-before-marks",
            Bug::PurgePastSnapshot => "purge-past-snapshot",
            Bug::SyncRetried => "sync-retried",
            Bug::CutUnannounced => "cut-unannounced",
            Bug::SnapshotNotSynced => "snapshot-not-synced",
            Bug::SnapshotForgottenEarly => "snapshot-forgotten-early",
            Bug::LeaseTimerOnLocalClock => "lease-timer-on-local-clock",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which bug is planted: none, or with the feature `planted-bugs` one. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(any(test, feature = "planted-bugs"))]
    bug: Option<Bug>,
}

impl Planted {
    /// This one.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub const fn only(bug: Bug) -> Planted {
        Planted { bug: Some(bug) }
    }

    /// Whether this bug is planted.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Never: this build has no bug that could be planted.
    #[cfg(not(any(test, feature = "planted-bugs")))]
    #[inline(always)]
    pub const fn has(self, _bug: Bug) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_is_listed_in_order() {
        for (place, bug) in Bug::ALL.into_iter().enumerate() {
            assert_eq!(bug as usize, place, "every bug is listed, in order");
        }
    }

    #[test]
    fn one_is_planted_or_none() {
        for bug in Bug::ALL {
            assert!(!Planted::default().has(bug));
            let planted = Bug::ALL.into_iter().filter(|other| Planted::only(bug).has(*other));
            assert_eq!(planted.collect::<Vec<_>>(), [bug]);
        }
    }
}
