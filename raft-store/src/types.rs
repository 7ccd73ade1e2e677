//! The words of the log: where an entry stands, who proposed it in which term, and which replica is meant.
//!
//! Each is a newtype over `u64` with an order and a `Display`, and no arithmetic between them: an index is
//! never added to a term, and a byte position is never a [`LogIndex`].

use std::fmt;

/// Place of an entry in the log of a broker group. The first entry has index 0; indexes are dense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

/// A Raft term: grows with each election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// Number of a replica inside its broker group. Never reused for another incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

/// What names one entry for good: its term and its index. Ordered by term, then index, as Raft orders logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Term of the leader that proposed the entry.
    pub term: Term,
    /// Place of the entry in the log.
    pub index: LogIndex,
}

impl LogIndex {
    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The index that follows. Panics at `u64::MAX`, which no log reaches.
    pub const fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }

    /// The index before, or `None` for the first.
    pub const fn previous(self) -> Option<LogIndex> {
        match self.0 {
            0 => None,
            index => Some(LogIndex(index - 1)),
        }
    }

    /// The index `count` places further on.
    pub const fn plus(self, count: u64) -> LogIndex {
        LogIndex(self.0 + count)
    }

    /// How many entries lie in `earlier..self`; 0 when `earlier` is not before.
    pub const fn since(self, earlier: LogIndex) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Term {
    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl ReplicaId {
    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl EntryId {
    /// An id from bare numbers.
    pub const fn new(term: u64, index: u64) -> EntryId {
        EntryId {
            term: Term(term),
            index: LogIndex(index),
        }
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_term_first() {
        assert!(EntryId::new(1, 9) < EntryId::new(2, 3));
        assert!(EntryId::new(2, 3) < EntryId::new(2, 4));
    }

    #[test]
    fn steps() {
        assert_eq!(LogIndex(0).previous(), None);
        assert_eq!(LogIndex(4).next().previous(), Some(LogIndex(4)));
        assert_eq!(LogIndex(9).since(LogIndex(4)), 5);
        assert_eq!(LogIndex(4).since(LogIndex(9)), 0);
        assert_eq!(EntryId::new(2, 3).to_string(), "2.3");
    }
}
