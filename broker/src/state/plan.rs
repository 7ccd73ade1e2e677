//! The words of planning a receive: what the door asks the leader's state and what it is told.
//!
//! The plan only reads. What it proposes becomes true when its lease command is applied, which checks all again.

use super::command::PlannedRange;
use super::identity::{LeaseId, QueueOffset, TopicId};
use super::outcome::ConsumeError;
use ledgermq_raft_store::types::LogIndex;
use std::collections::BTreeMap;

/// What a receive asks for.
#[derive(Clone, Debug)]
pub struct PlanRequest<'a> {
    /// Name of the consumer group.
    pub consumer_group: &'a str,
    /// Name of the topic.
    pub topic: &'a str,
    /// The receiving client.
    pub client_id: &'a str,
    /// The client's id of this attempt; empty for none.
    pub attempt_id: &'a str,
    /// At most [`super::limits::MESSAGES_PER_RECEIVE`].
    pub max_messages: usize,
    /// Stop before the records together are longer; one is always planned.
    pub max_bytes: usize,
    /// Which messages the consumer wants.
    pub filter: &'a Filter,
    /// Unix milliseconds of the cluster clock.
    pub now_ms: u64,
    /// Where to begin looking for fresh messages (any number): rotate it from call to call.
    pub start_queue: u32,
    /// What other receives of this consumer group and topic have planned and not yet applied.
    pub reserved: &'a Reserved,
}

/// Which messages a consumer wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// Those with one of these tags, as [`super::identity::tag_hash`]. The door compares the text of the tag after
    /// it has read the record.
    Tags(Vec<u64>),
}

impl Filter {
    /// A filter of these tags.
    pub fn tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> Filter {
        Filter::Tags(tags.into_iter().map(super::identity::tag_hash).collect())
    }

    /// Whether a message with this tag is wanted.
    pub fn wants(&self, tag: u64) -> bool {
        match self {
            Filter::All => true,
            Filter::Tags(tags) => tags.contains(&tag),
        }
    }
}

/// Offsets planned by receives in flight, for one consumer group on one topic. The door adds a plan's ranges
/// before it proposes and takes them out when the outcome is there.
#[derive(Clone, Debug, Default)]
pub struct Reserved {
    queues: BTreeMap<u32, BTreeMap<QueueOffset, QueueOffset>>,
}

impl Reserved {
    /// Nothing.
    pub fn new() -> Reserved {
        Reserved::default()
    }

    /// Adds what a plan holds.
    pub fn add(&mut self, ranges: &[PlannedRange]) {
        for range in ranges {
            self.queues
                .entry(range.queue_id)
                .or_default()
                .insert(range.first, range.last);
        }
    }

    /// Takes out what a plan held.
    pub fn remove(&mut self, ranges: &[PlannedRange]) {
        for range in ranges {
            if let Some(queue) = self.queues.get_mut(&range.queue_id) {
                queue.remove(&range.first);
                if queue.is_empty() {
                    self.queues.remove(&range.queue_id);
                }
            }
        }
    }

    /// Whether nothing is planned.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether anything of a queue is planned.
    pub fn has_queue(&self, queue_id: u32) -> bool {
        self.queues.contains_key(&queue_id)
    }

    /// The last offset planned of a queue.
    pub fn last(&self, queue_id: u32) -> Option<QueueOffset> {
        self.queues.get(&queue_id)?.values().max().copied()
    }

    /// Whether any of `first..=last` is planned.
    pub fn overlaps(&self, queue_id: u32, first: QueueOffset, last: QueueOffset) -> bool {
        let Some(queue) = self.queues.get(&queue_id) else {
            return false;
        };
        queue
            .range(..=last)
            .next_back()
            .is_some_and(|(_, planned)| *planned >= first)
    }
}

/// What a receive should propose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// For the lease command, in order. Empty when there is nothing to propose.
    pub ranges: Vec<PlannedRange>,
    /// The messages that would be handed out, in order of delivery.
    pub records: Vec<PlannedRecord>,
    /// When a message that is out or delayed becomes visible next, if one does.
    pub next_visible_at_ms: Option<u64>,
    /// Whether this consumer group never consumed the topic: then propose the lease even without ranges, because it
    /// fixes where the consumer group starts.
    pub first_contact: bool,
    /// Whether there is more to look at right away: the bound of one plan was reached.
    pub more: bool,
    /// Whether something was left alone because another receive has planned there; it is to be looked at once that one ends.
    pub hindered: bool,
}

/// One message of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRecord {
    /// The queue.
    pub queue_id: u32,
    /// Its place there.
    pub offset: QueueOffset,
    /// Where its record lies.
    pub location: RecordLocation,
    /// Log time at which it was stored, unix milliseconds.
    pub store_time_ms: u64,
}

/// Where a record lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLocation {
    /// The entry.
    pub index: LogIndex,
    /// Byte offset of the record inside the entry's body.
    pub slot: u32,
    /// Its length in bytes.
    pub length: u32,
}

/// A record that a cut would leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToCarryOver {
    /// Its topic.
    pub topic: TopicId,
    /// The queue.
    pub queue_id: u32,
    /// Its place there.
    pub offset: QueueOffset,
    /// Where it lies.
    pub location: RecordLocation,
}

/// First and next offset of one queue: it holds `first..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueBounds {
    /// The oldest message that is kept.
    pub first: QueueOffset,
    /// The offset that the next message gets.
    pub end: QueueOffset,
}

/// How far a consumer group is in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueProgress {
    /// The queue.
    pub queue_id: u32,
    /// All before it is done.
    pub floor: QueueOffset,
    /// The first never handed out.
    pub next: QueueOffset,
    /// The end of the queue.
    pub end: QueueOffset,
    /// Handed out or passed over in `floor..next`, not done.
    pub not_done: u64,
}

impl QueueProgress {
    /// Messages that are not done.
    pub fn lag(&self) -> u64 {
        self.end.since(self.next) + self.not_done
    }
}

/// A self-renewing lease that needs to be extended now, if its client lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewDue {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Name of the topic.
    pub topic: String,
    /// What to put into the command.
    pub span: super::command::RenewSpan,
}

/// A message whose holder is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Name of the topic.
    pub topic: String,
    /// The topic's number.
    pub topic_id: TopicId,
    /// Its queue.
    pub queue_id: u32,
    /// Its place there.
    pub offset: QueueOffset,
    /// The lease by which it is held.
    pub lease: LeaseId,
}

/// Why nothing can be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Topic or consumer group is not there.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// The queue index can't be read.
    #[error(transparent)]
    Read(#[from] super::kv::KvError),
}
