//! Tests of the log as a whole: a bench of tools, and the cases by theme.

mod basics;
mod damage;
pub mod histories;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::disk::{Disk, FaultyDisk};
use crate::log::{Frame, FrameKind, Log, LogOptions, OpenLogError};
use crate::planted::Planted;
use crate::types::{EntryId, LogIndex};

const DIR: &str = "/data/log";

fn options() -> LogOptions {
    LogOptions {
        dir: PathBuf::from(DIR),
        segment_bytes: 4096,
        tail_cache_bytes: 1 << 10,
        seed: 1,
        planted: Planted::default(),
    }
}

/// An entry whose bytes follow from its id.
fn frame(id: EntryId, len: usize) -> Frame {
    let seed = id.term.get() * 31 + id.index.get() * 7;
    let body: Bytes = (0..len)
        .map(|at| (seed + at as u64 / 3) as u8)
        .collect::<Vec<u8>>()
        .into();
    let kind = if len == 0 {
        FrameKind::Blank
    } else {
        FrameKind::Commands
    };
    Frame {
        id,
        kind,
        body_crc: crc32c::crc32c(&body),
        body,
    }
}

fn frames(term: u64, range: std::ops::Range<u64>, len: usize) -> Vec<Frame> {
    range.map(|index| frame(EntryId::new(term, index), len)).collect()
}

/// Opens the log and lets its writer run as a task.
async fn start(disk: &Arc<FaultyDisk>) -> Result<Log, OpenLogError> {
    start_with(disk.clone(), options()).await
}

async fn start_with(disk: Arc<dyn Disk>, options: LogOptions) -> Result<Log, OpenLogError> {
    let (log, writer) = Log::open(disk, options).await?;
    tokio::spawn(writer.run());
    Ok(log)
}

/// Appends and waits until it is durable.
async fn append(log: &Log, frames: Vec<Frame>) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    log.append(frames, Box::new(move |result| drop(sender.send(result))))?;
    receiver.await.map_err(io::Error::other)?
}

/// Reads everything, piece by piece.
fn read_all(log: &Log) -> io::Result<Vec<Frame>> {
    let state = log.state();
    let mut next = state.purged.map_or(LogIndex(0), |id| id.index.next());
    let mut frames = Vec::new();
    while state.last.is_some_and(|last| last.index >= next) {
        let piece = log.read(next, LogIndex(u64::MAX), 600)?;
        assert!(!piece.is_empty(), "entry {next} is in the log");
        next = next.plus(piece.len() as u64);
        frames.extend(piece);
    }
    Ok(frames)
}

/// The same, and no thread is kept waiting.
async fn read_all_aside(log: &Log) -> io::Result<Vec<Frame>> {
    let mut frames = Vec::new();
    let mut next = log.state().purged.map_or(LogIndex(0), |id| id.index.next());
    loop {
        let piece = log.read_aside(next, LogIndex(u64::MAX), 600).await?;
        if piece.is_empty() {
            return Ok(frames);
        }
        next = next.plus(piece.len() as u64);
        frames.extend(piece);
    }
}

fn faulty(seed: u64) -> Arc<FaultyDisk> {
    Arc::new(FaultyDisk::new(seed))
}

fn segment_path(number: u64) -> PathBuf {
    Path::new(DIR).join(super::format::segment_name(number))
}

fn sidecar_path(segment: u64) -> PathBuf {
    Path::new(DIR).join(super::sidecar::sidecar_name(segment))
}

/// Lets the writer work off what it has, and its seal timer pass.
async fn idle() {
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
}

fn counter() -> (Arc<AtomicUsize>, impl Fn() -> usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let read = count.clone();
    (count, move || read.load(Ordering::SeqCst))
}
