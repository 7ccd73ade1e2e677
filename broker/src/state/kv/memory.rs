//! Pairs in ordered maps: the store of the simulation and of most tests.
//!
//! It crashes as the real one does: beside the live pairs it keeps what has changed since the last flush, and
//! [`MemoryKv::crash`] takes that back. A clone is the same store, as a disk is the same after a restart. A view shares
//! the pairs until they are changed.

use super::{Batch, Change, Family, Kv, KvError, KvView, Pair};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Place = (Family, Vec<u8>);
type Pairs = BTreeMap<Place, Vec<u8>>;

/// Pairs in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryKv {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    live: Arc<Pairs>,
    /// The durable value of each place that was changed since the last flush; `None` where there was none.
    durable_before: BTreeMap<Place, Option<Vec<u8>>>,
    flushes: u64,
}

impl Inner {
    fn set(&mut self, place: Place, value: Option<Vec<u8>>) {
        let live = Arc::make_mut(&mut self.live);
        let old = match value {
            Some(value) => live.insert(place.clone(), value),
            None => live.remove(&place),
        };
        self.durable_before.entry(place).or_insert(old);
    }
}

impl MemoryKv {
    /// An empty store.
    pub fn new() -> MemoryKv {
        MemoryKv::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loses all that was not flushed.
    pub fn crash(&self) {
        let mut inner = self.lock();
        let before = std::mem::take(&mut inner.durable_before);
        let live = Arc::make_mut(&mut inner.live);
        for (place, value) in before {
            match value {
                Some(value) => live.insert(place, value),
                None => live.remove(&place),
            };
        }
    }

    /// What a crash would leave now: another store, which goes its own way from here on.
    pub fn durable(&self) -> MemoryKv {
        let inner = self.lock();
        let copy = Inner {
            live: Arc::clone(&inner.live),
            durable_before: inner.durable_before.clone(),
            flushes: inner.flushes,
        };
        drop(inner);
        let kv = MemoryKv {
            inner: Arc::new(Mutex::new(copy)),
        };
        kv.crash();
        kv
    }

    /// How often it was flushed.
    pub fn flushes(&self) -> u64 {
        self.lock().flushes
    }
}

fn upper(family: Family, to: &[u8]) -> Bound<Place> {
    if !to.is_empty() {
        return Bound::Excluded((family, to.to_vec()));
    }
    match Family::of(family as u8 + 1) {
        Some(next) => Bound::Excluded((next, Vec::new())),
        None => Bound::Unbounded,
    }
}

/// The pairs at one moment.
struct MemoryView(Arc<Pairs>);

fn get(pairs: &Pairs, family: Family, key: &[u8]) -> Option<Vec<u8>> {
    pairs.get(&(family, key.to_vec())).cloned()
}

fn scan(pairs: &Pairs, family: Family, from: &[u8], to: &[u8], limit: usize) -> Vec<Pair> {
    if !to.is_empty() && from >= to {
        return Vec::new();
    }
    let range = (Bound::Included((family, from.to_vec())), upper(family, to));
    let found = pairs.range(range).take(limit);
    found.map(|((_, key), value)| (key.clone(), value.clone())).collect()
}

fn last(pairs: &Pairs, family: Family, from: &[u8], upto: &[u8]) -> Option<Pair> {
    if from > upto {
        return None;
    }
    let mut range = pairs.range((family, from.to_vec())..=(family, upto.to_vec()));
    range.next_back().map(|((_, key), value)| (key.clone(), value.clone()))
}

impl KvView for MemoryView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(get(&self.0, family, key))
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError> {
        Ok(scan(&self.0, family, from, to, limit))
    }

    fn last(&self, family: Family, from: &[u8], upto: &[u8]) -> Result<Option<Pair>, KvError> {
        Ok(last(&self.0, family, from, upto))
    }
}

impl KvView for MemoryKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(get(&self.lock().live, family, key))
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError> {
        Ok(scan(&self.lock().live, family, from, to, limit))
    }

    fn last(&self, family: Family, from: &[u8], upto: &[u8]) -> Result<Option<Pair>, KvError> {
        Ok(last(&self.lock().live, family, from, upto))
    }
}

impl Kv for MemoryKv {
    fn write(&self, batch: Batch) -> Result<(), KvError> {
        let mut inner = self.lock();
        for change in batch.changes {
            match change {
                Change::Put(family, key, value) => inner.set((family, key), Some(value)),
                Change::Delete(family, key) => inner.set((family, key), None),
                Change::DeleteRange(family, from, to) => {
                    if from < to {
                        let range = inner.live.range((family, from)..(family, to));
                        let places: Vec<Place> = range.map(|(place, _)| place.clone()).collect();
                        places.into_iter().for_each(|place| inner.set(place, None));
                    }
                }
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), KvError> {
        let mut inner = self.lock();
        inner.durable_before.clear();
        inner.flushes += 1;
        Ok(())
    }

    fn view(&self) -> Result<Arc<dyn KvView>, KvError> {
        Ok(Arc::new(MemoryView(Arc::clone(&self.lock().live))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::kv::conformance;

    #[test]
    fn conforms() {
        let kv = MemoryKv::new();
        let mut reopen = || {
            kv.crash();
            Box::new(kv.clone()) as Box<dyn Kv>
        };
        conformance::suite(&mut reopen);
    }

    #[test]
    fn the_durable_part_can_be_looked_at() {
        let kv = MemoryKv::new();
        let put = |value: &[u8]| {
            let change = Change::Put(Family::Meta, b"key".to_vec(), value.to_vec());
            kv.write(Batch { changes: vec![change] }).expect("writes");
        };
        put(b"old");
        kv.flush().expect("flushes");
        put(b"new");
        let durable = kv.durable().get(Family::Meta, b"key").expect("reads");
        assert_eq!(durable.as_deref(), Some(&b"old"[..]));
        assert_eq!(
            kv.get(Family::Meta, b"key").expect("reads").as_deref(),
            Some(&b"new"[..])
        );
    }
}
