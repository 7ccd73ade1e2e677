//! The log: an append-only sequence of entries in segment files, with one writer that commits in groups.
//!
//! ```text
//!  append ─► tail (readable) ─► inbox ─► Writer: write_at … sync ─► done callbacks in order, durable watch
//!  read   ◄─ tail, or the segment files
//! ```
//!
//! Invariants:
//! * An acknowledged entry survives every crash until it is truncated or purged; a truncated one never comes back.
//! * What is served was checked: in memory it is what was appended, from disk its checksum was verified.
//! * A vote is durable only after every entry that was appended before it.
//! * Only the newest segment is written to; one that is followed by another is durable to its end.
//! * After the first failed write or sync nothing is written any more.
//!
//! Modules, each importing only those before it: limits, format, slots, histogram, index, reading, sidecar, scan, shared,
//! segment, sweeper, writer with cutting, recovery; beside them inspect.

mod cutting;
mod format;
pub(crate) mod fuzzing;
mod histogram;
mod index;
pub mod inspect;
mod limits;
mod reading;
mod recovery;
mod scan;
mod segment;
mod shared;
mod sidecar;
mod slots;
mod sweeper;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::disk::Disk;
use crate::planted::Planted;
use crate::status::LogSpan;
use crate::types::{EntryId, LogIndex};
pub(crate) use format::{take_u32, take_u64};
pub use histogram::Recent;
use index::Located;
use shared::{Op, Shared, stopped};
pub use sweeper::Sweeper;
pub use writer::Writer;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A new leader's first entry.
    Blank = 1,
    /// A batch of commands.
    Commands = 2,
    /// A membership.
    Membership = 3,
}

/// One entry of the log. A clone shares the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its term and index.
    pub id: EntryId,
    /// What it is for.
    pub kind: FrameKind,
    /// Its bytes, at most 80 MiB; stored unchanged.
    pub body: Bytes,
    /// CRC32C of the body, computed by whoever proposed it and stored unchanged.
    pub body_crc: u32,
}

/// Where and how a log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Folder of its files; created when missing. Names in it: `*.segment`, `vote`, `marks`, `committed`.
    pub dir: PathBuf,
    /// Size of a segment file, 4 KiB to 3 GiB. An entry that is larger gets a larger segment of its own.
    pub segment_bytes: u64,
    /// Memory for durable entries that are kept for readers; entries that are not durable yet are kept besides.
    pub tail_cache_bytes: usize,
    /// Where the random generations of segments come from; should differ at every start.
    pub seed: u64,
    /// A bug on purpose; none outside of tests.
    pub planted: Planted,
}

/// The ends of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Newest purged entry.
    pub purged: Option<EntryId>,
    /// Newest entry; the purged one when nothing is behind it.
    pub last: Option<EntryId>,
    /// Newest entry that is durable here; the purged one when nothing is behind it.
    pub durable: Option<EntryId>,
}

/// A place that is damaged although it was durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} is corrupt at byte {position}{}: {reason}; this was durable, so it is no torn write: rebuild this replica from its peers",
    .index.map(|index| format!(" (entry {index})")).unwrap_or_default()
)]
pub struct Corruption {
    /// Name of the file in the log's folder.
    pub file: String,
    /// Byte position in it.
    pub position: u64,
    /// Index of the entry that should be there, if known.
    pub index: Option<LogIndex>,
    /// What is wrong.
    pub reason: String,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// The disk failed.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Durable bytes are damaged. A torn tail is no corruption; it is cut.
    #[error(transparent)]
    Corrupt(Corruption),
    /// Written by a newer release.
    #[error("{file} has format version {version}, which this release does not know")]
    Version {
        /// Name of the file.
        file: String,
        /// Its version.
        version: u8,
    },
    /// The size asked for is out of bounds.
    #[error("segments of {0} bytes are not possible: 4 KiB to 3 GiB are")]
    SegmentBytes(u64),
}

/// A handle of a log. Clones are the same log; when the last one is gone, the writer ends.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    _open: Arc<OpenHandle>,
}

struct OpenHandle {
    shared: Arc<Shared>,
}

impl Drop for OpenHandle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

impl Log {
    /// Opens or creates a log. Everything found is durable when this returns. Nothing is written until the
    /// [`Writer`] runs.
    pub async fn open(disk: Arc<dyn Disk>, options: LogOptions) -> Result<(Log, Writer), OpenLogError> {
        let (shared, writer) = recovery::open(disk, options).await?;
        let open = Arc::new(OpenHandle { shared: shared.clone() });
        Ok((Log { shared, _open: open }, writer))
    }

    /// Appends entries, which must follow the last one with terms that do not fall. They are readable when this
    /// returns. `done` is called from the writer once they are durable, in the order of the appends, or with an error
    /// when the log fails; when this returns an error itself, nothing was appended and `done` is never called.
    ///
    /// Entries wait in memory until they are written: the caller bounds what is in flight.
    pub fn append(&self, frames: Vec<Frame>, done: Box<dyn FnOnce(io::Result<()>) + Send>) -> io::Result<()> {
        let mut index = self.shared.index();
        let (mut next, mut term) = (index.end(), index.last().map(|id| id.term));
        for frame in &frames {
            let first_of_all = index.is_blank() && next == index.end();
            if frame.id.index != next && !first_of_all {
                return Err(refused(format!("entry {} does not follow: {next} is next", frame.id)));
            }
            if term.is_some_and(|term| frame.id.term < term) {
                return Err(refused(format!(
                    "entry {} is of an older term than the one before",
                    frame.id
                )));
            }
            if frame.body.len() > limits::BODY_BYTES_MAX {
                return Err(refused(format!(
                    "entry {} has {} bytes, too many",
                    frame.id,
                    frame.body.len()
                )));
            }
            (next, term) = (frame.id.index.next(), Some(frame.id.term));
        }
        if let Some(reason) = self.shared.stopped() {
            return Err(stopped(&reason));
        }
        index.append(&frames);
        // Under the lock of the index, so that the writer gets entries in their order.
        self.shared.send(Op::Append { frames, done })
    }

    async fn ask(&self, op: impl FnOnce(shared::Reply) -> Op) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.shared.send(op(reply))?;
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(stopped(self.poison().as_deref().unwrap_or("its writer is gone"))),
        }
    }

    /// Replaces the vote, at most 4 KiB. Returns once everything appended before and then the vote are durable.
    pub async fn save_vote(&self, vote: Bytes) -> io::Result<()> {
        if vote.len() > format::SLOT_VALUE_BYTES_MAX {
            return Err(refused(format!("a vote of {} bytes is too large", vote.len())));
        }
        self.ask(|reply| Op::Vote { vote, reply }).await
    }

    /// The newest durable vote.
    pub fn vote(&self) -> Option<Bytes> {
        self.shared.vote().clone()
    }

    /// Drops the entries behind `last`, all of them for `None`. Returns once they cannot come back. `InvalidInput`
    /// when that would reach into what was purged. Nothing may be appended while it runs.
    pub async fn truncate_after(&self, last: Option<LogIndex>) -> io::Result<()> {
        self.ask(|reply| Op::Truncate { last, reply }).await
    }

    /// Forgets the entries up to `upto`, durably, and deletes the segments that held nothing else. When the log does
    /// not hold `upto`, it is emptied and goes on behind it.
    pub async fn purge(&self, upto: EntryId) -> io::Result<()> {
        self.ask(|reply| Op::Purge { upto, reply }).await
    }

    /// Notes how far the log is committed, without a sync: a crash may forget it, or keep it although it forgets
    /// entries that it speaks of.
    pub async fn save_committed(&self, id: Option<EntryId>) -> io::Result<()> {
        if let Some(reason) = self.shared.stopped() {
            return Err(stopped(&reason));
        }
        let mut committed = self.shared.committed();
        let noted = committed.slots.note(&format::encode_committed(id));
        if noted.is_ok() {
            committed.id = id;
        }
        drop(committed);
        if let Err(error) = &noted {
            let reason = error.to_string();
            self.shared.stop(&reason).into_iter().for_each(|op| op.refuse(&reason));
            self.shared.notify.notify_one();
        }
        noted
    }

    /// What [`Log::save_committed`] noted last, as far as it survived.
    pub fn committed(&self) -> Option<EntryId> {
        self.shared.committed().id
    }

    /// The bug planted in it.
    pub(crate) fn planted(&self) -> Planted {
        self.shared.planted
    }

    /// The ends of the log at this moment.
    pub fn state(&self) -> LogState {
        self.shared.index().state()
    }

    /// Entries from `from` on, below `to_exclusive`: at least one when it is present, as many as are at hand together
    /// and fit into `max_bytes`; the caller asks again for the rest. Empty when `from` is not present. May block on the
    /// disk. `InvalidData` when what is on disk is damaged; it is never served.
    pub fn read(&self, from: LogIndex, to_exclusive: LogIndex, max_bytes: usize) -> io::Result<Vec<Frame>> {
        let read = self.read_once(from, to_exclusive, max_bytes);
        if let Err(error) = &read
            && error.kind() == io::ErrorKind::InvalidData
        {
            self.shared.note_damage(from, error);
        }
        read
    }

    fn read_once(&self, from: LogIndex, to_exclusive: LogIndex, max_bytes: usize) -> io::Result<Vec<Frame>> {
        loop {
            let located = self
                .shared
                .index()
                .locate(from, to_exclusive, max_bytes, limits::READ_SPAN_BYTES);
            match located {
                Located::Absent => return Ok(Vec::new()),
                Located::Here(frames) => return Ok(frames),
                Located::Unindexed(segment) => self.shared.load(segment)?,
                Located::There(span, truncations) => match reading::read_span(&span) {
                    Ok(frames) => return Ok(frames),
                    // The place was zeroed meanwhile: look where the entry is now.
                    Err(_) if self.shared.index().truncations() != truncations => {}
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// As [`Log::read`], but the disk keeps no other task of the caller's thread waiting.
    pub async fn read_aside(&self, from: LogIndex, to_exclusive: LogIndex, max_bytes: usize) -> io::Result<Vec<Frame>> {
        match self
            .shared
            .index()
            .locate(from, to_exclusive, max_bytes, limits::READ_SPAN_BYTES)
        {
            Located::Absent => return Ok(Vec::new()),
            Located::Here(frames) => return Ok(frames),
            Located::Unindexed(_) | Located::There(..) => {}
        }
        let (reply, answer) = oneshot::channel();
        let log = self.clone();
        let reading = move || {
            // Whoever asked may be gone.
            let _ = reply.send(log.read(from, to_exclusive, max_bytes));
        };
        self.shared.disk().aside(Box::new(reading)).await;
        answer
            .await
            .unwrap_or_else(|_| Err(io::Error::other("a read of the log broke off")))
    }

    /// Term and index of an entry that is present.
    pub fn id(&self, index: LogIndex) -> Option<EntryId> {
        self.shared.index().id(index)
    }

    /// The first entry of each term among those present, in order.
    pub fn term_starts(&self) -> Vec<EntryId> {
        self.shared.index().term_starts()
    }

    /// The finished segments, oldest first.
    pub fn finished_spans(&self) -> Vec<LogSpan> {
        self.shared.index().finished_spans()
    }

    /// Follows the newest durable index. While nothing is durable it holds 0; [`Log::state`] tells the difference.
    /// Also wakes, with the same value, when the log stops.
    pub fn durable(&self) -> watch::Receiver<LogIndex> {
        self.shared.durable.subscribe()
    }

    /// Why the log takes nothing any more, once a write or sync failed or the writer ended.
    pub fn poison(&self) -> Option<String> {
        self.shared.stopped()
    }

    /// How long the writer has been at the batch that it writes now; zero while it waits.
    pub fn writing_for(&self) -> Duration {
        self.shared
            .writing_since()
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Durations of the syncs so far: upper bound of each bucket in microseconds (`u64::MAX` for the last), and count.
    pub fn fsync_histogram(&self) -> Vec<(u64, u64)> {
        self.shared.histogram.buckets()
    }

    /// Durations of the syncs of the last minute.
    pub fn fsyncs_lately(&self) -> Recent {
        self.shared.histogram.recent()
    }

    /// What was found damaged when it was read, since the start: the first place in words, and how often.
    pub fn damage(&self) -> Option<(String, u64)> {
        self.shared.damage().clone()
    }

    /// Time of all syncs so far, in microseconds.
    pub fn fsync_us(&self) -> u64 {
        self.shared.histogram.sum_us()
    }
}
