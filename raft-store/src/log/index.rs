//! What the log knows in memory: where each entry lies, the first entry of each term, and the newest entries whole.
//!
//! ```text
//!   purged │ first ............... durable ......... last
//!          │ ◄── positions, per segment ──►│
//!          │                 ◄── tail: whole frames ───►│
//! ```
//!
//! * Entries are dense from `first` to `last`; so are the positions of a segment and the frames of the tail.
//! * Every entry that is not durable is in the tail; every entry that is not in the tail has a position.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::log::limits::WARM_SEGMENTS_MAX;
use crate::log::{Frame, LogState};
use crate::status::LogSpan;
use crate::types::{EntryId, LogIndex, Term};

/// Where the entries of one segment lie.
pub struct SegmentIndex {
    /// Number of the segment.
    pub segment: u64,
    /// Its generation.
    pub generation: u32,
    /// Index of its first entry.
    pub first: LogIndex,
    /// Number of its entries.
    pub entries: u64,
    /// Position of each entry's frame; `None` while they are not in memory, which they always are for the newest segment
    /// that is being written.
    pub positions: Option<Vec<u32>>,
    /// Position behind its last durable frame.
    pub end: u32,
    /// The file; stays readable for whoever holds it when the segment is deleted.
    pub file: Arc<dyn DiskFile>,
}

/// A run of entries to be read from one segment.
pub struct Span {
    /// Number of the segment.
    pub segment: u64,
    /// Its generation.
    pub generation: u32,
    /// The file.
    pub file: Arc<dyn DiskFile>,
    /// First byte.
    pub start: u32,
    /// Byte behind the last.
    pub end: u32,
    /// First entry.
    pub from: LogIndex,
    /// Number of entries.
    pub count: usize,
}

/// Where entries can be had.
pub enum Located {
    /// The log does not hold the first of them.
    Absent,
    /// In memory.
    Here(Vec<Frame>),
    /// On disk. The number changes when a truncation makes the place invalid.
    There(Span, u64),
    /// On disk, in this segment, whose positions are not in memory.
    Unindexed(u64),
}

/// The index of the whole log.
#[derive(Default)]
pub struct Index {
    purged: Option<EntryId>,
    segments: VecDeque<SegmentIndex>,
    /// First entry of each term among the entries present.
    terms: VecDeque<EntryId>,
    /// First index present, or the next to come when the log is empty.
    first: u64,
    /// Index behind the last entry.
    end: u64,
    /// Entries below are durable.
    durable_end: u64,
    tail: VecDeque<Frame>,
    tail_bytes: usize,
    tail_bytes_max: usize,
    truncations: u64,
    /// Segments whose positions are in memory, besides the newest; the one used least recently first.
    warm: VecDeque<u64>,
}

impl SegmentIndex {
    /// Index behind its last entry.
    fn end_index(&self) -> u64 {
        self.first.get() + self.entries
    }
}

impl Index {
    /// The index of what recovery found; all of it is durable.
    pub fn new(
        purged: Option<EntryId>,
        segments: VecDeque<SegmentIndex>,
        terms: Vec<EntryId>,
        end: LogIndex,
        tail_bytes_max: usize,
    ) -> Index {
        let after_purge = purged.map_or(0, |id| id.index.get() + 1);
        let first = segments
            .front()
            .map_or(after_purge, |segment| segment.first.get().max(after_purge));
        let end = end.get().max(first);
        let mut index = Index {
            purged,
            segments,
            first,
            end,
            durable_end: end,
            tail_bytes_max,
            ..Index::default()
        };
        index.terms = terms.into();
        index.forget_terms();
        index
    }

    /// Nothing at all is or was here: any index may come first.
    pub fn is_blank(&self) -> bool {
        self.purged.is_none() && self.first == self.end
    }

    /// Index that the next entry must have.
    pub fn end(&self) -> LogIndex {
        LogIndex(self.end)
    }

    /// First index present.
    pub fn first(&self) -> LogIndex {
        LogIndex(self.first)
    }

    /// The newest entry, or the newest purged one.
    pub fn last(&self) -> Option<EntryId> {
        self.id_below(self.end)
    }

    /// Newest purged entry.
    pub fn purged(&self) -> Option<EntryId> {
        self.purged
    }

    /// Entries below are durable.
    pub fn durable_end(&self) -> u64 {
        self.durable_end
    }

    /// The ends of the log.
    pub fn state(&self) -> LogState {
        LogState {
            purged: self.purged,
            last: self.last(),
            durable: self.id_below(self.durable_end),
        }
    }

    /// First entry of each term.
    pub fn term_starts(&self) -> Vec<EntryId> {
        self.terms.iter().copied().collect()
    }

    /// Id of the entry at an index, if present.
    pub fn id(&self, index: LogIndex) -> Option<EntryId> {
        if index.get() < self.first || index.get() >= self.end {
            return None;
        }
        let runs = self.terms.partition_point(|start| start.index <= index);
        let term = self.terms.get(runs.checked_sub(1)?)?.term;
        Some(EntryId { term, index })
    }

    /// Id of the newest entry below an index, which may be the purged one.
    pub fn id_below(&self, end: u64) -> Option<EntryId> {
        if end <= self.first {
            self.purged
        } else {
            self.id(LogIndex(end - 1))
        }
    }

    /// Puts new entries into the tail. They must follow the last one.
    pub fn append(&mut self, frames: &[Frame]) {
        for frame in frames {
            if self.is_blank() {
                self.first = frame.id.index.get();
                (self.end, self.durable_end) = (self.first, self.first);
            }
            assert_eq!(frame.id.index.get(), self.end, "entries follow each other");
            let term_before = self.terms.back().map(|start| start.term);
            if term_before.is_none_or(|term| term < frame.id.term) {
                self.terms.push_back(frame.id);
            }
            self.end += 1;
            self.tail_bytes += frame.body.len() + size_of::<Frame>();
            self.tail.push_back(frame.clone());
        }
    }

    /// Adds a segment behind the others.
    pub fn add_segment(&mut self, segment: SegmentIndex) {
        assert!(
            self.segments
                .back()
                .is_none_or(|before| before.segment < segment.segment)
        );
        if let Some(before) = self.segments.back().map(|before| before.segment) {
            self.warmed(before);
        }
        self.segments.push_back(segment);
    }

    /// The positions of a segment are in memory and used: those used least recently go when there are too many.
    fn warmed(&mut self, segment: u64) {
        self.warm.retain(|warm| *warm != segment);
        self.warm.push_back(segment);
        while self.warm.len() > WARM_SEGMENTS_MAX
            && let Some(cold) = self.warm.pop_front()
        {
            let newest = self.segments.back().map(|newest| newest.segment);
            let found = self.segments.iter_mut().find(|found| found.segment == cold);
            if let Some(found) = found.filter(|found| Some(found.segment) != newest) {
                found.positions = None;
            }
        }
    }

    /// A segment, by its number.
    pub fn segment(&self, number: u64) -> Option<&SegmentIndex> {
        self.segments.iter().find(|segment| segment.segment == number)
    }

    /// The newest segment is durable up to `end`: a seal was written.
    pub fn sealed(&mut self, end: u32) {
        if let Some(segment) = self.segments.back_mut() {
            segment.end = end;
        }
    }

    /// The positions of a segment were read. They are of use only if nothing was cut off since they were asked for.
    pub fn load(&mut self, number: u64, positions: Vec<u32>) {
        let found = self.segments.iter_mut().find(|segment| segment.segment == number);
        if let Some(segment) = found
            && segment.positions.is_none()
            && segment.entries == positions.len() as u64
        {
            segment.positions = Some(positions);
            self.warmed(number);
        }
    }

    /// First entry of each term among the entries from an index on.
    pub fn terms_from(&self, from: LogIndex) -> impl Iterator<Item = EntryId> {
        let at = self.terms.partition_point(|start| start.index < from);
        self.terms.range(at..).copied()
    }

    /// The newest segment got these frames and is durable up to `end`, so entries below `durable_end` are.
    pub fn settle(&mut self, positions: &[u32], end: u32, durable_end: u64) {
        assert!(durable_end >= self.durable_end && durable_end <= self.end);
        if let Some(segment) = self.segments.back_mut() {
            let known = segment.positions.as_mut().expect("kept for the newest segment");
            known.extend_from_slice(positions);
            segment.entries = known.len() as u64;
            segment.end = end;
            assert_eq!(segment.end_index(), durable_end);
        }
        self.durable_end = durable_end;
        while self.tail_bytes > self.tail_bytes_max
            && let Some(oldest) = self.tail.front()
            && oldest.id.index.get() < self.durable_end
        {
            self.tail_bytes -= oldest.body.len() + size_of::<Frame>();
            self.tail.pop_front();
        }
    }

    /// Where `from` and, as far as they lie together and fit, its followers below `to` can be had.
    pub fn locate(&self, from: LogIndex, to: LogIndex, bytes_max: usize, span_bytes_max: usize) -> Located {
        let to = to.get().min(self.end);
        if from.get() < self.first || from.get() >= to {
            return Located::Absent;
        }
        let tail_first = self.end - self.tail.len() as u64;
        if from.get() >= tail_first {
            return Located::Here(self.tail_from(
                (from.get() - tail_first) as usize,
                (to - from.get()) as usize,
                bytes_max,
            ));
        }
        let after = self.segments.partition_point(|segment| segment.first <= from);
        let Some(segment) = after.checked_sub(1).and_then(|at| self.segments.get(at)) else {
            return Located::Absent;
        };
        let at = from.since(segment.first) as usize;
        let Some(positions) = &segment.positions else {
            return match from.get() < segment.end_index() {
                true => Located::Unindexed(segment.segment),
                false => Located::Absent,
            };
        };
        let Some(start) = positions.get(at).copied() else {
            return Located::Absent;
        };
        let count_max = (to.min(tail_first) - from.get()) as usize;
        let end_of = |entry: usize| positions.get(entry + 1).copied().unwrap_or(segment.end);
        let mut count = 1;
        while count < count_max.min(positions.len() - at)
            && (end_of(at + count) - start) as usize <= bytes_max.min(span_bytes_max)
        {
            count += 1;
        }
        let (file, end) = (segment.file.clone(), end_of(at + count - 1));
        let (segment, generation) = (segment.segment, segment.generation);
        Located::There(
            Span {
                segment,
                generation,
                file,
                start,
                end,
                from,
                count,
            },
            self.truncations,
        )
    }

    fn tail_from(&self, at: usize, count_max: usize, bytes_max: usize) -> Vec<Frame> {
        let mut bytes: usize = 0;
        let fitting = self.tail.range(at..at + count_max).take_while(|frame| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(frame.body.len().max(1));
            first || bytes <= bytes_max
        });
        fitting.cloned().collect()
    }

    /// Changes with each truncation.
    pub fn truncations(&self) -> u64 {
        self.truncations
    }

    /// Number of the newest segment.
    pub fn newest_segment(&self) -> Option<&SegmentIndex> {
        self.segments.back()
    }

    /// Number of the oldest segment.
    pub fn oldest_segment(&self) -> Option<&SegmentIndex> {
        self.segments.front()
    }

    /// The segments that are followed by another, oldest first.
    pub fn finished_spans(&self) -> Vec<LogSpan> {
        let followed = self.segments.iter().zip(self.segments.iter().skip(1));
        let spans = followed.filter_map(|(segment, next)| {
            Some(LogSpan {
                first: segment.first.max(LogIndex(self.first)),
                last: next.first.previous()?,
                bytes: segment.end.into(),
            })
        });
        spans.filter(|span| span.first <= span.last).collect()
    }

    /// The segment of an entry whose frame was settled.
    pub fn segment_of(&self, index: LogIndex) -> Option<&SegmentIndex> {
        let after = self.segments.partition_point(|segment| segment.first <= index);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (index.get() < segment.end_index()).then_some(segment)
    }

    /// Drops the entries from `end` on, all of them durable, and the segments that held nothing else; answers the
    /// numbers of these, newest first.
    pub fn truncate(&mut self, end: LogIndex) -> Vec<u64> {
        assert!(
            end.get() >= self.first && self.durable_end == self.end,
            "drained before"
        );
        self.truncations += 1;
        self.end = end.get();
        self.durable_end = self.end;
        while self.tail.back().is_some_and(|frame| frame.id.index >= end)
            && let Some(frame) = self.tail.pop_back()
        {
            self.tail_bytes -= frame.body.len() + size_of::<Frame>();
        }
        while self.terms.back().is_some_and(|start| start.index >= end) {
            self.terms.pop_back();
        }
        let mut dropped = Vec::new();
        while self.segments.back().is_some_and(|segment| segment.first >= end)
            && let Some(segment) = self.segments.pop_back()
        {
            dropped.push(segment.segment);
        }
        if let Some(segment) = self.segments.back_mut() {
            let kept = end.since(segment.first);
            if kept < segment.entries {
                let positions = segment.positions.as_mut().expect("loaded before");
                segment.end = positions[kept as usize];
                positions.truncate(kept as usize);
                segment.entries = kept;
            }
        }
        self.warm.retain(|warm| !dropped.contains(warm));
        dropped
    }

    /// Drops everything; the next entry follows `purged`. Answers the segments, newest first.
    pub fn restart_after(&mut self, purged: EntryId) -> Vec<u64> {
        let dropped = self.segments.iter().rev().map(|segment| segment.segment).collect();
        let end = purged.index.get() + 1;
        let (tail_bytes_max, truncations) = (self.tail_bytes_max, self.truncations + 1);
        *self = Index {
            purged: Some(purged),
            first: end,
            end,
            durable_end: end,
            tail_bytes_max,
            truncations,
            ..Index::default()
        };
        dropped
    }

    /// Forgets the entries up to `purged`, which is present; answers the segments that held nothing else, oldest first.
    pub fn purge(&mut self, purged: EntryId) -> Vec<(u64, Arc<dyn DiskFile>)> {
        self.purged = Some(purged);
        self.first = purged.index.get() + 1;
        self.forget_terms();
        while self.tail.front().is_some_and(|frame| frame.id.index <= purged.index)
            && let Some(frame) = self.tail.pop_front()
        {
            self.tail_bytes -= frame.body.len() + size_of::<Frame>();
        }
        let mut dropped = Vec::new();
        while self.segments.get(1).is_some_and(|next| next.first.get() <= self.first)
            && let Some(segment) = self.segments.pop_front()
        {
            dropped.push((segment.segment, segment.file));
        }
        dropped
    }

    /// Lets the runs of terms begin at `first`.
    fn forget_terms(&mut self) {
        let mut term: Option<Term> = None;
        while self.terms.front().is_some_and(|start| start.index.get() <= self.first) {
            term = self.terms.pop_front().map(|start| start.term);
        }
        if let Some(term) = term
            && self.first < self.end
        {
            self.terms.push_front(EntryId {
                term,
                index: LogIndex(self.first),
            });
        }
    }
}
