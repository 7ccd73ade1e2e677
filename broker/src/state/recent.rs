//! What was sent and asked within the window: the message ids that make a repeated send a duplicate, and the
//! request ids that make a repeated command answer as it did first. Forgotten by log time, never earlier.
//!
//! ```text
//! key    u64 entry, big endian
//! value  u8 version = 1, varint time (unix ms),
//!        varint count, count × (u128 send hash, u64 queue << 48 | offset)
//!        varint count, count × (16 bytes request id, u8 kind, u64 what it made)
//! ```

use super::changes::Changes;
use super::codec::{DecodeError, Reader, Writer};
use super::identity::{QueueOffset, RequestId};
use super::kv::Family;
use super::limits;
use crate::marks::mark;
use crate::planted::{Bug, Planted};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

const VERSION: u8 = 1;
const WHAT: &str = "recent";
const OFFSET_BITS: u32 = 48;

/// What a remembered request was. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RequestKind {
    CreateTopic = 1,
    DeleteTopic = 2,
    CreateConsumerGroup = 3,
    Lease = 4,
    ChangeVisibility = 5,
}

/// A request's first outcome: what it made (a topic, consumer group or lease id) by a command of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstOutcome {
    pub kind: RequestKind,
    pub made: u64,
}

/// Where a message was stored, in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

impl Packed {
    fn new(queue_id: u32, offset: QueueOffset) -> Packed {
        assert!(offset.0 < 1 << OFFSET_BITS, "queue offset {offset}");
        Packed(u64::from(queue_id) << OFFSET_BITS | offset.0)
    }

    fn place(self) -> (u32, QueueOffset) {
        (
            (self.0 >> OFFSET_BITS) as u32,
            QueueOffset(self.0 & ((1 << OFFSET_BITS) - 1)),
        )
    }
}

/// A hash in halves, so that a pair of the map takes 24 bytes.
type SendKey = [u64; 2];

fn send_key(hash: u128) -> SendKey {
    [hash as u64, (hash >> 64) as u64]
}

/// Takes the low half of a hash, or the first bytes of a random id, as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(23) ^ u64::from_le_bytes(word);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = self.0.rotate_left(23) ^ value;
    }

    fn write_usize(&mut self, _length: usize) {}
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<AsItIs>>;

/// What one entry added.
#[derive(Clone, Copy, Debug)]
struct Added {
    time_ms: u64,
    index: u64,
    sends: u32,
    requests: u32,
}

/// Message ids and request ids within the window. The maps are for lookups and never iterated.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    planted: Planted,
    sends: Map<SendKey, Packed>,
    requests: Map<[u8; 16], FirstOutcome>,
    /// In the order of the log, for forgetting.
    added: VecDeque<Added>,
    send_keys: VecDeque<SendKey>,
    request_keys: VecDeque<[u8; 16]>,
    /// Of the entry that is being applied: how many of the newest keys.
    open_sends: u32,
    open_requests: u32,
}

impl Recent {
    /// Nothing is remembered.
    pub fn new(planted: Planted) -> Recent {
        Recent {
            planted,
            ..Recent::default()
        }
    }

    /// Where a message of this hash was stored first.
    pub fn send(&self, hash: u128) -> Option<(u32, QueueOffset)> {
        self.sends.get(&send_key(hash)).map(|packed| packed.place())
    }

    /// Whether `count` more message ids fit.
    pub fn has_room_for_sends(&self, count: usize, bound: usize) -> bool {
        self.sends.len() + count <= bound
    }

    /// Remembers a message; its hash must be new.
    pub fn add_send(&mut self, hash: u128, queue_id: u32, offset: QueueOffset) {
        let known = self.sends.insert(send_key(hash), Packed::new(queue_id, offset));
        assert!(known.is_none(), "a send is remembered once");
        self.send_keys.push_back(send_key(hash));
        self.open_sends += 1;
    }

    /// The first outcome of a request of this kind.
    pub fn request(&self, id: RequestId, kind: RequestKind) -> Option<u64> {
        if self.planted.has(Bug::RepeatedRequestApplied) {
            return None;
        }
        let first = self.requests.get(&id.0).filter(|first| first.kind == kind)?;
        mark("repeated_request");
        Some(first.made)
    }

    /// Whether one more request fits.
    pub fn has_room_for_request(&self, bound: usize) -> bool {
        self.requests.len() < bound
    }

    /// Remembers a request, unless its id is known.
    pub fn add_request(&mut self, id: RequestId, first: FirstOutcome) {
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.requests.entry(id.0) {
            vacant.insert(first);
            self.request_keys.push_back(id.0);
            self.open_requests += 1;
        }
    }

    /// Forgets what is older than the window.
    pub fn expire(&mut self, now_ms: u64, changes: &mut Changes) {
        let window_ms = match self.planted.has(Bug::DedupeForgetsEarly) {
            true => 1_000,
            false => limits::WINDOW_MS,
        };
        while let Some(oldest) = self.added.front().copied() {
            if oldest.time_ms.saturating_add(window_ms) >= now_ms {
                break;
            }
            self.added.pop_front();
            for key in self.send_keys.drain(..oldest.sends as usize) {
                self.sends.remove(&key);
            }
            for key in self.request_keys.drain(..oldest.requests as usize) {
                self.requests.remove(&key);
            }
            changes.delete(Family::Recent, oldest.index.to_be_bytes().to_vec());
        }
    }

    /// Ends an entry: writes what it added.
    pub fn close_entry(&mut self, index: u64, time_ms: u64, changes: &mut Changes) {
        if self.open_sends == 0 && self.open_requests == 0 {
            return;
        }
        let (sends, requests) = (self.open_sends as usize, self.open_requests as usize);
        let mut writer = Writer::with_capacity(24 + sends * 24 + requests * 25);
        writer.u8(VERSION);
        writer.varint(time_ms);
        writer.varint(sends as u64);
        for key in self.send_keys.range(self.send_keys.len() - sends..) {
            writer.u64(key[0]);
            writer.u64(key[1]);
            writer.u64(self.sends[key].0);
        }
        writer.varint(requests as u64);
        for key in self.request_keys.range(self.request_keys.len() - requests..) {
            let first = self.requests[key];
            writer.raw(key);
            writer.u8(first.kind as u8);
            writer.u64(first.made);
        }
        if !self.planted.has(Bug::DedupeWindowNotStored) {
            changes.put(Family::Recent, index.to_be_bytes().to_vec(), writer.into_vec());
        }
        self.added.push_back(Added {
            time_ms,
            index,
            sends: self.open_sends,
            requests: self.open_requests,
        });
        (self.open_sends, self.open_requests) = (0, 0);
    }

    /// Takes a stored pair in, on opening; pairs come in the order of the log.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let index = <[u8; 8]>::try_from(key).map_err(|_| DecodeError::Bounds { what: WHAT })?;
        let mut reader = Reader::new(WHAT, value);
        reader.version(VERSION)?;
        let time_ms = reader.varint()?;
        let sends = reader.count(24)?;
        for _ in 0..sends {
            let key = [reader.u64()?, reader.u64()?];
            self.sends.insert(key, Packed(reader.u64()?));
            self.send_keys.push_back(key);
        }
        let requests = reader.count(25)?;
        for _ in 0..requests {
            let id = reader.id16()?;
            let kind = request_kind(reader.u8()?)?;
            self.requests.insert(
                id,
                FirstOutcome {
                    kind,
                    made: reader.u64()?,
                },
            );
            self.request_keys.push_back(id);
        }
        reader.end()?;
        let count = |count: usize| u32::try_from(count).map_err(|_| DecodeError::Bounds { what: WHAT });
        let (sends, requests) = (count(sends)?, count(requests)?);
        self.added.push_back(Added {
            time_ms,
            index: u64::from_be_bytes(index),
            sends,
            requests,
        });
        Ok(())
    }
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
    use crate::state::kv::{Change, Kv, KvView, memory::MemoryKv};
    use proptest::prelude::*;

    #[test]
    fn is_kept_for_the_window_and_reloaded() {
        let kv = MemoryKv::new();
        let mut recent = Recent::default();
        let mut changes = Changes::default();
        recent.add_send(7 << 70, 3, QueueOffset(9));
        recent.add_request(
            RequestId([1; 16]),
            FirstOutcome {
                kind: RequestKind::Lease,
                made: 77,
            },
        );
        recent.close_entry(5, 1_000, &mut changes);
        kv.write(changes.into_batch()).expect("write");
        let mut again = Recent::default();
        for (key, value) in kv.scan(Family::Recent, &[], &[], 9).expect("scan") {
            again.load(&key, &value).expect("load");
        }
        for recent in [&mut recent, &mut again] {
            let mut changes = Changes::default();
            recent.expire(1_000 + limits::WINDOW_MS, &mut changes);
            assert_eq!(recent.send(7 << 70), Some((3, QueueOffset(9))));
            assert_eq!(recent.request(RequestId([1; 16]), RequestKind::Lease), Some(77));
            assert_eq!(recent.request(RequestId([1; 16]), RequestKind::DeleteTopic), None);
            recent.expire(1_001 + limits::WINDOW_MS, &mut changes);
            assert_eq!(recent.send(7 << 70), None);
            assert_eq!(recent.request(RequestId([1; 16]), RequestKind::Lease), None);
            assert!(matches!(
                &changes.into_batch().changes[..],
                [Change::Delete(Family::Recent, _)]
            ));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_loaded_or_refused(key: Vec<u8>, value: Vec<u8>) {
            let _ = Recent::default().load(&key, &value);
            let mut value = value;
            value.insert(0, VERSION);
            let _ = Recent::default().load(&[0; 8], &value);
        }

        #[test]
        fn places_are_packed_whole(queue_id in 0..65_536u32, offset in 0..1u64 << OFFSET_BITS) {
            prop_assert_eq!(Packed::new(queue_id, QueueOffset(offset)).place(), (queue_id, QueueOffset(offset)));
        }
    }
}
