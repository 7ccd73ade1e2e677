//! How far one consumer group is on one topic, in memory, with the indexes that keep every question as cheap as
//! its answer is long. All changes of spans go through [`Progress::insert`] and [`Progress::cut`], which keep the
//! indexes and write the pairs.
//!
//! In a FIFO consumer group only the first span of a message group is in `visible`: the rest waits behind it.

use super::changes::Changes;
use super::identity::{LeaseId, QueueOffset, TopicId};
use super::kv::Family;
use super::span::{self, Span};
use super::topic::ConsumerGroup;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A span's queue and first offset.
pub(crate) type SpanPlace = (u32, QueueOffset);

/// Progress of one consumer group on one topic.
#[derive(Debug)]
pub(crate) struct Progress {
    pub topic: TopicId,
    pub group: Arc<ConsumerGroup>,
    queues: Vec<Queue>,
    span_count: usize,
    /// (visible at, queue, first) of every span that is not behind another one.
    visible: BTreeSet<(u64, u32, QueueOffset)>,
    /// Queues with messages never handed out.
    fresh: BTreeSet<u32>,
    /// Spans by the attempt that got them.
    attempts: BTreeMap<u64, BTreeSet<SpanPlace>>,
    /// (visible at, queue, first) of leases that renew by themselves.
    renewals: BTreeSet<(u64, u32, QueueOffset)>,
}

#[derive(Debug, Default)]
struct Queue {
    next: QueueOffset,
    spans: BTreeMap<QueueOffset, Span>,
    /// First offsets of the spans of each message group; FIFO only.
    groups: BTreeMap<u64, BTreeSet<QueueOffset>>,
    /// Offsets in spans.
    not_done: u64,
    /// Offsets in spans that were only passed over.
    passed: u64,
}

impl Progress {
    /// No progress: every queue at its place in `next`.
    pub fn new(topic: TopicId, group: Arc<ConsumerGroup>, next: Vec<QueueOffset>) -> Progress {
        let queues = next
            .into_iter()
            .map(|next| Queue {
                next,
                ..Queue::default()
            })
            .collect();
        Progress {
            topic,
            group,
            queues,
            span_count: 0,
            visible: BTreeSet::new(),
            fresh: BTreeSet::new(),
            attempts: BTreeMap::new(),
            renewals: BTreeSet::new(),
        }
    }

    /// The first offset of a queue that was never handed out.
    pub fn next(&self, queue_id: u32) -> QueueOffset {
        self.queues[queue_id as usize].next
    }

    /// All before this offset is done.
    pub fn floor(&self, queue_id: u32) -> QueueOffset {
        let queue = &self.queues[queue_id as usize];
        queue.spans.first_key_value().map_or(queue.next, |(first, _)| *first)
    }

    /// Offsets of a queue that are handed out or passed over and not done.
    pub fn not_done(&self, queue_id: u32) -> u64 {
        self.queues[queue_id as usize].not_done
    }

    /// Offsets of a queue that were passed over.
    pub fn passed(&self, queue_id: u32) -> u64 {
        self.queues[queue_id as usize].passed
    }

    /// Spans of all queues.
    pub fn span_count(&self) -> usize {
        self.span_count
    }

    /// Queues with messages never handed out, from `start` on and around.
    pub fn fresh_from(&self, start: u32) -> impl Iterator<Item = u32> + '_ {
        self.fresh.range(start..).chain(self.fresh.range(..start)).copied()
    }

    /// Notes whether a queue that ends at `end` has messages never handed out.
    pub fn note_end(&mut self, queue_id: u32, end: QueueOffset) {
        if self.next(queue_id) < end {
            self.fresh.insert(queue_id);
        } else {
            self.fresh.remove(&queue_id);
        }
    }

    /// Moves the first never handed out of a queue that ends at `end`.
    pub fn advance(&mut self, queue_id: u32, next: QueueOffset, end: QueueOffset, changes: &mut Changes) {
        assert!(
            self.next(queue_id) <= next && next <= end,
            "progress goes forward and never past the end"
        );
        self.queues[queue_id as usize].next = next;
        self.note_end(queue_id, end);
        let key = span::next_key(self.topic, self.group.id, queue_id);
        changes.put(Family::Progress, key, span::next_value(next));
    }

    /// The span that holds an offset.
    pub fn span_of(&self, queue_id: u32, offset: QueueOffset) -> Option<(QueueOffset, &Span)> {
        let (first, span) = self.queues.get(queue_id as usize)?.spans.range(..=offset).next_back()?;
        (span.last >= offset).then_some((*first, span))
    }

    /// The spans that reach into `first..=last`, ascending; none of a queue that does not exist.
    pub fn spans_within(
        &self,
        queue_id: u32,
        first: QueueOffset,
        last: QueueOffset,
    ) -> impl Iterator<Item = (QueueOffset, &Span)> {
        let from = self.span_of(queue_id, first).map_or(first, |(from, _)| from);
        let queue = self.queues.get(queue_id as usize).filter(|_| from <= last);
        let spans = queue.map(|queue| queue.spans.range(from..=last));
        spans.into_iter().flatten().map(|(first, span)| (*first, span))
    }

    /// The pieces of spans within `first..=last`, ascending, cut to it.
    pub fn pieces(&self, queue_id: u32, first: QueueOffset, last: QueueOffset) -> Vec<(QueueOffset, Span)> {
        let spans = &self.queues[queue_id as usize].spans;
        let from = self.span_of(queue_id, first).map_or(first, |(from, _)| from);
        let pieces = spans.range(from..=last);
        pieces
            .map(|(from, span)| {
                (
                    *from.max(&first),
                    Span {
                        last: span.last.min(last),
                        ..span.clone()
                    },
                )
            })
            .collect()
    }

    /// All spans, by queue.
    pub fn all_spans(&self) -> impl Iterator<Item = (u32, QueueOffset, &Span)> {
        let queues = (0u32..).zip(&self.queues);
        queues.flat_map(|(queue_id, queue)| queue.spans.iter().map(move |(first, span)| (queue_id, *first, span)))
    }

    /// Spans that are visible at `now_ms`, those that have been for longest first.
    pub fn visible(&self, now_ms: u64) -> impl Iterator<Item = SpanPlace> + '_ {
        let end = (now_ms.saturating_add(1), 0, QueueOffset(0));
        self.visible
            .range(..end)
            .map(|(_, queue_id, first)| (*queue_id, *first))
    }

    /// When the next span becomes visible after `now_ms`.
    pub fn next_visible_at_ms(&self, now_ms: u64) -> Option<u64> {
        self.visible
            .range((now_ms.saturating_add(1), 0, QueueOffset(0))..)
            .next()
            .map(|(at, _, _)| *at)
    }

    /// Spans that an attempt got.
    pub fn attempt(&self, attempt_id: u64) -> impl Iterator<Item = SpanPlace> + '_ {
        self.attempts.get(&attempt_id).into_iter().flatten().copied()
    }

    /// Spans whose self-renewing lease ends after `from_ms` and by `upto_ms`.
    pub fn renewals(&self, from_ms: u64, upto_ms: u64) -> impl Iterator<Item = SpanPlace> + '_ {
        let first = (from_ms.saturating_add(1), 0, QueueOffset(0));
        let end = (upto_ms.saturating_add(1).max(first.0), 0, QueueOffset(0));
        self.renewals
            .range(first..end)
            .map(|(_, queue_id, first)| (*queue_id, *first))
    }

    /// The spans of a message group, ascending (FIFO).
    pub fn group_spans(&self, queue_id: u32, message_group: u64) -> impl Iterator<Item = (QueueOffset, &Span)> {
        let queue = &self.queues[queue_id as usize];
        let firsts = queue.groups.get(&message_group).into_iter().flatten();
        firsts.map(|first| (*first, &queue.spans[first]))
    }

    /// Whether a message group has something before `offset` that is not done and not of this lease (FIFO).
    pub fn is_blocked(&self, queue_id: u32, message_group: u64, offset: QueueOffset, lease: LeaseId) -> bool {
        let earlier = self
            .group_spans(queue_id, message_group)
            .take_while(|(first, _)| *first < offset);
        earlier.into_iter().any(|(_, span)| span.lease != lease)
    }

    /// Puts a span in, joined to the one before where only the offsets differ. Its offsets must be in no span.
    pub fn insert(&mut self, queue_id: u32, first: QueueOffset, span: Span, changes: &mut Changes) {
        let before = self.queues[queue_id as usize].spans.range(..first).next_back();
        let joined = before.filter(|(_, before)| before.last.next() == first && span.continues(before));
        let (first, span) = match joined.map(|(from, _)| *from) {
            Some(from) => {
                self.forget(queue_id, from);
                (from, span)
            }
            None => (first, span),
        };
        changes.put(
            Family::Spans,
            span::span_key(self.topic, self.group.id, queue_id, first),
            span.encode(first),
        );
        self.remember(queue_id, first, span);
    }

    /// Takes `first..=last` out of the spans and answers what was there.
    pub fn cut(
        &mut self,
        queue_id: u32,
        first: QueueOffset,
        last: QueueOffset,
        changes: &mut Changes,
    ) -> Vec<(QueueOffset, Span)> {
        let pieces = self.pieces(queue_id, first, last);
        for (piece_first, piece) in &pieces {
            let (from, whole) = self.span_of(queue_id, *piece_first).expect("a piece is of a span");
            let whole_last = whole.last;
            let whole = self.forget(queue_id, from);
            let key = |first| span::span_key(self.topic, self.group.id, queue_id, first);
            changes.delete(Family::Spans, key(from));
            if from < *piece_first {
                let last = QueueOffset(piece_first.0 - 1);
                let head = Span { last, ..whole.clone() };
                changes.put(Family::Spans, key(from), head.encode(from));
                self.remember(queue_id, from, head);
            }
            if piece.last < whole_last {
                let first = piece.last.next();
                changes.put(
                    Family::Spans,
                    span::span_key(self.topic, self.group.id, queue_id, first),
                    whole.encode(first),
                );
                self.remember(queue_id, first, whole);
            }
        }
        pieces
    }

    /// Puts a stored span in, on opening.
    pub fn load_span(&mut self, queue_id: u32, first: QueueOffset, span: Span) {
        self.remember(queue_id, first, span);
    }

    /// Sets a stored place, on opening.
    pub fn load_next(&mut self, queue_id: u32, next: QueueOffset) {
        self.queues[queue_id as usize].next = next;
    }

    /// How many queues it knows.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    fn remember(&mut self, queue_id: u32, first: QueueOffset, span: Span) {
        let length = span.last.next().since(first);
        self.span_count += 1;
        if span.attempt_id != 0 {
            self.attempts
                .entry(span.attempt_id)
                .or_default()
                .insert((queue_id, first));
        }
        if span.renewal.is_some() {
            self.renewals.insert((span.visible_at_ms, queue_id, first));
        }
        let queue = &mut self.queues[queue_id as usize];
        queue.not_done += length;
        queue.passed += if span.is_passed() { length } else { 0 };
        let (group, visible_at_ms) = (span.message_group, span.visible_at_ms);
        let replaced = queue.spans.insert(first, span);
        assert!(replaced.is_none(), "spans do not overlap");
        if !self.group.fifo {
            self.visible.insert((visible_at_ms, queue_id, first));
            return;
        }
        let firsts = queue.groups.entry(group).or_default();
        let head = firsts.first().copied();
        firsts.insert(first);
        if head.is_none_or(|head| first < head) {
            if let Some(head) = head {
                self.visible.remove(&(queue.spans[&head].visible_at_ms, queue_id, head));
            }
            self.visible.insert((visible_at_ms, queue_id, first));
        }
    }

    fn forget(&mut self, queue_id: u32, first: QueueOffset) -> Span {
        let queue = &mut self.queues[queue_id as usize];
        let span = queue.spans.remove(&first).expect("a span is forgotten once");
        let length = span.last.next().since(first);
        self.span_count -= 1;
        queue.not_done -= length;
        queue.passed -= if span.is_passed() { length } else { 0 };
        self.visible.remove(&(span.visible_at_ms, queue_id, first));
        self.renewals.remove(&(span.visible_at_ms, queue_id, first));
        if let Some(places) = self.attempts.get_mut(&span.attempt_id) {
            places.remove(&(queue_id, first));
            if places.is_empty() {
                self.attempts.remove(&span.attempt_id);
            }
        }
        if let Some(firsts) = queue.groups.get_mut(&span.message_group) {
            let was_head = firsts.first() == Some(&first);
            firsts.remove(&first);
            match firsts.first() {
                Some(head) if was_head => {
                    self.visible.insert((queue.spans[head].visible_at_ms, queue_id, *head));
                }
                Some(_) => {}
                None => {
                    queue.groups.remove(&span.message_group);
                }
            }
        }
        span
    }
}
