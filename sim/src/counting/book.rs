//! What the machines of all replicas applied and what proposers were told: the log as it must be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ledgermq_raft_store::EntryId;

use crate::board::{Board, replica_name};

/// Handle to the book; clones share it.
#[derive(Clone)]
pub struct Book {
    board: Board,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// What the first replica to apply an index found there: its term and operations, and the hash of all with them.
    log: BTreeMap<u64, (u64, Vec<u64>, u64)>,
    /// Where each operation was applied.
    places: BTreeMap<u64, u64>,
    proposed: u64,
    acked: BTreeMap<u64, u64>,
    unknown: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    acked_when_healed: Option<usize>,
}

impl Book {
    /// An empty book that reports to `board`.
    pub fn new(board: Board) -> Book {
        Book {
            board,
            inner: Arc::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new operation, never used before.
    pub fn propose(&self) -> u64 {
        let mut inner = self.inner();
        inner.proposed += 1;
        inner.proposed
    }

    /// The proposer was told that its operation is applied in entry `id`.
    pub fn acked(&self, operation: u64, id: EntryId) {
        let mut inner = self.inner();
        inner.acked.insert(operation, id.index.get());
        let place = inner.places.get(&operation).copied();
        drop(inner);
        if place != Some(id.index.get()) {
            self.board.violation(format!(
                "operation {operation} acknowledged at {}, applied at {place:?}",
                id.index
            ));
        }
    }

    /// The proposer was told nothing certain.
    pub fn unknown(&self, operation: u64) {
        self.inner().unknown.insert(operation);
    }

    /// The proposer was told that nothing was proposed.
    pub fn refused(&self, operation: u64) {
        let mut inner = self.inner();
        inner.refused.insert(operation);
        let applied = inner.places.contains_key(&operation);
        drop(inner);
        if applied {
            self.board
                .violation(format!("operation {operation} was refused and applied"));
        }
    }

    /// A replica applied an entry.
    pub fn applied(&self, replica: usize, id: EntryId, (operations, hash): (&[u64], u64)) {
        let mut wrong = Vec::new();
        let (term, index) = (id.term.get(), id.index.get());
        let mut inner = self.inner();
        match inner.log.get(&index) {
            Some(known) if *known == (term, operations.to_vec(), hash) => {}
            Some(known) => wrong.push(format!(
                "{} applied term {term} {operations:?} (state {hash:016x}) at index {index}, another replica {known:?}",
                replica_name(replica),
            )),
            None => {
                inner.log.insert(index, (term, operations.to_vec(), hash));
                for operation in operations {
                    if let Some(place) = inner.places.insert(*operation, index) {
                        wrong.push(format!("operation {operation} applied at {place} and at {index}"));
                    }
                    if inner.refused.contains(operation) {
                        wrong.push(format!("operation {operation} was refused and applied"));
                    }
                    if *operation == 0 || *operation > inner.proposed {
                        wrong.push(format!("operation {operation} was never proposed"));
                    }
                }
            }
        }
        drop(inner);
        for wrong in wrong {
            self.board.violation(wrong);
        }
    }

    /// From here on acknowledgements count as progress.
    pub fn healed(&self) {
        let mut inner = self.inner();
        inner.acked_when_healed = Some(inner.acked.len());
    }

    /// Acknowledgements since everything was healed.
    pub fn acked_since_healed(&self) -> usize {
        let inner = self.inner();
        inner.acked_when_healed.map_or(0, |before| inner.acked.len() - before)
    }

    /// The last index applied anywhere.
    pub fn last(&self) -> u64 {
        self.inner().log.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// Checks over the whole history.
    pub fn judge(&self) -> Vec<String> {
        let inner = self.inner();
        let mut wrong = Vec::new();
        for (operation, index) in &inner.acked {
            if inner.places.get(operation) != Some(index) {
                wrong.push(format!("operation {operation}, acknowledged at {index}, is not there"));
            }
        }
        wrong
    }

    /// Counts for the report.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let inner = self.inner();
        let landed = inner
            .unknown
            .iter()
            .filter(|operation| inner.places.contains_key(operation))
            .count();
        vec![
            ("proposed", inner.proposed),
            ("acked", inner.acked.len() as u64),
            ("refused", inner.refused.len() as u64),
            ("unknown", inner.unknown.len() as u64),
            ("unknown_applied", landed as u64),
            ("entries", inner.log.len() as u64),
        ]
    }
}
