//! Known bugs of the broker behind a switch, for proving that the simulation's checkers see them.
//!
//! The switch is passed in, like a seam: [`crate::Seams`] holds a [`Planted`], and that holds the log's own. Without the
//! feature `planted-bugs`, and outside of this crate's own tests, [`Planted::has`] is always false and there is nothing in
//! it, so that the product has no trace of the bugs. Each is one changed branch of production code. No checker looks at
//! the switch.

/// A bug that can be planted. The comment says what is then wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A leader hands out what it planned when the log is slow to take the lease, as if it could still grant by itself.
    StaleLeaderGrants,
    /// What was sent within the dedupe window stays in the memory of a replica: it is neither stored nor exported.
    DedupeWindowNotStored,
    /// A message id and a request id are forgotten after a second of log time.
    DedupeForgetsEarly,
    /// A send is answered with the place that its message should get, before it is committed.
    AnswerBeforeCommit,
    /// An export of the state leaves out leases and other spans.
    SnapshotWithoutLeases,
    /// What an export brought in is applied once more when it comes by the log.
    SkipUntilIgnored,
    /// A replica that opens its state forgets which message groups are taken.
    FifoLockLost,
    /// A message that died is done before its dead letter is stored: the one that its topic is made for is left out.
    DeadLetterLost,
    /// A request that was done before is not recognized by its id.
    RepeatedRequestApplied,
    /// A retention cut does not look which older records outlive it.
    CarryOverLeftOut,
    /// An export of the state leaves out how far the consumer groups are.
    ProgressNotExported,
    /// A replica that opens its state forgets how often a message was handed out.
    AttemptsNotStored,
    /// The log is told that it may forget before the state that does without is durable.
    ReleasedBeforeFlush,
    /// A message is done as well by the handle of a lease that was replaced or has ended.
    StaleHandleAccepted,
    /// A message that was given back is visible at once, and not after the time that was asked for.
    VisibleTooEarly,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 15] = [
        Bug::StaleLeaderGrants,
        Bug::DedupeWindowNotStored,
        Bug::DedupeForgetsEarly,
        Bug::AnswerBeforeCommit,
        Bug::SnapshotWithoutLeases,
        Bug::SkipUntilIgnored,
        Bug::FifoLockLost,
        Bug::DeadLetterLost,
        Bug::RepeatedRequestApplied,
        Bug::CarryOverLeftOut,
        Bug::ProgressNotExported,
        Bug::AttemptsNotStored,
        Bug::ReleasedBeforeFlush,
        Bug::StaleHandleAccepted,
        Bug::VisibleTooEarly,
    ];

    /// Its name on a command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Bug::StaleLeaderGrants => "stale-leader-grants",
            Bug::DedupeWindowNotStored => "dedupe-window-not-stored",
            Bug::DedupeForgetsEarly => "dedupe-forgets-early",
            Bug::AnswerBeforeCommit => "answer-before-commit",
            Bug::SnapshotWithoutLeases => "snapshot-without-leases",
            Bug::SkipUntilIgnored => "skip-until-ignored",
            Bug::FifoLockLost => "fifo-lock-lost",
            Bug::DeadLetterLost => "dead-letter-lost",
            Bug::RepeatedRequestApplied => "repeated-request-applied",
            Bug::CarryOverLeftOut => "carry-over-left-out",
            Bug::ProgressNotExported => "progress-not-exported",
            Bug::AttemptsNotStored => "attempts-not-stored",
            Bug::ReleasedBeforeFlush => "released-before-flush",
            Bug::StaleHandleAccepted => "stale-handle-accepted",
            Bug::VisibleTooEarly => "visible-too-early",
        }
    }
}

/// Which bug is planted: none, or with the feature `planted-bugs` one of the broker or of its log. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(any(test, feature = "planted-bugs"))]
    bug: Option<Bug>,
    /// The log's.
    pub log: ledgermq_raft_store::Planted,
}

impl Planted {
    /// This one.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub fn only(bug: Bug) -> Planted {
        Planted {
            bug: Some(bug),
            ..Planted::default()
        }
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
