//! Records out of the log: where the state says they lie.

use std::collections::BTreeMap;

use bytes::Bytes;
use ledgermq_raft_store::{Handle, LogIndex, ReadError};

use crate::state::machine::StateMachine;
use crate::state::plan::RecordLocation;

/// A record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadRecordError {
    /// The log has forgotten its entry: the record is forgotten, or was carried over since its place was looked up.
    #[error("entry {0} is not in the log any more")]
    Gone(LogIndex),
    /// The entry can't be read.
    #[error(transparent)]
    Read(ReadError),
    /// The entry holds nothing there.
    #[error("entry {} has no record at {}", .0.index, .0.slot)]
    Outside(RecordLocation),
}

/// Bytes of entries that are kept for the next record; the entry at hand is kept in any case.
const KEPT_BYTES: usize = 8 << 20;
/// A record that is smaller than its entry by this factor is copied out of it: it would keep the whole entry in memory until a
/// slow reader has it.
const COPIED_FROM: usize = 4;

/// Reads records one after another, each entry once as long as there is room for it.
pub struct Records<'a> {
    handle: &'a Handle<StateMachine>,
    entries: BTreeMap<LogIndex, Bytes>,
    kept_bytes: usize,
}

impl<'a> Records<'a> {
    /// Reads from this log. Blocks on the disk.
    pub fn new(handle: &'a Handle<StateMachine>) -> Self {
        Self {
            handle,
            entries: BTreeMap::new(),
            kept_bytes: 0,
        }
    }

    /// The bytes of a record.
    pub fn read(&mut self, location: RecordLocation) -> Result<Bytes, ReadRecordError> {
        let entry = self.entry(location.index)?;
        let from = location.slot as usize;
        let end = from
            .checked_add(location.length as usize)
            .filter(|end| *end <= entry.len());
        let end = end.ok_or(ReadRecordError::Outside(location))?;
        let is_small = (end - from).saturating_mul(COPIED_FROM) <= entry.len();
        Ok(match is_small {
            true => Bytes::copy_from_slice(&entry[from..end]),
            false => entry.slice(from..end),
        })
    }

    fn entry(&mut self, index: LogIndex) -> Result<Bytes, ReadRecordError> {
        if let Some(entry) = self.entries.get(&index) {
            return Ok(entry.clone());
        }
        let entry = self.handle.read(index).map_err(|error| match error {
            ReadError::Purged(index) => ReadRecordError::Gone(index),
            error => ReadRecordError::Read(error),
        })?;
        if self.kept_bytes + entry.len() > KEPT_BYTES {
            self.entries.clear();
            self.kept_bytes = 0;
        }
        self.kept_bytes += entry.len();
        self.entries.insert(index, entry.clone());
        Ok(entry)
    }
}
