//! The memberships of the past that a snapshot's label may need.
//!
//! A snapshot is labelled with an entry older than the last one applied, and says which membership was in force *there*.
//! So the memberships applied since the oldest entry that may become a label are kept, in the machine, as one value.

use bytes::Bytes;

use crate::limits;
use crate::raft::config::{KeptMembership, entry_id};
use crate::raft::format::{self, FormatError};
use crate::types::LogIndex;

/// What a machine got from [`crate::Machine::apply_membership`], reduced to the membership in force: equal on all replicas as of
/// the same entry. The whole is not: each replica keeps as many past memberships as its own snapshots may need.
pub fn in_force(membership: &[u8]) -> Result<Bytes, FormatError> {
    let mut memberships = Memberships::decode(membership)?;
    let older = memberships.kept.len().saturating_sub(1);
    memberships.kept.drain(..older);
    Ok(memberships.encode())
}

/// Memberships in the order of their entries, the one in force last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memberships {
    kept: Vec<KeptMembership>,
}

fn index_of(membership: &KeptMembership) -> LogIndex {
    membership
        .log_id()
        .as_ref()
        .map_or(LogIndex(0), |id| entry_id(id).index)
}

impl Memberships {
    /// One alone.
    pub fn one(membership: KeptMembership) -> Memberships {
        Memberships { kept: vec![membership] }
    }

    /// From what the machine keeps.
    pub fn decode(bytes: &[u8]) -> Result<Memberships, FormatError> {
        Ok(Memberships {
            kept: format::decode_history(bytes)?,
        })
    }

    /// What the machine keeps.
    pub fn encode(&self) -> Bytes {
        format::encode_history(&self.kept)
    }

    /// The one in force; the empty one before the first.
    pub fn newest(&self) -> KeptMembership {
        self.kept.last().cloned().unwrap_or_default()
    }

    /// The one in force at an entry; `None` when that was forgotten.
    pub fn as_of(&self, index: LogIndex) -> Option<KeptMembership> {
        self.kept.iter().rev().find(|kept| index_of(kept) <= index).cloned()
    }

    /// A new one is in force. The oldest goes when there are too many.
    pub fn push(&mut self, membership: KeptMembership) {
        self.kept.push(membership);
        if self.kept.len() > limits::MEMBERSHIPS_KEPT_MAX {
            self.kept.remove(0);
        }
    }

    /// The first entry whose membership is known; `None` before the first membership.
    pub fn oldest(&self) -> Option<LogIndex> {
        self.kept.first().map(index_of)
    }

    /// No label will be older than this entry.
    pub fn forget_below(&mut self, index: LogIndex) {
        let newer = self.kept.iter().take_while(|kept| index_of(kept) <= index).count();
        self.kept.drain(..newer.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::raft::config::{Members, Node, log_id};
    use crate::types::EntryId;

    fn membership(index: u64) -> KeptMembership {
        let nodes: BTreeMap<u64, Node> = [(1, Node::default())].into();
        let members = Members::new(vec![BTreeSet::from([1])], nodes).expect("valid");
        KeptMembership::new(Some(log_id(EntryId::new(1, index))), members)
    }

    fn history(indexes: &[u64]) -> Memberships {
        let mut history = Memberships::default();
        indexes.iter().for_each(|index| history.push(membership(*index)));
        history
    }

    #[test]
    fn the_one_in_force_at_an_entry_is_found_until_it_is_forgotten() {
        let mut history = history(&[0, 5, 9]);
        for (index, found) in [(0, 0), (4, 0), (5, 5), (8, 5), (100, 9)] {
            assert_eq!(history.as_of(LogIndex(index)), Some(membership(found)), "at {index}");
        }
        history.forget_below(LogIndex(7));
        assert_eq!(history.as_of(LogIndex(4)), None);
        assert_eq!(history.oldest(), Some(LogIndex(5)));
        assert_eq!(history.as_of(LogIndex(7)), Some(membership(5)));
        assert_eq!(history.newest(), membership(9));
    }

    #[test]
    fn what_is_in_force_does_not_depend_on_what_is_kept() {
        let all = history(&[0, 5, 9]);
        let mut fewer = all.clone();
        fewer.forget_below(LogIndex(7));
        assert_ne!(all.encode(), fewer.encode());
        let one = history(&[9]).encode();
        for kept in [all.encode(), fewer.encode(), one.clone()] {
            assert_eq!(in_force(&kept), Ok(one.clone()));
        }
        assert_eq!(
            in_force(&Memberships::default().encode()),
            Ok(Memberships::default().encode())
        );
        assert!(in_force(&[9]).is_err());
    }

    #[test]
    fn too_many_forget_the_oldest() {
        let indexes: Vec<u64> = (0..=limits::MEMBERSHIPS_KEPT_MAX as u64).collect();
        let history = history(&indexes);
        assert_eq!(history.as_of(LogIndex(0)), None);
        assert_eq!(history.as_of(LogIndex(1)), Some(membership(1)));
    }

    #[test]
    fn round_trip() {
        for indexes in [&[][..], &[3], &[0, 5, 9]] {
            let history = history(indexes);
            assert_eq!(Memberships::decode(&history.encode()), Ok(history));
        }
        assert_eq!(Memberships::decode(&[]), Ok(Memberships::default()));
    }
}
