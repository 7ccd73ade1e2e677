//! What lies behind the end of a chain, and what it proves.

use std::io;

use crate::log::format::{ALIGNMENT, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, HeaderError, SegmentHeader};
use crate::log::inspect::reader::Reader;
use crate::types::LogIndex;

/// What was found behind a place.
#[derive(Debug, Default)]
pub struct Tail {
    /// Entries below this index were durable.
    durable_end: u64,
    /// Bytes below this position were durable.
    durable_position: u32,
    /// Position behind the last byte that is not zero; 0 when there is none.
    pub bytes_end: u64,
    /// A frame of another format version.
    pub version: Option<u8>,
    /// What is there was left by an earlier use of the file: it begins with an intact frame of another segment, and no
    /// frame of this one is among it.
    pub is_leftover: bool,
    /// There is an intact frame of this segment.
    pub has_own: bool,
}

impl Tail {
    /// Whether the entry expected at this place was durable, so that its absence is damage.
    pub fn condemns(&self, index: LogIndex, position: u64) -> bool {
        self.durable_end > index.get() || u64::from(self.durable_position) > position
    }
}

/// Looks through everything from `start` on. Where an intact frame of this segment is found, the search goes on behind
/// its body, so that bytes inside bodies are not taken for frames.
pub fn look(reader: &mut Reader, segment: &SegmentHeader, start: u64) -> io::Result<Tail> {
    let mut tail = Tail::default();
    let (mut own, mut foreign_first) = (false, false);
    let mut position = start;
    while position < reader.limit() {
        let stretch = reader.at(position, 4096)?;
        let zeros = stretch.iter().take_while(|byte| **byte == 0).count();
        if zeros >= ALIGNMENT || zeros == stretch.len() {
            position += (zeros / ALIGNMENT * ALIGNMENT).max(ALIGNMENT) as u64;
            continue;
        }
        let word = &stretch[..ALIGNMENT.min(stretch.len())];
        let used = word.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let is_first = tail.bytes_end == 0;
        tail.bytes_end = position + used as u64;
        if !stretch.starts_with(&FRAME_MAGIC) {
            position += ALIGNMENT as u64;
            continue;
        }
        position += match reader.header(position)? {
            Ok((header, _)) if (header.segment, header.generation) == (segment.segment, segment.generation) => {
                own = true;
                tail.durable_end = tail.durable_end.max(header.durable_end);
                tail.durable_position = tail.durable_position.max(header.durable_position);
                tail.bytes_end = (position + header.frame_bytes()).min(reader.limit());
                header.frame_bytes()
            }
            Ok(_) => {
                foreign_first |= is_first;
                ALIGNMENT as u64
            }
            Err(HeaderError::Version(version)) => {
                if FrameHeader::names(reader.at(position, FRAME_HEADER_BYTES)?, segment) {
                    tail.version = Some(version);
                }
                ALIGNMENT as u64
            }
            Err(_) => ALIGNMENT as u64,
        };
    }
    tail.is_leftover = foreign_first && !own;
    tail.has_own = own;
    Ok(tail)
}
