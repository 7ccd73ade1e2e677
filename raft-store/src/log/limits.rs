//! The bounds of the log.

use std::time::Duration;

/// Largest body of an entry.
pub const BODY_BYTES_MAX: usize = 80 << 20;
/// Smallest and largest size of a segment that may be asked for. Positions inside a segment are kept as `u32`.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// See [`SEGMENT_BYTES_MIN`].
pub const SEGMENT_BYTES_MAX: u64 = 3 << 30;
/// Frames are gathered in a buffer of this size before they are written.
pub const BUFFER_BYTES: usize = 4 << 20;
/// A body of at least this size is written from where it lies.
pub const DIRECT_BYTES: usize = 256 << 10;
/// A batch is synced once it has so many bytes, even when more is waiting.
pub const BATCH_BYTES: usize = 32 << 20;
/// Segment files grow by this much at a time, so that most syncs find the length unchanged.
pub const EXTEND_BYTES: u64 = 16 << 20;
/// One read from disk takes at most so many bytes, unless a single entry is larger.
pub const READ_SPAN_BYTES: usize = 4 << 20;
/// A segment's sidecar gets a block after so many durable bytes: opening a log reads no more than this of it.
pub const SIDECAR_EVERY_BYTES: u32 = 8 << 20;
/// Largest block of a sidecar: the positions of the smallest frames of a batch.
pub const SIDECAR_BLOCK_BYTES_MAX: usize = 64 << 20;
/// Segments besides the newest whose positions stay in memory.
pub const WARM_SEGMENTS_MAX: usize = 4;
/// Files of purged segments that are kept to be written over.
pub const SPARES_MAX: usize = 2;
/// Between two purged segments that are dealt with, and two looks whether their readers have left.
pub const SWEEP_PAUSE: Duration = Duration::from_millis(20);
/// How long the readers of a purged segment are waited for before its file is removed instead of kept.
pub const SWEEP_READERS_WAIT: Duration = Duration::from_secs(2);
/// Bytes that can be written behind what is known to be durable: a batch, the entry that ends it, and a buffer. Nothing
/// behind that is of the segment's present life.
pub const WRITE_AHEAD_BYTES_MAX: u64 = (BATCH_BYTES + BODY_BYTES_MAX + 2 * BUFFER_BYTES) as u64;
/// Zeros are written in pieces of this size.
pub const ZERO_PIECE_BYTES: usize = 256 << 10;
/// After so long without a write, a seal tells recovery what is durable.
pub const SEAL_AFTER: Duration = Duration::from_millis(50);
/// An inspection reads files in pieces of this size.
pub const INSPECT_PIECE_BYTES: usize = 1 << 20;
/// An inspection tells how far it is after so many bytes.
pub const INSPECT_PROGRESS_BYTES: u64 = 64 << 20;
/// Findings that an inspection keeps; it counts the others.
pub const INSPECT_FINDINGS_MAX: usize = 1000;

const _: () = assert!(SEGMENT_BYTES_MAX + 2 * BODY_BYTES_MAX as u64 <= u32::MAX as u64);
const _: () = assert!(DIRECT_BYTES < BUFFER_BYTES && BUFFER_BYTES <= BATCH_BYTES);
