//! Doors for the fuzz targets in `fuzz/`: each takes any bytes, and panics when a promise of a format is broken.
//!
//! A checksum would stop nearly every input at the first step, so where a format ends in one, the bytes are tried as
//! they are and with the right checksum.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, FaultyDisk, Open};
use crate::log::inspect::{Bodies, Scope};
use crate::log::{Frame, FrameKind, Log, LogOptions, OpenLogError, fuzzing};
use crate::planted::Planted;
use crate::raft::format;
use crate::types::{EntryId, LogIndex};
use crate::{body, identity, inspect, spool};

const DIR: &str = "/r";
const ENTRIES_MAX: u8 = 40;
const DAMAGES_MAX: usize = 8;

/// Segment and frame headers, slots, marks.
pub fn log_formats(bytes: &[u8]) {
    fuzzing::formats(bytes);
}

/// Bytes with their CRC32C behind them.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &crc32c::crc32c(bytes).to_le_bytes()].concat()
}

/// Votes and memberships.
pub fn raft_formats(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), sealed(bytes)] {
        if let Ok(vote) = format::decode_vote(&bytes) {
            assert_eq!(format::decode_vote(&format::encode_vote(&vote)), Ok(vote));
        }
        if let Ok(members) = format::decode_members(&bytes) {
            assert_eq!(format::decode_members(&format::encode_members(&members)), Ok(members));
        }
        if let Ok(kept) = format::decode_kept(&bytes) {
            assert_eq!(format::decode_kept(&format::encode_kept(&kept)), Ok(kept));
        }
        if let Ok(history) = format::decode_history(&bytes) {
            assert_eq!(format::decode_history(&format::encode_history(&history)), Ok(history));
        }
        let _ = (inspect::vote(&bytes), inspect::membership(&bytes));
    }
}

/// The body of an entry of commands.
pub fn entry_body(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(commands) = body::decode(&bytes) else { return };
    let mut plain = Vec::new();
    for (slot, command) in commands {
        let slot = slot as usize;
        assert_eq!(bytes.slice(slot..slot + command.len()), command);
        plain.push(command);
    }
    assert_eq!(body::encode(&plain), bytes);
}

/// A disk whose folder holds one file.
fn disk_with(name: &str, bytes: &[u8]) -> Arc<FaultyDisk> {
    let disk = Arc::new(FaultyDisk::new(1));
    let made = disk.create_dir_all(Path::new(DIR)).and_then(|()| {
        let file = disk.open(&Path::new(DIR).join(name), Open::Create)?;
        file.write_at(0, bytes)
    });
    made.expect("no fault");
    disk
}

/// The identity of a folder.
pub fn identity_file(bytes: &[u8]) {
    // Magic, version and zeros are more than chance finds together.
    for bytes in [
        bytes.to_vec(),
        sealed(bytes),
        sealed(&[b"LMQI\x01\0\0\0", bytes].concat()),
    ] {
        let _ = identity::peek(disk_with("identity", &bytes).as_ref(), Path::new(DIR)).expect("no fault");
    }
}

/// What an interrupted transfer left: raw bytes, or records with right checksums, the last of them torn.
pub fn snapshot_spool(bytes: &[u8]) {
    let (raw, rest) = (
        bytes.first().is_some_and(|byte| byte % 4 == 0),
        bytes.get(1..).unwrap_or_default(),
    );
    let file = if raw { rest.to_vec() } else { records(rest) };
    let disk = disk_with("incoming", &file);
    let opened = spool::Spool::open(disk.clone(), Path::new(DIR), Planted::default()).expect("any bytes open");
    if opened.label().is_some() {
        let mut parts = opened.parts().expect("it is complete");
        while parts.next().expect("complete means intact").is_some() {}
    } else {
        assert!(opened.parts().is_err());
    }
    // Opening again finds the same.
    let again = spool::Spool::open(disk, Path::new(DIR), Planted::default()).expect("opens");
    assert_eq!(again.label(), opened.label());
}

/// `kind, length of a, length of b, a, b` again and again; where the bytes end inside a record, so does the file.
fn records(mut bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    while let [kind, a, b, rest @ ..] = bytes {
        let (a_len, b_len) = (usize::from(*a) % 24, usize::from(*b));
        let (a, rest) = rest.split_at(a_len.min(rest.len()));
        let (b, rest) = rest.split_at(b_len.min(rest.len()));
        let record = spool::encode(kind % 5, a, b).expect("is small");
        let torn = rest.is_empty() && kind & 0x80 != 0;
        file.extend_from_slice(&record[..record.len() - usize::from(torn)]);
        bytes = rest;
    }
    file
}

fn log_dir() -> PathBuf {
    Path::new(DIR).join("log")
}

fn options() -> LogOptions {
    LogOptions {
        dir: log_dir(),
        segment_bytes: 4096,
        tail_cache_bytes: 512,
        seed: 1,
        planted: Planted::default(),
    }
}

fn frame(index: u64, len: u8) -> Frame {
    let body: Bytes = (0..usize::from(len) * 3)
        .map(|at| (index * 7) as u8 ^ at as u8)
        .collect::<Vec<u8>>()
        .into();
    let kind = if len == 0 {
        FrameKind::Blank
    } else {
        FrameKind::Commands
    };
    Frame {
        id: EntryId::new(1 + index / 9, index),
        kind,
        body_crc: crc32c::crc32c(&body),
        body,
    }
}

/// A small log is written, its files are damaged as the bytes say, and it is opened again: it refuses, or all that it
/// serves is what was appended. Nothing that it refuses looks whole to an inspection. Needs a runtime with a clock that
/// can be paused.
///
/// `entries, purged, seed of lengths`, then `file, kind, position: u16, value` for each damage.
pub async fn recovery(bytes: &[u8]) {
    let [entries, purged, lengths, damages @ ..] = bytes else {
        return;
    };
    let frames: Vec<Frame> = (0..u64::from(entries % ENTRIES_MAX))
        .map(|index| frame(index, lengths.wrapping_mul(index as u8 | 1)))
        .collect();
    let disk = Arc::new(FaultyDisk::new(u64::from(*lengths)));
    let purged = u64::from(*purged);
    if write(&disk, &frames, purged).await.is_err() {
        panic!("a fresh log takes everything");
    }
    disk.kill();
    for damage in damages.chunks_exact(5).take(DAMAGES_MAX) {
        // A file may be gone, a position behind its end: then nothing is damaged.
        let _ = spoil(&disk, damage);
    }
    let scope = Scope {
        from: LogIndex(0),
        to: LogIndex(u64::MAX),
        bodies: Bodies::Check,
    };
    let report = inspect::walk(disk.as_ref(), &log_dir(), &scope, &mut |_| {
        std::ops::ControlFlow::Continue(())
    });
    let report = report.expect("the disk is fine");
    match Log::open(disk.clone(), options()).await {
        Ok((log, _writer)) => serves_what_was_appended(&log, &frames, damages.len() < 5),
        Err(OpenLogError::Corrupt(corruption)) => {
            assert!(damages.len() >= 5, "an undamaged log is refused: {corruption}");
            assert!(
                report.is_corrupt,
                "refused, but an inspection finds nothing: {corruption}"
            );
        }
        Err(OpenLogError::Version { .. }) => assert!(report.is_corrupt),
        Err(other) => panic!("{other}"),
    }
}

async fn write(disk: &Arc<FaultyDisk>, frames: &[Frame], purged: u64) -> Result<(), String> {
    let opened = Log::open(disk.clone(), options()).await;
    let (log, writer) = opened.map_err(|error| error.to_string())?;
    let work = async {
        let failed = |error: std::io::Error| error.to_string();
        log.save_vote(Bytes::from_static(b"vote")).await.map_err(failed)?;
        for frame in frames {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let done = Box::new(move |result| drop(sender.send(result)));
            log.append(vec![frame.clone()], done).map_err(failed)?;
            receiver.await.map_err(|error| error.to_string())?.map_err(failed)?;
        }
        if let Some(frame) = frames.get(purged as usize) {
            log.save_committed(Some(frame.id)).await.map_err(failed)?;
            log.purge(frame.id).await.map_err(failed)?;
        }
        drop(log);
        Ok(())
    };
    let ((), worked) = futures::future::join(writer.run(), work).await;
    worked
}

fn spoil(disk: &FaultyDisk, damage: &[u8]) -> std::io::Result<()> {
    let names = disk.list(&log_dir())?;
    let (file, kind, value) = (usize::from(damage[0]), damage[1], damage[4]);
    let Some(name) = names.get(file % names.len().max(1)) else {
        return Ok(());
    };
    let (path, position) = (
        log_dir().join(name),
        u64::from(u16::from_le_bytes([damage[2], damage[3]])),
    );
    let file = disk.open(&path, Open::Write)?;
    match kind % 6 {
        0 => disk.flip_bit(&path, position),
        1 if position < file.len()? => file.write_at(position, &[value]),
        2 if position < file.len()? => file.write_at(position, &vec![0; (file.len()? - position) as usize]),
        3 if position < file.len()? => file.set_len(position),
        4 => disk.remove(&path),
        // Bytes of the file once more at another place, as recycled files have them.
        5 => {
            let mut piece = vec![0; 8 * (1 + usize::from(value))];
            let count = file.read_at(u64::from(damage[2]) * 8, &mut piece)?;
            let to = (u64::from(damage[3]) * 8).min(file.len()?);
            file.write_at(to, &piece[..count])
        }
        _ => Ok(()),
    }
}

fn serves_what_was_appended(log: &Log, frames: &[Frame], is_whole: bool) {
    let state = log.state();
    assert_eq!(state.last, state.durable);
    if is_whole {
        assert_eq!(state.last, frames.last().map(|frame| frame.id));
    }
    let mut next = state.purged.map_or(LogIndex(0), |id| id.index.next());
    while state.last.is_some_and(|last| last.index >= next) {
        let Ok(piece) = log.read(next, next.next(), usize::MAX) else {
            assert!(!is_whole, "entry {next} is not served");
            next = next.next();
            continue;
        };
        assert_eq!(piece.first(), frames.get(next.get() as usize), "entry {next}");
        next = next.next();
    }
}
