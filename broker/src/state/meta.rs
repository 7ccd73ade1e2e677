//! How far the state has come, and where an installation stands.
//!
//! ```text
//! family meta   key "applied"     u8 version = 2, u64 term, u64 index, u64 log time (unix ms), u32 format level,
//!                                 u64 cut: records of entries up to it are forgotten, 0 for none
//!                                 (version 1 had no cut, and an installation's mark in its place)
//!               key "membership"  opaque bytes of raft-store
//! family local  key "covered"     u8 version = 1, u64 term, u64 index: the entry that an installed export is of
//!               key "installing"  u8 version = 1: an installation was begun and not finished
//! ```

use super::codec::{DecodeError, Reader, Writer};
use super::kv::{Batch, Change, Family, KvError, KvView};
use bytes::Bytes;
use ledgermq_raft_store::types::{EntryId, LogIndex};

const VERSION: u8 = 2;
const VERSION_WITHOUT_CUT: u8 = 1;
const LOCAL_VERSION: u8 = 1;
/// The level of a state that no command has raised. Never changes: replicas of all releases begin alike.
pub(crate) const FIRST_LEVEL: u32 = 1;
/// Key of [`Meta`] in [`Family::Meta`].
pub(crate) const APPLIED_KEY: &[u8] = b"applied";
/// Key of the membership in [`Family::Meta`].
pub(crate) const MEMBERSHIP_KEY: &[u8] = b"membership";
const COVERED_KEY: &[u8] = b"covered";
const INSTALLING_KEY: &[u8] = b"installing";

/// How far the state has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub applied: Option<EntryId>,
    pub log_time_ms: u64,
    /// How apply behaves and what it writes, see [`super::level`].
    pub format_level: u32,
    /// Records of entries up to it are forgotten; 0 for none.
    pub cut: LogIndex,
    /// Of the last membership entry, opaque; a pair of its own.
    pub membership: Bytes,
}

impl Default for Meta {
    fn default() -> Meta {
        Meta {
            applied: None,
            log_time_ms: 0,
            format_level: FIRST_LEVEL,
            cut: LogIndex(0),
            membership: Bytes::new(),
        }
    }
}

impl Meta {
    /// The log may forget up to here once this is durable: what the cut let go of, but nothing that is still to be applied. The
    /// cut of an export may be ahead of the entry that it was installed under.
    pub fn released(&self) -> LogIndex {
        self.cut.min(self.applied.map_or(LogIndex(0), |applied| applied.index))
    }

    pub fn encode(&self) -> Vec<u8> {
        let id = self.applied.expect("written once something is applied");
        let mut writer = Writer::with_capacity(37);
        writer.u8(VERSION);
        write_id(&mut writer, id);
        writer.u64(self.log_time_ms);
        writer.u32(self.format_level);
        writer.u64(self.cut.get());
        writer.into_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Meta, DecodeError> {
        let mut reader = Reader::new("applied", bytes);
        let version = reader.u8()?;
        if version != VERSION && version != VERSION_WITHOUT_CUT {
            return Err(DecodeError::Version {
                what: "applied",
                version,
                known: VERSION,
            });
        }
        let mut meta = Meta {
            applied: Some(read_id(&mut reader)?),
            log_time_ms: reader.u64()?,
            format_level: reader.u32()?,
            ..Meta::default()
        };
        let number = reader.u64()?;
        match version {
            VERSION => meta.cut = LogIndex(number),
            // No release that wrote this version installed exports.
            _ if number != 0 => return Err(DecodeError::Bounds { what: "covered" }),
            _ => {}
        }
        reader.end()?;
        Ok(meta)
    }

    /// The one that a batch sets, if it does, without the membership.
    pub fn among(batch: &Batch) -> Result<Option<Meta>, DecodeError> {
        let applied = batch.changes.iter().find_map(|change| match change {
            Change::Put(Family::Meta, key, value) if key == APPLIED_KEY => Some(value),
            _ => None,
        });
        applied.map(|bytes| Meta::decode(bytes)).transpose()
    }

    /// The one of a store, with the membership; the default where nothing was applied.
    pub fn of(kv: &dyn KvView) -> Result<Meta, MetaError> {
        let mut meta = match kv.get(Family::Meta, APPLIED_KEY)? {
            Some(bytes) => Meta::decode(&bytes)?,
            None => Meta::default(),
        };
        meta.membership = kv.get(Family::Meta, MEMBERSHIP_KEY)?.unwrap_or_default().into();
        Ok(meta)
    }
}

/// The last entry applied and the newest cut in a store, for who looks at it from outside; `None` where nothing was applied
/// yet, or an installation is under way.
pub fn how_far(kv: &dyn KvView) -> Result<Option<(EntryId, LogIndex)>, KvError> {
    if is_installing(kv)? {
        return Ok(None);
    }
    let meta = Meta::of(kv).map_err(KvError::new)?;
    Ok(meta.applied.map(|applied| (applied, meta.cut)))
}

/// A pair of these can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MetaError {
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

fn write_id(writer: &mut Writer, id: EntryId) {
    writer.u64(id.term.0);
    writer.u64(id.index.0);
}

fn read_id(reader: &mut Reader<'_>) -> Result<EntryId, DecodeError> {
    Ok(EntryId::new(reader.u64()?, reader.u64()?))
}

/// The entry whose effect an installed export holds already, whatever is applied.
pub(crate) fn covered(kv: &dyn KvView) -> Result<Option<EntryId>, MetaError> {
    let Some(bytes) = kv.get(Family::Local, COVERED_KEY)? else {
        return Ok(None);
    };
    let mut reader = Reader::new("covered", &bytes);
    reader.version(LOCAL_VERSION)?;
    let id = read_id(&mut reader)?;
    reader.end()?;
    Ok(Some(id))
}

/// Whether an installation was begun and not finished.
pub(crate) fn is_installing(kv: &dyn KvView) -> Result<bool, KvError> {
    Ok(kv.get(Family::Local, INSTALLING_KEY)?.is_some())
}

/// What begins an installation: the mark, and no pair that an export could hold.
pub(crate) fn begin_installation() -> Batch {
    /// Above every key.
    const AFTER_ALL_KEYS: [u8; 64] = [0xff; 64];
    let remove = |family| Change::DeleteRange(family, Vec::new(), AFTER_ALL_KEYS.to_vec());
    let mut changes: Vec<Change> = Family::shared().map(remove).collect();
    changes.push(Change::Delete(Family::Local, COVERED_KEY.to_vec()));
    let mark = vec![LOCAL_VERSION];
    changes.push(Change::Put(Family::Local, INSTALLING_KEY.to_vec(), mark));
    Batch { changes }
}

/// What ends an installation: how far the state has come by its label, what the export holds beyond, and no mark.
pub(crate) fn finish_installation(meta: &Meta, covered: Option<EntryId>) -> Batch {
    let mut changes = vec![
        Change::Put(Family::Meta, APPLIED_KEY.to_vec(), meta.encode()),
        // Of the label, where the export's is of its own entry.
        match meta.membership.is_empty() {
            true => Change::Delete(Family::Meta, MEMBERSHIP_KEY.to_vec()),
            false => Change::Put(Family::Meta, MEMBERSHIP_KEY.to_vec(), meta.membership.to_vec()),
        },
        Change::Delete(Family::Local, INSTALLING_KEY.to_vec()),
    ];
    if let Some(id) = covered {
        let mut writer = Writer::with_capacity(17);
        writer.u8(LOCAL_VERSION);
        write_id(&mut writer, id);
        changes.push(Change::Put(Family::Local, COVERED_KEY.to_vec(), writer.into_vec()));
    }
    Batch { changes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::kv::Kv;
    use crate::state::kv::memory::MemoryKv;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(term: u64, index: u64, log_time_ms: u64, cut: u64, membership: Vec<u8>) {
            let id = EntryId::new(term, index);
            let meta = Meta {
                applied: Some(id),
                log_time_ms,
                cut: LogIndex(cut),
                membership: membership.into(),
                ..Meta::default()
            };
            let kv = MemoryKv::new();
            kv.write(begin_installation()).expect("write");
            prop_assert!(is_installing(&kv).expect("read"));
            kv.write(finish_installation(&meta, Some(id))).expect("write");
            prop_assert!(!is_installing(&kv).expect("read"));
            prop_assert_eq!(Meta::of(&kv).expect("read"), meta);
            prop_assert_eq!(covered(&kv).expect("read"), Some(id));
            kv.write(begin_installation()).expect("write");
            prop_assert_eq!(covered(&kv).expect("read"), None);
            prop_assert_eq!(Meta::of(&kv).expect("read"), Meta::default());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, version in 1u8..=2) {
            let mut bytes = bytes;
            let _ = Meta::decode(&bytes);
            bytes.insert(0, version);
            let _ = Meta::decode(&bytes);
            let kv = MemoryKv::new();
            kv.write(Batch { changes: vec![Change::Put(Family::Local, COVERED_KEY.to_vec(), bytes)] }).expect("write");
            let _ = covered(&kv);
        }
    }

    #[test]
    fn the_version_without_a_cut_is_read() {
        let meta = Meta {
            applied: Some(EntryId::new(3, 4)),
            log_time_ms: 5,
            ..Meta::default()
        };
        let mut bytes = meta.encode();
        bytes[0] = VERSION_WITHOUT_CUT;
        assert_eq!(Meta::decode(&bytes), Ok(meta));
        bytes[29] = 1;
        assert_eq!(Meta::decode(&bytes), Err(DecodeError::Bounds { what: "covered" }));
    }
}
