//! A look into a log's folder without opening the log: nothing is created, mended or written.
//!
//! The verdicts are those of recovery, but on everything: bodies of old segments too, and it goes on behind the first
//! damaged place. One pass, front to back, a bounded piece of a file in memory at a time.
//!
//! ```text
//! marks, vote, committed ─► segments in order ─► chain of frames ─► visitor (entries, bytes done)
//!                                  │                   └─ end: clean, torn (warning), or corrupt
//!                                  └─ first index, term before: does it continue the one before
//! ```

mod chain;
mod reader;
mod tail;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile, Open};
use crate::log::FrameKind;
use crate::log::format::{
    self, Cut, HeaderError, Marks, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name, segment_of_name,
};
use crate::log::limits::INSPECT_FINDINGS_MAX;
use crate::log::reading::read_header;
use crate::log::slots::{Slots, VOTE_LOST, vote_is_lost};
use crate::types::{EntryId, LogIndex, Term};
use chain::{Chain, Visit};
use reader::Reader;

const REBUILD: &str = "this was durable, so it is no torn write: rebuild this replica from its peers";
const UPGRADE: &str = "read it with the release that wrote it, or a newer one";

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A start mends it, and nothing that was acknowledged is concerned.
    Warning,
    /// The log refuses to open, or would refuse to serve this place.
    Corrupt,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Name of the file in the log's folder.
    pub file: String,
    /// Byte position in it.
    pub position: u64,
    /// Index of the entry that should be there, if known.
    pub index: Option<LogIndex>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub remedy: &'static str,
}

/// What becomes of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// They are passed over.
    Skip,
    /// Their checksums are compared, piece by piece.
    Check,
    /// They are read whole and handed to the visitor.
    Read,
}

/// What of a log is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// First entry that the visitor sees.
    pub from: LogIndex,
    /// The walk ends before this entry.
    pub to: LogIndex,
    /// What becomes of bodies.
    pub bodies: Bodies,
}

/// One entry as it lies on disk.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its term and index.
    pub id: EntryId,
    /// What it is for.
    pub kind: FrameKind,
    /// Number of its segment.
    pub segment: u64,
    /// Byte position of its header in the segment.
    pub position: u64,
    /// Length of its body.
    pub body_len: u32,
    /// CRC32C of its body, as its header says.
    pub body_crc: u32,
    /// Its body, when bodies are read and it is intact.
    pub body: Option<Bytes>,
    /// `false` when the body was looked at and is damaged.
    pub is_intact: bool,
}

/// What a visitor is told.
#[derive(Debug)]
pub enum Seen<'a> {
    /// An entry.
    Entry(&'a Entry),
    /// So many bytes more are done.
    Bytes(u64),
}

/// What is in one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// Number of the segment.
    pub segment: u64,
    /// Generation of its file.
    pub generation: u32,
    /// First and last entry; `None` when it has none.
    pub first: Option<EntryId>,
    /// See `first`.
    pub last: Option<EntryId>,
    /// Entries of new leaders.
    pub blanks: u64,
    /// Entries of commands.
    pub commands: u64,
    /// Entries with memberships.
    pub memberships: u64,
    /// Seals, which are no entries.
    pub seals: u64,
    /// Bytes of bodies.
    pub body_bytes: u64,
    /// Bytes of headers, the segment's included.
    pub header_bytes: u64,
    /// Position behind the last frame.
    pub end: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Entries below this index are durable, as the frames say.
    pub durable_end: LogIndex,
    /// Bytes below this position are durable, as the frames say.
    pub durable_position: u64,
    /// Bytes of a torn tail.
    pub torn_bytes: u64,
    /// Bytes behind the end that an earlier use of the file left.
    pub leftover_bytes: u64,
    /// Everything in it is purged: the next start deletes it.
    pub is_purged: bool,
}

impl SegmentReport {
    /// Entries in it.
    pub fn entries(&self) -> u64 {
        self.blanks + self.commands + self.memberships
    }
}

/// What was found in a log's folder.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Newest purged entry.
    pub purged: Option<EntryId>,
    /// The vote, as it was given to the log.
    pub vote: Option<Bytes>,
    /// The committed entry that was noted last.
    pub committed: Option<EntryId>,
    /// The segments in order.
    pub segments: Vec<SegmentReport>,
    /// The first findings, in order.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub findings_more: u64,
    /// There is a finding that is no mere warning.
    pub is_corrupt: bool,
    /// Everything was looked at: the visitor did not end the walk, nor did its scope.
    pub is_complete: bool,
}

impl Report {
    /// Adds a finding. They are counted when there are too many to keep.
    pub fn find(&mut self, finding: Finding) {
        self.is_corrupt |= finding.severity == Severity::Corrupt;
        if self.findings.len() < INSPECT_FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_more += 1;
        }
    }

    fn corrupt(&mut self, file: &str, position: u64, index: Option<LogIndex>, reason: impl Into<String>) {
        self.find(Finding {
            severity: Severity::Corrupt,
            file: file.to_owned(),
            position,
            index,
            reason: reason.into(),
            remedy: REBUILD,
        });
    }

    fn warn(&mut self, file: &str, reason: impl Into<String>, remedy: &'static str) {
        self.find(Finding {
            severity: Severity::Warning,
            file: file.to_owned(),
            position: 0,
            index: None,
            reason: reason.into(),
            remedy,
        });
    }
}

/// A segment file with an intact header.
struct Found {
    header: SegmentHeader,
    checksum: u32,
    file: Arc<dyn DiskFile>,
    /// Nothing from here on counts: a truncation that was begun will zero it.
    limit: u64,
}

/// Whether the folder holds files of a log.
pub fn is_log(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
    match disk.list(dir) {
        Ok(names) => Ok(names
            .iter()
            .any(|name| segment_of_name(name).is_some() || name == "marks")),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bytes of all segment files.
pub fn segment_bytes(disk: &dyn Disk, dir: &Path) -> io::Result<u64> {
    let names = disk.list(dir)?;
    let segments = names.iter().filter(|name| segment_of_name(name).is_some());
    segments.map(|name| disk.open(&dir.join(name), Open::Read)?.len()).sum()
}

/// Walks through a log's folder. An error is one of the disk; what is wrong with the log is in the report.
pub fn walk(disk: &dyn Disk, dir: &Path, scope: &Scope, visit: Visit<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    report.vote = slot(disk, dir, "vote", &mut report)?;
    if vote_is_lost(disk, dir)? {
        report.corrupt("vote", 0, None, VOTE_LOST);
    }
    let committed = Slots::peek(disk, &dir.join("committed"))?;
    // The committed id is only a hint: when it cannot be read, it starts anew.
    report.committed = committed.ok().flatten().as_deref().and_then(format::decode_committed);
    let marks = slot(disk, dir, "marks", &mut report)?.map(|bytes| Marks::decode(&bytes));
    let marks = match marks {
        Some(None) => {
            report.corrupt("marks", 0, None, "unknown contents");
            Marks::default()
        }
        marks => marks.flatten().unwrap_or_default(),
    };
    report.purged = marks.purged;
    let mut found = find_segments(disk, dir, marks.cut, &mut report)?;
    drop_purged(&mut found, &mut report);
    let walked = walk_segments(found, scope, visit, &mut report)?;
    report.is_complete = walked.is_continue();
    Ok(report)
}

fn slot(disk: &dyn Disk, dir: &Path, name: &str, report: &mut Report) -> io::Result<Option<Bytes>> {
    match Slots::peek(disk, &dir.join(name))? {
        Ok(value) => Ok(value),
        Err(unreadable) => {
            report.corrupt(name, 0, None, unreadable.0.to_string());
            Ok(None)
        }
    }
}

/// The segments that would be there after recovery has finished a truncation.
fn find_segments(disk: &dyn Disk, dir: &Path, cut: Option<Cut>, report: &mut Report) -> io::Result<Vec<Found>> {
    let names = disk.list(dir)?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_of_name(name)).collect();
    if let Some(cut) = cut {
        numbers.retain(|number| *number <= cut.segment);
        let reason = format!(
            "a truncation to byte {} of segment {} was begun",
            cut.position, cut.segment
        );
        report.warn("marks", reason, "none is needed: the next start finishes it");
    }
    let mut found = Vec::new();
    for number in numbers {
        let name = segment_name(number);
        let file = disk.open(&dir.join(&name), Open::Read)?;
        let limit = cut
            .filter(|cut| cut.segment == number)
            .map_or(u64::MAX, |cut| cut.position);
        match SegmentHeader::decode(&read_header(&file, 0)?) {
            Ok((header, checksum)) if header.segment == number => found.push(Found {
                header,
                checksum,
                file,
                limit,
            }),
            Ok(_) => report.corrupt(&name, 0, None, "the header is of another segment"),
            Err(HeaderError::Version(version)) => report.find(Finding {
                severity: Severity::Corrupt,
                file: name,
                position: 0,
                index: None,
                reason: format!("format version {version} is not known"),
                remedy: UPGRADE,
            }),
            Err(error) => report.corrupt(&name, 0, None, error.to_string()),
        }
    }
    Ok(found)
}

/// Leaves out segments that are wholly purged, and sees whether the first one that counts is there.
fn drop_purged(found: &mut Vec<Found>, report: &mut Report) {
    let first_wanted = report.purged.map_or(0, |id| id.index.get() + 1);
    let purged = found
        .iter()
        .skip(1)
        .take_while(|next| next.header.first.get() <= first_wanted)
        .count();
    for dropped in found.drain(..purged) {
        report.segments.push(SegmentReport {
            segment: dropped.header.segment,
            generation: dropped.header.generation,
            file_bytes: dropped.file.len().unwrap_or_default(),
            is_purged: true,
            ..SegmentReport::default()
        });
    }
    if let Some(first) = found.first() {
        let has_start = first.header.start && report.purged.is_none();
        if first.header.first.get() > first_wanted && !has_start {
            let reason = format!("the segment before it, from entry {first_wanted} on, is missing");
            let (name, index) = (segment_name(first.header.segment), first.header.first);
            report.corrupt(&name, 0, Some(index), reason);
        }
    }
}

fn walk_segments(
    found: Vec<Found>,
    scope: &Scope,
    visit: Visit<'_>,
    report: &mut Report,
) -> io::Result<ControlFlow<()>> {
    let mut last: Option<EntryId> = None;
    let mut found = found.into_iter().peekable();
    while let Some(Found {
        header,
        checksum,
        file,
        limit,
    }) = found.next()
    {
        let after = found.peek().map(|next| next.header);
        // Nobody asked for what is in here.
        if after.is_some_and(|after| after.first <= scope.from) {
            last = after.and_then(|after| entry_before(&after));
            continue;
        }
        if last.is_some_and(|last| last.term != header.term_before) {
            let reason = "the term before it is not that of the segment before";
            report.corrupt(&segment_name(header.segment), 0, Some(header.first), reason);
        }
        let file_bytes = file.len()?;
        let mut chain = Chain {
            reader: Reader::new(file, limit)?,
            header,
            checksum,
            last,
            is_newest: after.is_none(),
            scope,
            report: SegmentReport {
                segment: header.segment,
                generation: header.generation,
                header_bytes: SEGMENT_HEADER_BYTES as u64,
                end: SEGMENT_HEADER_BYTES as u64,
                file_bytes,
                ..SegmentReport::default()
            },
            findings: Vec::new(),
            stop: String::new(),
            told: 0,
            tail: None,
        };
        let mut walked = chain.follow(visit)?;
        if walked.is_continue() {
            walked = chain.tell(visit);
        }
        let next = chain.next();
        if let Some(after) = after.filter(|after| walked.is_continue() && after.first != next) {
            let gap = format!("segment {} goes on with entry {}", after.segment, after.first);
            let reason = match std::mem::take(&mut chain.stop) {
                stop if after.first > next && !stop.is_empty() => format!("{stop}, and {gap}"),
                _ => gap,
            };
            let end = chain.report.end;
            chain.find(Severity::Corrupt, end, Some(next), reason, REBUILD);
            last = entry_before(&after);
        } else {
            last = chain.last;
        }
        chain.findings.into_iter().for_each(|finding| report.find(finding));
        report.segments.push(chain.report);
        if walked.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The entry before a segment, as its header says.
fn entry_before(header: &SegmentHeader) -> Option<EntryId> {
    let index = header.first.previous()?;
    (header.term_before > Term(0)).then_some(EntryId {
        term: header.term_before,
        index,
    })
}
