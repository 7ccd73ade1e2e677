//! Planning of a receive: reads the indexes and the queue index and proposes ranges. Costs what it hands out plus
//! what it leaves out, never the length of a backlog or the number of queues.
//!
//! Order: what this very attempt holds already (and then nothing else); what is visible again, longest first; what
//! was never handed out, queue by queue from a rotating start.

use super::command::{PlannedRange, RangeKind};
use super::hot::Hot;
use super::identity::{QueueOffset, attempt_hash, client_hash};
use super::kv::{Kv, KvError};
use super::limits;
use super::outcome::ConsumeError;
use super::plan::{Plan, PlanError, PlanRequest, PlannedRecord};
use super::progress::Progress;
use super::queue::{Ahead, IndexError, TopicState};
use super::run::RunRecord;
use super::span::Span;
use super::topic::ConsumeFrom;
use std::collections::{BTreeMap, BTreeSet};

/// A plan in the making.
struct Planner<'a> {
    request: &'a PlanRequest<'a>,
    kv: &'a dyn Kv,
    state: &'a TopicState,
    progress: &'a Progress,
    now_ms: u64,
    max_messages: usize,
    plan: Plan,
    bytes: usize,
    /// Index places looked at.
    looked: usize,
    ahead: Ahead,
    /// FIFO: message groups of which this plan leaves something out before its end, so nothing later may go.
    held: BTreeSet<(u32, u64)>,
    /// FIFO: what this plan passes over, by queue.
    passes: BTreeMap<u32, u64>,
}

/// Plans a receive.
pub(crate) fn plan(hot: &Hot, kv: &dyn Kv, request: &PlanRequest<'_>) -> Result<Plan, PlanError> {
    let state = hot.topics.named(request.topic).ok_or(ConsumeError::TopicNotFound)?;
    let group = hot
        .groups
        .named(request.consumer_group)
        .ok_or(ConsumeError::ConsumerGroupNotFound)?;
    let known = hot.progress.get(&(state.topic.id, group.id));
    let first_contact;
    let progress = match known {
        Some(progress) => progress,
        None if group.from == ConsumeFrom::Latest => {
            return Ok(Plan {
                first_contact: true,
                ..Plan::default()
            });
        }
        None => {
            let mut progress = Progress::new(state.topic.id, group.clone(), Hot::start(state, group.from));
            (0..)
                .zip(&state.queues)
                .for_each(|(queue_id, queue)| progress.note_end(queue_id, queue.end));
            first_contact = progress;
            &first_contact
        }
    };
    let mut planner = Planner {
        request,
        kv,
        state,
        progress,
        now_ms: request.now_ms.max(hot.meta.log_time_ms),
        max_messages: request.max_messages.min(limits::MESSAGES_PER_RECEIVE),
        plan: Plan {
            first_contact: known.is_none(),
            ..Plan::default()
        },
        bytes: 0,
        looked: 0,
        ahead: Ahead::new(),
        held: BTreeSet::new(),
        passes: BTreeMap::new(),
    };
    planner.all().map_err(|error| match error {
        IndexError::Kv(error) => error,
        error => KvError::new(error),
    })?;
    // Without a range a further plan would see the same.
    planner.plan.more &= !planner.plan.ranges.is_empty();
    planner.plan.next_visible_at_ms = progress.next_visible_at_ms(planner.now_ms);
    Ok(planner.plan)
}

impl Planner<'_> {
    fn all(&mut self) -> Result<(), IndexError> {
        self.repeat()?;
        if self.plan.ranges.is_empty() {
            self.again()?;
            self.fresh()?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.plan.records.len() >= self.max_messages || self.bytes >= self.request.max_bytes
    }

    /// Whether this plan has looked at as much as one may; it then says that there is more.
    fn is_tired(&mut self) -> bool {
        let tired = self.looked >= limits::RECORDS_PER_PLAN || self.plan.ranges.len() >= limits::RANGES_PER_LEASE;
        self.plan.more |= tired;
        tired
    }

    fn record(&mut self, queue_id: u32, offset: QueueOffset) -> Result<RunRecord, IndexError> {
        self.looked += 1;
        let run = self.state.run(self.kv, queue_id, offset, &mut self.ahead)?;
        run.record(offset).copied().ok_or_else(|| IndexError::Missing {
            topic: self.state.topic.name.clone(),
            queue_id,
            offset,
        })
    }

    /// Adds one offset, to the last range where it fits.
    fn add(&mut self, queue_id: u32, offset: QueueOffset, kind: RangeKind) {
        let fits =
            |last: &&mut PlannedRange| last.queue_id == queue_id && last.kind == kind && last.last.next() == offset;
        if let Some(last) = self.plan.ranges.last_mut().filter(fits) {
            last.last = offset;
            return;
        }
        self.plan.ranges.push(PlannedRange {
            queue_id,
            first: offset,
            last: offset,
            kind,
        });
    }

    /// Adds a message to hand out; `false` if its bytes do not fit any more.
    fn deliver(&mut self, queue_id: u32, offset: QueueOffset, record: &RunRecord) -> bool {
        let length = record.location.length as usize;
        if !self.plan.records.is_empty() && self.bytes + length > self.request.max_bytes {
            self.bytes = self.request.max_bytes;
            self.plan.more = true;
            return false;
        }
        self.bytes += length;
        let (location, store_time_ms) = (record.location, record.store_time_ms);
        self.plan.records.push(PlannedRecord {
            queue_id,
            offset,
            location,
            store_time_ms,
        });
        self.add(queue_id, offset, RangeKind::Lease);
        true
    }

    /// What this attempt holds already.
    fn repeat(&mut self) -> Result<(), IndexError> {
        let attempt = attempt_hash(self.request.client_id, self.request.attempt_id);
        if attempt == 0 {
            return Ok(());
        }
        let client = client_hash(self.request.client_id);
        let progress = self.progress;
        for (queue_id, first) in progress.attempt(attempt) {
            let Some((_, span)) = progress.span_of(queue_id, first) else {
                continue;
            };
            if span.client != client || span.visible_at_ms <= self.now_ms {
                continue;
            }
            let message_group = span.message_group;
            if progress.group.fifo && progress.is_blocked(queue_id, message_group, first, span.lease) {
                continue;
            }
            for offset in (first.0..=span.last.0).map(QueueOffset) {
                let record = self.record(queue_id, offset)?;
                if self.is_full() || !self.deliver(queue_id, offset, &record) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What was handed out or passed over, and is visible now.
    fn again(&mut self) -> Result<(), IndexError> {
        let progress = self.progress;
        for (queue_id, first) in progress.visible(self.now_ms) {
            if self.is_full() || self.is_tired() {
                break;
            }
            self.looked += 1;
            let Some((_, span)) = progress.span_of(queue_id, first) else {
                continue;
            };
            if progress.group.fifo {
                if self.request.reserved.has_queue(queue_id) {
                    self.plan.hindered = true;
                } else {
                    self.again_in_order(queue_id, span.message_group)?;
                }
            } else if self.request.reserved.overlaps(queue_id, first, span.last) {
                self.plan.hindered = true;
            } else {
                self.again_span(queue_id, first, span)?;
            }
        }
        Ok(())
    }

    /// The first spans of a message group, as far as they are visible.
    fn again_in_order(&mut self, queue_id: u32, message_group: u64) -> Result<(), IndexError> {
        let progress = self.progress;
        for (first, span) in progress.group_spans(queue_id, message_group) {
            let goes = span.visible_at_ms <= self.now_ms && !self.is_full() && !self.is_tired();
            if !goes || !self.again_span(queue_id, first, span)? {
                self.held.insert((queue_id, message_group));
                break;
            }
        }
        Ok(())
    }

    /// One visible span; `false` if not all of it fits.
    fn again_span(&mut self, queue_id: u32, first: QueueOffset, span: &Span) -> Result<bool, IndexError> {
        let dead = span.attempt >= self.progress.group.max_attempts;
        for offset in (first.0..=span.last.0).map(QueueOffset) {
            if self.is_full() || self.is_tired() {
                return Ok(false);
            }
            if dead {
                // Apply moves it to the dead letters instead of granting it.
                self.looked += 1;
                self.add(queue_id, offset, RangeKind::Lease);
                continue;
            }
            let record = self.record(queue_id, offset)?;
            if !self.request.filter.wants(record.tag) {
                self.add(queue_id, offset, RangeKind::Skip);
            } else if !self.deliver(queue_id, offset, &record) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What was never handed out.
    fn fresh(&mut self) -> Result<(), IndexError> {
        let progress = self.progress;
        if progress.span_count() >= limits::SPANS_PER_PROGRESS {
            return Ok(());
        }
        let start = self.request.start_queue % self.state.topic.queues.max(1);
        for queue_id in progress.fresh_from(start) {
            if self.is_full() || self.is_tired() {
                break;
            }
            self.looked += 1;
            if progress.group.fifo {
                self.fresh_in_order(queue_id)?;
            } else {
                self.fresh_of(queue_id)?;
            }
        }
        Ok(())
    }

    fn fresh_of(&mut self, queue_id: u32) -> Result<(), IndexError> {
        let next = self.progress.next(queue_id);
        let reserved = self.request.reserved.last(queue_id).map_or(next, QueueOffset::next);
        let from = next.max(reserved);
        if from.since(next) > limits::GAP {
            return Ok(());
        }
        let end = self.state.queues[queue_id as usize].end;
        for offset in (from.0..end.0).map(QueueOffset) {
            if self.is_full() || self.is_tired() {
                break;
            }
            let record = self.record(queue_id, offset)?;
            if !self.request.filter.wants(record.tag) {
                self.add(queue_id, offset, RangeKind::Skip);
            } else if !self.deliver(queue_id, offset, &record) {
                break;
            }
        }
        Ok(())
    }

    fn fresh_in_order(&mut self, queue_id: u32) -> Result<(), IndexError> {
        if self.request.reserved.has_queue(queue_id) {
            self.plan.hindered = true;
            return Ok(());
        }
        let end = self.state.queues[queue_id as usize].end;
        for offset in (self.progress.next(queue_id).0..end.0).map(QueueOffset) {
            if self.is_full() || self.is_tired() {
                break;
            }
            let record = self.record(queue_id, offset)?;
            if !self.request.filter.wants(record.tag) {
                self.add(queue_id, offset, RangeKind::Skip);
            } else if self.is_free(queue_id, record.message_group) {
                if !self.deliver(queue_id, offset, &record) {
                    break;
                }
            } else {
                let passes = self.passes.entry(queue_id).or_default();
                if self.progress.passed(queue_id) + *passes >= limits::PASSED_PER_QUEUE {
                    break;
                }
                *passes += 1;
                self.held.insert((queue_id, record.message_group));
                self.add(queue_id, offset, RangeKind::Pass);
            }
        }
        Ok(())
    }

    /// Whether all that a message group has before what was never handed out is done or in this plan.
    fn is_free(&self, queue_id: u32, message_group: u64) -> bool {
        if self.held.contains(&(queue_id, message_group)) {
            return false;
        }
        let planned = |offset: QueueOffset| {
            let mut ranges = self.plan.ranges.iter().filter(|range| range.queue_id == queue_id);
            ranges.any(|range| range.kind != RangeKind::Pass && (range.first..=range.last).contains(&offset))
        };
        // A span is planned whole or its message group is held.
        let mut spans = self.progress.group_spans(queue_id, message_group);
        spans.all(|(first, _)| planned(first))
    }
}
