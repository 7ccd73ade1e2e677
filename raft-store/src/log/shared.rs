//! What the handles and the writer share: the index, the inbox, the reason why the log stopped.
//!
//! Locks are taken in the order index, inbox, and never held across an await or a callback.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use crate::disk::Disk;
use crate::log::Frame;
use crate::log::format::{self, SegmentHeader};
use crate::log::histogram::Histogram;
use crate::log::index::Index;
use crate::log::reading::read_header;
use crate::log::scan::{Depth, scan};
use crate::log::sidecar::{self, Place};
use crate::log::slots::Slots;
use crate::planted::Planted;
use crate::types::{EntryId, LogIndex};

/// Called once an append is durable, or will never be.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;
/// Answers an operation that is waited for.
pub type Reply = oneshot::Sender<io::Result<()>>;

/// What the writer is asked to do, in order.
pub enum Op {
    /// Write entries.
    Append { frames: Vec<Frame>, done: Done },
    /// Replace the vote.
    Vote { vote: Bytes, reply: Reply },
    /// Drop the entries behind this one.
    Truncate { last: Option<LogIndex>, reply: Reply },
    /// Forget the entries up to this one.
    Purge { upto: EntryId, reply: Reply },
}

impl Op {
    /// Tells whoever waits that it will not happen.
    pub fn refuse(self, reason: &str) {
        match self {
            Op::Append { done, .. } => done(Err(stopped(reason))),
            Op::Vote { reply, .. } | Op::Truncate { reply, .. } | Op::Purge { reply, .. } => {
                // Whoever asked may be gone.
                let _ = reply.send(Err(stopped(reason)));
            }
        }
    }
}

/// The error of every operation after the log stopped.
pub fn stopped(reason: &str) -> io::Error {
    io::Error::other(format!("the log stopped: {reason}"))
}

#[derive(Default)]
struct Inbox {
    ops: VecDeque<Op>,
    /// All handles are gone.
    closed: bool,
    /// Why nothing is taken any more.
    stopped: Option<String>,
}

/// The id up to which the log is committed, kept without a sync.
pub struct Committed {
    pub slots: Slots,
    pub id: Option<EntryId>,
}

/// State shared between handles and writer.
pub struct Shared {
    /// A bug on purpose.
    pub planted: Planted,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    index: Mutex<Index>,
    inbox: Mutex<Inbox>,
    vote: Mutex<Option<Bytes>>,
    committed: Mutex<Committed>,
    /// What was found damaged first, and how often something was.
    damage: Mutex<Option<(String, u64)>>,
    /// Names of files that new segments are written over.
    spares: Mutex<VecDeque<String>>,
    /// Newest durable index; 0 also while there is none.
    pub durable: watch::Sender<LogIndex>,
    /// Wakes the writer.
    pub notify: Notify,
    /// Durations of syncs.
    pub histogram: Histogram,
    /// Since when the writer is at one batch; `None` while it waits.
    writing: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(
        disk: Arc<dyn Disk>,
        (dir, planted): (PathBuf, Planted),
        index: Index,
        vote: Option<Bytes>,
        committed: Committed,
    ) -> Shared {
        let durable = index.state().durable.map_or(LogIndex(0), |id| id.index);
        Shared {
            planted,
            disk,
            dir,
            index: Mutex::new(index),
            inbox: Mutex::default(),
            vote: Mutex::new(vote),
            committed: Mutex::new(committed),
            damage: Mutex::default(),
            spares: Mutex::default(),
            durable: watch::Sender::new(durable),
            notify: Notify::new(),
            histogram: Histogram::default(),
            writing: Mutex::default(),
        }
    }

    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    pub fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    /// See [`super::Log::damage`].
    pub fn damage(&self) -> MutexGuard<'_, Option<(String, u64)>> {
        lock(&self.damage)
    }

    /// Reading from this entry on found damage. What is purged meanwhile is none.
    pub fn note_damage(&self, from: LogIndex, error: &io::Error) {
        if self.index().id(from).is_none() {
            return;
        }
        let mut damage = self.damage();
        match &mut *damage {
            Some((_, count)) => *count += 1,
            None => {
                tracing::error!(entry = from.get(), %error, "the log is damaged: verify it");
                *damage = Some((error.to_string(), 1));
            }
        }
    }

    /// Reads the positions of a segment: from its sidecar, or from the segment itself where that is not whole.
    pub fn load(&self, number: u64) -> io::Result<()> {
        let (file, last, entries) = {
            let index = self.index();
            let Some(segment) = index.segment(number).filter(|segment| segment.positions.is_none()) else {
                return Ok(());
            };
            // A purge may have come into the segment: then nobody knows what was before it.
            let last = index
                .id_below(segment.first.get())
                .filter(|last| last.index < segment.first);
            (segment.file.clone(), last, segment.entries)
        };
        let damaged = |reason: &str| {
            let text = format!("{}: {reason}; rebuild this replica", format::segment_name(number));
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let (header, checksum) =
            SegmentHeader::decode(&read_header(&file, 0)?).map_err(|error| damaged(&error.to_string()))?;
        let known = sidecar::read_positions(self.disk.as_ref(), &self.dir, (&header, checksum), &file, u32::MAX)?;
        let mut positions = known.positions;
        if positions.len() as u64 != entries {
            let start = Place::start(&header, checksum);
            let scanned = scan(&file, &header, start, last, Depth::Headers, self.planted)?;
            if (scanned.positions.len() as u64) < entries {
                return Err(damaged(&format!(
                    "only {} of {entries} entries are intact: {}",
                    scanned.positions.len(),
                    scanned.stop
                )));
            }
            positions = scanned.positions;
            positions.truncate(entries as usize);
        }
        self.index().load(number, positions);
        Ok(())
    }

    pub fn vote(&self) -> MutexGuard<'_, Option<Bytes>> {
        lock(&self.vote)
    }

    pub fn committed(&self) -> MutexGuard<'_, Committed> {
        lock(&self.committed)
    }

    pub fn spares(&self) -> MutexGuard<'_, VecDeque<String>> {
        lock(&self.spares)
    }

    /// Hands an operation to the writer.
    pub fn send(&self, op: Op) -> io::Result<()> {
        let mut inbox = lock(&self.inbox);
        if let Some(reason) = &inbox.stopped {
            return Err(stopped(reason));
        }
        inbox.ops.push_back(op);
        drop(inbox);
        self.notify.notify_one();
        Ok(())
    }

    /// Everything that was asked for since the last call.
    pub fn take_ops(&self) -> VecDeque<Op> {
        std::mem::take(&mut lock(&self.inbox).ops)
    }

    /// The last handle is gone.
    pub fn close(&self) {
        lock(&self.inbox).closed = true;
        self.notify.notify_one();
    }

    pub fn is_closed(&self) -> bool {
        lock(&self.inbox).closed
    }

    /// Takes nothing any more, for good. The first reason stays. Answers the operations that were waiting.
    pub fn stop(&self, reason: &str) -> VecDeque<Op> {
        let mut inbox = lock(&self.inbox);
        if inbox.stopped.is_none() {
            inbox.stopped = Some(reason.to_owned());
        }
        std::mem::take(&mut inbox.ops)
    }

    pub fn stopped(&self) -> Option<String> {
        lock(&self.inbox).stopped.clone()
    }

    /// The writer begins a batch, or waits for the next one.
    pub fn note_writing(&self, writes: bool) {
        *lock(&self.writing) = writes.then(Instant::now);
    }

    /// Since when the writer is at one batch.
    pub fn writing_since(&self) -> Option<Instant> {
        *lock(&self.writing)
    }

    /// Lets the watch follow the newest durable entry.
    pub fn announce_durable(&self, durable: Option<EntryId>) {
        let index = durable.map_or(LogIndex(0), |id| id.index);
        self.durable
            .send_if_modified(|known| std::mem::replace(known, index) != index);
    }
}
