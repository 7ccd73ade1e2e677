//! A snapshot on its way in: a file that grows part by part, outlives interruptions, and is the source from which an
//! interrupted installation is done again.
//!
//! Records, one behind the other, little endian:
//!
//! ```text
//!  0 u32 magic "LMQE"   4 u8 version = 1   5 u8 kind   6 u16 0   8 u32 length of a   12 u32 length of b
//! 16 u32 CRC32C of bytes 0..16, a and b   20 a, b
//!
//! kind 1 export  the first record: which export this is; a = u64 term, u64 index of the entry it is of
//!      2 part    b = the part; a = where the next part begins, empty in the last
//!      3 label   the last record: the snapshot is complete; a = u64 term, u64 index of the label,
//!                b = the memberships kept as of the label
//! ```
//!
//! Only a complete snapshot is synced. After a crash the records are read as far as they are intact, and the transfer
//! goes on from there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use crate::disk::{Disk, DiskFile, Open};
use crate::limits;
use crate::log::{take_u32, take_u64};
use crate::machine::ExportPart;
use crate::planted::{Bug, Planted};
use crate::types::EntryId;

const FILE: &str = "incoming";
const MAGIC: [u8; 4] = *b"LMQE";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 20;

const EXPORT: u8 = 1;
const PART: u8 = 2;
const LABEL: u8 = 3;

/// What a snapshot is labelled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The entry that the log begins behind.
    pub id: EntryId,
    /// The memberships kept as of it, in raft-store's encoding.
    pub memberships: Bytes,
}

/// How far a transfer has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Progress {
    /// Nothing is here.
    #[default]
    Empty,
    /// Parts of this export, up to this place.
    Parts(EntryId, Bytes),
    /// All parts, but no label yet.
    Whole(EntryId),
    /// Everything.
    Labelled(Label),
}

/// The one snapshot on its way into a replica's folder.
pub struct Spool {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    end: u64,
    /// Up to where the file was synced on the way.
    synced: u64,
    progress: Progress,
    planted: Planted,
}

struct Record {
    kind: u8,
    a: Bytes,
    b: Bytes,
}

/// The parts of a complete snapshot, in order.
pub struct Parts {
    file: Arc<dyn DiskFile>,
    position: u64,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the incoming snapshot {what}"))
}

/// One record.
pub(crate) fn encode(kind: u8, a: &[u8], b: &[u8]) -> io::Result<Vec<u8>> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| broken("has a part of 4 GiB"));
    let mut out = Vec::with_capacity(HEAD_BYTES + a.len() + b.len());
    out.put_slice(&MAGIC);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u16_le(0);
    out.put_u32_le(length(a)?);
    out.put_u32_le(length(b)?);
    let checksum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&out), a), b);
    out.put_u32_le(checksum);
    out.put_slice(a);
    out.put_slice(b);
    Ok(out)
}

/// The record at a position and the position behind it; `None` where there is no intact one.
fn read_record(file: &Arc<dyn DiskFile>, position: u64) -> io::Result<Option<(Record, u64)>> {
    let mut head = [0; HEAD_BYTES];
    if file.read_at(position, &mut head)? < HEAD_BYTES || head[..4] != MAGIC || head[4] != VERSION {
        return Ok(None);
    }
    let (a, b) = (take_u32(&head, 8) as usize, take_u32(&head, 12) as usize);
    if a > limits::SNAPSHOT_PLACE_BYTES_MAX || b > limits::SNAPSHOT_PART_BYTES_MAX {
        return Ok(None);
    }
    let mut rest = vec![0; a + b];
    if file.read_at(position + HEAD_BYTES as u64, &mut rest)? < rest.len() {
        return Ok(None);
    }
    if crc32c::crc32c_append(crc32c::crc32c(&head[..16]), &rest) != take_u32(&head, 16) {
        return Ok(None);
    }
    let end = position + (HEAD_BYTES + rest.len()) as u64;
    let mut a_bytes = Bytes::from(rest);
    let b_bytes = a_bytes.split_off(a);
    let record = Record {
        kind: head[5],
        a: a_bytes,
        b: b_bytes,
    };
    Ok(Some((record, end)))
}

fn id_bytes(id: EntryId) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.term.get().to_le_bytes());
    bytes[8..].copy_from_slice(&id.index.get().to_le_bytes());
    bytes
}

fn id_of(bytes: &[u8]) -> Option<EntryId> {
    (bytes.len() == 16).then(|| EntryId::new(take_u64(bytes, 0), take_u64(bytes, 8)))
}

impl Progress {
    /// What comes after this record; `None` when it does not belong here.
    fn after(self, record: &Record) -> Option<Progress> {
        match (self, record.kind) {
            (Progress::Empty, EXPORT) => Some(Progress::Parts(id_of(&record.a)?, Bytes::new())),
            (Progress::Parts(export, _), PART) if record.a.is_empty() => Some(Progress::Whole(export)),
            (Progress::Parts(export, _), PART) => Some(Progress::Parts(export, record.a.clone())),
            (Progress::Whole(_), LABEL) => Some(Progress::Labelled(Label {
                id: id_of(&record.a)?,
                memberships: record.b.clone(),
            })),
            _ => None,
        }
    }
}

impl Spool {
    /// Looks what an earlier run left in a replica's folder.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, planted: Planted) -> io::Result<Spool> {
        let mut spool = Spool {
            disk,
            dir: dir.to_owned(),
            file: None,
            end: 0,
            synced: 0,
            progress: Progress::Empty,
            planted,
        };
        if spool.disk.exists(&spool.path())? {
            let file = spool.disk.open(&spool.path(), Open::Write)?;
            while let Some((record, end)) = read_record(&file, spool.end)? {
                let Some(progress) = spool.progress.clone().after(&record) else {
                    break;
                };
                (spool.progress, spool.end) = (progress, end);
            }
            file.set_len(spool.end)?;
            spool.file = Some(file);
        }
        Ok(spool)
    }

    /// Nothing of it counts any more.
    fn reset(&mut self) {
        (self.end, self.synced, self.progress) = (0, 0, Progress::Empty);
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Where the transfer of this export goes on; empty for its beginning.
    pub fn place(&self, export: EntryId) -> Bytes {
        match &self.progress {
            Progress::Parts(of, from) if *of == export => from.clone(),
            _ => Bytes::new(),
        }
    }

    /// The label of a complete snapshot.
    pub fn label(&self) -> Option<&Label> {
        match &self.progress {
            Progress::Labelled(label) => Some(label),
            _ => None,
        }
    }

    /// Goes on with an export at a place, or starts it over at the empty place. Whether it can.
    pub fn resume(&mut self, export: EntryId, from: &[u8]) -> io::Result<bool> {
        if !from.is_empty() {
            return Ok(self.place(export) == from);
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => self.disk.open(&self.path(), Open::Create)?,
        };
        file.set_len(0)?;
        self.file = Some(file);
        self.reset();
        self.write(EXPORT, &id_bytes(export), &[])?;
        Ok(true)
    }

    /// Keeps the next part, and makes what came so far durable now and then: one sync of all at the end could take so long that
    /// the sender hangs up over it. When that fails, the transfer begins anew.
    pub async fn put_and_sync(&mut self, part: &ExportPart) -> io::Result<()> {
        self.put(part)?;
        if self.end - self.synced >= limits::SNAPSHOT_SYNC_BYTES
            && let Some(file) = &self.file
        {
            let synced = file.sync().await;
            if synced.is_err() {
                self.reset();
                return synced;
            }
            self.synced = self.end;
        }
        Ok(())
    }

    /// Keeps the next part.
    pub fn put(&mut self, part: &ExportPart) -> io::Result<()> {
        let next = part.next.clone().unwrap_or_default();
        if part.next.as_ref().is_some_and(Bytes::is_empty) {
            return Err(broken("has a part whose next place is empty"));
        }
        if next.len() > limits::SNAPSHOT_PLACE_BYTES_MAX || part.bytes.len() > limits::SNAPSHOT_PART_BYTES_MAX {
            return Err(broken("has a part that is too large"));
        }
        self.write(PART, &next, &part.bytes)
    }

    /// Completes the snapshot, durably. When that fails, the transfer begins anew: nobody knows what the disk holds.
    pub async fn complete(&mut self, label: &Label) -> io::Result<()> {
        let completed = self.complete_once(label).await;
        if completed.is_err() {
            self.reset();
        }
        completed
    }

    async fn complete_once(&mut self, label: &Label) -> io::Result<()> {
        self.write(LABEL, &id_bytes(label.id), &label.memberships)?;
        let file = self.file.as_ref().ok_or_else(|| broken("has no file"))?;
        if self.planted.has(Bug::SnapshotNotSynced) {
            return Ok(());
        }
        file.sync().await?;
        self.disk.sync_dir(&self.dir).await
    }

    fn write(&mut self, kind: u8, a: &[u8], b: &[u8]) -> io::Result<()> {
        let record = Record {
            kind,
            a: Bytes::copy_from_slice(a),
            b: if kind == LABEL {
                Bytes::copy_from_slice(b)
            } else {
                Bytes::new()
            },
        };
        let progress = self.progress.clone().after(&record);
        let (Some(progress), Some(file)) = (progress, &self.file) else {
            return Err(broken("gets a record that does not follow"));
        };
        let bytes = encode(kind, a, b)?;
        file.write_at(self.end, &bytes)?;
        self.end += bytes.len() as u64;
        self.progress = progress;
        Ok(())
    }

    /// The parts of a complete snapshot.
    pub fn parts(&self) -> io::Result<Parts> {
        match (&self.file, &self.progress) {
            (Some(file), Progress::Labelled(_)) => Ok(Parts {
                file: Arc::clone(file),
                position: 0,
            }),
            _ => Err(broken("is not complete")),
        }
    }

    /// Forgets the snapshot, durably: it is installed, or nobody wants it.
    pub async fn clear(&mut self) -> io::Result<()> {
        self.file = None;
        self.reset();
        if self.disk.exists(&self.path())? {
            self.disk.remove(&self.path())?;
            self.disk.sync_dir(&self.dir).await?;
        }
        Ok(())
    }
}

impl Parts {
    /// The next part; `None` behind the last.
    pub fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let Some((record, end)) = read_record(&self.file, self.position)? else {
                return Err(broken("is damaged"));
            };
            self.position = end;
            match record.kind {
                PART => return Ok(Some(record.b)),
                LABEL => return Ok(None),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::disk::FaultyDisk;

    fn disk(seed: u64) -> FaultyDisk {
        let disk = FaultyDisk::new(seed);
        disk.create_dir_all(Path::new("/r")).expect("create");
        disk
    }

    fn open(disk: &FaultyDisk) -> Spool {
        Spool::open(Arc::new(disk.clone()), Path::new("/r"), Planted::default()).expect("opens")
    }

    fn part(number: u8, last: bool) -> ExportPart {
        ExportPart {
            bytes: Bytes::from(vec![number; 1000 + usize::from(number)]),
            next: (!last).then(|| Bytes::from(vec![number + 1])),
        }
    }

    fn label() -> Label {
        Label {
            id: EntryId::new(2, 30),
            memberships: Bytes::from_static(b"members"),
        }
    }

    fn all(spool: &Spool) -> Vec<Bytes> {
        let mut parts = spool.parts().expect("complete");
        std::iter::from_fn(|| parts.next().expect("intact")).collect()
    }

    #[test]
    fn a_transfer_goes_on_after_every_crash_and_ends_whole() {
        let export = EntryId::new(3, 40);
        for seed in 0..300 {
            let disk = disk(seed);
            let mut crashes = 0;
            loop {
                let mut spool = open(&disk);
                if spool.label().is_some() {
                    break;
                }
                let from = spool.place(export);
                assert!(spool.resume(export, &from).expect("no fault"));
                let start = from.first().copied().unwrap_or(0);
                // A later life comes further; the last one to the end.
                let stop = if crashes < 4 {
                    (start + 1 + (seed % 3) as u8).min(7)
                } else {
                    8
                };
                for number in start..stop {
                    spool.put(&part(number, number == 7)).expect("no fault");
                }
                if stop == 8 {
                    block_on(spool.complete(&label())).expect("no fault");
                }
                disk.crash();
                crashes += 1;
            }
            let spool = open(&disk);
            assert_eq!(spool.label(), Some(&label()), "seed {seed}");
            let parts: Vec<Bytes> = (0..8).map(|number| part(number, number == 7).bytes).collect();
            assert_eq!(all(&spool), parts, "seed {seed}");
        }
    }

    #[test]
    fn another_export_or_place_does_not_go_on() {
        let disk = disk(1);
        let mut spool = open(&disk);
        let export = EntryId::new(1, 5);
        assert!(spool.resume(export, b"").expect("starts"));
        spool.put(&part(0, false)).expect("fits");
        assert_eq!(spool.place(export), Bytes::from_static(&[1]));
        assert_eq!(spool.place(EntryId::new(1, 6)), Bytes::new());
        assert!(!spool.resume(export, &[7]).expect("no fault"));
        assert!(!spool.resume(EntryId::new(1, 6), &[1]).expect("no fault"));
        assert!(spool.resume(EntryId::new(1, 6), b"").expect("starts over"));
        assert_eq!(spool.place(export), Bytes::new());
        block_on(spool.clear()).expect("no fault");
        assert!(!disk.exists(Path::new("/r/incoming")).expect("no fault"));
    }

    #[test]
    fn what_could_not_be_completed_begins_anew() {
        let disk = disk(1);
        let mut spool = open(&disk);
        let export = EntryId::new(1, 5);
        for fails in [true, false] {
            assert_eq!(spool.place(export), Bytes::new());
            assert!(spool.resume(export, b"").expect("starts"));
            (0..3).for_each(|number| spool.put(&part(number, number == 2)).expect("fits"));
            if fails {
                disk.fail_next_sync();
            }
            assert_eq!(block_on(spool.complete(&label())).is_err(), fails);
            assert_eq!(spool.label().is_none(), fails);
        }
        disk.crash();
        assert_eq!(open(&disk).label(), Some(&label()));
    }

    #[test]
    fn what_arrives_is_synced_on_the_way() {
        let disk = disk(1);
        let mut spool = open(&disk);
        spool.resume(EntryId::new(1, 5), b"").expect("starts");
        let large = |number: u8| ExportPart {
            bytes: vec![number; 20 << 20].into(),
            next: Some(vec![number].into()),
        };
        let before = disk.syncs();
        let mut synced = Vec::new();
        for number in 1..=4 {
            block_on(spool.put_and_sync(&large(number))).expect("fits");
            synced.push(disk.syncs() - before);
        }
        assert_eq!(synced, [0, 1, 1, 2]);
        disk.fail_next_sync();
        block_on(spool.put_and_sync(&large(5))).expect("nothing is due");
        assert!(block_on(spool.put_and_sync(&large(6))).is_err());
        assert!(spool.place(EntryId::new(1, 5)).is_empty(), "from the beginning");
    }

    #[test]
    fn damage_is_never_installed() {
        for position in (0..3_500).step_by(13) {
            let disk = disk(position);
            let mut spool = open(&disk);
            spool.resume(EntryId::new(1, 5), b"").expect("starts");
            (0..3).for_each(|number| spool.put(&part(number, number == 2)).expect("fits"));
            block_on(spool.complete(&label())).expect("no fault");
            if disk.flip_bit(Path::new("/r/incoming"), position).is_err() {
                continue;
            }
            assert!(
                spool
                    .parts()
                    .and_then(|mut parts| {
                        while parts.next()?.is_some() {}
                        Ok(())
                    })
                    .is_err(),
                "byte {position}"
            );
            assert_eq!(open(&disk).label(), None, "byte {position}");
        }
    }
}
