//! Walks one segment file: follows the chain of frames as far as it holds, and looks what is known about the place
//! where it ends.

use std::io;
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::log::format::{
    ALIGNMENT, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, HeaderError, SegmentHeader, StoredKind,
};
use crate::log::limits::{BODY_BYTES_MAX, WRITE_AHEAD_BYTES_MAX};
use crate::log::sidecar::Place;
use crate::planted::{Bug, Planted};
use crate::types::{EntryId, LogIndex};

/// Whether bodies are checked as well as headers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Headers alone: enough for a segment that is followed by another, since it was durable before that one existed.
    Headers,
    /// Headers and bodies.
    Bodies,
}

/// A chain of frames, up to the first place where it does not go on.
pub struct Scan {
    /// Position of each entry from where the scan began.
    pub positions: Vec<u32>,
    /// First entry of each term that begins here.
    pub terms: Vec<EntryId>,
    /// Id of the last entry.
    pub last: Option<EntryId>,
    /// Where it ends.
    pub place: Place,
    /// The last frame is a seal, or there is none.
    pub sealed: bool,
    /// Bytes below this position are durable for sure, as the frames from where the scan began say.
    pub durable_position: u32,
    /// Why the chain does not go on.
    pub stop: String,
}

/// What the bytes behind the end of a chain prove.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Entries below this index were durable.
    pub durable_end: u64,
    /// Bytes below this position were durable.
    pub durable_position: u32,
    /// There are frames of the segment's present life.
    pub frames: bool,
    /// There is something else than zeros.
    pub garbage: bool,
    /// A frame of another format version.
    pub version: Option<u8>,
}

/// Bytes that are looked through for frames at a time.
const STRETCH_BYTES: usize = 64 << 10;

/// Reads through a file in large pieces.
struct Window<'a> {
    file: &'a Arc<dyn DiskFile>,
    start: u64,
    bytes: Vec<u8>,
    piece: usize,
}

impl<'a> Window<'a> {
    fn new(file: &'a Arc<dyn DiskFile>, piece: usize) -> Window<'a> {
        Window {
            file,
            start: 0,
            bytes: Vec::new(),
            piece,
        }
    }

    /// Up to `len` bytes at a position; fewer only at the end of the file.
    fn at(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let held = self.start + self.bytes.len() as u64;
        if position < self.start || position + len as u64 > held {
            self.bytes.resize(self.piece.max(len), 0);
            let count = self.file.read_at(position, &mut self.bytes)?;
            self.bytes.truncate(count);
            self.start = position;
        }
        let from = (position - self.start) as usize;
        Ok(&self.bytes[from.min(self.bytes.len())..(from + len).min(self.bytes.len())])
    }

    fn header(&mut self, position: u64) -> io::Result<Result<(FrameHeader, u32), HeaderError>> {
        match <&[u8; FRAME_HEADER_BYTES]>::try_from(self.at(position, FRAME_HEADER_BYTES)?) {
            Ok(bytes) => Ok(FrameHeader::decode(bytes)),
            // The end of the file; whatever little is there is looked at as evidence.
            Err(_) => Ok(Err(HeaderError::Zeros)),
        }
    }

    fn body_crc(&mut self, position: u64, len: usize) -> io::Result<Option<u32>> {
        let (mut crc, mut done) = (0, 0);
        while done < len {
            let piece = self.piece.min(len - done);
            let bytes = self.at(position + done as u64, piece)?;
            if bytes.len() < piece {
                return Ok(None);
            }
            crc = crc32c::crc32c_append(crc, bytes);
            done += piece;
        }
        Ok(Some(crc))
    }
}

/// Follows the chain of a segment whose header is intact, from a place on it. `last` is the entry before that place.
pub fn scan(
    file: &Arc<dyn DiskFile>,
    segment: &SegmentHeader,
    from: Place,
    last: Option<EntryId>,
    depth: Depth,
    planted: Planted,
) -> io::Result<Scan> {
    let mut window = Window::new(file, if depth == Depth::Bodies { 1 << 20 } else { 4 << 10 });
    let mut scan = Scan {
        positions: Vec::new(),
        terms: Vec::new(),
        last,
        place: from,
        sealed: from.last_frame == 0,
        durable_position: 0,
        stop: String::new(),
    };
    loop {
        let Place { end, chain, next, .. } = scan.place;
        let position = u64::from(end);
        let (header, checksum) = match window.header(position)? {
            Ok(found) => found,
            Err(error) => {
                scan.stop = error.to_string();
                return Ok(scan);
            }
        };
        let is_entry = header.kind != StoredKind::Seal;
        let follows =
            (header.segment, header.generation, header.previous) == (segment.segment, segment.generation, chain);
        let in_order = header.id.index == next && scan.last.is_none_or(|last| last.term <= header.id.term);
        let continues = follows && (in_order || !is_entry) || planted.has(Bug::RecycledBytesAccepted);
        if !continues || header.body_len as usize > BODY_BYTES_MAX {
            scan.stop = "the frame does not continue the chain".to_owned();
            return Ok(scan);
        }
        let body = position + FRAME_HEADER_BYTES as u64;
        if is_entry
            && depth == Depth::Bodies
            && !planted.has(Bug::TornTailAccepted)
            && window.body_crc(body, header.body_len as usize)? != Some(header.body_crc)
        {
            scan.stop = "the body's checksum is wrong".to_owned();
            return Ok(scan);
        }
        if is_entry {
            if scan.last.is_none_or(|last| last.term < header.id.term) || scan.positions.is_empty() && last.is_none() {
                scan.terms.push(header.id);
            }
            scan.positions.push(end);
            scan.last = Some(header.id);
        }
        scan.sealed = !is_entry;
        scan.durable_position = scan.durable_position.max(header.durable_position);
        scan.place = Place {
            end: end + header.frame_bytes() as u32,
            last_frame: end,
            chain: checksum,
            next: if is_entry { next.next() } else { next },
            term: scan.last.map_or(segment.term_before, |last| last.term),
        };
    }
}

/// Looks from `start` on, as far as anything can have been written, for frames of this segment, which are intact by
/// themselves, and collects what they say is durable.
///
/// Where a frame is found, the search goes on behind its body, so that bytes inside bodies are not taken for frames;
/// only from a damaged header on are all aligned places looked at.
pub fn evidence(file: &Arc<dyn DiskFile>, segment: &SegmentHeader, start: u32) -> io::Result<Evidence> {
    let mut window = Window::new(file, 1 << 20);
    let mut evidence = Evidence::default();
    let length = file.len()?.min(u64::from(start) + WRITE_AHEAD_BYTES_MAX);
    let mut position = u64::from(start);
    while position < length {
        let stretch = window.at(position, STRETCH_BYTES)?;
        let stretch = &stretch[..stretch.len().min((length - position) as usize)];
        let places = (0..stretch.len()).step_by(ALIGNMENT);
        let found = places.into_iter().find(|at| stretch[*at..].starts_with(&FRAME_MAGIC));
        let passed = found.unwrap_or(stretch.len());
        evidence.garbage |= stretch[..passed].iter().any(|byte| *byte != 0);
        position += passed.next_multiple_of(ALIGNMENT) as u64;
        if found.is_none() {
            if passed == 0 {
                break;
            }
            continue;
        }
        evidence.garbage = true;
        position += match window.header(position)? {
            Ok((header, _)) if (header.segment, header.generation) == (segment.segment, segment.generation) => {
                evidence.frames = true;
                evidence.durable_end = evidence.durable_end.max(header.durable_end);
                evidence.durable_position = evidence.durable_position.max(header.durable_position);
                header.frame_bytes()
            }
            Ok(_) => ALIGNMENT as u64,
            Err(HeaderError::Version(version)) => {
                if FrameHeader::names(window.at(position, FRAME_HEADER_BYTES)?, segment) {
                    evidence.version = Some(version);
                }
                ALIGNMENT as u64
            }
            Err(_) => ALIGNMENT as u64,
        };
    }
    Ok(evidence)
}

impl Evidence {
    /// Whether the entry expected at this place was durable, so that its absence is damage.
    pub fn condemns(&self, index: LogIndex, position: u32) -> bool {
        self.durable_end > index.get() || self.durable_position > position
    }
}
