//! References: records that lie in an older entry than the one by which they came into their queue (dead letters),
//! found by the entry they lie in. A cut must not leave one behind, so they are carried over before it.
//!
//! ```text
//! key    u64 entry it lies in, u64 topic id, u32 queue id, u64 offset      big endian
//! value  u8 version = 1, varint entry by which it came into the queue
//! ```

use super::codec::{DecodeError, Reader, Writer};
use super::identity::{QueueOffset, TopicId};
use ledgermq_raft_store::types::LogIndex;

const VERSION: u8 = 1;
const WHAT: &str = "reference";

/// A record that lies in an older entry than the one by which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The entry it lies in.
    pub index: LogIndex,
    pub topic: TopicId,
    pub queue_id: u32,
    pub offset: QueueOffset,
    /// The entry by which it came: since when it is visible.
    pub came: LogIndex,
}

impl Reference {
    pub fn key(&self) -> Vec<u8> {
        let mut key = first_key(self.index);
        key.extend_from_slice(&self.topic.0.to_be_bytes());
        key.extend_from_slice(&self.queue_id.to_be_bytes());
        key.extend_from_slice(&self.offset.0.to_be_bytes());
        key
    }

    pub fn value(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(8);
        writer.u8(VERSION);
        writer.varint(self.came.get());
        writer.into_vec()
    }

    pub fn read(key: &[u8], value: &[u8]) -> Result<Reference, DecodeError> {
        let bounds = DecodeError::Bounds {
            what: "key of reference",
        };
        let number = |at: usize| -> Option<u64> {
            let bytes = key.get(at..at + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        let queue_id = key
            .get(16..20)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_be_bytes);
        let (Some(index), Some(topic), Some(queue_id), Some(offset), 28) =
            (number(0), number(8), queue_id, number(20), key.len())
        else {
            return Err(bounds);
        };
        let mut reader = Reader::new(WHAT, value);
        reader.version(VERSION)?;
        let came = LogIndex(reader.varint()?);
        reader.end()?;
        Ok(Reference {
            index: LogIndex(index),
            topic: TopicId(topic),
            queue_id,
            offset: QueueOffset(offset),
            came,
        })
    }
}

/// Below the keys of all references to this entry and later ones.
pub(crate) fn first_key(index: LogIndex) -> Vec<u8> {
    let mut key = Vec::with_capacity(28);
    key.extend_from_slice(&index.get().to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(index: u64, topic: u64, queue_id: u32, offset: u64, came: u64) {
            let reference = Reference {
                index: LogIndex(index),
                topic: TopicId(topic),
                queue_id,
                offset: QueueOffset(offset),
                came: LogIndex(came),
            };
            let (key, value) = (reference.key(), reference.value());
            prop_assert_eq!(Reference::read(&key, &value), Ok(reference));
            prop_assert!(first_key(LogIndex(index)) < key);
            prop_assert!(index == u64::MAX || key < first_key(LogIndex(index + 1)));
            prop_assert!(Reference::read(&key[1..], &value).is_err());
            prop_assert!(Reference::read(&key, &value[..value.len() - 1]).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(key: Vec<u8>, value: Vec<u8>) {
            let _ = Reference::read(&key, &value);
            let _ = Reference::read(&[0; 28], &value);
        }
    }
}
