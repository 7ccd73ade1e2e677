//! Where the entries of a segment lie, beside the segment: `<id, 20 digits>.index`. So opening a log does not read it, and
//! the positions of old segments need not stay in memory.
//!
//! Blocks, one behind the other, little endian; each continues the one before. The last block of a finished segment is its
//! summary: it holds no positions, and every term that begins in the segment.
//!
//! ```text
//!  0 u32 magic "LMQX"   4 u8 version = 1   5 u8 kind: 1 positions, 2 summary   6 u16 0
//!  8 u64 segment       16 u32 generation  20 u32 number of positions          24 u32 number of terms
//! 28 u32 end: position behind the last frame   32 u32 position of the last frame, 0 when there is none
//! 36 u32 checksum of the last frame's header (of the segment's, when there is none)
//! 40 u64 index of the first entry   48 u64 index behind the last entry   56 u64 term of the last entry
//! 64 u32 x positions, then (u64 term, u64 index) x terms, then u32 CRC32C of all before, u32 length of the block
//! ```
//!
//! Nothing here is synced, and nothing is believed: a block is written only about frames that are durable, and it counts
//! only while the header of its last frame, in the segment, has the checksum it names. Since headers are chained, that
//! covers all frames before, but not the blocks before: each is looked up, as one of an earlier life may have outlived a
//! truncation or a crash. Only if the same entries came again is such a block not told from a good one: their frames are
//! there, and may not be durable. So in the newest segment a block is believed only once a frame behind it says that it is
//! durable up to there. What is missing here is read from the segment.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::disk::{Disk, DiskFile, Open};
use crate::log::format::{FrameHeader, SEGMENT_HEADER_BYTES, SegmentHeader, number_of_name, take_u32, take_u64};
use crate::log::limits::SIDECAR_BLOCK_BYTES_MAX;
use crate::log::reading::read_header;
use crate::types::{EntryId, LogIndex, Term};

const MAGIC: [u8; 4] = *b"LMQX";
const VERSION: u8 = 1;
const POSITIONS: u8 = 1;
const SUMMARY: u8 = 2;
const HEAD_BYTES: usize = 64;
const TAIL_BYTES: usize = 8;

/// Name of a segment's sidecar.
pub fn sidecar_name(segment: u64) -> String {
    format!("{segment:020}.index")
}

/// The segment that a file name belongs to.
pub fn segment_of_sidecar(name: &str) -> Option<u64> {
    number_of_name(name, ".index")
}

/// A place in a segment between two frames, and what led there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Position behind the last frame.
    pub end: u32,
    /// Position of the last frame; 0 when there is none.
    pub last_frame: u32,
    /// Checksum of the last frame's header, or of the segment's.
    pub chain: u32,
    /// Index of the next entry.
    pub next: LogIndex,
    /// Term of the last entry, of this segment or an earlier one; 0 before the first.
    pub term: Term,
}

impl Place {
    /// The beginning of a segment.
    pub fn start(header: &SegmentHeader, checksum: u32) -> Place {
        Place {
            end: SEGMENT_HEADER_BYTES as u32,
            last_frame: 0,
            chain: checksum,
            next: header.first,
            term: header.term_before,
        }
    }
}

/// A block as it was read.
struct Block {
    kind: u8,
    first: LogIndex,
    place: Place,
    positions: Vec<u32>,
    terms: Vec<EntryId>,
    bytes: u64,
}

/// What is known of a segment up to a place.
pub struct Known {
    /// Up to where.
    pub place: Place,
    /// Position of each entry; empty when only the summary was asked for.
    pub positions: Vec<u32>,
    /// First entry of each term that begins in the segment.
    pub terms: Vec<EntryId>,
    /// Length of the sidecar up to there.
    bytes: u64,
}

fn encode((segment, generation): (u64, u32), block: &Block) -> Vec<u8> {
    let count = |len: usize| u32::try_from(len).expect("positions are below 4 GiB and 8 bytes apart");
    let mut out = BytesMut::new();
    out.put_slice(&MAGIC);
    out.put_u8(VERSION);
    out.put_u8(block.kind);
    out.put_u16_le(0);
    out.put_u64_le(segment);
    out.put_u32_le(generation);
    out.put_u32_le(count(block.positions.len()));
    out.put_u32_le(count(block.terms.len()));
    out.put_u32_le(block.place.end);
    out.put_u32_le(block.place.last_frame);
    out.put_u32_le(block.place.chain);
    out.put_u64_le(block.first.get());
    out.put_u64_le(block.place.next.get());
    out.put_u64_le(block.place.term.get());
    block.positions.iter().for_each(|position| out.put_u32_le(*position));
    for start in &block.terms {
        out.put_u64_le(start.term.get());
        out.put_u64_le(start.index.get());
    }
    let checksum = crc32c::crc32c(&out);
    out.put_u32_le(checksum);
    let length = count(out.len() + 4);
    out.put_u32_le(length);
    out.to_vec()
}

/// A whole block; `None` when these bytes are none of this segment.
fn decode((segment, generation): (u64, u32), bytes: &[u8]) -> Option<Block> {
    let length = head_length(bytes)?;
    let body = bytes.get(..length - TAIL_BYTES)?;
    let sealed = crc32c::crc32c(body) == take_u32(bytes.get(..length)?, length - TAIL_BYTES);
    if !sealed || (take_u64(body, 8), take_u32(body, 16)) != (segment, generation) {
        return None;
    }
    let (positions, terms) = (take_u32(body, 20) as usize, take_u32(body, 24) as usize);
    let terms_at = HEAD_BYTES + positions * 4;
    Some(Block {
        kind: body[5],
        first: LogIndex(take_u64(body, 40)),
        place: Place {
            end: take_u32(body, 28),
            last_frame: take_u32(body, 32),
            chain: take_u32(body, 36),
            next: LogIndex(take_u64(body, 48)),
            term: Term(take_u64(body, 56)),
        },
        positions: (0..positions).map(|at| take_u32(body, HEAD_BYTES + at * 4)).collect(),
        terms: (0..terms)
            .map(|at| {
                EntryId::new(
                    take_u64(body, terms_at + at * 16),
                    take_u64(body, terms_at + at * 16 + 8),
                )
            })
            .collect(),
        bytes: length as u64,
    })
}

/// The length of the block that begins here, as its head says.
fn head_length(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < HEAD_BYTES || bytes[..4] != MAGIC || bytes[4] != VERSION {
        return None;
    }
    let length = HEAD_BYTES + take_u32(bytes, 20) as usize * 4 + take_u32(bytes, 24) as usize * 16 + TAIL_BYTES;
    (length <= SIDECAR_BLOCK_BYTES_MAX).then_some(length)
}

fn read_exact(file: &Arc<dyn DiskFile>, position: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; length];
    let count = file.read_at(position, &mut bytes)?;
    Ok((count == length).then_some(bytes))
}

fn read_block(sidecar: &Arc<dyn DiskFile>, of: (u64, u32), position: u64) -> io::Result<Option<Block>> {
    let Some(head) = read_exact(sidecar, position, HEAD_BYTES)? else {
        return Ok(None);
    };
    let Some(length) = head_length(&head) else {
        return Ok(None);
    };
    let bytes = read_exact(sidecar, position, length)?;
    Ok(bytes.and_then(|bytes| decode(of, &bytes)))
}

/// Whether the segment's last frame at this place is the one that the block means.
fn is_confirmed(segment: &Arc<dyn DiskFile>, place: &Place) -> io::Result<bool> {
    if place.last_frame == 0 {
        return Ok(true);
    }
    let found = FrameHeader::decode(&read_header(segment, place.last_frame.into())?);
    Ok(found.is_ok_and(|(header, checksum)| {
        let end = u64::from(place.last_frame) + header.frame_bytes();
        let after = (header.id.index.next(), header.id.term);
        checksum == place.chain && end == u64::from(place.end) && after == (place.next, place.term)
    }))
}

/// Whether a frame follows the place: then the segment is not finished there.
fn goes_on(segment: &Arc<dyn DiskFile>, header: &SegmentHeader, place: &Place) -> io::Result<bool> {
    let next = FrameHeader::decode(&read_header(segment, place.end.into())?);
    Ok(next.is_ok_and(|(next, _)| {
        (next.segment, next.generation, next.previous) == (header.segment, header.generation, place.chain)
    }))
}

/// What the sidecar's summary says of a finished segment, if it is there and right.
pub fn read_summary(
    disk: &dyn Disk,
    dir: &Path,
    (header, segment): (&SegmentHeader, &Arc<dyn DiskFile>),
) -> io::Result<Option<Known>> {
    let path = dir.join(sidecar_name(header.segment));
    if !disk.exists(&path)? {
        return Ok(None);
    }
    let sidecar = disk.open(&path, Open::Read)?;
    let length = sidecar.len()?;
    let tail = match length.checked_sub(4) {
        Some(at) => read_exact(&sidecar, at, 4)?,
        None => None,
    };
    let Some(start) = tail.and_then(|tail| length.checked_sub(u64::from(take_u32(&tail, 0)))) else {
        return Ok(None);
    };
    let block = read_block(&sidecar, (header.segment, header.generation), start)?;
    let Some(block) = block.filter(|block| block.kind == SUMMARY && start + block.bytes == length) else {
        return Ok(None);
    };
    if block.first != header.first || !is_confirmed(segment, &block.place)? {
        return Ok(None);
    }
    // It may be of an earlier life, which ended before the last seal.
    if goes_on(segment, header, &block.place)? {
        return Ok(None);
    }
    Ok(Some(Known {
        place: block.place,
        positions: Vec::new(),
        terms: block.terms,
        bytes: length,
    }))
}

/// What the blocks of positions say of a segment below a position, as far as they are there and right.
pub fn read_positions(
    disk: &dyn Disk,
    dir: &Path,
    (header, checksum): (&SegmentHeader, u32),
    segment: &Arc<dyn DiskFile>,
    below: u32,
) -> io::Result<Known> {
    let mut known = Known {
        place: Place::start(header, checksum),
        positions: Vec::new(),
        terms: Vec::new(),
        bytes: 0,
    };
    let path = dir.join(sidecar_name(header.segment));
    if !disk.exists(&path)? {
        return Ok(known);
    }
    let sidecar = disk.open(&path, Open::Read)?;
    while let Some(block) = read_block(&sidecar, (header.segment, header.generation), known.bytes)? {
        let counted = known.place.next.plus(block.positions.len() as u64) == block.place.next;
        let continues = block.kind == POSITIONS && block.first == known.place.next && counted;
        // Each one is looked up: an old block that outlived a crash may lie between newer ones, and fit in all but the places.
        if !continues || block.place.end >= below || !is_confirmed(segment, &block.place)? {
            break;
        }
        known.place = block.place;
        known.positions.extend(block.positions);
        known.terms.extend(block.terms);
        known.bytes += block.bytes;
    }
    Ok(known)
}

/// Writes the sidecar of the newest segment.
pub struct Sidecar {
    file: Arc<dyn DiskFile>,
    of: (u64, u32),
    first: LogIndex,
    /// Length of what was written.
    bytes: u64,
    /// Up to where the blocks written go, and all terms that begin before.
    written: Place,
    terms: Vec<EntryId>,
    /// Positions and terms behind `written`.
    positions: Vec<u32>,
    new_terms: Vec<EntryId>,
}

impl Sidecar {
    /// Goes on with what is known of a segment; whatever else is in the file goes.
    pub fn resume(disk: &dyn Disk, dir: &Path, header: &SegmentHeader, known: &Known) -> io::Result<Sidecar> {
        let file = disk.open(&dir.join(sidecar_name(header.segment)), Open::Create)?;
        if file.len()? != known.bytes {
            file.set_len(known.bytes)?;
        }
        Ok(Sidecar {
            file,
            of: (header.segment, header.generation),
            first: header.first,
            bytes: known.bytes,
            written: known.place,
            terms: known.terms.clone(),
            positions: Vec::new(),
            new_terms: Vec::new(),
        })
    }

    /// The sidecar of a new segment.
    pub fn create(disk: &dyn Disk, dir: &Path, (header, checksum): (&SegmentHeader, u32)) -> io::Result<Sidecar> {
        let nothing = Known {
            place: Place::start(header, checksum),
            positions: Vec::new(),
            terms: Vec::new(),
            bytes: 0,
        };
        Sidecar::resume(disk, dir, header, &nothing)
    }

    /// Bytes of the segment that no block speaks of yet, up to a place.
    pub fn behind(&self, end: u32) -> u32 {
        end.saturating_sub(self.written.end)
    }

    /// More entries are durable: their positions, and the terms that begin with them.
    pub fn note(&mut self, positions: &[u32], terms: impl Iterator<Item = EntryId>) {
        self.positions.extend_from_slice(positions);
        self.new_terms.extend(terms);
    }

    /// Writes a block about everything noted; the segment is durable up to `place`.
    pub fn write(&mut self, place: Place) -> io::Result<()> {
        if place.end == self.written.end {
            return Ok(());
        }
        let block = Block {
            kind: POSITIONS,
            first: self.written.next,
            place,
            positions: std::mem::take(&mut self.positions),
            terms: std::mem::take(&mut self.new_terms),
            bytes: 0,
        };
        self.put(&block)?;
        self.terms.extend(block.terms);
        self.written = place;
        Ok(())
    }

    /// The segment is finished at `place`: writes the rest and the summary.
    pub fn finish(mut self, place: Place) -> io::Result<()> {
        self.write(place)?;
        let block = Block {
            kind: SUMMARY,
            first: self.first,
            place,
            positions: Vec::new(),
            terms: std::mem::take(&mut self.terms),
            bytes: 0,
        };
        self.put(&block)
    }

    fn put(&mut self, block: &Block) -> io::Result<()> {
        let bytes = encode(self.of, block);
        // What can't be read back is of no use; a segment with so many terms is scanned instead.
        if bytes.len() > SIDECAR_BLOCK_BYTES_MAX {
            return Ok(());
        }
        self.file.write_at(self.bytes, &bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
