//! What was sent and asked within the window: the message ids that make a repeated send a duplicate, and the
//! request ids that make a repeated command answer as it did first. Forgotten by log time, never earlier.
//! The bytes of what one entry added are in [`pair`].

mod pair;

use super::changes::Changes;
use super::codec::DecodeError;
use super::identity::{QueueOffset, RequestId};
use super::kv::Family;
use super::limits;
use crate::marks::mark;
use crate::planted::{Bug, Planted};
use pair::Pair;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

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

    /// The same, where the numbers come from stored bytes.
    fn checked(queue_id: u32, offset: QueueOffset) -> Option<Packed> {
        let fits = offset.0 < 1 << OFFSET_BITS && queue_id < 1 << (u64::BITS - OFFSET_BITS);
        fits.then(|| Packed::new(queue_id, offset))
    }

    /// The next place of the same queue.
    fn next(self) -> Option<Packed> {
        let (queue_id, offset) = self.place();
        Packed::checked(queue_id, offset.next())
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
            changes.delete(Family::Recent, Pair::key(oldest.index));
        }
    }

    /// Ends an entry: writes what it added, as a state of this level keeps it.
    pub fn close_entry(&mut self, index: u64, time_ms: u64, format_level: u32, changes: &mut Changes) {
        if self.open_sends == 0 && self.open_requests == 0 {
            return;
        }
        let (sends, requests) = (self.open_sends as usize, self.open_requests as usize);
        let newest_sends = self.send_keys.range(self.send_keys.len() - sends..);
        let newest_requests = self.request_keys.range(self.request_keys.len() - requests..);
        let pair = Pair {
            time_ms,
            sends: newest_sends.map(|key| (*key, self.sends[key])).collect(),
            requests: newest_requests.map(|id| (*id, self.requests[id])).collect(),
        };
        if !self.planted.has(Bug::DedupeWindowNotStored) {
            changes.put(Family::Recent, Pair::key(index), pair.encode(index, format_level));
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
        let (index, pair) = Pair::decode(key, value)?;
        let count = |count: usize| u32::try_from(count).map_err(|_| DecodeError::Bounds { what: "recent" });
        self.added.push_back(Added {
            time_ms: pair.time_ms,
            index,
            sends: count(pair.sends.len())?,
            requests: count(pair.requests.len())?,
        });
        for (key, packed) in pair.sends {
            self.sends.insert(key, packed);
            self.send_keys.push_back(key);
        }
        for (id, first) in pair.requests {
            self.requests.insert(id, first);
            self.request_keys.push_back(id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::kv::{Change, Kv, KvView, memory::MemoryKv};
    use crate::state::level::FORMAT_LEVEL;
    use proptest::prelude::*;

    #[test]
    fn is_kept_for_the_window_and_reloaded() {
        (1..=FORMAT_LEVEL).for_each(kept_and_reloaded);
    }

    fn kept_and_reloaded(level: u32) {
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
        recent.close_entry(5, 1_000, level, &mut changes);
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
        }

        #[test]
        fn places_are_packed_whole(queue_id in 0..65_536u32, offset in 0..1u64 << OFFSET_BITS) {
            prop_assert_eq!(Packed::new(queue_id, QueueOffset(offset)).place(), (queue_id, QueueOffset(offset)));
        }
    }
}
