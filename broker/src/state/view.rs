//! The read side of the state: what doors, timers and metrics ask. Cheap to clone; each question holds the lock of
//! the hot state for a moment.

use super::command::RenewSpan;
use super::export;
use super::identity::{LeaseId, QueueOffset, TopicId};
use super::kv::KvError;
use super::limits;
use super::machine::Shared;
use super::meta::{self, Meta};
use super::plan::{
    Abandoned, Plan, PlanError, PlanRequest, QueueBounds, QueueProgress, RecordLocation, RenewDue, ToCarryOver,
};
use super::planner;
use super::queue::Ahead;
use super::reference::Reference;
use super::retained;
use super::topic::{ConsumerGroup, Topic};
use crate::planted::Bug;
use ledgermq_raft_store::types::{EntryId, LogIndex};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// Reads the state that the machine writes.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
}

impl View {
    pub(crate) fn new(shared: Arc<Shared>) -> View {
        View { shared }
    }

    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.shared.read().topics.named(name).map(|state| state.topic.clone())
    }

    /// A topic by its id.
    pub fn topic_of(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.shared.read().topics.of(id).map(|state| state.topic.clone())
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.shared
            .read()
            .topics
            .iter()
            .map(|state| state.topic.clone())
            .collect()
    }

    /// A consumer group by its name.
    pub fn consumer_group(&self, name: &str) -> Option<Arc<ConsumerGroup>> {
        self.shared.read().groups.named(name).cloned()
    }

    /// All consumer groups, by name.
    pub fn consumer_groups(&self) -> Vec<Arc<ConsumerGroup>> {
        self.shared.read().groups.iter().cloned().collect()
    }

    /// First and next offset of each queue of a topic, by queue id; `None` without such a topic.
    pub fn queue_bounds(&self, topic: &str) -> Option<Vec<QueueBounds>> {
        let hot = self.shared.read();
        let queues = &hot.topics.named(topic)?.queues;
        Some(
            queues
                .iter()
                .map(|queue| QueueBounds {
                    first: queue.first,
                    end: queue.end,
                })
                .collect(),
        )
    }

    /// How far a consumer group is in each queue of a topic; `None` where it never consumed it.
    pub fn progress(&self, consumer_group: &str, topic: &str) -> Option<Vec<QueueProgress>> {
        let hot = self.shared.read();
        let state = hot.topics.named(topic)?;
        let group = hot.groups.named(consumer_group)?;
        let progress = hot.progress.get(&(state.topic.id, group.id))?;
        let of = |(queue_id, end): (u32, QueueOffset)| QueueProgress {
            queue_id,
            floor: progress.floor(queue_id),
            next: progress.next(queue_id),
            end,
            not_done: progress.not_done(queue_id),
        };
        Some((0..).zip(state.queues.iter().map(|queue| queue.end)).map(of).collect())
    }

    /// (consumer group, topic, messages not done) wherever a consumer group has progress; by ids, so the order is
    /// the same on all replicas.
    pub fn lags(&self) -> Vec<(String, String, u64)> {
        let hot = self.shared.read();
        let mut lags = Vec::with_capacity(hot.progress.len());
        for ((topic, _), progress) in &hot.progress {
            let Some(state) = hot.topics.of(*topic) else { continue };
            let lag =
                |(queue_id, end): (u32, QueueOffset)| end.since(progress.next(queue_id)) + progress.not_done(queue_id);
            let lag = (0..).zip(state.queues.iter().map(|queue| queue.end)).map(lag).sum();
            lags.push((progress.group.name.clone(), state.topic.name.clone(), lag));
        }
        lags
    }

    /// Plans a receive: what its lease command should propose.
    pub fn plan_receive(&self, request: &PlanRequest<'_>) -> Result<Plan, PlanError> {
        planner::plan(&self.shared.read(), &*self.shared.kv, request)
    }

    /// The self-renewing spans of a lease among these offsets of a queue whose first renewal is still to come.
    pub fn unconfirmed(
        &self,
        (consumer_group, topic): (&str, &str),
        queue_id: u32,
        (first, last): (QueueOffset, QueueOffset),
        lease: LeaseId,
    ) -> Vec<RenewSpan> {
        let hot = self.shared.read();
        let (Some(topic), Some(group)) = (hot.topics.named(topic), hot.groups.named(consumer_group)) else {
            return Vec::new();
        };
        let Some(progress) = hot.progress.get(&(topic.topic.id, group.id)) else {
            return Vec::new();
        };
        let spans = progress.spans_within(queue_id, first, last);
        spans
            .filter(|(_, span)| span.lease == lease && span.renewal.is_some_and(|renewal| renewal.count == 0))
            .map(|(first, span)| RenewSpan {
                queue_id,
                first,
                lease: span.lease,
            })
            .collect()
    }

    /// Confirmed self-renewing leases of clients that live, as `lives` says of their hashes, which end within the next
    /// [`limits::RENEW_AHEAD_MS`] after `now_ms`; at most [`limits::RENEWALS_PER_QUESTION`].
    pub fn auto_renew_due(&self, now_ms: u64, lives: impl Fn(u64) -> bool) -> Vec<RenewDue> {
        let hot = self.shared.read();
        let now_ms = now_ms.max(hot.meta.log_time_ms);
        let of = hot.self_renewing(now_ms, now_ms + limits::RENEW_AHEAD_MS);
        // The first renewal is the word of the door that delivered it.
        let confirmed = of.filter(|(_, _, _, span)| span.renewal.is_some_and(|renewal| renewal.count > 0));
        confirmed
            .filter(|(_, _, _, span)| lives(span.client))
            .take(limits::RENEWALS_PER_QUESTION)
            .map(|(progress, topic, (queue_id, first), span)| RenewDue {
                consumer_group: progress.group.name.clone(),
                topic: topic.name.clone(),
                span: RenewSpan {
                    queue_id,
                    first,
                    lease: span.lease,
                },
            })
            .collect()
    }

    /// Messages in self-renewing leases of clients that live no more, as `lives` says of their hashes, which do not come back
    /// within [`limits::RELEASE_MS`] after `now_ms` anyway; at most [`limits::RELEASES_PER_QUESTION`].
    pub fn abandoned(&self, now_ms: u64, lives: impl Fn(u64) -> bool) -> Vec<Abandoned> {
        let hot = self.shared.read();
        let now_ms = now_ms.max(hot.meta.log_time_ms);
        let of = hot.self_renewing(now_ms + limits::RELEASE_MS, u64::MAX);
        let messages =
            of.filter(|(_, _, _, span)| !lives(span.client))
                .flat_map(|(progress, topic, (queue_id, first), span)| {
                    (first.0..=span.last.0).map(move |offset| Abandoned {
                        consumer_group: progress.group.name.clone(),
                        topic: topic.name.clone(),
                        topic_id: topic.id,
                        queue_id,
                        offset: QueueOffset(offset),
                        lease: span.lease,
                    })
                });
        messages.take(limits::RELEASES_PER_QUESTION).collect()
    }

    /// Time of the last command, unix milliseconds.
    pub fn log_time_ms(&self) -> u64 {
        self.shared.read().meta.log_time_ms
    }

    /// The last entry applied.
    pub fn applied(&self) -> Option<EntryId> {
        self.shared.read().meta.applied
    }

    /// The entry that the state is of: the last one applied, or a later one that an installed snapshot was of, while the log
    /// has not come so far.
    pub fn as_of(&self) -> Option<EntryId> {
        let hot = self.shared.read();
        hot.meta.applied.max(hot.covered)
    }

    /// Hash over all sorted keys and values but local ones, with the entry it is of. Reads the whole state and
    /// keeps apply waiting meanwhile.
    pub fn digest(&self) -> Result<(Option<EntryId>, u128), KvError> {
        let hot = self.shared.read();
        Ok((hot.meta.applied, export::digest(&*self.shared.kv)?))
    }

    /// Makes the applied state durable and answers the last entry that is durable with it; `None` in an installation.
    /// Blocks on the disk, not on the lock of the state.
    pub fn flush(&self) -> Result<Option<EntryId>, KvError> {
        let kv = &*self.shared.kv;
        // Of a state before the flush, so what it says is durable after it.
        let before = match meta::is_installing(kv)? {
            true => None,
            false => Some(Meta::of(kv).map_err(KvError::new)?),
        };
        if !self.shared.read().planted.has(Bug::ReleasedBeforeFlush) {
            kv.flush()?;
        }
        let Some(meta) = before else { return Ok(None) };
        self.shared.released.send_if_modified(|released| {
            let later = meta.released() > *released;
            *released = meta.released().max(*released);
            later
        });
        Ok(meta.applied)
    }

    /// The level of the state's formats.
    pub fn format_level(&self) -> u32 {
        *self.shared.format_level.borrow()
    }

    /// The same, and its changes.
    pub fn format_level_watch(&self) -> watch::Receiver<u32> {
        self.shared.format_level.subscribe()
    }

    /// Records of entries up to this one are forgotten; 0 for none.
    pub fn cut(&self) -> LogIndex {
        self.shared.read().meta.cut
    }

    /// The newest cut that is in the durable state.
    pub fn released(&self) -> LogIndex {
        *self.shared.released.borrow()
    }

    /// Follows the newest entry whose state is to be hashed: then [`View::make_digest`] should be called.
    pub fn digest_due(&self) -> watch::Receiver<LogIndex> {
        self.shared.digests.due()
    }

    /// Hashes what a digest command left. Reads the whole state, off the apply path.
    pub fn make_digest(&self) -> Result<(), KvError> {
        self.shared.digests.make()
    }

    /// Follows the newest entry whose state was hashed.
    pub fn digest_done(&self) -> watch::Receiver<LogIndex> {
        self.shared.digests.done()
    }

    /// Hash of the state as of an entry that held a digest command, while it is remembered.
    pub fn digest_of(&self, index: LogIndex) -> Option<u128> {
        self.shared.digests.of(index)
    }

    /// How far a cut towards `target` should go, when `step` is wanted: so far that no record that `target` lets go of
    /// has to be carried over for it.
    pub fn cut_step(&self, step: LogIndex, target: LogIndex) -> Result<LogIndex, KvError> {
        let hot = self.shared.read();
        let mut upto = step;
        retained::for_each_reference(&hot, &*self.shared.kv, step, |reference| {
            if reference.came <= target {
                upto = upto.max(reference.came);
            }
            Some(upto)
        })
        .map_err(KvError::new)?;
        Ok(upto)
    }

    /// Records that a cut up to `upto` would leave behind, at most [`limits::RECORDS_PER_CARRY`].
    pub fn to_carry_over(&self, upto: LogIndex) -> Result<Vec<ToCarryOver>, KvError> {
        let hot = self.shared.read();
        let kv = &*self.shared.kv;
        let mut found = Vec::new();
        retained::for_each_reference(&hot, kv, upto, |reference| {
            if reference.came > upto {
                found.push(reference);
            }
            (found.len() < limits::RECORDS_PER_CARRY).then_some(upto)
        })
        .map_err(KvError::new)?;
        let mut ahead = Ahead::new();
        let mut located = |reference: Reference| {
            let Reference {
                topic,
                queue_id,
                offset,
                ..
            } = reference;
            let record = hot
                .topics
                .record(kv, topic, queue_id, offset, &mut ahead)
                .map_err(KvError::new)?;
            Ok(ToCarryOver {
                topic,
                queue_id,
                offset,
                location: record.location,
            })
        };
        found.into_iter().map(&mut located).collect()
    }

    /// Where a record lies now; `None` when it is forgotten.
    pub fn location(
        &self,
        topic: TopicId,
        queue_id: u32,
        offset: QueueOffset,
    ) -> Result<Option<RecordLocation>, KvError> {
        let hot = self.shared.read();
        let queue = hot
            .topics
            .of(topic)
            .and_then(|state| state.queues.get(queue_id as usize));
        if !queue.is_some_and(|queue| (queue.first..queue.end).contains(&offset)) {
            return Ok(None);
        }
        let record = hot
            .topics
            .record(&*self.shared.kv, topic, queue_id, offset, &mut Ahead::new());
        record.map(|record| Some(record.location)).map_err(KvError::new)
    }

    /// Bytes of commands applied since the machine was opened; the flusher watches it.
    pub fn applied_bytes(&self) -> u64 {
        self.shared.applied_bytes.load(Ordering::Relaxed)
    }
}
