//! Where a queue begins once something of it was forgotten.
//!
//! ```text
//! key    u64 topic id, u32 queue id      big endian
//! value  u8 version = 1, varint first offset that is kept; where all is gone, the next one
//! ```

use super::codec::{DecodeError, Reader, Writer};
use super::identity::{QueueOffset, TopicId};

const VERSION: u8 = 1;

/// The key of a queue.
pub(crate) fn start_key(topic: TopicId, queue_id: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(12);
    key.extend_from_slice(&topic.0.to_be_bytes());
    key.extend_from_slice(&queue_id.to_be_bytes());
    key
}

/// The value to store.
pub(crate) fn start_value(first: QueueOffset) -> Vec<u8> {
    let mut writer = Writer::with_capacity(8);
    writer.u8(VERSION);
    writer.varint(first.0);
    writer.into_vec()
}

/// The first offset of a stored value.
pub(crate) fn read_start(value: &[u8]) -> Result<QueueOffset, DecodeError> {
    let mut reader = Reader::new("start of a queue", value);
    reader.version(VERSION)?;
    let first = QueueOffset(reader.varint()?);
    reader.end()?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(first: u64, any: Vec<u8>) {
            let value = start_value(QueueOffset(first));
            prop_assert_eq!(read_start(&value), Ok(QueueOffset(first)));
            prop_assert!(read_start(&value[..value.len() - 1]).is_err());
            let _ = read_start(&any);
        }
    }
}
