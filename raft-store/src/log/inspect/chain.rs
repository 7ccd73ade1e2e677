//! Follows the chain of frames of one segment, entry by entry, and judges the place where it ends.

use std::io;
use std::ops::ControlFlow;

use crate::log::format::{FRAME_HEADER_BYTES, FrameHeader, HeaderError, SegmentHeader, StoredKind, segment_name};
use crate::log::inspect::reader::Reader;
use crate::log::inspect::tail::{Tail, look};
use crate::log::inspect::{Bodies, Entry, Finding, REBUILD, Scope, Seen, SegmentReport, Severity, UPGRADE};
use crate::log::limits::{BODY_BYTES_MAX, INSPECT_PROGRESS_BYTES};
use crate::log::reading::entry_kind;
use crate::types::{EntryId, LogIndex};

/// Who is told about what was seen; `Break` ends the walk.
pub type Visit<'a> = &'a mut dyn FnMut(Seen<'_>) -> ControlFlow<()>;

/// One segment on its way through the inspection.
pub struct Chain<'a> {
    pub reader: Reader,
    pub header: SegmentHeader,
    /// Checksum of the newest header.
    pub checksum: u32,
    /// The entry before.
    pub last: Option<EntryId>,
    /// Nothing follows this segment.
    pub is_newest: bool,
    pub scope: &'a Scope,
    pub report: SegmentReport,
    pub findings: Vec<Finding>,
    /// Why an older segment does not go on.
    pub stop: String,
    /// Bytes that the visitor heard of.
    pub told: u64,
    /// What lies behind the first bad place, once it was looked for.
    pub tail: Option<Tail>,
}

impl Chain<'_> {
    /// Index of the entry that comes next.
    pub fn next(&self) -> LogIndex {
        self.header.first.plus(self.report.entries())
    }

    /// Follows the chain to its end. `Break` when the visitor has seen enough.
    pub fn follow(&mut self, visit: Visit<'_>) -> io::Result<ControlFlow<()>> {
        loop {
            let position = self.report.end;
            let (header, checksum) = match self.reader.header(position)? {
                Ok(found) => found,
                Err(error) => return self.ends(position, &error).map(ControlFlow::Continue),
            };
            if let Some(reason) = self.breach(&header) {
                return self.stops(position, reason).map(ControlFlow::Continue);
            }
            if let Some(kind) = entry_kind(header.kind) {
                if self.next() >= self.scope.to {
                    return Ok(ControlFlow::Break(()));
                }
                let mut entry = Entry {
                    id: header.id,
                    kind,
                    segment: header.segment,
                    position,
                    body_len: header.body_len,
                    body_crc: header.body_crc,
                    body: None,
                    is_intact: true,
                };
                if !self.check_body(&mut entry)? {
                    return Ok(ControlFlow::Continue(()));
                }
                if header.id.index >= self.scope.from && visit(Seen::Entry(&entry)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            self.count(&header, checksum);
            if self.report.end - self.told >= INSPECT_PROGRESS_BYTES && self.tell(visit).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Tells how many bytes were done since the last time.
    pub fn tell(&mut self, visit: Visit<'_>) -> ControlFlow<()> {
        let done = self.report.end - self.told;
        self.told = self.report.end;
        visit(Seen::Bytes(done))
    }

    /// Why a header that is intact by itself does not belong here.
    fn breach(&self, header: &FrameHeader) -> Option<&'static str> {
        let own = (header.segment, header.generation) == (self.header.segment, self.header.generation);
        if !own || header.previous != self.checksum {
            return Some("the frame does not continue the chain");
        }
        if header.body_len as usize > BODY_BYTES_MAX {
            return Some("the body would be larger than any entry");
        }
        if header.kind == StoredKind::Seal {
            return None;
        }
        if header.id.index != self.next() {
            return Some("another entry is there");
        }
        (self.last.is_some_and(|last| last.term > header.id.term)).then_some("the term falls")
    }

    /// Checks or reads the body. `false` when the chain ends here, torn.
    fn check_body(&mut self, entry: &mut Entry) -> io::Result<bool> {
        let (at, len) = (entry.position + FRAME_HEADER_BYTES as u64, entry.body_len as usize);
        let wanted = entry.id.index >= self.scope.from;
        entry.is_intact = match self.scope.bodies {
            Bodies::Skip => true,
            Bodies::Read if !wanted => true,
            Bodies::Check => self.reader.body_crc(at, len)? == Some(entry.body_crc),
            Bodies::Read => {
                let body = self.reader.body(at, len)?;
                entry.body = body.filter(|body| crc32c::crc32c(body) == entry.body_crc);
                entry.body.is_some()
            }
        };
        if entry.is_intact {
            return Ok(true);
        }
        let reason = "the body's checksum is wrong";
        if self.is_newest && !self.condemned(entry.position)? {
            self.stops(entry.position, reason)?;
            return Ok(false);
        }
        let index = entry.id.index;
        self.find(Severity::Corrupt, entry.position, Some(index), reason, REBUILD);
        Ok(true)
    }

    fn count(&mut self, header: &FrameHeader, checksum: u32) {
        let report = &mut self.report;
        match header.kind {
            StoredKind::Blank => report.blanks += 1,
            StoredKind::Commands => report.commands += 1,
            StoredKind::Membership => report.memberships += 1,
            StoredKind::Seal => report.seals += 1,
        }
        if header.kind != StoredKind::Seal {
            self.last = Some(header.id);
            report.first.get_or_insert(header.id);
            report.last = self.last;
            report.body_bytes += u64::from(header.body_len);
        }
        report.header_bytes += FRAME_HEADER_BYTES as u64;
        report.durable_end = report.durable_end.max(LogIndex(header.durable_end));
        report.durable_position = report.durable_position.max(u64::from(header.durable_position));
        report.end += header.frame_bytes();
        self.checksum = checksum;
    }

    fn condemned(&mut self, position: u64) -> io::Result<bool> {
        let next = self.next();
        let tail = self.tail(position)?;
        Ok(tail.condemns(next, position))
    }

    /// What is behind the first bad place; looked for once, since later places only have less behind them.
    fn tail(&mut self, position: u64) -> io::Result<&Tail> {
        if self.tail.is_none() {
            self.tail = Some(look(&mut self.reader, &self.header, position)?);
        }
        Ok(self.tail.get_or_insert_default())
    }

    /// Nothing readable is at the end.
    fn ends(&mut self, position: u64, error: &HeaderError) -> io::Result<()> {
        match error {
            HeaderError::Version(version)
                if FrameHeader::names(self.reader.at(position, FRAME_HEADER_BYTES)?, &self.header) =>
            {
                let reason = format!("format version {version} is not known");
                self.find(Severity::Corrupt, position, None, reason, UPGRADE);
                Ok(())
            }
            error => self.stops(position, &error.to_string()),
        }
    }

    /// The chain does not go on: a clean end, a torn tail, or damage.
    fn stops(&mut self, position: u64, reason: &str) -> io::Result<()> {
        // Whether an older segment is complete is seen by the index that the next one begins with.
        if !self.is_newest {
            self.stop = reason.to_owned();
            return Ok(());
        }
        let next = self.next();
        let (condemned, version) = {
            let tail = self.tail(position)?;
            (tail.condemns(next, position), tail.version)
        };
        if condemned {
            self.find(Severity::Corrupt, position, Some(next), reason, REBUILD);
        } else if let Some(version) = version {
            let reason = format!("format version {version} is not known");
            self.find(Severity::Corrupt, position, Some(next), reason, UPGRADE);
        } else {
            let recycled = self.header.recycled;
            let tail = self.tail(position)?;
            // A recycled file keeps its old bytes, whatever they begin with.
            let is_leftover = tail.is_leftover || recycled && !tail.has_own;
            let end = tail.bytes_end;
            let bytes = end.saturating_sub(position);
            if is_leftover {
                self.report.leftover_bytes = bytes;
            } else if bytes > 0 {
                self.report.torn_bytes = bytes;
                let reason = format!("a torn tail of {bytes} bytes: {reason}");
                let remedy = "none is needed: it was never acknowledged, and the next start cuts it";
                self.find(Severity::Warning, position, Some(next), reason, remedy);
            }
        }
        Ok(())
    }

    /// Notes something about this segment.
    pub fn find(
        &mut self,
        severity: Severity,
        position: u64,
        index: Option<LogIndex>,
        reason: impl Into<String>,
        remedy: &'static str,
    ) {
        self.findings.push(Finding {
            severity,
            file: segment_name(self.header.segment),
            position,
            index,
            reason: reason.into(),
            remedy,
        });
    }
}
