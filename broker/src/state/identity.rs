//! The names and numbers by which the state machine tells things apart.
//!
//! Each is a newtype: a queue offset is never added to a log index, and a lease is never taken for a topic.
//! Ids that apply assigns ([`TopicId`], [`ConsumerGroupId`], [`LeaseId`]) are made of the place of the command
//! in the log, so they are unique for good and equal on all replicas.

use ledgermq_raft_store::types::LogIndex;
use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher128};
use std::fmt;
use std::hash::Hasher;

/// Most commands in one entry: what an id made of (entry, command) leaves room for.
pub const COMMANDS_PER_ENTRY: u64 = 4096;

/// Place of a message in its message queue: dense, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueOffset(pub u64);

/// A topic for good: a topic deleted and created again under its name gets another id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u64);

/// A consumer group for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerGroupId(pub u64);

/// One grant of messages to a consumer; the newest one of a message is the only one that may acknowledge it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// Drawn by the door once for each mutating call and kept over its internal retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

impl QueueOffset {
    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset that follows.
    pub const fn next(self) -> QueueOffset {
        QueueOffset(self.0 + 1)
    }

    /// The offset `count` places further on.
    pub const fn plus(self, count: u64) -> QueueOffset {
        QueueOffset(self.0 + count)
    }

    /// How many offsets lie in `earlier..self`; 0 when `earlier` is not before.
    pub const fn since(self, earlier: QueueOffset) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for QueueOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number that a command at place `command` of entry `index` gives to what it makes.
pub fn number_of(index: LogIndex, command: usize) -> u64 {
    let command = command as u64;
    assert!(command < COMMANDS_PER_ENTRY, "command {command} of one entry");
    // Entry 0 is never a batch of commands, so 0 stays free for "none".
    index.get() * COMMANDS_PER_ENTRY + command
}

/// 64-bit hash of a text, equal everywhere and in every release. Never 0, which stands for "absent".
pub fn text_hash(text: &str) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x6c65_6467_6572_6d71, 0x7465_7874);
    hasher.write(text.as_bytes());
    hasher.finish().max(1)
}

/// Hash of a tag as the queue index keeps it; 0 for no tag.
pub fn tag_hash(tag: &str) -> u64 {
    if tag.is_empty() { 0 } else { text_hash(tag) }
}

/// Hash of a client id as spans keep it.
pub fn client_hash(client_id: &str) -> u64 {
    text_hash(client_id)
}

/// Hash of a client's attempt of a receive; 0 when it named none.
pub fn attempt_hash(client_id: &str, attempt_id: &str) -> u64 {
    if attempt_id.is_empty() {
        return 0;
    }
    let mut hasher = SipHasher24::new_with_keys(0x6c65_6467_6572_6d71, 0x6174_7465_6d70_7473);
    hasher.write(&(client_id.len() as u64).to_le_bytes());
    hasher.write(client_id.as_bytes());
    hasher.write(attempt_id.as_bytes());
    hasher.finish().max(1)
}

/// The hash of whole states.
pub(crate) fn export_hasher() -> SipHasher128 {
    SipHasher128::new_with_keys(0x6c65_6467_6572_6d71, 0x0073_7461_7465)
}

/// What makes two sends the same: who sent it, where to, under which id, and what.
pub fn send_hash(client_id: &str, topic: TopicId, message_id: &str, body_length: u32, body_crc: u32) -> u128 {
    let mut hasher = SipHasher128::new_with_keys(0x6c65_6467_6572_6d71, 0x7365_6e64);
    hasher.write(&(client_id.len() as u64).to_le_bytes());
    hasher.write(client_id.as_bytes());
    hasher.write(&topic.0.to_le_bytes());
    hasher.write(&(message_id.len() as u64).to_le_bytes());
    hasher.write(message_id.as_bytes());
    hasher.write(&body_length.to_le_bytes());
    hasher.write(&body_crc.to_le_bytes());
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_do_not_change() {
        // Stored in the state of every release: a change of these numbers is a change of format.
        let hashes = (
            text_hash("a"),
            attempt_hash("c", "a"),
            send_hash("c", TopicId(1), "m", 1, 2),
        );
        let written = (
            0x8e69_9c30_d897_6ca3,
            0x91d8_6a7a_58d1_c768,
            0xb485_7e27_ebc4_9ab2_0d48_05ca_a3e3_0c74,
        );
        assert_eq!(hashes, written);
        assert_eq!(tag_hash(""), 0);
        assert_eq!(attempt_hash("c", ""), 0);
        assert_ne!(attempt_hash("ab", "c"), attempt_hash("a", "bc"));
        assert_ne!(
            send_hash("c", TopicId(1), "m", 1, 2),
            send_hash("c", TopicId(2), "m", 1, 2)
        );
    }
}
