//! openraft's log storage over the segment log.
//!
//! An append is readable when it returns and completes when the log's writer has synced it; completions come in
//! order. `save_vote` and `truncate_after` drain the appends before them, so a vote is never durable before an entry
//! accepted earlier.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};

use bytes::Bytes;
use futures::stream::{self, Stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use crate::limits;
use crate::log::{Frame, Log};
use crate::marks::mark;
use crate::options::Durability;
use crate::planted::Bug;
use crate::raft::config::{Config, Entry, LogId, Vote, entry_id, from_frame, log_id, to_frame};
use crate::raft::format;
use crate::types::{EntryId, LogIndex};

/// The log as openraft writes it.
#[derive(Clone)]
pub struct Store {
    log: Log,
    durability: Durability,
}

/// The log as openraft reads it.
#[derive(Clone)]
pub struct Reader {
    log: Log,
}

impl Store {
    /// A store over this log.
    pub fn new(log: Log, durability: Durability) -> Store {
        Store { log, durability }
    }

    fn reader(&self) -> Reader {
        Reader { log: self.log.clone() }
    }
}

/// The first index and the index past the last of a range, cut to what the log holds.
fn held<R: RangeBounds<u64>>(log: &Log, range: &R) -> (u64, u64) {
    let state = log.state();
    let first = match state.purged {
        Some(purged) => purged.index.get() + 1,
        // A log may begin later than at 0.
        None => log.term_starts().first().map_or(0, |id| id.index.get()),
    };
    let end = state.last.map_or(0, |id| id.index.get() + 1);
    let from = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(index) => index + 1,
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    (from.max(first), to.min(end))
}

fn decoded(frames: Vec<Frame>) -> io::Result<Vec<Entry>> {
    frames
        .into_iter()
        .map(|frame| from_frame(frame).map_err(io::Error::other))
        .collect()
}

fn missing(index: u64) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("entry {index} is not in the log"))
}

/// One bounded piece of `from..to`; never empty. The first entry must be there.
async fn piece(log: &Log, from: u64, to: u64) -> io::Result<Vec<Entry>> {
    let frames = log.read_aside(LogIndex(from), LogIndex(to), limits::READ_BYTES).await?;
    match frames.first() {
        Some(first) if first.id.index.get() == from => decoded(frames),
        _ => Err(missing(from)),
    }
}

fn kept_vote(log: &Log) -> io::Result<Option<Vote>> {
    log.vote()
        .map(|bytes: Bytes| format::decode_vote(&bytes).map_err(io::Error::other))
        .transpose()
}

impl RaftLogReader<Config> for Reader {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (mut from, to) = held(&self.log, &range);
        let mut entries = Vec::new();
        while from < to {
            let more = piece(&self.log, from, to).await?;
            from += more.len() as u64;
            entries.extend(more);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        kept_vote(&self.log)
    }

    /// Empty when `start` is not there: a leader that was deposed ends its streams one by one, and one that still reads
    /// finds the log purged or cut behind the new leader's. openraft sends a heartbeat then, which is refused like all
    /// that a deposed leader sends, whereas an error would end this replica. A leader never purges what it still sends.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        match piece(&self.log, start, end).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                mark("stream_behind_the_log");
                Ok(Vec::new())
            }
            read => read,
        }
    }

    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = held(&self.log, &range);
        let log = self.log.clone();
        stream::unfold(
            (log, from, to, Vec::new().into_iter()),
            |(log, mut from, to, mut ready)| async move {
                if let Some(entry) = ready.next() {
                    return Some((Ok(entry), (log, from, to, ready)));
                }
                if from >= to {
                    return None;
                }
                match piece(&log, from, to).await {
                    Ok(entries) => {
                        from += entries.len() as u64;
                        ready = entries.into_iter();
                        ready.next().map(|entry| (Ok(entry), (log, from, to, ready)))
                    }
                    Err(error) => Some((Err(error), (log, to, to, ready))),
                }
            },
        )
    }

    /// The last entry of each term in the range. (openraft's documentation of this method still says the first; its
    /// `StorageHelper` and its suite want the last.)
    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> Result<Vec<LogId>, io::Error> {
        let (first, last) = (entry_id(range.start()), entry_id(range.end()));
        Ok(term_ends(&self.log.term_starts(), first, last)
            .into_iter()
            .map(log_id)
            .collect())
    }
}

/// The last entry of each term among the entries `first..=last`, from the first entries of all terms.
fn term_ends(starts: &[EntryId], first: EntryId, last: EntryId) -> Vec<EntryId> {
    let mut ends = Vec::new();
    let mut term = first.term;
    for start in starts
        .iter()
        .filter(|start| start.index > first.index && start.index <= last.index)
    {
        if let Some(index) = start.index.previous()
            && start.term > term
        {
            ends.push(EntryId { term, index });
            term = start.term;
        }
    }
    ends.push(last);
    ends
}

impl RaftLogStorage<Config> for Store {
    type LogReader = Reader;

    async fn get_log_state(&mut self) -> Result<LogState<Config>, io::Error> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(log_id),
            last_log_id: state.last.or(state.purged).map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Reader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log.save_vote(format::encode_vote(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.save_committed(committed.as_ref().map(entry_id)).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(surviving_commit(&self.log)?.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Config>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let frames: Vec<Frame> = entries.into_iter().map(to_frame).collect();
        match self.durability {
            Durability::FsyncQuorum => self
                .log
                .append(frames, Box::new(move |result| callback.io_completed(result))),
            Durability::MemoryQuorum => {
                self.log.append(frames, Box::new(|_| {}))?;
                callback.io_completed(Ok(()));
                Ok(())
            }
        }
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.log
            .truncate_after(last.as_ref().map(|id| LogIndex(id.index())))
            .await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let newest = match self.log.planted().has(Bug::PurgePastSnapshot) {
            true => self.log.state().durable,
            false => None,
        };
        self.log.purge(newest.unwrap_or(entry_id(&upto))).await
    }
}

/// The commit id that was saved, cut to what the log still holds: it is saved without a sync, so it may have outlived
/// the entries it speaks of.
fn surviving_commit(log: &Log) -> io::Result<Option<EntryId>> {
    let (Some(committed), state) = (log.committed(), log.state()) else {
        return Ok(None);
    };
    let Some(last) = state.last.or(state.purged) else {
        return Ok(None);
    };
    let cut = if committed.index > last.index { last } else { committed };
    if state.purged.is_some_and(|purged| cut.index <= purged.index) {
        return Ok(state.purged);
    }
    let held = log.read(cut.index, cut.index.next(), limits::READ_BYTES)?;
    Ok(held
        .first()
        .filter(|frame| frame.id == cut && cut.term <= committed.term)
        .map(|frame| frame.id))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::FaultyDisk;
    use crate::log::{FrameKind, LogOptions};
    use crate::planted::Planted;

    /// A deposed leader whose log was purged behind a snapshot, and cut, while it still sent to a follower.
    #[tokio::test]
    async fn a_stream_behind_the_log_gets_nothing() {
        let options = LogOptions {
            dir: "/store".into(),
            segment_bytes: 1 << 16,
            tail_cache_bytes: 1 << 10,
            seed: 1,
            planted: Planted::default(),
        };
        let (log, writer) = Log::open(Arc::new(FaultyDisk::new(5)), options).await.expect("opens");
        tokio::spawn(writer.run());
        let entry = |index| Frame {
            id: EntryId::new(1, index),
            kind: FrameKind::Blank,
            body: Bytes::new(),
            body_crc: 0,
        };
        log.append((0..10).map(entry).collect(), Box::new(|_| {}))
            .expect("appends");
        let mut reader = Store::new(log.clone(), Durability::FsyncQuorum).reader();
        let mut read = async |start, end| {
            let entries = reader.limited_get_log_entries(start, end).await.expect("no error");
            entries.iter().map(|entry| entry.id.index()).collect::<Vec<u64>>()
        };
        assert_eq!(read(3, 5).await, [3, 4]);
        log.purge(EntryId::new(1, 4)).await.expect("purges");
        log.truncate_after(Some(LogIndex(7))).await.expect("truncates");
        assert_eq!(read(3, 7).await, [0; 0]);
        assert_eq!(read(8, 10).await, [0; 0]);
        assert_eq!(read(5, 10).await, [5, 6, 7]);
    }

    #[test]
    fn ends_of_terms() {
        let id = EntryId::new;
        let starts = [id(1, 0), id(2, 3), id(5, 4)];
        assert_eq!(term_ends(&starts, id(1, 0), id(5, 9)), [id(1, 2), id(2, 3), id(5, 9)]);
        assert_eq!(term_ends(&starts, id(1, 1), id(1, 2)), [id(1, 2)]);
        assert_eq!(term_ends(&starts, id(2, 3), id(5, 4)), [id(2, 3), id(5, 4)]);
        assert_eq!(term_ends(&starts, id(5, 7), id(5, 7)), [id(5, 7)]);
    }
}
