//! The whole state in parts: a copy as of one entry, all pairs but those of this replica alone, sorted. Each part
//! stands by itself, so a transfer goes on wherever it broke off, from any replica's export of the same entry.
//!
//! ```text
//!  0 u32 magic "LMQP"   4 u8 version = 1   5 u8 flags: 1 = the last part   6 u16 0          little endian
//!  8 u64 term   16 u64 index of the entry that the export is of
//! 24 u32 length of the pairs   28 u32 CRC32C of bytes 0..28 and of the pairs
//! 32 pairs, ascending by family and key: u8 family, varint length, key, varint length, value
//!
//! where a part begins: u8 family, then the key of its first pair; empty for the first part
//! ```

use super::codec::{DecodeError, Reader, Writer};
use super::identity::export_hasher;
use super::kv::{Batch, Change, Family, KvError, KvView, for_each_pair};
use super::meta::{APPLIED_KEY, MEMBERSHIP_KEY, Meta};
use crate::planted::{Bug, Planted};
use bytes::Bytes;
use ledgermq_raft_store::{EntryId, Export, ExportPart, MachineError, membership_in_force};
use siphasher::sip128::Hasher128;
use std::hash::Hasher;
use std::sync::Arc;

const MAGIC: u32 = u32::from_le_bytes(*b"LMQP");
const VERSION: u8 = 1;
const LAST: u8 = 1;
const CHECKED_BYTES: usize = 28;
const HEAD_BYTES: usize = 32;
const WHAT: &str = "part of an export";
/// Pairs read at once: what is in memory beside the part.
const PAGE: usize = 256;

/// A state as of one entry.
pub(crate) struct StateExport {
    id: EntryId,
    /// The pair "applied" as of that entry: after an installation the store's own lags behind what the state holds.
    applied: Vec<u8>,
    view: Arc<dyn KvView>,
    planted: Planted,
}

/// A place between pairs.
type Place = (Family, Vec<u8>);

fn cursor(family: Family, key: &[u8]) -> Bytes {
    let mut bytes = vec![family as u8];
    bytes.extend_from_slice(key);
    bytes.into()
}

fn read_cursor(bytes: &[u8]) -> Result<Place, DecodeError> {
    match bytes.split_first() {
        None => Ok((Family::Meta, Vec::new())),
        Some((family, key)) => Ok((shared_family(*family)?, key.to_vec())),
    }
}

fn shared_family(number: u8) -> Result<Family, DecodeError> {
    let family = Family::of(number).filter(|family| *family != Family::Local);
    family.ok_or(DecodeError::Bounds { what: "family" })
}

impl StateExport {
    /// `view` is of a moment at which the state held the effect of `meta.applied`, which is there.
    pub fn new(meta: &Meta, view: Arc<dyn KvView>, planted: Planted) -> StateExport {
        StateExport {
            id: meta.applied.expect("the caller checked"),
            applied: meta.encode(),
            view,
            planted,
        }
    }

    fn part(&self, from: &[u8], bytes_max: usize) -> Result<ExportPart, MachineError> {
        let failed = |error: &dyn std::fmt::Display| MachineError::new(format!("the state can't be exported: {error}"));
        let (first, from) = read_cursor(from).map_err(|error| failed(&error))?;
        let mut pairs = Writer::with_capacity(bytes_max.min(1 << 20));
        for family in Family::shared().filter(|family| *family >= first) {
            let mut from = if family == first { from.clone() } else { Vec::new() };
            loop {
                let page = self
                    .view
                    .scan(family, &from, &[], PAGE)
                    .map_err(|error| failed(&error))?;
                let is_last = page.len() < PAGE;
                for (key, value) in page {
                    if pairs.written().len() >= bytes_max.max(1) {
                        return Ok(self.framed(pairs, Some(cursor(family, &key))));
                    }
                    let left_out = match family {
                        Family::Spans => self.planted.has(Bug::SnapshotWithoutLeases),
                        // The first pair of a progress names it; the others say how far it is.
                        Family::Progress => self.planted.has(Bug::ProgressNotExported) && key.len() > 16,
                        _ => false,
                    };
                    if left_out {
                        from = key;
                        from.push(0);
                        continue;
                    }
                    let applied = family == Family::Meta && key == APPLIED_KEY;
                    write_pair(&mut pairs, family, &key, if applied { &self.applied } else { &value });
                    from = key;
                    from.push(0);
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(self.framed(pairs, None))
    }

    fn framed(&self, pairs: Writer, next: Option<Bytes>) -> ExportPart {
        let mut writer = Writer::with_capacity(HEAD_BYTES + pairs.written().len());
        writer.u32(MAGIC);
        writer.u8(VERSION);
        writer.u8(if next.is_none() { LAST } else { 0 });
        writer.raw(&[0; 2]);
        writer.u64(self.id.term.0);
        writer.u64(self.id.index.0);
        writer.u32(u32::try_from(pairs.written().len()).expect("a part is far below 4 GiB"));
        let checksum = crc32c::crc32c_append(crc32c::crc32c(writer.written()), pairs.written());
        writer.u32(checksum);
        writer.raw(pairs.written());
        ExportPart {
            bytes: writer.finish(),
            next,
        }
    }
}

fn write_pair(writer: &mut Writer, family: Family, key: &[u8], value: &[u8]) {
    writer.u8(family as u8);
    writer.varint(key.len() as u64);
    writer.raw(key);
    writer.varint(value.len() as u64);
    writer.raw(value);
}

impl Export for StateExport {
    fn id(&self) -> EntryId {
        self.id
    }

    fn read(&self, from: &[u8], bytes_max: usize) -> Result<ExportPart, MachineError> {
        self.part(from, bytes_max)
    }
}

/// An export being put together again: parts must be of one export, in order, and the last one must come.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    id: Option<EntryId>,
    /// The last pair so far.
    reached: Option<Place>,
    is_complete: bool,
}

impl Assembly {
    /// Checks the next part and answers what to write.
    pub fn add(&mut self, part: &[u8]) -> Result<Batch, DecodeError> {
        let (id, is_last, pairs) = read_part(part)?;
        if self.is_complete || self.id.is_some_and(|known| known != id) {
            return Err(DecodeError::Bounds {
                what: "entry of a part",
            });
        }
        let mut batch = Batch::default();
        for (family, key, value) in pairs {
            let place = (family, key);
            if self.reached.as_ref().is_some_and(|reached| *reached >= place) {
                return Err(DecodeError::Bounds {
                    what: "order of the parts",
                });
            }
            batch.changes.push(Change::Put(family, place.1.clone(), value));
            self.reached = Some(place);
        }
        self.id = Some(id);
        self.is_complete = is_last;
        Ok(batch)
    }

    /// The entry that the export is of, once all of it is here.
    pub fn complete(&self) -> Option<EntryId> {
        self.id.filter(|_| self.is_complete)
    }
}

type ReadPair = (Family, Vec<u8>, Vec<u8>);

fn read_part(part: &[u8]) -> Result<(EntryId, bool, Vec<ReadPair>), DecodeError> {
    let mut reader = Reader::new(WHAT, part);
    if reader.u32()? != MAGIC {
        return Err(DecodeError::Bounds {
            what: "magic of a part",
        });
    }
    reader.version(VERSION)?;
    let flags = reader.u8()?;
    let zeros = reader.raw(2)?;
    let id = EntryId::new(reader.u64()?, reader.u64()?);
    let length = reader.u32()? as usize;
    let checksum = reader.u32()?;
    let pairs = reader.raw(length)?;
    reader.end()?;
    let found = crc32c::crc32c_append(crc32c::crc32c(&part[..CHECKED_BYTES]), pairs);
    if found != checksum || flags > LAST || zeros != [0; 2] {
        return Err(DecodeError::Bounds {
            what: "checksum of a part",
        });
    }
    let mut reader = Reader::new(WHAT, pairs);
    let mut read = Vec::new();
    while reader.left() > 0 {
        let family = shared_family(reader.u8()?)?;
        let length = reader.count(1)?;
        let key = reader.raw(length)?.to_vec();
        let length = reader.count(1)?;
        read.push((family, key, reader.raw(length)?.to_vec()));
    }
    Ok((id, flags == LAST, read))
}

/// Hash over all that every replica holds alike: all pairs, but of the kept memberships the one in force alone.
pub(crate) fn digest(view: &dyn KvView) -> Result<u128, KvError> {
    let mut hasher = export_hasher();
    for family in Family::shared() {
        for_each_pair(view, family, |key, value| {
            let is_membership = family == Family::Meta && key == MEMBERSHIP_KEY;
            // What is no membership does not pass for one: it is hashed as it is.
            let in_force = is_membership.then(|| membership_in_force(value).ok()).flatten();
            let value = in_force.as_deref().unwrap_or(value);
            hasher.write(&[family as u8]);
            hasher.write(&(key.len() as u64).to_le_bytes());
            hasher.write(key);
            hasher.write(&(value.len() as u64).to_le_bytes());
            hasher.write(value);
            Ok::<(), KvError>(())
        })?;
    }
    Ok(hasher.finish128().as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::kv::Kv;
    use crate::state::kv::memory::MemoryKv;
    use proptest::prelude::*;

    fn meta(index: u64) -> Meta {
        Meta {
            applied: Some(EntryId::new(1, index)),
            ..Meta::default()
        }
    }

    fn put(family: u8, key: &[u8], value: &[u8]) -> Change {
        Change::Put(Family::of(family).expect("known"), key.to_vec(), value.to_vec())
    }

    /// A store of these pairs and "applied", and its export.
    fn export(pairs: &[(u8, Vec<u8>, Vec<u8>)]) -> (MemoryKv, StateExport) {
        let kv = MemoryKv::new();
        let mut changes: Vec<Change> = pairs
            .iter()
            .map(|(family, key, value)| put(*family, key, value))
            .collect();
        changes.push(put(0, APPLIED_KEY, &meta(9).encode()));
        kv.write(Batch { changes }).expect("write");
        let export = StateExport::new(&meta(9), kv.view().expect("view"), Planted::default());
        (kv, export)
    }

    fn parts(export: &StateExport, bytes_max: usize) -> Vec<Bytes> {
        let (mut parts, mut from) = (Vec::new(), Bytes::new());
        loop {
            let part = export.read(&from, bytes_max).expect("part");
            assert_eq!(export.read(&from, bytes_max).expect("again"), part);
            parts.push(part.bytes);
            match part.next {
                Some(next) => from = next,
                None => return parts,
            }
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            pairs in proptest::collection::vec((0u8..10, any::<Vec<u8>>(), any::<Vec<u8>>()), 0..600),
            bytes_max in 0usize..5_000,
        ) {
            let (from, export) = export(&pairs);
            from.write(Batch { changes: vec![put(3, b"later", b"")] }).expect("write");
            let to = MemoryKv::new();
            let mut assembly = Assembly::default();
            for part in parts(&export, bytes_max) {
                prop_assert_eq!(assembly.complete(), None);
                let batch = assembly.add(&part).expect("part");
                prop_assert!(part.len() < bytes_max + HEAD_BYTES + 300 || batch.changes.len() == 1);
                to.write(batch).expect("write");
            }
            prop_assert_eq!(assembly.complete(), Some(EntryId::new(1, 9)));
            prop_assert_eq!(digest(&*export.view).expect("digest"), digest(&to).expect("digest"));
            prop_assert!(to.scan(Family::Local, &[], &[], 1).expect("scan").is_empty());
        }

        #[test]
        fn corruption_is_refused(at: usize, bit in 0..8u32, any: Vec<u8>) {
            let (_, export) = export(&[(3, vec![1], vec![2; 40])]);
            let mut bytes = parts(&export, 1 << 20).remove(0).to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1u8 << bit;
            prop_assert!(Assembly::default().add(&bytes).is_err());
            let _ = Assembly::default().add(&any);
            let _ = export.read(&any, 100);
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let (kv, export) = export(&[(3, vec![1], vec![2; 40]), (4, vec![1], vec![2; 40])]);
        let ours = parts(&export, 1);
        let theirs = parts(
            &StateExport::new(&meta(10), kv.view().expect("view"), Planted::default()),
            1,
        );
        let mut assembly = Assembly::default();
        assembly.add(&ours[0]).expect("the first");
        assert!(assembly.add(&ours[0]).is_err(), "twice");
        assert!(assembly.add(&theirs[1]).is_err(), "of another entry");
        assembly.add(&ours[1]).expect("the second");
        assembly.add(&ours[2]).expect("the third");
        assert!(assembly.complete().is_some());
        assert!(assembly.add(&ours[2]).is_err(), "after the last");
    }
}
