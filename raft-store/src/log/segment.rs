//! The segment that is being written: gathers frames in a buffer, writes them in large pieces, syncs.
//!
//! ```text
//!   0 ........... synced ........... written ........... end ........... length (zeros)
//!                        un-synced          in the buffer
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile, Open};
use crate::log::format::{self, FrameHeader, SEGMENT_HEADER_BYTES, SegmentHeader, StoredKind};
use crate::log::limits::{BUFFER_BYTES, DIRECT_BYTES, EXTEND_BYTES, ZERO_PIECE_BYTES};
use crate::log::sidecar::Place;
use crate::types::EntryId;

/// The newest segment, open for appending.
pub struct Segment {
    pub number: u64,
    pub generation: u32,
    pub file: Arc<dyn DiskFile>,
    /// Bytes below are durable.
    synced: u64,
    /// Bytes below are in the file.
    written: u64,
    /// Where the next frame goes: bytes below are taken.
    place: Place,
    /// Length of the file.
    length: u64,
    /// The file grows up to this size in large steps, and beyond only as needed.
    bytes_max: u64,
}

impl Segment {
    /// Continues a segment whose bytes up to `place` are durable and zeros from there on.
    pub fn resume(
        (number, generation): (u64, u32),
        file: Arc<dyn DiskFile>,
        place: Place,
        bytes_max: u64,
    ) -> io::Result<Segment> {
        let length = file.len()?;
        Ok(Segment {
            number,
            generation,
            file,
            synced: place.end.into(),
            written: place.end.into(),
            place,
            length,
            bytes_max,
        })
    }

    /// Makes the file of a new segment, from a spare if there is one. The header is durable before the file gets the
    /// segment's name, and the name when this returns.
    pub async fn create(
        disk: &dyn Disk,
        dir: &Path,
        header: SegmentHeader,
        spare: Option<String>,
        bytes_max: u64,
    ) -> io::Result<Segment> {
        let path = dir.join(format::segment_name(header.segment));
        let (made, fresh) = match spare {
            Some(spare) => (dir.join(spare), false),
            None => (dir.join(format::unmade_name(header.segment)), true),
        };
        let file = disk.open(&made, Open::Create)?;
        if fresh {
            file.set_len(0)?;
            file.set_len(EXTEND_BYTES.min(bytes_max))?;
        }
        let (bytes, chain) = header.encode();
        file.write_at(0, &bytes)?;
        file.sync().await?;
        disk.rename(&made, &path)?;
        disk.sync_dir(dir).await?;
        Segment::resume(
            (header.segment, header.generation),
            file,
            Place::start(&header, chain),
            bytes_max,
        )
    }

    /// Whether a frame of this size goes here; the first one always does.
    pub fn has_room(&self, frame_bytes: u64) -> bool {
        self.end() == SEGMENT_HEADER_BYTES as u32 || u64::from(self.end()) + frame_bytes <= self.bytes_max
    }

    /// Position behind the last frame.
    pub fn end(&self) -> u32 {
        self.place.end
    }

    /// Where the next frame goes.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Whether something is not durable yet.
    pub fn is_dirty(&self) -> bool {
        self.synced < u64::from(self.end())
    }

    /// Adds a frame and answers its position. `buffer` holds what is not written yet.
    pub fn push(
        &mut self,
        buffer: &mut Vec<u8>,
        kind: StoredKind,
        id: EntryId,
        durable_end: u64,
        (body, body_crc): (&Bytes, u32),
    ) -> io::Result<u32> {
        let position = self.end();
        let header = FrameHeader {
            kind,
            segment: self.number,
            generation: self.generation,
            id,
            durable_end,
            durable_position: self.synced as u32,
            body_len: body.len() as u32,
            body_crc,
            previous: self.place.chain,
        };
        let (bytes, checksum) = header.encode();
        self.place = Place {
            end: position + header.frame_bytes() as u32,
            last_frame: position,
            chain: checksum,
            next: id.index.next(),
            term: id.term,
        };
        if buffer.len() + header.frame_bytes() as usize > BUFFER_BYTES {
            self.flush(buffer)?;
        }
        buffer.extend_from_slice(&bytes);
        if body.len() >= DIRECT_BYTES {
            self.flush(buffer)?;
            self.write(body)?;
            // The padding stays as it is: zeros.
            self.written = self.end().into();
        } else {
            buffer.extend_from_slice(body);
            buffer.resize((u64::from(self.end()) - self.written) as usize, 0);
        }
        Ok(position)
    }

    /// Writes out what was gathered.
    pub fn flush(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        if !buffer.is_empty() {
            self.write(buffer)?;
            buffer.clear();
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.written + bytes.len() as u64;
        // The end of the padding counts as well.
        let needed = end.max(self.end().into());
        if needed > self.length {
            let grown = (needed.next_multiple_of(EXTEND_BYTES)).min(self.bytes_max).max(needed);
            self.file.set_len(grown)?;
            self.length = grown;
        }
        self.file.write_at(self.written, bytes)?;
        self.written = end;
        Ok(())
    }

    /// Makes everything that was flushed durable.
    pub async fn sync(&mut self) -> io::Result<()> {
        let written = self.written;
        self.file.sync().await?;
        self.synced = written;
        Ok(())
    }
}

/// Overwrites with zeros whatever is not zero from `start` up to `until` or the end of the file. The caller syncs.
pub fn zero(file: &Arc<dyn DiskFile>, start: u64, until: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_PIECE_BYTES];
    let mut bytes = vec![0; ZERO_PIECE_BYTES];
    let mut position = start;
    loop {
        let piece = (until.saturating_sub(position)).min(ZERO_PIECE_BYTES as u64) as usize;
        let count = file.read_at(position, &mut bytes[..piece])?;
        if count == 0 {
            return Ok(());
        }
        if bytes[..count].iter().any(|byte| *byte != 0) {
            file.write_at(position, &zeros[..count])?;
        }
        position += count as u64;
    }
}
