//! A committed entry never changes: whatever replica holds it durably, whenever it is looked at, its term and its bytes are
//! the same.

use std::collections::BTreeMap;

use crate::witness::DiskLook;

/// Committed entries of one broker group as they were first seen: term and checksum of the body by index, and where.
#[derive(Debug, Default)]
pub struct CommittedEntries {
    known: BTreeMap<u64, ((u64, u32), String)>,
}

impl CommittedEntries {
    /// What lies on a replica's disk, while entries up to `committed` are known to be committed.
    pub fn see(&mut self, replica: &str, committed: u64, look: &DiskLook) -> Vec<String> {
        let mut wrong = Vec::new();
        for (index, entry) in look.entries.range(..=committed) {
            let first = || (*entry, replica.to_owned());
            let (known, by) = self.known.entry(*index).or_insert_with(first);
            if known != entry {
                wrong.push(format!(
                    "committed_entries: entry {index} is {known:?} on {by} and {entry:?} (term, checksum) on {replica}"
                ));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_entry_is_seen() {
        let look = |term| DiskLook {
            entries: BTreeMap::from([(1, (1, 7)), (2, (term, 8))]),
            ..DiskLook::default()
        };
        let mut entries = CommittedEntries::default();
        assert!(entries.see("one", 1, &look(1)).is_empty());
        assert!(entries.see("two", 1, &look(2)).is_empty(), "entry 2 is not committed");
        assert!(entries.see("one", 2, &look(2)).is_empty());
        assert_eq!(entries.see("two", 2, &look(1)).len(), 1);
    }
}
