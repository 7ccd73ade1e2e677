//! Who a folder belongs to: a file `identity` beside the log, written once at birth and once when the cluster's id
//! becomes known.
//!
//! ```text
//! magic "LMQI": [u8; 4] | version 1: u16 | zero: u16 | replica id: u64 | incarnation: u64
//! | broker group: string | cluster id: string (empty before the bootstrap) | crc32c of all before: u32
//! string = length: u16 | UTF-8                                              little endian
//! ```
//!
//! It is replaced whole: written beside, synced, renamed, folder synced.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};

use crate::disk::{Disk, Open};
use crate::errors::OpenError;
use crate::types::ReplicaId;

const MAGIC: [u8; 4] = *b"LMQI";
const VERSION: u16 = 1;
const FILE: &str = "identity";
const FILE_NEW: &str = "identity.new";
/// Nothing longer is read.
const BYTES_MAX: u64 = 4096;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The replica.
    pub id: ReplicaId,
    /// Random, drawn at birth: tells this folder from any other of the same replica id.
    pub incarnation: u64,
    /// The broker group.
    pub broker_group: String,
    /// The cluster, once known.
    pub cluster_id: Option<String>,
}

/// The identity of an open folder. The cluster id is set once; the rest never changes.
pub struct Keeper {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Mutex<Identity>,
    /// One writer at a time.
    writing: tokio::sync::Mutex<()>,
}

/// The folder already belongs to another cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica belongs to cluster {0}")]
pub struct OtherCluster(pub String);

impl Keeper {
    /// Opens the identity in `dir`, or gives a new folder this one. Fails on a folder of someone else.
    pub async fn open(disk: Arc<dyn Disk>, dir: &Path, newborn: Identity) -> Result<Keeper, OpenError> {
        disk.create_dir_all(dir)?;
        let found = match disk.exists(&dir.join(FILE))? {
            true => Some(decode(&load(disk.as_ref(), &dir.join(FILE))?).map_err(OpenError::Identity)?),
            false => None,
        };
        let identity = match found {
            Some(found) if (found.id, &found.broker_group) != (newborn.id, &newborn.broker_group) => {
                return Err(OpenError::Foreign {
                    found_id: found.id,
                    found_broker_group: found.broker_group,
                    id: newborn.id,
                    broker_group: newborn.broker_group,
                });
            }
            Some(found) => found,
            None => {
                save(disk.as_ref(), dir, &newborn).await?;
                newborn
            }
        };
        let dir = dir.to_path_buf();
        Ok(Keeper {
            disk,
            dir,
            identity: Mutex::new(identity),
            writing: tokio::sync::Mutex::new(()),
        })
    }

    /// What the folder is at the moment.
    pub fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the folder belong to a cluster, durably. Belonging to it already is fine, to another is not.
    pub async fn adopt(&self, cluster_id: &str) -> io::Result<Result<(), OtherCluster>> {
        let _writing = self.writing.lock().await;
        let mut identity = self.identity();
        match identity.cluster_id {
            Some(known) if known == cluster_id => return Ok(Ok(())),
            Some(known) => return Ok(Err(OtherCluster(known))),
            None => identity.cluster_id = Some(cluster_id.to_owned()),
        }
        save(self.disk.as_ref(), &self.dir, &identity).await?;
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(Ok(()))
    }
}

/// What the identity in `dir` says, without changing anything; `None` when there is none.
pub fn peek(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Result<Identity, String>>> {
    match disk.exists(&dir.join(FILE))? {
        true => Ok(Some(decode(&load(disk, &dir.join(FILE))?))),
        false => Ok(None),
    }
}

fn load(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let length = usize::try_from(file.len()?.min(BYTES_MAX)).unwrap_or(0);
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(filled as u64, &mut bytes[filled..])? {
            0 => break,
            more => filled += more,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

async fn save(disk: &dyn Disk, dir: &Path, identity: &Identity) -> io::Result<()> {
    let (new, path) = (dir.join(FILE_NEW), dir.join(FILE));
    {
        let file = disk.open(&new, Open::Create)?;
        file.set_len(0)?;
        file.write_at(0, &encode(identity))?;
        file.sync().await?;
    }
    disk.rename(&new, &path)?;
    disk.sync_dir(dir).await
}

fn encode(identity: &Identity) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(0);
    out.put_u64_le(identity.id.get());
    out.put_u64_le(identity.incarnation);
    for text in [
        identity.broker_group.as_str(),
        identity.cluster_id.as_deref().unwrap_or(""),
    ] {
        out.put_u16_le(u16::try_from(text.len()).expect("bounded by limits::BROKER_GROUP_BYTES_MAX"));
        out.put_slice(text.as_bytes());
    }
    let checksum = crc32c::crc32c(&out);
    out.put_u32_le(checksum);
    out.freeze()
}

fn decode(bytes: &[u8]) -> Result<Identity, String> {
    let (rest, checksum) = bytes.split_last_chunk::<4>().ok_or("it is too short")?;
    if crc32c::crc32c(rest) != u32::from_le_bytes(*checksum) {
        return Err("its checksum is wrong".to_owned());
    }
    let (magic, rest) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or("it is too short")?;
    let (_, rest) = rest.split_first_chunk::<2>().ok_or("it is too short")?;
    if *magic != MAGIC || u16::from_le_bytes(*version) != VERSION {
        return Err(format!(
            "it has magic {magic:?} and version {}",
            u16::from_le_bytes(*version)
        ));
    }
    let (id, rest) = rest.split_first_chunk::<8>().ok_or("it is too short")?;
    let (incarnation, rest) = rest.split_first_chunk::<8>().ok_or("it is too short")?;
    let (broker_group, rest) = text(rest)?;
    let (cluster_id, rest) = text(rest)?;
    if !rest.is_empty() {
        return Err("it is too long".to_owned());
    }
    Ok(Identity {
        id: ReplicaId(u64::from_le_bytes(*id)),
        incarnation: u64::from_le_bytes(*incarnation),
        broker_group,
        cluster_id: (!cluster_id.is_empty()).then_some(cluster_id),
    })
}

fn text(bytes: &[u8]) -> Result<(String, &[u8]), String> {
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or("it is too short")?;
    let length = usize::from(u16::from_le_bytes(*length));
    let head = rest.get(..length).ok_or("it is too short")?;
    let text = std::str::from_utf8(head).map_err(|_| "it holds no UTF-8")?;
    Ok((text.to_owned(), &rest[length..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::FaultyDisk;

    fn newborn(id: u64, incarnation: u64) -> Identity {
        Identity {
            id: ReplicaId(id),
            incarnation,
            broker_group: "broker-a".to_owned(),
            cluster_id: None,
        }
    }

    #[tokio::test]
    async fn a_folder_keeps_its_first_identity() {
        let disk = FaultyDisk::new(1);
        let open = |identity| Keeper::open(Arc::new(disk.clone()), Path::new("/replica"), identity);
        let keeper = open(newborn(1, 77)).await.expect("opens");
        keeper.adopt("cluster-x").await.expect("saves").expect("is free");
        assert_eq!(
            keeper.adopt("cluster-y").await.expect("no write"),
            Err(OtherCluster("cluster-x".to_owned()))
        );
        disk.crash();
        let again = open(newborn(1, 88)).await.expect("opens").identity();
        assert_eq!(
            again,
            Identity {
                cluster_id: Some("cluster-x".to_owned()),
                ..newborn(1, 77)
            }
        );
        assert!(matches!(open(newborn(2, 99)).await, Err(OpenError::Foreign { .. })));
    }

    proptest! {
        #[test]
        fn round_trip(id: u64, incarnation: u64, broker_group in ".{0,40}", cluster_id in proptest::option::of(".{1,40}")) {
            let identity = Identity { id: ReplicaId(id), incarnation, broker_group, cluster_id };
            prop_assert_eq!(decode(&encode(&identity)), Ok(identity));
        }

        #[test]
        fn a_flipped_bit_is_seen(position in 0usize..320) {
            let mut bytes = encode(&newborn(3, 4)).to_vec();
            let position = position % (bytes.len() * 8);
            bytes[position / 8] ^= 1 << (position % 8);
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
