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

/// Reads records one after another, each entry once.
pub struct Records<'a> {
    handle: &'a Handle<StateMachine>,
    entries: BTreeMap<LogIndex, Bytes>,
}

impl<'a> Records<'a> {
    /// Reads from this log. Blocks on the disk.
    pub fn new(handle: &'a Handle<StateMachine>) -> Self {
        Self {
            handle,
            entries: BTreeMap::new(),
        }
    }

    /// The bytes of a record.
    pub fn read(&mut self, location: RecordLocation) -> Result<Bytes, ReadRecordError> {
        use std::collections::btree_map::Entry;
        let entry = match self.entries.entry(location.index) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(self.handle.read(location.index).map_err(|error| match error {
                ReadError::Purged(index) => ReadRecordError::Gone(index),
                error => ReadRecordError::Read(error),
            })?),
        };
        let from = location.slot as usize;
        match from
            .checked_add(location.length as usize)
            .filter(|end| *end <= entry.len())
        {
            Some(end) => Ok(entry.slice(from..end)),
            None => Err(ReadRecordError::Outside(location)),
        }
    }
}
