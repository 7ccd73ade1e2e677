//! Entries from disk: every byte that is served was checked against the CRC that its proposer computed.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::DiskFile;
use crate::log::format::{FRAME_HEADER_BYTES, FrameHeader, StoredKind, segment_name};
use crate::log::index::Span;
use crate::log::{Frame, FrameKind};

/// What an entry of this stored kind is for; a seal is no entry.
pub fn entry_kind(kind: StoredKind) -> Option<FrameKind> {
    match kind {
        StoredKind::Blank => Some(FrameKind::Blank),
        StoredKind::Commands => Some(FrameKind::Commands),
        StoredKind::Membership => Some(FrameKind::Membership),
        StoredKind::Seal => None,
    }
}

/// How an entry of this kind is stored.
pub fn stored_kind(kind: FrameKind) -> StoredKind {
    match kind {
        FrameKind::Blank => StoredKind::Blank,
        FrameKind::Commands => StoredKind::Commands,
        FrameKind::Membership => StoredKind::Membership,
    }
}

/// The 64 bytes of a header at a position.
pub fn read_header(file: &Arc<dyn DiskFile>, position: u64) -> io::Result<[u8; FRAME_HEADER_BYTES]> {
    let mut bytes = [0; FRAME_HEADER_BYTES];
    file.read_at(position, &mut bytes)?;
    Ok(bytes)
}

/// Reads and checks a run of entries. `InvalidData` names the place when something is wrong.
pub fn read_span(span: &Span) -> io::Result<Vec<Frame>> {
    let mut bytes = vec![0; (span.end - span.start) as usize];
    let filled = span.file.read_at(u64::from(span.start), &mut bytes)?;
    bytes.truncate(filled);
    let bytes = Bytes::from(bytes);
    let mut frames = Vec::with_capacity(span.count);
    let mut at = 0;
    while frames.len() < span.count {
        let damaged = |reason: &str| {
            let position = span.start as usize + at;
            let file = segment_name(span.segment);
            let index = span.from.plus(frames.len() as u64);
            let text = format!("{file} is damaged at byte {position} (entry {index}): {reason}; rebuild this replica");
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let Some(Ok(header)) = bytes
            .get(at..at + FRAME_HEADER_BYTES)
            .map(<[u8; FRAME_HEADER_BYTES]>::try_from)
        else {
            return Err(damaged("the file ends"));
        };
        let (header, _) = FrameHeader::decode(&header).map_err(|error| damaged(&error.to_string()))?;
        if (header.segment, header.generation) != (span.segment, span.generation) {
            return Err(damaged("the frame is of another segment"));
        }
        if let Some(kind) = entry_kind(header.kind) {
            let start = at + FRAME_HEADER_BYTES;
            let end = start + header.body_len as usize;
            if end > bytes.len() {
                return Err(damaged("the body ends early"));
            }
            let body = bytes.slice(start..end);
            if header.id.index != span.from.plus(frames.len() as u64) {
                return Err(damaged("another entry is there"));
            }
            if crc32c::crc32c(&body) != header.body_crc {
                return Err(damaged("the body's checksum is wrong"));
            }
            frames.push(Frame {
                id: header.id,
                kind,
                body,
                body_crc: header.body_crc,
            });
        }
        at += header.frame_bytes() as usize;
    }
    Ok(frames)
}
