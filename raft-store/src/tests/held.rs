//! What a log must hold, as a model.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::log::{Frame, Log};
use crate::types::{EntryId, LogIndex};

/// What a log must hold.
#[derive(Default)]
pub struct Held {
    /// The newest entry that was purged.
    pub purged: Option<EntryId>,
    /// The entries behind it, by index.
    pub entries: BTreeMap<u64, Frame>,
    /// The newest vote.
    pub vote: Option<Bytes>,
}

impl Held {
    /// The first index that is or will be there.
    pub fn first(&self) -> u64 {
        self.purged.map_or(0, |id| id.index.get() + 1)
    }

    /// Index behind the last entry.
    pub fn end(&self) -> u64 {
        let last = self.entries.last_key_value();
        last.map_or(self.first(), |(index, _)| index + 1)
    }

    /// Takes an entry.
    pub fn append(&mut self, frame: Frame) {
        self.entries.insert(frame.id.index.get(), frame);
    }

    /// Drops the entries from this index on.
    pub fn truncate(&mut self, end: u64) {
        self.entries.split_off(&end);
    }

    /// Forgets the entries up to this one.
    pub fn purge(&mut self, upto: EntryId) {
        self.purged = Some(upto);
        self.entries = self.entries.split_off(&(upto.index.get() + 1));
    }

    /// Panics unless the log holds exactly this.
    pub fn compare(&self, log: &Log) {
        let state = log.state();
        assert_eq!(state.purged, self.purged, "the purged id");
        let mut next = LogIndex(self.first());
        let mut count = 0;
        while state.last.is_some_and(|last| last.index >= next) {
            let piece = log.read(next, LogIndex(u64::MAX), 600).expect("readable");
            assert!(!piece.is_empty(), "entry {next} is in the log");
            for frame in piece {
                assert!(self.entries.get(&next.get()) == Some(&frame), "entry {next} differs");
                (next, count) = (next.next(), count + 1);
            }
        }
        assert_eq!(count, self.entries.len(), "as many entries");
        let mut starts: Vec<EntryId> = Vec::new();
        for frame in self.entries.values() {
            if starts.last().is_none_or(|start| start.term < frame.id.term) {
                starts.push(frame.id);
            }
        }
        assert_eq!(log.term_starts(), starts);
    }
}
