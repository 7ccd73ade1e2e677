//! A small value that is replaced whole: two slots written in turn, each with two copies.
//!
//! The slot of the older value is overwritten, so a torn write leaves the newer one; both copies of a slot go out in
//! one write, so a rotten bit leaves the other copy. The newest slot counts whose intact copies agree: two that differ are
//! a write that did not end, so its value was never reported. The checksum of a copy does not tell that, since most values
//! end with their own: the CRC of bytes that end with their CRC does not depend on the bytes, so the head of one copy fits
//! in front of another's value.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile, Open};
use crate::log::format::{self, HeaderError, SLOT_COPY_BYTES};

const SLOT_BYTES: usize = 2 * SLOT_COPY_BYTES;
const FILE_BYTES: usize = 2 * SLOT_BYTES;

/// The file, and where the next value goes.
pub struct Slots {
    file: Arc<dyn DiskFile>,
    /// Number of the newest value; 0 before the first. Value n lies in slot n mod 2.
    sequence: u64,
    /// In the other slot lies what is left of a write that did not end.
    leftover: bool,
}

/// Neither slot can be read although both were written to.
#[derive(Debug)]
pub struct Unreadable(pub HeaderError);

/// What is said of a vote that is lost.
pub const VOTE_LOST: &str = "the file is missing, although this replica may have voted";

/// Whether the vote was lost: the name of its file is durable before the file of the marks is made.
pub fn vote_is_lost(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
    Ok(disk.exists(&dir.join("marks"))? && !disk.exists(&dir.join("vote"))?)
}

enum Slot {
    Value(u64, Bytes),
    Never,
    Damaged(HeaderError),
}

/// What the two copies of a slot hold: sequence and value each.
fn copies(bytes: &[u8]) -> [Result<(u64, &[u8]), HeaderError>; 2] {
    let (first, second) = bytes.split_at(SLOT_COPY_BYTES);
    [format::decode_slot(first), format::decode_slot(second)]
}

fn read_slot(bytes: &[u8]) -> Slot {
    match copies(bytes) {
        [Ok((first, value)), Ok((second, other))] if first == second && value != other => {
            Slot::Damaged(HeaderError::Checksum)
        }
        // The newer one was on its way; the older one is what the whole slot held before, or what a note left behind.
        [Ok((first, value)), Ok((second, _))] if first <= second => Slot::Value(first, Bytes::copy_from_slice(value)),
        [_, Ok((sequence, value))] | [Ok((sequence, value)), _] => Slot::Value(sequence, Bytes::copy_from_slice(value)),
        [Err(HeaderError::Zeros), Err(HeaderError::Zeros)] => Slot::Never,
        [Err(HeaderError::Zeros), Err(error)] | [Err(error), _] => Slot::Damaged(error),
    }
}

/// Whether intact copies of a slot differ: one of them is left of a write that did not end.
fn is_torn(bytes: &[u8]) -> bool {
    matches!(copies(bytes), [Ok(first), Ok(second)] if first != second)
}

/// The newest value in the bytes of a file, and its sequence.
fn newest(bytes: &[u8]) -> Result<(u64, Option<Bytes>), Unreadable> {
    match (read_slot(&bytes[..SLOT_BYTES]), read_slot(&bytes[SLOT_BYTES..])) {
        (Slot::Value(a, _), Slot::Value(b, value)) if b > a => Ok((b, Some(value))),
        (Slot::Value(sequence, value), _) | (_, Slot::Value(sequence, value)) => Ok((sequence, Some(value))),
        // The very first write, torn: it was never reported.
        (Slot::Never, Slot::Never | Slot::Damaged(_)) => Ok((0, None)),
        (Slot::Damaged(error), _) => Err(Unreadable(error)),
    }
}

impl Slots {
    /// Opens or creates the file and answers the newest value in it. The caller syncs the directory.
    pub async fn open(disk: &dyn Disk, path: &Path) -> io::Result<Result<(Slots, Option<Bytes>), Unreadable>> {
        let file = disk.open(path, Open::Create)?;
        let mut bytes = vec![0; FILE_BYTES];
        file.read_at(0, &mut bytes)?;
        if file.len()? != FILE_BYTES as u64 {
            file.set_len(FILE_BYTES as u64)?;
            file.sync().await?;
        }
        Ok(newest(&bytes).map(|(sequence, value)| {
            let other = &bytes[position(sequence + 1) as usize..][..SLOT_BYTES];
            let leftover = is_torn(other);
            (
                Slots {
                    file,
                    sequence,
                    leftover,
                },
                value,
            )
        }))
    }

    /// The newest value in a file that may be missing, which is left as it is.
    pub fn peek(disk: &dyn Disk, path: &Path) -> io::Result<Result<Option<Bytes>, Unreadable>> {
        if !disk.exists(path)? {
            return Ok(Ok(None));
        }
        let mut bytes = vec![0; FILE_BYTES];
        disk.open(path, Open::Read)?.read_at(0, &mut bytes)?;
        Ok(newest(&bytes).map(|(_, value)| value))
    }

    /// Writes a new value, both copies, and syncs it.
    pub async fn replace(&mut self, value: &[u8]) -> io::Result<()> {
        self.write(self.sequence + 1, value).await?;
        (self.sequence, self.leftover) = (self.sequence + 1, false);
        Ok(())
    }

    /// Writes the value that was read once more and syncs it: it may be there without being on the disk, after a kill in
    /// the middle of a write or a sync that failed. It goes to its own place: the other one may be the only copy that is
    /// on the disk, and a loss of power just now must not take both. Then what is left there of a write that did not end
    /// goes, or it would count once the copy beside it rots.
    pub async fn confirm(&mut self, value: &[u8]) -> io::Result<()> {
        self.write(self.sequence, value).await?;
        if self.leftover {
            self.file.write_at(position(self.sequence + 1), &[0; SLOT_BYTES])?;
            self.file.sync().await?;
            self.leftover = false;
        }
        Ok(())
    }

    async fn write(&self, sequence: u64, value: &[u8]) -> io::Result<()> {
        self.put(sequence, value)?;
        self.file.sync().await
    }

    /// Writes a new value, both copies, without a sync, as [`Slots::replace`] does until it syncs.
    pub fn put_unsynced(&mut self, value: &[u8]) -> io::Result<()> {
        self.put(self.sequence + 1, value)?;
        self.sequence += 1;
        Ok(())
    }

    fn put(&self, sequence: u64, value: &[u8]) -> io::Result<()> {
        let mut bytes = vec![0; SLOT_BYTES];
        let copy = format::encode_slot(sequence, value);
        bytes[..copy.len()].copy_from_slice(&copy);
        bytes[SLOT_COPY_BYTES..SLOT_COPY_BYTES + copy.len()].copy_from_slice(&copy);
        self.file.write_at(position(sequence), &bytes)
    }

    /// Writes a new value, one copy, without a sync: it may be lost, or be there before anything else is.
    pub fn note(&mut self, value: &[u8]) -> io::Result<()> {
        self.file.write_at(
            position(self.sequence + 1),
            &format::encode_slot(self.sequence + 1, value),
        )?;
        self.sequence += 1;
        Ok(())
    }
}

/// Where in the file the value of this sequence lies.
const fn position(sequence: u64) -> u64 {
    sequence % 2 * SLOT_BYTES as u64
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::disk::FaultyDisk;

    fn open(disk: &FaultyDisk) -> (Slots, Option<Bytes>) {
        let opened = block_on(Slots::open(disk, Path::new("/d/slots"))).expect("no fault");
        block_on(disk.sync_dir(Path::new("/d"))).expect("no fault");
        opened.expect("readable")
    }

    fn disk(seed: u64) -> FaultyDisk {
        let disk = FaultyDisk::new(seed);
        disk.create_dir_all(Path::new("/d")).expect("create");
        disk
    }

    #[test]
    fn a_crash_keeps_the_last_value_or_the_one_being_written() {
        for seed in 0..500 {
            let disk = disk(seed);
            let (mut slots, _) = open(&disk);
            for round in 0..seed % 5 {
                block_on(slots.replace(&[round as u8; 30])).expect("no fault");
            }
            let kept = (seed % 5).checked_sub(1).map(|round| vec![round as u8; 30]);
            slots.note(&[99; 40]).expect("no fault");
            disk.crash();
            let (_, value) = open(&disk);
            assert!(
                value.as_deref() == kept.as_deref() || value.as_deref() == Some(&[99; 40]),
                "seed {seed}"
            );
        }
    }

    /// The other slot may hold the only value that is on the disk.
    #[test]
    fn confirming_touches_its_own_slot_alone() {
        let disk = disk(1);
        let (mut slots, _) = open(&disk);
        block_on(slots.replace(&[1; 30])).expect("no fault");
        block_on(slots.replace(&[2; 30])).expect("no fault");
        slots.put_unsynced(&[3; 30]).expect("no fault");
        disk.kill();
        let (mut slots, value) = open(&disk);
        assert_eq!(value.as_deref(), Some(&[3; 30][..]));
        block_on(slots.confirm(&[3; 30])).expect("no fault");
        let contents = |disk: &FaultyDisk| {
            let mut bytes = vec![0; FILE_BYTES];
            let file = disk.open(Path::new("/d/slots"), Open::Read).expect("there");
            file.read_at(0, &mut bytes).expect("readable");
            bytes
        };
        let (kept, confirmed) = (contents(&disk), contents(&disk.durable()));
        assert_eq!(kept, confirmed, "what was read is durable");
        let other = read_slot(&confirmed[position(2) as usize..][..SLOT_BYTES]);
        assert!(matches!(other, Slot::Value(2, value) if value[..] == [2; 30]));
    }

    /// A value as most are: it ends with its own checksum.
    fn sealed(fill: u8) -> Vec<u8> {
        let mut value = vec![fill; 20];
        value.extend_from_slice(&crc32c::crc32c(&[fill; 20]).to_le_bytes());
        value
    }

    #[test]
    fn a_torn_write_leaves_the_value_before() {
        let whole = |sequence, fill| {
            let mut bytes = vec![0; SLOT_BYTES];
            for copy in bytes.chunks_mut(SLOT_COPY_BYTES) {
                let encoded = format::encode_slot(sequence, &sealed(fill));
                copy[..encoded.len()].copy_from_slice(&encoded);
            }
            bytes
        };
        let (older, kept, newer) = (whole(3, 3), whole(4, 4), whole(5, 5));
        let near = |at: usize| at..at + 64;
        for end in near(0).chain(near(SLOT_COPY_BYTES - 8)) {
            for head_arrived in [true, false] {
                let mut torn = older.clone();
                match head_arrived {
                    true => torn[..end].copy_from_slice(&newer[..end]),
                    false => torn[end..].copy_from_slice(&newer[end..]),
                }
                let arrived = torn
                    .chunks(SLOT_COPY_BYTES)
                    .any(|copy| *copy == newer[..SLOT_COPY_BYTES]);
                let (_, value) = newest(&[kept.clone(), torn].concat()).expect("readable");
                let value = value.expect("a value");
                assert!(
                    value == sealed(4) || arrived && value == sealed(5),
                    "{end} {head_arrived}: {value:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_left_of_a_write_does_not_count_later() {
        let disk = disk(1);
        let path = Path::new("/d/slots");
        let (mut slots, _) = open(&disk);
        for fill in 1..=4 {
            block_on(slots.replace(&[fill; 30])).expect("no fault");
        }
        // Of value 5, the first copy alone arrived, over value 3.
        slots.note(&[5; 30]).expect("no fault");
        disk.kill();
        let (mut slots, value) = open(&disk);
        let value = value.expect("a value");
        assert_eq!(value[..], [4; 30], "value 5 was never reported");
        block_on(slots.confirm(&value)).expect("no fault");
        disk.flip_bit(path, position(5) + SLOT_COPY_BYTES as u64 + 30)
            .expect("inside");
        assert_eq!(open(&disk).1.as_deref(), Some(&[4; 30][..]));
    }

    #[test]
    fn a_rotten_bit_changes_nothing() {
        for position in (0..FILE_BYTES as u64).step_by(7) {
            let disk = disk(position);
            let (mut slots, _) = open(&disk);
            for round in 1..4_u8 {
                block_on(slots.replace(&[round; 2000])).expect("no fault");
            }
            disk.flip_bit(Path::new("/d/slots"), position).expect("inside");
            assert_eq!(open(&disk).1.as_deref(), Some([3; 2000].as_slice()), "byte {position}");
        }
    }
}
