//! A small machine over the log: it keeps the list of operations in the order applied, and crashes like the broker's
//! state: what was not flushed is gone, and is applied again from the log.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ledgermq_raft_store::{Applied, EntryId, Machine, MachineError};

use super::book::Book;

/// The state as of some entry.
#[derive(Clone, Default)]
struct Image {
    applied: Option<Applied>,
    operations: Vec<u64>,
}

/// What survives a crash of the machine of one replica. Clones share it.
#[derive(Clone, Default)]
pub struct Flushed(Arc<Mutex<Image>>);

/// The machine of one replica.
pub struct Counting {
    replica: usize,
    state: Image,
    flushed: Flushed,
    unflushed: u64,
    flush_every: u64,
    book: Book,
}

impl Counting {
    /// Opens at what was flushed last. Flushes every `flush_every` entries.
    pub fn open(replica: usize, flushed: Flushed, flush_every: u64, book: Book) -> Counting {
        let state = flushed.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Counting {
            replica,
            state,
            flushed,
            unflushed: 0,
            flush_every,
            book,
        }
    }

    fn advance(&mut self, id: EntryId, membership: Option<Bytes>) -> Result<(), MachineError> {
        let before = self.state.applied.take();
        if let Some(before) = &before
            && before.id.index.next() != id.index
        {
            return Err(MachineError::new(format!("entry {id:?} follows {:?}", before.id)));
        }
        let membership = membership
            .or(before.map(|before| before.membership))
            .unwrap_or_default();
        self.state.applied = Some(Applied { id, membership });
        self.unflushed += 1;
        if self.unflushed >= self.flush_every {
            self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.unflushed = 0;
        *self.flushed.0.lock().unwrap_or_else(PoisonError::into_inner) = self.state.clone();
    }
}

impl Machine for Counting {
    type Outcome = u64;

    fn applied(&self) -> Option<Applied> {
        self.state.applied.clone()
    }

    fn apply(&mut self, id: EntryId, commands: &[(u32, Bytes)]) -> Result<Vec<u64>, MachineError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut operations = Vec::with_capacity(commands.len());
        for (_, command) in commands {
            let head = command
                .first_chunk()
                .ok_or_else(|| MachineError::new("a command without an operation"))?;
            let operation = u64::from_le_bytes(*head);
            outcomes.push(self.state.operations.len() as u64);
            self.state.operations.push(operation);
            operations.push(operation);
        }
        self.book.applied(self.replica, id, &operations);
        self.advance(id, None)?;
        Ok(outcomes)
    }

    fn apply_blank(&mut self, id: EntryId) -> Result<(), MachineError> {
        self.book.applied(self.replica, id, &[]);
        self.advance(id, None)
    }

    fn apply_membership(&mut self, id: EntryId, membership: Bytes) -> Result<(), MachineError> {
        self.book.applied(self.replica, id, &[]);
        self.advance(id, Some(membership))
    }

    fn export(&mut self) -> Result<Bytes, MachineError> {
        Ok(self
            .state
            .operations
            .iter()
            .flat_map(|operation| operation.to_le_bytes())
            .collect::<Vec<u8>>()
            .into())
    }

    fn install(&mut self, applied: Applied, export: Bytes) -> Result<(), MachineError> {
        let operations = export
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| u64::from_le_bytes(*bytes))
            .collect();
        self.state = Image {
            applied: Some(applied),
            operations,
        };
        self.flush();
        Ok(())
    }
}
