//! Reads a file front to back in pieces, with bounded memory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::DiskFile;
use crate::log::format::{FRAME_HEADER_BYTES, FrameHeader, HeaderError};
use crate::log::limits::INSPECT_PIECE_BYTES;

/// A window over a file that moves forward. What lies at or behind `limit` is not looked at.
pub struct Reader {
    file: Arc<dyn DiskFile>,
    start: u64,
    bytes: Vec<u8>,
    limit: u64,
}

impl Reader {
    /// Over the bytes of a file below `limit`.
    pub fn new(file: Arc<dyn DiskFile>, limit: u64) -> io::Result<Reader> {
        let limit = limit.min(file.len()?);
        Ok(Reader {
            file,
            start: 0,
            bytes: Vec::new(),
            limit,
        })
    }

    /// Bytes there are to read.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Up to `len` bytes at a position, at most a piece; fewer only at the limit.
    pub fn at(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let len = (len as u64).min(self.limit.saturating_sub(position)) as usize;
        let held = self.start + self.bytes.len() as u64;
        if position < self.start || position + len as u64 > held {
            let piece = (INSPECT_PIECE_BYTES as u64).min(self.limit.saturating_sub(position)) as usize;
            self.bytes.resize(piece, 0);
            let count = self.file.read_at(position, &mut self.bytes)?;
            self.bytes.truncate(count);
            self.start = position;
        }
        let from = (position - self.start) as usize;
        Ok(&self.bytes[from.min(self.bytes.len())..(from + len).min(self.bytes.len())])
    }

    /// The frame header at a position and its checksum.
    pub fn header(&mut self, position: u64) -> io::Result<Result<(FrameHeader, u32), HeaderError>> {
        match <&[u8; FRAME_HEADER_BYTES]>::try_from(self.at(position, FRAME_HEADER_BYTES)?) {
            Ok(bytes) => Ok(FrameHeader::decode(bytes)),
            Err(_) => Ok(Err(HeaderError::Zeros)),
        }
    }

    /// The checksum of a body, read piece by piece; `None` when the file ends inside of it.
    pub fn body_crc(&mut self, position: u64, len: usize) -> io::Result<Option<u32>> {
        let (mut crc, mut done) = (0, 0);
        while done < len {
            let piece = INSPECT_PIECE_BYTES.min(len - done);
            let bytes = self.at(position + done as u64, piece)?;
            if bytes.len() < piece {
                return Ok(None);
            }
            crc = crc32c::crc32c_append(crc, bytes);
            done += piece;
        }
        Ok(Some(crc))
    }

    /// A whole body; `None` when the file ends inside of it. The caller has bounded its length.
    pub fn body(&mut self, position: u64, len: usize) -> io::Result<Option<Bytes>> {
        if position + len as u64 > self.limit {
            return Ok(None);
        }
        let mut body = vec![0; len];
        let count = self.file.read_at(position, &mut body)?;
        Ok((count == len).then(|| Bytes::from(body)))
    }
}
