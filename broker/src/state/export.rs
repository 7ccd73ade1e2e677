//! The whole state as one string of bytes: all pairs but those of this replica alone, sorted, checksummed.
//!
//! ```text
//! 8 bytes "LMQSTATE", u8 version = 1
//! for each pair: u8 1, u8 family, varint length, key, varint length, value
//! u8 0, u32 CRC32C of all before
//! ```

use super::codec::{DecodeError, Reader, Writer};
use super::identity::export_hasher;
use super::kv::{Batch, Change, Family, Kv, KvError, for_each_pair};
use bytes::Bytes;
use siphasher::sip128::Hasher128;
use std::hash::Hasher;

const MAGIC: &[u8; 8] = b"LMQSTATE";
const VERSION: u8 = 1;
const WHAT: &str = "export";
/// Above every key.
const AFTER_ALL_KEYS: [u8; 64] = [0xff; 64];

/// The families that every replica holds alike.
fn shared_families() -> impl Iterator<Item = Family> {
    Family::ALL.into_iter().filter(|family| *family != Family::Local)
}

/// All pairs of a store.
pub(crate) fn write(kv: &dyn Kv) -> Result<Bytes, KvError> {
    let mut writer = Writer::with_capacity(1 << 20);
    writer.raw(MAGIC);
    writer.u8(VERSION);
    for family in shared_families() {
        for_each_pair(kv, family, |key, value| {
            writer.u8(1);
            writer.u8(family as u8);
            writer.varint(key.len() as u64);
            writer.raw(key);
            writer.varint(value.len() as u64);
            writer.raw(value);
            Ok::<(), KvError>(())
        })?;
    }
    writer.u8(0);
    let checksum = crc32c::crc32c(writer.written());
    writer.u32(checksum);
    Ok(writer.finish())
}

/// The batch that replaces all pairs of a store by these.
pub(crate) fn read(bytes: &[u8]) -> Result<Batch, DecodeError> {
    let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(DecodeError::Short { what: WHAT })?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return Err(DecodeError::Bounds {
            what: "checksum of the export",
        });
    }
    let mut reader = Reader::new(WHAT, body);
    if reader.raw(MAGIC.len())? != MAGIC {
        return Err(DecodeError::Bounds {
            what: "magic of the export",
        });
    }
    reader.version(VERSION)?;
    let mut batch = Batch::default();
    for family in shared_families() {
        batch
            .changes
            .push(Change::DeleteRange(family, Vec::new(), AFTER_ALL_KEYS.to_vec()));
    }
    while reader.u8()? == 1 {
        let family = Family::of(reader.u8()?).ok_or(DecodeError::Bounds { what: "family" })?;
        let length = reader.count(1)?;
        let key = reader.raw(length)?.to_vec();
        let length = reader.count(1)?;
        batch
            .changes
            .push(Change::Put(family, key, reader.raw(length)?.to_vec()));
    }
    reader.end()?;
    Ok(batch)
}

/// Hash over all pairs that every replica holds alike.
pub(crate) fn digest(kv: &dyn Kv) -> Result<u128, KvError> {
    let mut hasher = export_hasher();
    for family in shared_families() {
        for_each_pair(kv, family, |key, value| {
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
    use crate::state::kv::memory::MemoryKv;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(pairs in proptest::collection::vec((0u8..7, any::<Vec<u8>>(), any::<Vec<u8>>()), 0..20)) {
            let (from, to) = (MemoryKv::new(), MemoryKv::new());
            let put = |(family, key, value): (u8, Vec<u8>, Vec<u8>)| {
                Change::Put(Family::of(family).expect("known"), key, value)
            };
            from.write(Batch { changes: pairs.into_iter().map(put).collect() }).expect("write");
            to.write(Batch { changes: vec![put((3, b"old".to_vec(), Vec::new()))] }).expect("write");
            to.write(read(&write(&from).expect("export")).expect("read")).expect("write");
            prop_assert_eq!(digest(&from), digest(&to));
        }

        #[test]
        fn corruption_is_refused(at: usize, bit in 0..8u32, any: Vec<u8>) {
            let kv = MemoryKv::new();
            kv.write(Batch { changes: vec![Change::Put(Family::Runs, vec![1], vec![2; 40])] }).expect("write");
            let mut bytes = write(&kv).expect("export").to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1u8 << bit;
            prop_assert!(read(&bytes).is_err());
            let _ = read(&any);
        }
    }
}
