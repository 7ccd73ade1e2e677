//! The bytes of one pair of the family `recent`: what one entry added.
//!
//! ```text
//! key    u64 entry, big endian
//! value  u8 version = 1, below level PACKED_RECENT
//!        varint time (unix ms)
//!        varint count, count × (u128 send hash, u64 queue << 48 | offset)
//!        varint count, count × (16 bytes request id, u8 kind, u64 what it made)
//! value  u8 version = 2, from level PACKED_RECENT on
//!        varint time (unix ms)
//!        varint count, count × (varint queue, varint first offset, varint messages, messages × u128 send hash)
//!        varint count, count × (16 bytes request id, u8 kind, zigzag what it made - entry × 4096)
//! ```
//!
//! An entry stores the messages of a queue at dense offsets, and what a request makes is numbered by its entry; so
//! version 2 takes 17 bytes a message where version 1 takes 24, and 19 a request where it takes 25.

use super::{FirstOutcome, Packed, RequestKind, SendKey};
use crate::state::codec::{DecodeError, Reader, Writer, unzigzag, zigzag};
use crate::state::identity::{QueueOffset, number_of};
use crate::state::level;
use ledgermq_raft_store::types::LogIndex;

const FLAT: u8 = 1;
const PACKED: u8 = 2;
const WHAT: &str = "recent";
const HASH_BYTES: usize = 16;

/// What one entry added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub time_ms: u64,
    pub sends: Vec<(SendKey, Packed)>,
    pub requests: Vec<([u8; 16], FirstOutcome)>,
}

impl Pair {
    pub fn key(index: u64) -> Vec<u8> {
        index.to_be_bytes().to_vec()
    }

    /// The value, as a state of this level keeps it.
    pub fn encode(mut self, index: u64, format_level: u32) -> Vec<u8> {
        let mut writer = Writer::with_capacity(24 + self.sends.len() * 24 + self.requests.len() * 25);
        match format_level >= level::PACKED_RECENT {
            true => {
                writer.u8(PACKED);
                writer.varint(self.time_ms);
                self.sends.sort_unstable_by_key(|(key, packed)| (packed.0, *key));
                write_runs(&mut writer, &self.sends);
            }
            false => {
                writer.u8(FLAT);
                writer.varint(self.time_ms);
                writer.varint(self.sends.len() as u64);
                for (key, packed) in &self.sends {
                    write_hash(&mut writer, key);
                    writer.u64(packed.0);
                }
            }
        }
        writer.varint(self.requests.len() as u64);
        for (id, first) in &self.requests {
            writer.raw(id);
            writer.u8(first.kind as u8);
            match format_level >= level::PACKED_RECENT {
                true => writer.varint(zigzag(first_number(index), first.made)),
                false => writer.u64(first.made),
            }
        }
        writer.into_vec()
    }

    /// The entry and what it added.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<(u64, Pair), DecodeError> {
        let index = <[u8; 8]>::try_from(key).map_err(|_| bounds())?;
        let index = u64::from_be_bytes(index);
        let mut reader = Reader::new(WHAT, value);
        let version = reader.u8()?;
        if version != FLAT && version != PACKED {
            return Err(DecodeError::Version {
                what: WHAT,
                version,
                known: PACKED,
            });
        }
        let time_ms = reader.varint()?;
        let sends = match version {
            PACKED => read_runs(&mut reader)?,
            _ => {
                let count = reader.count(HASH_BYTES + 8)?;
                let send = |reader: &mut Reader<'_>| Ok((read_hash(reader)?, Packed(reader.u64()?)));
                (0..count)
                    .map(|_| send(&mut reader))
                    .collect::<Result<_, DecodeError>>()?
            }
        };
        let count = reader.count(if version == PACKED { 18 } else { 25 })?;
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            let id = reader.id16()?;
            let kind = request_kind(reader.u8()?)?;
            let made = match version {
                PACKED => unzigzag(first_number(index), reader.varint()?),
                _ => reader.u64()?,
            };
            requests.push((id, FirstOutcome { kind, made }));
        }
        reader.end()?;
        Ok((
            index,
            Pair {
                time_ms,
                sends,
                requests,
            },
        ))
    }
}

fn bounds() -> DecodeError {
    DecodeError::Bounds { what: WHAT }
}

/// What the first command of an entry makes has this number; any index is taken, as stored bytes may hold it.
fn first_number(index: u64) -> u64 {
    const _: () = assert!(crate::state::identity::COMMANDS_PER_ENTRY == 1 << 12);
    debug_assert!(index >= 1 << 52 || number_of(LogIndex(index), 0) == index << 12);
    index << 12
}

fn write_hash(writer: &mut Writer, key: &SendKey) {
    writer.u64(key[0]);
    writer.u64(key[1]);
}

fn read_hash(reader: &mut Reader<'_>) -> Result<SendKey, DecodeError> {
    Ok([reader.u64()?, reader.u64()?])
}

/// `sends` ascend by place; those of one queue at dense offsets make a run.
fn write_runs(writer: &mut Writer, sends: &[(SendKey, Packed)]) {
    let dense = |a: &(SendKey, Packed), b: &(SendKey, Packed)| a.1.next() == Some(b.1);
    writer.varint(sends.chunk_by(dense).count() as u64);
    for run in sends.chunk_by(dense) {
        let (queue_id, first) = run[0].1.place();
        writer.varint(queue_id.into());
        writer.varint(first.0);
        writer.varint(run.len() as u64);
        run.iter().for_each(|(key, _)| write_hash(writer, key));
    }
}

fn read_runs(reader: &mut Reader<'_>) -> Result<Vec<(SendKey, Packed)>, DecodeError> {
    let runs = reader.count(3 + HASH_BYTES)?;
    let mut sends = Vec::with_capacity(runs);
    for _ in 0..runs {
        let (queue_id, mut offset) = (reader.varint_u32()?, reader.varint()?);
        let messages = reader.count(HASH_BYTES)?;
        for _ in 0..messages {
            let packed = Packed::checked(queue_id, QueueOffset(offset)).ok_or_else(bounds)?;
            sends.push((read_hash(reader)?, packed));
            offset += 1;
        }
    }
    Ok(sends)
}

fn request_kind(number: u8) -> Result<RequestKind, DecodeError> {
    match number {
        1 => Ok(RequestKind::CreateTopic),
        2 => Ok(RequestKind::DeleteTopic),
        3 => Ok(RequestKind::CreateConsumerGroup),
        4 => Ok(RequestKind::Lease),
        5 => Ok(RequestKind::ChangeVisibility),
        kind => Err(DecodeError::Kind { what: WHAT, kind }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair() -> impl Strategy<Value = Pair> {
        let place = (0..4u32, prop_oneof![0..20u64, 0..1u64 << 48]);
        let send = (any::<[u64; 2]>(), place)
            .prop_map(|(key, (queue_id, offset))| (key, Packed::new(queue_id, QueueOffset(offset))));
        let request = (any::<[u8; 16]>(), 1u8..=5, any::<u64>()).prop_map(|(id, kind, made)| {
            let kind = request_kind(kind).expect("known");
            (id, FirstOutcome { kind, made })
        });
        let (sends, requests) = (
            proptest::collection::vec(send, 0..40),
            proptest::collection::vec(request, 0..5),
        );
        (any::<u64>(), sends, requests).prop_map(|(time_ms, sends, requests)| Pair {
            time_ms,
            sends,
            requests,
        })
    }

    proptest! {
        #[test]
        fn both_versions_round_trip(pair in pair(), index: u64) {
            let flat = pair.clone().encode(index, level::PACKED_RECENT - 1);
            prop_assert_eq!((flat[0], Pair::decode(&Pair::key(index), &flat)), (FLAT, Ok((index, pair.clone()))));
            let packed = pair.clone().encode(index, level::PACKED_RECENT);
            let mut sorted = pair;
            sorted.sends.sort_unstable_by_key(|(key, packed)| (packed.0, *key));
            prop_assert_eq!((packed[0], Pair::decode(&Pair::key(index), &packed)), (PACKED, Ok((index, sorted))));
        }

        #[test]
        fn any_bytes_are_read_or_refused(key: Vec<u8>, value: Vec<u8>, version in 0u8..4) {
            let _ = Pair::decode(&key, &value);
            let mut value = value;
            value.insert(0, version);
            let read = Pair::decode(&[0; 8], &value);
            prop_assert!((1..=2).contains(&version) || read.is_err());
        }
    }

    /// Three producers fill eight queues, and one receive comes between.
    #[test]
    fn packing_saves_a_quarter() {
        let index = 1_000_000;
        let send = |n: u64| {
            let place = Packed::new((n % 8) as u32, QueueOffset(5_000_000 + n / 8));
            ([n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n], place)
        };
        let request = |n: u8| {
            let made = number_of(LogIndex(index), n.into());
            let kind = RequestKind::Lease;
            ([n; 16], FirstOutcome { kind, made })
        };
        let pair = Pair {
            time_ms: 1_700_000_000_000,
            sends: (0..96).map(send).collect(),
            requests: (0..4).map(request).collect(),
        };
        let flat = pair.clone().encode(index, 1).len();
        let packed = pair.encode(index, 2).len();
        assert!(packed * 4 < flat * 3, "{packed} of {flat} bytes");
    }
}
