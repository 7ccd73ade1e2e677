//! A span: offsets of one queue that a consumer group was handed out or passed over, and has not done. What is
//! below the first never handed out and in no span is done.
//!
//! ```text
//! key    u64 topic id, u64 consumer group id, u32 queue id, u64 first offset      big endian
//! value  u8 version = 1, u8 flags (1 renews by itself, 2 suspended, 4 repeated: from level 3 on)
//!        varint last - first, u64 lease, varint visible at (unix ms), varint attempt,
//!        u64 client hash, u64 attempt hash, u64 message group hash
//!        [varint leased since (unix ms), u8 renewals, if flag 1]
//!
//! progress pairs: key u64 topic id, u64 consumer group id         value u8 version      (it has consumed here)
//!                 key u64 topic id, u64 consumer group id, u32 queue id
//!                                                                 value u8 version, varint next
//! ```

use super::codec::{DecodeError, Reader, Writer};
use super::identity::{ConsumerGroupId, LeaseId, QueueOffset, TopicId};

const VERSION: u8 = 1;
const WHAT: &str = "span";
const RENEWS: u8 = 1;
const SUSPENDED: u8 = 2;
const REPEATED: u8 = 4;

/// What holds for all offsets of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub last: QueueOffset,
    /// 0 while it was only passed over.
    pub lease: LeaseId,
    pub visible_at_ms: u64,
    /// How often it was handed out.
    pub attempt: u32,
    /// [`super::identity::client_hash`] of who holds it.
    pub client: u64,
    /// [`super::identity::attempt_hash`] of the receive that got it.
    pub attempt_id: u64,
    /// FIFO consumer groups only; there all offsets of a span are of one message group.
    pub message_group: u64,
    pub renewal: Option<Renewal>,
    /// Whether its consumer put it off so that its delivery does not count; `attempt` is without it.
    pub suspended: bool,
    /// Whether it was handed to the same attempt more than once: which of the answers arrived, nobody knows.
    pub repeated: bool,
}

/// A lease that renews by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    pub since_ms: u64,
    pub count: u8,
}

impl Span {
    /// A span that nobody holds.
    pub fn waiting(last: QueueOffset, visible_at_ms: u64, message_group: u64) -> Span {
        Span {
            last,
            lease: LeaseId(0),
            visible_at_ms,
            attempt: 0,
            client: 0,
            attempt_id: 0,
            message_group,
            renewal: None,
            suspended: false,
            repeated: false,
        }
    }

    /// Whether it was passed over and never handed out.
    pub fn is_passed(&self) -> bool {
        self.lease.0 == 0
    }

    /// Whether it only differs from another in its offsets.
    pub fn continues(&self, earlier: &Span) -> bool {
        Span {
            last: self.last,
            ..earlier.clone()
        } == *self
    }

    pub fn encode(&self, first: QueueOffset) -> Vec<u8> {
        let mut writer = Writer::with_capacity(56);
        writer.u8(VERSION);
        let renews = if self.renewal.is_some() { RENEWS } else { 0 };
        let suspended = if self.suspended { SUSPENDED } else { 0 };
        let repeated = if self.repeated { REPEATED } else { 0 };
        writer.u8(renews | suspended | repeated);
        writer.varint(self.last.since(first));
        writer.u64(self.lease.0);
        writer.varint(self.visible_at_ms);
        writer.varint(self.attempt.into());
        writer.u64(self.client);
        writer.u64(self.attempt_id);
        writer.u64(self.message_group);
        if let Some(renewal) = self.renewal {
            writer.varint(renewal.since_ms);
            writer.u8(renewal.count);
        }
        writer.into_vec()
    }

    pub fn decode(first: QueueOffset, bytes: &[u8]) -> Result<Span, DecodeError> {
        let mut reader = Reader::new(WHAT, bytes);
        reader.version(VERSION)?;
        let flags = reader.u8()?;
        let last = first
            .0
            .checked_add(reader.varint()?)
            .ok_or(DecodeError::Bounds { what: WHAT })?;
        let mut span = Span {
            last: QueueOffset(last),
            lease: LeaseId(reader.u64()?),
            visible_at_ms: reader.varint()?,
            attempt: reader.varint_u32()?,
            client: reader.u64()?,
            attempt_id: reader.u64()?,
            message_group: reader.u64()?,
            renewal: None,
            suspended: flags & SUSPENDED != 0,
            repeated: flags & REPEATED != 0,
        };
        if flags > RENEWS | SUSPENDED | REPEATED {
            return Err(DecodeError::Bounds { what: WHAT });
        }
        if flags & RENEWS != 0 {
            span.renewal = Some(Renewal {
                since_ms: reader.varint()?,
                count: reader.u8()?,
            });
        }
        reader.end()?;
        Ok(span)
    }
}

/// The key of all of a consumer group's progress on a topic.
pub(crate) fn progress_key(topic: TopicId, group: ConsumerGroupId) -> Vec<u8> {
    let mut key = Vec::with_capacity(28);
    key.extend_from_slice(&topic.0.to_be_bytes());
    key.extend_from_slice(&group.0.to_be_bytes());
    key
}

/// The key of its progress in one queue.
pub(crate) fn next_key(topic: TopicId, group: ConsumerGroupId, queue_id: u32) -> Vec<u8> {
    let mut key = progress_key(topic, group);
    key.extend_from_slice(&queue_id.to_be_bytes());
    key
}

/// The key of a span.
pub(crate) fn span_key(topic: TopicId, group: ConsumerGroupId, queue_id: u32, first: QueueOffset) -> Vec<u8> {
    let mut key = next_key(topic, group, queue_id);
    key.extend_from_slice(&first.0.to_be_bytes());
    key
}

/// The value that says that a consumer group has consumed a topic.
pub(crate) fn contact_value() -> Vec<u8> {
    vec![VERSION]
}

/// The value of the first offset never handed out.
pub(crate) fn next_value(next: QueueOffset) -> Vec<u8> {
    let mut writer = Writer::with_capacity(8);
    writer.u8(VERSION);
    writer.varint(next.0);
    writer.into_vec()
}

/// Reads what [`next_value`] wrote.
pub(crate) fn read_next(bytes: &[u8]) -> Result<QueueOffset, DecodeError> {
    let mut reader = Reader::new("progress", bytes);
    reader.version(VERSION)?;
    let next = QueueOffset(reader.varint()?);
    reader.end()?;
    Ok(next)
}

/// What a key of progress or of a span names: queue and first offset, as far as it has them.
pub(crate) type Names = (TopicId, ConsumerGroupId, Option<u32>, Option<QueueOffset>);

/// Reads a key of progress or of a span.
pub(crate) fn read_key(key: &[u8]) -> Result<Names, DecodeError> {
    let number = |at: usize| -> Result<u64, DecodeError> {
        let bytes = key.get(at..at + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        bytes.map(u64::from_be_bytes).ok_or(DecodeError::Bounds {
            what: "key of progress",
        })
    };
    let queue_id = key
        .get(16..20)
        .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
        .map(u32::from_be_bytes);
    let (topic, group) = (TopicId(number(0)?), ConsumerGroupId(number(8)?));
    match key.len() {
        16 => Ok((topic, group, None, None)),
        20 => Ok((topic, group, queue_id, None)),
        28 => Ok((topic, group, queue_id, Some(QueueOffset(number(20)?)))),
        _ => Err(DecodeError::Bounds {
            what: "key of progress",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span() -> impl Strategy<Value = (u64, Span)> {
        let renewal = proptest::option::of((any::<u64>(), any::<u8>()));
        let numbers = proptest::array::uniform5(any::<u64>());
        (
            any::<u32>(),
            any::<u32>(),
            numbers,
            any::<u32>(),
            renewal,
            any::<(bool, bool)>(),
        )
            .prop_map(
                |(
                    first,
                    more,
                    [lease, visible_at_ms, client, attempt_id, message_group],
                    attempt,
                    renewal,
                    (suspended, repeated),
                )| {
                    let span = Span {
                        last: QueueOffset(u64::from(first) + u64::from(more)),
                        lease: LeaseId(lease),
                        visible_at_ms,
                        attempt,
                        client,
                        attempt_id,
                        message_group,
                        renewal: renewal.map(|(since_ms, count)| Renewal { since_ms, count }),
                        suspended,
                        repeated,
                    };
                    (first.into(), span)
                },
            )
    }

    proptest! {
        #[test]
        fn round_trip((first, span) in span()) {
            let first = QueueOffset(first);
            prop_assert_eq!(Span::decode(first, &span.encode(first)).expect("decode"), span);
            prop_assert_eq!(read_next(&next_value(first)), Ok(first));
        }

        #[test]
        fn corruption_never_panics((first, span) in span(), cut: usize, at: usize, byte: u8, any: Vec<u8>) {
            let bytes = span.encode(QueueOffset(first));
            prop_assert!(Span::decode(QueueOffset(first), &bytes[..cut % bytes.len()]).is_err());
            let mut changed = bytes.clone();
            changed[at % bytes.len()] = byte;
            let _ = Span::decode(QueueOffset(first), &changed);
            let _ = Span::decode(QueueOffset(u64::MAX), &any);
            let _ = read_key(&any);
            let _ = read_next(&any);
        }

        #[test]
        fn keys_round_trip(topic: u64, group: u64, queue_id: u32, first: u64) {
            let (topic, group, first) = (TopicId(topic), ConsumerGroupId(group), QueueOffset(first));
            prop_assert_eq!(
                read_key(&span_key(topic, group, queue_id, first)),
                Ok((topic, group, Some(queue_id), Some(first)))
            );
            prop_assert_eq!(read_key(&next_key(topic, group, queue_id)), Ok((topic, group, Some(queue_id), None)));
            prop_assert_eq!(read_key(&progress_key(topic, group)), Ok((topic, group, None, None)));
        }
    }
}
