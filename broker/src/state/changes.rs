//! What one entry changes in the store: gathered while it is applied, written as one batch. Several changes of
//! one pair become one.

use super::kv::{Batch, Change, Family};
use std::collections::BTreeMap;

/// The changes of one entry so far.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pairs: BTreeMap<(Family, Vec<u8>), Option<Vec<u8>>>,
    ranges: Vec<Change>,
}

impl Changes {
    /// Sets a pair.
    pub fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.pairs.insert((family, key), Some(value));
    }

    /// Removes a pair.
    pub fn delete(&mut self, family: Family, key: Vec<u8>) {
        self.pairs.insert((family, key), None);
    }

    /// Removes all pairs whose key starts with `prefix`, those set by this entry included.
    pub fn delete_prefix(&mut self, family: Family, prefix: &[u8]) {
        self.pairs
            .retain(|(of, key), _| *of != family || !key.starts_with(prefix));
        let mut to = prefix.to_vec();
        // The next prefix of this length; ids never consist of 0xff alone.
        while let Some(last) = to.pop() {
            if last != u8::MAX {
                to.push(last + 1);
                break;
            }
        }
        self.ranges.push(Change::DeleteRange(family, prefix.to_vec(), to));
    }

    /// Removes all pairs with `from <= key < to`, those set by this entry included.
    pub fn delete_range(&mut self, family: Family, from: Vec<u8>, to: Vec<u8>) {
        self.pairs
            .retain(|(of, key), _| *of != family || *key < from || *key >= to);
        self.ranges.push(Change::DeleteRange(family, from, to));
    }

    /// Whether this entry removes a pair by its key.
    pub fn deletes(&self, family: Family, key: &[u8]) -> bool {
        self.pairs.get(&(family, key.to_vec())).is_some_and(Option::is_none)
    }

    /// All of it; ranges first, because what was set after them stays.
    pub fn into_batch(self) -> Batch {
        let mut changes = self.ranges;
        changes.extend(self.pairs.into_iter().map(|((family, key), value)| match value {
            Some(value) => Change::Put(family, key, value),
            None => Change::Delete(family, key),
        }));
        Batch { changes }
    }
}
