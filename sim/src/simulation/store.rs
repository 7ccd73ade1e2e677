//! What an application keeps over crashes: a small ordered map with transactions, as a database would be.
//!
//! A transaction is seen whole or not at all. While it is being committed its host may crash: then it happened or it did
//! not, as the seed has it, and the application was not told. What was committed survives a kill and a loss of power.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use thiserror::Error;

use crate::{
    limits,
    seed::{Draws, Seed},
};

/// Handle to the store of one application host; clones share it, and it outlives the host's crashes.
#[derive(Clone, Debug)]
pub struct Store(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    rows: BTreeMap<String, Vec<u8>>,
    bytes: usize,
    draws: Draws,
}

/// The store holds more than [`limits::STORE_BYTES_MAX`] with this transaction; nothing of it was kept.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the store is full: more than {} bytes", limits::STORE_BYTES_MAX)]
pub struct Full;

impl Store {
    /// An empty store; how long commits take follows from `seed`.
    pub(super) fn new(seed: Seed) -> Store {
        Store(Arc::new(Mutex::new(Inner {
            rows: BTreeMap::new(),
            bytes: 0,
            draws: seed.stream("store"),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.inner().rows.get(key).cloned()
    }

    /// The value of `key` as text; `None` as well when it is not UTF-8.
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(|value| String::from_utf8(value).ok())
    }

    /// The value of `key` as a number written in decimal; 0 when there is none.
    pub fn number(&self, key: &str) -> u64 {
        self.text(key).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// All keys that begin with `prefix`, in order, with their values.
    pub fn scan(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let inner = self.inner();
        let from = inner.rows.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// A transaction, empty. Transactions of one host don't know of each other: tasks that write the same keys take turns.
    pub fn begin(&self) -> Transaction {
        Transaction {
            store: self.clone(),
            writes: BTreeMap::new(),
        }
    }

    /// A transaction of one write.
    pub async fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Full> {
        let mut transaction = self.begin();
        transaction.put(key, value);
        transaction.commit().await
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.inner().draws.between(0, limits::STORE_COMMIT_MS_MAX / 2))
    }
}

/// Writes that become visible and durable at once, or not at all.
#[derive(Debug)]
#[must_use = "a transaction that is not committed does nothing"]
pub struct Transaction {
    store: Store,
    writes: BTreeMap<String, Option<Vec<u8>>>,
}

impl Transaction {
    /// Writes `key`.
    pub fn put(&mut self, key: &str, value: impl AsRef<[u8]>) {
        self.writes.insert(key.to_owned(), Some(value.as_ref().to_vec()));
    }

    /// Removes `key`; fine when it is not there.
    pub fn remove(&mut self, key: &str) {
        self.writes.insert(key.to_owned(), None);
    }

    /// The value of `key` as this transaction sees it.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.writes.get(key).cloned().unwrap_or_else(|| self.store.get(key))
    }

    /// Makes the writes durable, which takes up to [`limits::STORE_COMMIT_MS_MAX`] simulated milliseconds.
    pub async fn commit(self) -> Result<(), Full> {
        tokio::time::sleep(self.store.delay()).await;
        let store = self.store.clone();
        self.apply()?;
        tokio::time::sleep(store.delay()).await;
        Ok(())
    }

    fn apply(self) -> Result<(), Full> {
        let mut inner = self.store.inner();
        let size = |key: &str, value: &[u8]| key.len() + value.len();
        let mut bytes = inner.bytes;
        for (key, value) in &self.writes {
            bytes -= inner.rows.get(key).map_or(0, |old| size(key, old));
            bytes += value.as_ref().map_or(0, |new| size(key, new));
        }
        if bytes > limits::STORE_BYTES_MAX {
            return Err(Full);
        }
        inner.bytes = bytes;
        for (key, value) in &self.writes {
            match value {
                Some(value) => inner.rows.insert(key.clone(), value.clone()),
                None => inner.rows.remove(key),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_seen_whole_or_not_at_all() {
        let store = Store::new(Seed(1));
        let mut first = store.begin();
        first.put("order/2", "b");
        first.put("order/1", "a");
        first.put("count", "2");
        assert_eq!(store.get("count"), None);
        first.apply().expect("room");
        assert_eq!(store.number("count"), 2);
        let keys: Vec<String> = store.scan("order/").into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["order/1", "order/2"]);
        let mut second = store.begin();
        second.remove("order/1");
        assert_eq!(second.get("order/1"), None);
        assert_eq!(second.get("order/2").as_deref(), Some(&b"b"[..]));
        drop(second);
        assert_eq!(store.text("order/1").as_deref(), Some("a"));
    }

    #[test]
    fn a_full_store_takes_nothing_of_a_transaction() {
        let store = Store::new(Seed(1));
        let mut fill = store.begin();
        fill.put("a", vec![0; limits::STORE_BYTES_MAX - 1]);
        fill.apply().expect("just fits");
        let mut more = store.begin();
        more.put("b", "");
        more.remove("c");
        assert_eq!(more.apply(), Err(Full));
        assert_eq!(store.get("b"), None);
        let mut less = store.begin();
        less.remove("a");
        less.put("b", "room again");
        less.apply().expect("fits");
        assert_eq!(store.text("b").as_deref(), Some("room again"));
    }
}
