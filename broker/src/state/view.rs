//! The read side of the state: what doors, timers and metrics ask. Cheap to clone; each question holds the lock of
//! the hot state for a moment.

use super::command::RenewSpan;
use super::export;
use super::identity::{LeaseId, QueueOffset, TopicId};
use super::kv::KvError;
use super::limits;
use super::machine::Shared;
use super::meta::{self, Meta};
use super::plan::{Plan, PlanError, PlanRequest, QueueBounds, QueueProgress, RenewDue};
use super::planner;
use super::topic::{ConsumerGroup, Topic};
use ledgermq_raft_store::types::{EntryId, LogIndex};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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

    /// The self-renewing spans of a lease among these offsets of a queue.
    pub fn self_renewing(
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
            .filter(|(_, span)| span.lease == lease && span.renewal.is_some())
            .map(|(first, span)| RenewSpan {
                queue_id,
                first,
                lease: span.lease,
            })
            .collect()
    }

    /// Confirmed self-renewing leases that end within the next [`limits::RENEW_AHEAD_MS`] after `now_ms`; at most
    /// [`limits::RENEWALS_PER_QUESTION`].
    pub fn auto_renew_due(&self, now_ms: u64) -> Vec<RenewDue> {
        let hot = self.shared.read();
        let now_ms = now_ms.max(hot.meta.log_time_ms);
        let mut due = Vec::new();
        for ((topic, _), progress) in &hot.progress {
            let Some(state) = hot.topics.of(*topic) else { continue };
            let room = limits::RENEWALS_PER_QUESTION - due.len();
            for (queue_id, first) in progress.renewals(now_ms, now_ms + limits::RENEW_AHEAD_MS).take(room) {
                let Some((_, span)) = progress.span_of(queue_id, first) else {
                    continue;
                };
                // The first renewal is the word of the door that delivered it.
                if span.renewal.is_none_or(|renewal| renewal.count == 0) {
                    continue;
                }
                due.push(RenewDue {
                    consumer_group: progress.group.name.clone(),
                    topic: state.topic.name.clone(),
                    client: span.client,
                    span: RenewSpan {
                        queue_id,
                        first,
                        lease: span.lease,
                    },
                });
            }
        }
        due
    }

    /// Time of the last command, unix milliseconds.
    pub fn log_time_ms(&self) -> u64 {
        self.shared.read().meta.log_time_ms
    }

    /// The last entry applied.
    pub fn applied(&self) -> Option<EntryId> {
        self.shared.read().meta.applied
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
        kv.flush()?;
        let Some(meta) = before else { return Ok(None) };
        self.shared.released.send_if_modified(|released| {
            let later = meta.cut > *released;
            *released = meta.cut.max(*released);
            later
        });
        Ok(meta.applied)
    }

    /// Records of entries up to this one are forgotten; 0 for none.
    pub fn cut(&self) -> LogIndex {
        self.shared.read().meta.cut
    }

    /// The newest cut that is in the durable state.
    pub fn released(&self) -> LogIndex {
        *self.shared.released.borrow()
    }

    /// Bytes of commands applied since the machine was opened; the flusher watches it.
    pub fn applied_bytes(&self) -> u64 {
        self.shared.applied_bytes.load(Ordering::Relaxed)
    }
}
