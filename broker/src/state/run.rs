//! The queue index: a *run* is what one entry stored in one queue, as dense offsets. One pair each.
//!
//! ```text
//! key    u64 topic id, u32 queue id, u64 first offset          big endian, so that keys sort as offsets do
//! value  u8 version = 1
//!        u8 flags: 1 records name the entry they lie in (some lie in another one), 2 tags, 4 message groups
//!        varint count, varint entry by which the run came, varint time (unix ms)
//!        count × [zigzag entry - the one before, if flag 1]
//!                zigzag slot - end of the one before, varint length, zigzag time - the one before,
//!                [u64 tag hash, if flag 2] [u64 message group hash, if flag 4]
//! ```
//!
//! The first record of a run is compared with (entry, time) of its head and slot 0. Bodies stay in the log: in the
//! run's own entry, in an older one (dead letters), or in a later one to which they were carried over.

use super::codec::{DecodeError, Reader, Writer, unzigzag, zigzag};
use super::identity::{QueueOffset, TopicId};
use super::plan::RecordLocation;
use ledgermq_raft_store::types::LogIndex;

const VERSION: u8 = 1;
const WHAT: &str = "run";
const OWN_ENTRIES: u8 = 1;
const TAGS: u8 = 2;
const MESSAGE_GROUPS: u8 = 4;

/// What the index tells of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunRecord {
    pub location: RecordLocation,
    /// 0 for none.
    pub tag: u64,
    /// 0 for none.
    pub message_group: u64,
    pub store_time_ms: u64,
}

/// What one entry stored in one queue: the record of offset `first + n` at place n.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub first: QueueOffset,
    /// The entry that put it there; runs of a queue come in the order of their entries.
    pub entry: LogIndex,
    pub records: Vec<RunRecord>,
}

impl Run {
    /// The offset after the last.
    pub fn end(&self) -> QueueOffset {
        self.first.plus(self.records.len() as u64)
    }

    /// The record of an offset, if it is in here.
    pub fn record(&self, offset: QueueOffset) -> Option<&RunRecord> {
        if offset < self.first {
            return None;
        }
        self.records.get(usize::try_from(offset.since(self.first)).ok()?)
    }

    /// The value to store.
    pub fn encode(&self) -> Vec<u8> {
        let head = self.records.first().expect("a run holds a record");
        let mut index = self.entry.0;
        let mut time = head.store_time_ms;
        let mut flags = 0;
        for record in &self.records {
            flags |= if record.location.index.0 != index {
                OWN_ENTRIES
            } else {
                0
            };
            flags |= if record.tag != 0 { TAGS } else { 0 };
            flags |= if record.message_group != 0 { MESSAGE_GROUPS } else { 0 };
        }
        let mut writer = Writer::with_capacity(24 + self.records.len() * 24);
        writer.u8(VERSION);
        writer.u8(flags);
        writer.varint(self.records.len() as u64);
        writer.varint(index);
        writer.varint(time);
        let mut end = 0u64;
        for record in &self.records {
            if flags & OWN_ENTRIES != 0 {
                writer.varint(zigzag(index, record.location.index.0));
                index = record.location.index.0;
            }
            writer.varint(zigzag(end, record.location.slot.into()));
            writer.varint(record.location.length.into());
            end = u64::from(record.location.slot) + u64::from(record.location.length);
            writer.varint(zigzag(time, record.store_time_ms));
            time = record.store_time_ms;
            if flags & TAGS != 0 {
                writer.u64(record.tag);
            }
            if flags & MESSAGE_GROUPS != 0 {
                writer.u64(record.message_group);
            }
        }
        writer.into_vec()
    }

    /// The run of a stored value.
    pub fn decode(first: QueueOffset, bytes: &[u8]) -> Result<Run, DecodeError> {
        let mut reader = Reader::new(WHAT, bytes);
        reader.version(VERSION)?;
        let flags = reader.u8()?;
        let count = reader.count(3)?;
        if flags > OWN_ENTRIES | TAGS | MESSAGE_GROUPS || count == 0 || first.0.checked_add(count as u64).is_none() {
            return Err(DecodeError::Bounds { what: WHAT });
        }
        let mut index = reader.varint()?;
        let entry = LogIndex(index);
        let mut time = reader.varint()?;
        let mut end = 0u64;
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            if flags & OWN_ENTRIES != 0 {
                index = unzigzag(index, reader.varint()?);
            }
            let slot = u32::try_from(unzigzag(end, reader.varint()?));
            let slot = slot.map_err(|_| DecodeError::Bounds { what: WHAT })?;
            let length = reader.varint_u32()?;
            end = u64::from(slot) + u64::from(length);
            time = unzigzag(time, reader.varint()?);
            let tag = if flags & TAGS != 0 { reader.u64()? } else { 0 };
            let message_group = if flags & MESSAGE_GROUPS != 0 { reader.u64()? } else { 0 };
            let location = RecordLocation {
                index: LogIndex(index),
                slot,
                length,
            };
            records.push(RunRecord {
                location,
                tag,
                message_group,
                store_time_ms: time,
            });
        }
        reader.end()?;
        Ok(Run { first, entry, records })
    }
}

/// The entry by which a stored run came, without decoding its records.
pub(crate) fn read_entry(bytes: &[u8]) -> Result<LogIndex, DecodeError> {
    let mut reader = Reader::new(WHAT, bytes);
    reader.version(VERSION)?;
    let _flags = reader.u8()?;
    let _count = reader.varint()?;
    Ok(LogIndex(reader.varint()?))
}

/// The key of the run that begins at `first`.
pub(crate) fn run_key(topic: TopicId, queue_id: u32, first: QueueOffset) -> Vec<u8> {
    let mut key = Vec::with_capacity(20);
    key.extend_from_slice(&topic.0.to_be_bytes());
    key.extend_from_slice(&queue_id.to_be_bytes());
    key.extend_from_slice(&first.0.to_be_bytes());
    key
}

/// The first offset that a key names.
pub(crate) fn run_key_first(key: &[u8]) -> Result<QueueOffset, DecodeError> {
    match key.get(12..).map(<[u8; 8]>::try_from) {
        Some(Ok(first)) => Ok(QueueOffset(u64::from_be_bytes(first))),
        _ => Err(DecodeError::Bounds { what: "run key" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run_record() -> impl Strategy<Value = RunRecord> {
        let hash = || prop_oneof![Just(0), any::<u64>()];
        (any::<u64>(), any::<u32>(), any::<u32>(), hash(), hash(), any::<u64>()).prop_map(
            |(index, slot, length, tag, message_group, store_time_ms)| RunRecord {
                location: RecordLocation {
                    index: LogIndex(index),
                    slot,
                    length,
                },
                tag,
                message_group,
                store_time_ms,
            },
        )
    }

    proptest! {
        #[test]
        fn round_trip(
            first in 0..u64::MAX / 2,
            entry: u64,
            mut records in proptest::collection::vec(run_record(), 1..20),
            same: bool,
        ) {
            let entry = LogIndex(entry);
            if same {
                records.iter_mut().for_each(|record| record.location.index = entry);
            }
            let run = Run { first: QueueOffset(first), entry, records };
            prop_assert_eq!(read_entry(&run.encode()), Ok(entry));
            prop_assert_eq!(Run::decode(run.first, &run.encode()).expect("decode"), run);
        }

        #[test]
        fn corruption_never_panics(
            records in proptest::collection::vec(run_record(), 1..5), at: usize, byte: u8, cut: usize, any: Vec<u8>,
        ) {
            let bytes = Run { records, ..Run::default() }.encode();
            prop_assert!(Run::decode(QueueOffset(0), &bytes[..cut % bytes.len()]).is_err());
            let mut changed = bytes.clone();
            changed[at % bytes.len()] = byte;
            let _ = Run::decode(QueueOffset(0), &changed);
            let _ = Run::decode(QueueOffset(u64::MAX), &any);
            let _ = read_entry(&any);
        }
    }

    #[test]
    fn a_run_of_plain_messages_is_small() {
        let record = |n: u32| RunRecord {
            location: RecordLocation {
                index: LogIndex(1_000_000),
                slot: 40 + n * 1100,
                length: 1064,
            },
            tag: 0,
            message_group: 0,
            store_time_ms: 1_800_000_000_000,
        };
        let run = Run {
            first: QueueOffset(0),
            entry: LogIndex(1_000_000),
            records: (0..32).map(record).collect(),
        };
        assert!(run.encode().len() <= 32 * 5 + 16, "{} bytes", run.encode().len());
    }
}
