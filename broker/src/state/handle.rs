//! The receipt handle: what a client gives back to acknowledge a message. No client reads it (grpc.md C.4).
//!
//! It names the message and the lease by which it was handed out, so it is valid at every door and after every
//! election. Its text is ASCII, fields parted by `.`, numbers in lower-case hexadecimal:
//!
//! ```text
//! 1.<topic id>.<queue id>.<queue offset>.<lease id>.<crc32c of all before, 8 digits>.<broker group>
//! ```
//!
//! The broker group comes last because its name may hold any character. The checksum covers its name too.

use super::identity::{LeaseId, QueueOffset, TopicId};
use super::outcome::InvalidReceiptHandle;
use std::fmt;
use std::str::FromStr;

/// The version written.
const VERSION: &str = "1";
/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 512;

/// Names one delivery of one message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceiptHandle {
    /// The broker group that holds the message.
    pub broker_group: String,
    /// The topic.
    pub topic: TopicId,
    /// The queue.
    pub queue_id: u32,
    /// Its place there.
    pub offset: QueueOffset,
    /// The lease by which it was handed out.
    pub lease: LeaseId,
}

impl ReceiptHandle {
    fn numbers(&self) -> String {
        format!(
            "{VERSION}.{:x}.{:x}.{:x}.{:x}",
            self.topic.0, self.queue_id, self.offset.0, self.lease.0
        )
    }
}

fn checksum(numbers: &str, broker_group: &str) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(numbers.as_bytes()), broker_group.as_bytes())
}

impl fmt::Display for ReceiptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.numbers();
        write!(
            f,
            "{numbers}.{:08x}.{}",
            checksum(&numbers, &self.broker_group),
            self.broker_group
        )
    }
}

impl FromStr for ReceiptHandle {
    type Err = InvalidReceiptHandle;

    fn from_str(text: &str) -> Result<ReceiptHandle, InvalidReceiptHandle> {
        parse(text).ok_or(InvalidReceiptHandle)
    }
}

fn parse(text: &str) -> Option<ReceiptHandle> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut fields = text.splitn(7, '.');
    if fields.next()? != VERSION {
        return None;
    }
    let topic = TopicId(u64::from_str_radix(fields.next()?, 16).ok()?);
    let queue_id = u32::from_str_radix(fields.next()?, 16).ok()?;
    let offset = QueueOffset(u64::from_str_radix(fields.next()?, 16).ok()?);
    let lease = LeaseId(u64::from_str_radix(fields.next()?, 16).ok()?);
    let found = u32::from_str_radix(fields.next()?, 16).ok()?;
    let broker_group = fields.next()?.to_string();
    let handle = ReceiptHandle {
        broker_group,
        topic,
        queue_id,
        offset,
        lease,
    };
    (checksum(&handle.numbers(), &handle.broker_group) == found).then_some(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(group in "[ -~]{0,40}", topic: u64, queue_id: u32, offset: u64, lease: u64) {
            let handle = ReceiptHandle {
                broker_group: group,
                topic: TopicId(topic),
                queue_id,
                offset: QueueOffset(offset),
                lease: LeaseId(lease),
            };
            prop_assert_eq!(handle.to_string().parse::<ReceiptHandle>(), Ok(handle));
        }

        #[test]
        fn a_changed_byte_is_refused(offset: u64, lease: u64, at: usize, byte in b' '..=b'~') {
            let handle = ReceiptHandle {
                broker_group: "broker-a".to_string(),
                topic: TopicId(7),
                queue_id: 3,
                offset: QueueOffset(offset),
                lease: LeaseId(lease),
            };
            let mut text = handle.to_string().into_bytes();
            let at = at % text.len();
            let changed = text[at] != byte && !text[at].eq_ignore_ascii_case(&byte);
            text[at] = byte;
            let text = String::from_utf8(text).expect("ASCII");
            if changed {
                prop_assert_eq!(text.parse::<ReceiptHandle>(), Err(InvalidReceiptHandle));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<ReceiptHandle>();
        }
    }
}
