//! A small machine over the log: it keeps the list of operations in the order applied, and crashes like the broker's
//! state: what was not flushed is gone, and is applied again from the log.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ledgermq_raft_store::{Applied, EntryId, Export, ExportPart, LogIndex, Machine, MachineError};
use tokio::sync::watch;

use super::book::Book;

/// Small, so that an export has several parts.
const OPERATIONS_PER_PART: usize = 100;

/// The state as of some entry.
#[derive(Clone, Default)]
struct Image {
    applied: Option<Applied>,
    /// An installed export is of this entry: what comes up to it changes nothing.
    covered: Option<EntryId>,
    /// An installation has begun and not ended.
    half: bool,
    operations: Vec<u64>,
    /// Of the operations and their order.
    hash: u64,
}

impl Image {
    fn push(&mut self, operation: u64) {
        // FNV-1a by words.
        self.hash = (self.hash ^ operation).wrapping_mul(0x0000_0100_0000_01b3);
        self.operations.push(operation);
    }
}

/// What survives a crash of the machine of one replica. Clones share it.
#[derive(Clone, Default)]
pub struct Flushed(Arc<Mutex<Image>>);

impl Flushed {
    /// The last entry applied of what was flushed; `None` in the middle of an installation.
    pub fn applied(&self) -> Option<u64> {
        let image = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        image.applied.as_ref().map(|applied| applied.id.index.get())
    }
}

/// The machine of one replica.
pub struct Counting {
    replica: usize,
    state: Image,
    flushed: Flushed,
    unflushed: u64,
    flush_every: u64,
    keep_entries: u64,
    released: watch::Sender<LogIndex>,
    book: Book,
}

impl Counting {
    /// Opens at what was flushed last. Flushes every `flush_every` entries, and lets go of all but the newest
    /// `keep_entries` of what is flushed.
    pub fn open(replica: usize, flushed: Flushed, (flush_every, keep_entries): (u64, u64), book: Book) -> Counting {
        let state = flushed.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Counting {
            replica,
            state,
            flushed,
            unflushed: 0,
            flush_every,
            keep_entries,
            released: watch::Sender::new(LogIndex(0)),
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

    /// An entry without operations.
    fn empty(&self, id: EntryId) {
        if self.state.covered.is_none_or(|covered| id.index > covered.index) {
            self.book.applied(self.replica, id, (&[], self.state.hash));
        }
    }

    fn flush(&mut self) {
        self.unflushed = 0;
        *self.flushed.0.lock().unwrap_or_else(PoisonError::into_inner) = self.state.clone();
        if let Some(applied) = &self.state.applied {
            let upto = applied.id.index.get().saturating_sub(self.keep_entries);
            self.released.send_replace(LogIndex(upto));
        }
    }
}

impl Machine for Counting {
    type Outcome = u64;

    fn applied(&self) -> Option<Applied> {
        self.state.applied.clone()
    }

    fn apply(&mut self, id: EntryId, commands: &[(u32, Bytes)]) -> Result<Vec<u64>, MachineError> {
        if self.state.covered.is_some_and(|covered| id.index <= covered.index) {
            self.advance(id, None)?;
            return Ok(vec![0; commands.len()]);
        }
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut operations = Vec::with_capacity(commands.len());
        for (_, command) in commands {
            let head = command
                .first_chunk()
                .ok_or_else(|| MachineError::new("a command without an operation"))?;
            let operation = u64::from_le_bytes(*head);
            outcomes.push(self.state.operations.len() as u64);
            self.state.push(operation);
            operations.push(operation);
        }
        self.book.applied(self.replica, id, (&operations, self.state.hash));
        self.advance(id, None)?;
        Ok(outcomes)
    }

    fn apply_blank(&mut self, id: EntryId) -> Result<(), MachineError> {
        self.empty(id);
        self.advance(id, None)
    }

    fn apply_membership(&mut self, id: EntryId, membership: Bytes) -> Result<(), MachineError> {
        self.empty(id);
        self.advance(id, Some(membership))
    }

    fn view(&mut self) -> Result<Arc<dyn Export>, MachineError> {
        let applied = self.state.applied.as_ref();
        let id = applied.ok_or_else(|| MachineError::new("nothing is applied"))?.id;
        Ok(Arc::new(Copied {
            id,
            operations: self.state.operations.clone(),
        }))
    }

    fn install_begin(&mut self) -> Result<(), MachineError> {
        self.state = Image {
            half: true,
            ..Image::default()
        };
        self.flush();
        Ok(())
    }

    fn install_part(&mut self, part: Bytes) -> Result<(), MachineError> {
        let mut words = part.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let (Some(term), Some(index)) = (words.next(), words.next()) else {
            return Err(MachineError::new("a part without its entry"));
        };
        self.state.covered = Some(EntryId::new(term, index));
        words.for_each(|operation| self.state.push(operation));
        Ok(())
    }

    fn install_finish(&mut self, label: Applied) -> Result<(), MachineError> {
        (self.state.applied, self.state.half) = (Some(label), false);
        self.flush();
        Ok(())
    }

    fn is_whole(&self) -> bool {
        !self.state.half
    }

    fn released(&self) -> watch::Receiver<LogIndex> {
        self.released.subscribe()
    }

    fn level(&self) -> watch::Receiver<u32> {
        watch::channel(1).1
    }
}

/// All operations as of one entry; the place of a part is the number of its first operation.
struct Copied {
    id: EntryId,
    operations: Vec<u64>,
}

impl Export for Copied {
    fn id(&self) -> EntryId {
        self.id
    }

    fn read(&self, from: &[u8], _bytes_max: usize) -> Result<ExportPart, MachineError> {
        let from = from.try_into().map_or(0, u64::from_le_bytes) as usize;
        let upto = self.operations.len().min(from + OPERATIONS_PER_PART);
        let words = [self.id.term.get(), self.id.index.get()];
        let words = words.iter().chain(&self.operations[from.min(upto)..upto]);
        Ok(ExportPart {
            bytes: words.flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>().into(),
            next: (upto < self.operations.len()).then(|| Bytes::copy_from_slice(&(upto as u64).to_le_bytes())),
        })
    }
}
