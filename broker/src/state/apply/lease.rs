//! Messages handed out. The leader planned the ranges; here all is checked again, and what is still right is
//! granted.
//!
//! ```text
//!   done           spans and done          never handed out
//! ├──────────────┼───────────────────────┼─────────────────────┤
//!              floor                    next                  end
//!                 a range below next: only what is visible now
//!                                        a range from next on: all of it; next moves
//! ```
//!
//! A fresh range may begin beyond `next`, when receives planned one after another are applied in another order. What
//! lies between then waits as a visible span, so the receive that planned it still gets it. In a FIFO consumer group
//! such a range is dropped, because the message groups of the gap would have to be known.

use super::{ApplyError, Entry};
use crate::marks::mark;
use crate::planted::Bug;
use crate::state::command::{Lease, PlannedRange, RangeKind};
use crate::state::hot::Hot;
use crate::state::identity::{LeaseId, QueueOffset, RequestId, attempt_hash, client_hash};
use crate::state::kv::Family;
use crate::state::level;
use crate::state::limits;
use crate::state::outcome::{Granted, LeaseError, Leased};
use crate::state::progress::Progress;
use crate::state::queue::Ahead;
use crate::state::recent::RequestKind;
use crate::state::run::RunRecord;
use crate::state::span::{Renewal, Span, contact_value, next_key, next_value, progress_key};
use crate::state::topic::{ConsumeFrom, ConsumerGroup, Topic};
use std::sync::Arc;

/// One lease command being applied.
struct Grant {
    lease: LeaseId,
    client: u64,
    attempt_id: u64,
    visible_at_ms: u64,
    renewal: Option<Renewal>,
    granted: Vec<Granted>,
    dead: Vec<RunRecord>,
}

impl Grant {
    fn span(&self, last: QueueOffset, attempt: u32, message_group: u64) -> Span {
        Span {
            last,
            lease: self.lease,
            visible_at_ms: self.visible_at_ms,
            attempt,
            client: self.client,
            attempt_id: self.attempt_id,
            message_group,
            renewal: self.renewal,
            suspended: false,
            repeated: false,
        }
    }

    fn add(&mut self, queue_id: u32, first: QueueOffset, span: &Span) {
        for offset in first.0..=span.last.0 {
            self.granted.push(Granted {
                queue_id,
                offset: QueueOffset(offset),
                attempt: span.attempt,
                lease: span.lease,
                visible_at_ms: span.visible_at_ms,
            });
        }
    }

    fn has_room(&self, count: u64) -> bool {
        self.granted.len() as u64 + self.dead.len() as u64 + count <= limits::MESSAGES_PER_LEASE as u64
    }
}

impl Entry<'_> {
    pub(super) fn lease(&mut self, id: RequestId, lease: &Lease) -> Result<Result<Leased, LeaseError>, ApplyError> {
        let (topic, group) = match self.consumes(&lease.topic, &lease.consumer_group) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error.into())),
        };
        let mut progress = match self.take_progress(topic.id, group.id) {
            Some(progress) => progress,
            None => self.first_contact(&topic, &group),
        };
        let outcome = self.lease_with(id, lease, &topic, &mut progress);
        self.return_progress(progress);
        let grant = match outcome? {
            Ok(grant) => grant,
            Err(error) => return Ok(Err(error)),
        };
        if !grant.granted.is_empty() {
            self.hint_visible(&topic, &group, grant.visible_at_ms);
        }
        let dead_lettered = u32::try_from(grant.dead.len()).expect("bounded");
        if let Some(dead_letters) = (dead_lettered > 0).then(|| self.dead_letter_topic(&group)).flatten() {
            mark("dead_letter");
            for record in grant.dead {
                let made_now = dead_letters.id.0 == self.number;
                if made_now && self.settings.planted.has(Bug::DeadLetterLost) {
                    continue;
                }
                self.append(dead_letters.id, 0, record);
            }
        }
        Ok(Ok(Leased {
            topic: topic.id,
            granted: grant.granted,
            dead_lettered,
        }))
    }

    /// Progress of a consumer group that meets a topic for the first time, with its pairs.
    fn first_contact(&mut self, topic: &Arc<Topic>, group: &Arc<ConsumerGroup>) -> Progress {
        let state = self.hot.topics.of(topic.id).expect("the caller looked it up");
        let start = Hot::start(state, group.from);
        let ends: Vec<QueueOffset> = state.queues.iter().map(|queue| queue.end).collect();
        let mut progress = Progress::new(topic.id, group.clone(), start.clone());
        self.put(Family::Progress, progress_key(topic.id, group.id), contact_value());
        for (queue_id, (start, end)) in (0..).zip(start.into_iter().zip(ends)) {
            progress.note_end(queue_id, end);
            // A queue without a pair starts at its oldest message.
            if group.from == ConsumeFrom::Latest {
                self.put(
                    Family::Progress,
                    next_key(topic.id, group.id, queue_id),
                    next_value(start),
                );
            }
        }
        progress
    }

    fn lease_with(
        &mut self,
        id: RequestId,
        lease: &Lease,
        topic: &Topic,
        progress: &mut Progress,
    ) -> Result<Result<Grant, LeaseError>, ApplyError> {
        let visible_at_ms = self.now_ms.saturating_add(lease.invisible_ms);
        let mut grant = Grant {
            lease: LeaseId(self.number),
            client: client_hash(&lease.client_id),
            attempt_id: attempt_hash(&lease.client_id, &lease.attempt_id),
            visible_at_ms,
            renewal: lease.auto_renew.then_some(Renewal {
                since_ms: self.now_ms,
                count: 0,
            }),
            granted: Vec::new(),
            dead: Vec::new(),
        };
        if let Some(first) = self.hot.recent.request(id, RequestKind::Lease) {
            for (queue_id, first, span) in progress.all_spans().filter(|(_, _, span)| span.lease.0 == first) {
                if span.visible_at_ms > self.now_ms {
                    grant.add(queue_id, first, span);
                }
            }
            return Ok(Ok(grant));
        }
        if !self.hot.recent.has_room_for_request(self.settings.request_ids) {
            return Ok(Err(LeaseError::RequestWindowFull));
        }
        let dead_room = self.dead_letter_room(&progress.group);
        let mut ahead = Ahead::new();
        for range in &lease.ranges {
            let end = self
                .hot
                .topics
                .of(topic.id)
                .and_then(|state| state.queues.get(range.queue_id as usize));
            let Some(end) = end.map(|queue| queue.end) else {
                continue;
            };
            if range.first > range.last || range.last >= end {
                continue;
            }
            let next = progress.next(range.queue_id);
            if range.first < next {
                let last = range.last.min(QueueOffset(next.0 - 1));
                self.lease_again(
                    PlannedRange { last, ..*range },
                    dead_room,
                    progress,
                    &mut grant,
                    &mut ahead,
                )?;
            }
            if range.last >= next {
                let first = range.first.max(next);
                self.lease_fresh(PlannedRange { first, ..*range }, end, progress, &mut grant, &mut ahead)?;
            }
        }
        if !grant.granted.is_empty() {
            self.remember(id, RequestKind::Lease, self.number);
        }
        Ok(Ok(grant))
    }

    fn dead_letter_room(&self, group: &ConsumerGroup) -> bool {
        let name = format!("{}{}", crate::state::topic::DEAD_LETTER_PREFIX, group.name);
        self.hot.topics.named(&name).is_some() || self.hot.topics.len() < limits::TOPICS as usize
    }

    /// Offsets that were handed out or passed over before.
    fn lease_again(
        &mut self,
        range: PlannedRange,
        dead_room: bool,
        progress: &mut Progress,
        grant: &mut Grant,
        ahead: &mut Ahead,
    ) -> Result<(), ApplyError> {
        let queue_id = range.queue_id;
        for (first, span) in progress.pieces(queue_id, range.first, range.last) {
            let length = span.last.next().since(first);
            if span.visible_at_ms > self.now_ms {
                let same_attempt = grant.attempt_id != 0 && span.attempt_id == grant.attempt_id;
                let same_attempt = same_attempt
                    && !(progress.group.fifo && progress.is_blocked(queue_id, span.message_group, first, span.lease));
                if same_attempt && range.kind == RangeKind::Lease && grant.has_room(length) {
                    mark("attempt_repeated");
                    progress.cut(queue_id, first, span.last, &mut self.changes);
                    let visible_at_ms = span.visible_at_ms.max(grant.visible_at_ms);
                    let repeated = self.hot.meta.format_level >= level::GIVE_BACK;
                    let span = Span {
                        visible_at_ms,
                        repeated,
                        ..span
                    };
                    grant.add(queue_id, first, &span);
                    progress.insert(queue_id, first, span, &mut self.changes);
                }
                continue;
            }
            let fifo = progress.group.fifo;
            if fifo && progress.is_blocked(queue_id, span.message_group, first, grant.lease) {
                mark("fifo_blocked");
                continue;
            }
            match range.kind {
                RangeKind::Pass => {}
                RangeKind::Skip => {
                    progress.cut(queue_id, first, span.last, &mut self.changes);
                }
                RangeKind::Lease if !grant.has_room(length) => {}
                RangeKind::Lease if span.attempt >= progress.group.max_attempts && dead_room => {
                    for offset in (first.0..=span.last.0).map(QueueOffset) {
                        grant.dead.push(self.record(progress.topic, queue_id, offset, ahead)?);
                    }
                    progress.cut(queue_id, first, span.last, &mut self.changes);
                }
                RangeKind::Lease => {
                    mark("redelivered");
                    progress.cut(queue_id, first, span.last, &mut self.changes);
                    let span = grant.span(span.last, span.attempt.saturating_add(1), span.message_group);
                    grant.add(queue_id, first, &span);
                    progress.insert(queue_id, first, span, &mut self.changes);
                }
            }
        }
        Ok(())
    }

    /// Offsets that were never handed out.
    fn lease_fresh(
        &mut self,
        range: PlannedRange,
        end: QueueOffset,
        progress: &mut Progress,
        grant: &mut Grant,
        ahead: &mut Ahead,
    ) -> Result<(), ApplyError> {
        let queue_id = range.queue_id;
        let next = progress.next(queue_id);
        let (gap, length) = (range.first.since(next), range.last.next().since(range.first));
        let too_many = range.kind != RangeKind::Skip && progress.span_count() >= limits::SPANS_PER_PROGRESS;
        if gap > limits::GAP || too_many || (range.kind == RangeKind::Lease && !grant.has_room(length)) {
            return Ok(());
        }
        if progress.group.fifo {
            let passes = if range.kind == RangeKind::Pass { length } else { 0 };
            if gap > 0 || progress.passed(queue_id) + passes > limits::PASSED_PER_QUEUE {
                return Ok(());
            }
            return self.lease_fresh_in_order(range, end, progress, grant, ahead);
        }
        if gap > 0 {
            let span = Span::waiting(QueueOffset(range.first.0 - 1), self.now_ms, 0);
            progress.insert(queue_id, next, span, &mut self.changes);
        }
        match range.kind {
            RangeKind::Skip => {}
            RangeKind::Pass => {
                let span = Span::waiting(range.last, self.now_ms, 0);
                progress.insert(queue_id, range.first, span, &mut self.changes);
            }
            RangeKind::Lease => {
                let span = grant.span(range.last, 1, 0);
                grant.add(queue_id, range.first, &span);
                progress.insert(queue_id, range.first, span, &mut self.changes);
            }
        }
        progress.advance(queue_id, range.last.next(), end, &mut self.changes);
        Ok(())
    }

    /// The same in a FIFO consumer group: message by message, each after what its message group has before it.
    fn lease_fresh_in_order(
        &mut self,
        range: PlannedRange,
        end: QueueOffset,
        progress: &mut Progress,
        grant: &mut Grant,
        ahead: &mut Ahead,
    ) -> Result<(), ApplyError> {
        let queue_id = range.queue_id;
        if range.kind != RangeKind::Skip {
            for offset in (range.first.0..=range.last.0).map(QueueOffset) {
                let message_group = self.record(progress.topic, queue_id, offset, ahead)?.message_group;
                let blocked = progress.is_blocked(queue_id, message_group, offset, grant.lease);
                if range.kind == RangeKind::Lease && !blocked {
                    let span = grant.span(offset, 1, message_group);
                    grant.add(queue_id, offset, &span);
                    progress.insert(queue_id, offset, span, &mut self.changes);
                } else {
                    let span = Span::waiting(offset, self.now_ms, message_group);
                    progress.insert(queue_id, offset, span, &mut self.changes);
                }
            }
        }
        progress.advance(queue_id, range.last.next(), end, &mut self.changes);
        Ok(())
    }
}
