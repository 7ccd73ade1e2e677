//! Equal entry, equal state: all replicas of a broker group have the same hash of the state as of the same entry.

use std::collections::BTreeMap;

/// The first hash of each entry, by broker group and index.
#[derive(Debug, Default)]
pub struct Digests {
    known: BTreeMap<(String, u64), First>,
}

#[derive(Debug)]
struct First {
    digest: u128,
    by: String,
    /// Another replica hashed the same entry.
    compared: bool,
}

impl Digests {
    /// A replica's hash as of entry `index`; what contradicts it.
    pub fn see(&mut self, broker_group: &str, replica: &str, index: u64, digest: u128) -> Option<String> {
        let of_entry = (broker_group.to_owned(), index);
        let first = self.known.entry(of_entry).or_insert_with(|| First {
            digest,
            by: replica.to_owned(),
            compared: false,
        });
        first.compared |= first.by != replica;
        let First { digest: its, by, .. } = first;
        (*its != digest).then(|| {
            format!("digests: the state of entry {index} of {broker_group} is {its:032x} on {by} and {digest:032x} on {replica}")
        })
    }

    /// How many entries were compared.
    pub fn count(&self) -> usize {
        self.known.values().filter(|first| first.compared).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_different_state_is_seen() {
        let mut digests = Digests::default();
        assert_eq!(digests.see("a", "one", 9, 1), None);
        assert_eq!(digests.see("a", "two", 9, 1), None);
        assert_eq!(digests.see("b", "two", 9, 2), None);
        assert_eq!(digests.see("a", "two", 10, 2), None);
        assert!(digests.see("a", "three", 9, 2).is_some());
        assert_eq!(digests.count(), 1, "one replica alone compares nothing");
    }
}
