//! What is proposed to the log: one [`Command`] is one change of the state, decided when it is applied.
//!
//! A command carries all that apply needs: the time, the ids, and for a receive the ranges that the leader
//! planned. Its bytes are drawn in [`super::format`].

use super::handle::ReceiptHandle;
use super::identity::{LeaseId, QueueOffset, RequestId, TopicId};
use super::topic::{ConsumeFrom, TopicKind};
use bytes::Bytes;
use ledgermq_raft_store::types::LogIndex;

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Unix milliseconds of the cluster clock at the proposer. Apply takes max(last stamp, this) as its time.
    pub stamp_ms: u64,
    /// Drawn by the door, kept over its retries: a repeat within the window answers the first outcome.
    pub request_id: RequestId,
    /// What is to be done.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing; committed to show that the log takes entries.
    Probe,
    /// Makes a topic.
    CreateTopic(CreateTopic),
    /// Removes a topic, its queue index and all progress on it.
    DeleteTopic {
        /// Name of the topic.
        name: String,
    },
    /// Makes a consumer group.
    CreateConsumerGroup(CreateConsumerGroup),
    /// Stores messages: all of them or none.
    Send(Send),
    /// Grants messages to a consumer for some time.
    Lease(Lease),
    /// Ends the delivery of messages.
    Ack(Ack),
    /// Sets when a leased message becomes visible again.
    ChangeVisibility(ChangeVisibility),
    /// Gives back what was handed out and did not arrive; from level 3 on.
    GiveBack(GiveBack),
    /// Extends leases that renew by themselves.
    Renew(Renew),
    /// Gives back what a client that went away holds in self-renewing leases: visible after one second.
    ReleaseClient(ReleaseClient),
    /// Forgets the records of all entries up to this one.
    Cut {
        /// The last entry to forget.
        upto: LogIndex,
    },
    /// Stores records again that outlive a cut: they keep their places in their queues.
    CarryOver(CarryOver),
    /// Has every replica hash its state as of this command's entry.
    Digest,
    /// Raises the level of the state's formats. Proposed only once every member is known to support it.
    RaiseFormatLevel {
        /// The new level.
        to: u32,
    },
}

/// Makes a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    /// Name, checked by the door.
    pub name: String,
    /// Which messages it takes.
    pub kind: TopicKind,
    /// Number of message queues, 1 to [`super::limits::QUEUES_PER_TOPIC`].
    pub queues: u32,
}

/// Makes a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateConsumerGroup {
    /// Name, checked by the door.
    pub name: String,
    /// Whether messages of one message group are handed out one batch after another.
    pub fifo: bool,
    /// Deliveries of one message before it goes to the dead letters.
    pub max_attempts: u32,
    /// Where it starts in a topic that it never consumed.
    pub from: ConsumeFrom,
}

/// Stores messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// The sending client, part of what makes two sends the same.
    pub client_id: String,
    /// Name of the topic.
    pub topic: String,
    /// At least one message.
    pub messages: Vec<NewMessage>,
}

/// One message to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// Queue that the door chose.
    pub queue_id: u32,
    /// An encoded [`super::record::Record`].
    pub record: Bytes,
}

/// Grants messages to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Name of the topic.
    pub topic: String,
    /// How long the messages stay invisible for others.
    pub invisible_ms: u64,
    /// Whether the leader extends the lease while the client lives; `invisible_ms` is then the first stretch.
    pub auto_renew: bool,
    /// The receiving client.
    pub client_id: String,
    /// The client's id of this attempt; empty for none. A repeat answers the same messages again.
    pub attempt_id: String,
    /// What the leader planned, in the order of delivery. May be empty: it then only fixes where a new consumer
    /// group starts.
    pub ranges: Vec<PlannedRange>,
}

/// Offsets `first..=last` of one queue and what is to become of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRange {
    /// The queue.
    pub queue_id: u32,
    /// First offset.
    pub first: QueueOffset,
    /// Last offset, inclusive.
    pub last: QueueOffset,
    /// What is to become of them.
    pub kind: RangeKind,
}

/// What is to become of a planned range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// Hand out.
    Lease,
    /// The consumer's filter leaves these out: done at once.
    Skip,
    /// Passed over, because an earlier message of the same message group is still out.
    Pass,
}

/// Ends the delivery of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Name of the topic.
    pub topic: String,
    /// One handle for each message.
    pub handles: Vec<ReceiptHandle>,
}

/// Sets when a leased message becomes visible again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeVisibility {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Name of the topic.
    pub topic: String,
    /// The current handle; a new one takes its place.
    pub handle: ReceiptHandle,
    /// 0 = visible at once.
    pub invisible_ms: u64,
    /// Whether the next delivery does not count as another attempt.
    pub suspend: bool,
}

/// Extends leases that renew by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renew {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Name of the topic.
    pub topic: String,
    /// The spans to extend, as [`super::view::View::auto_renew_due`] told them.
    pub spans: Vec<RenewSpan>,
}

/// One span to extend, if its lease is still this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewSpan {
    /// The queue.
    pub queue_id: u32,
    /// First offset of the span.
    pub first: QueueOffset,
    /// Its lease.
    pub lease: LeaseId,
}

/// Makes messages visible soon whose receiver went away before they came; not counted as an attempt. Those that the same
/// attempt was handed again stay leased: another answer may have brought them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiveBack {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// Name of the topic.
    pub topic: String,
    /// What did not arrive.
    pub handles: Vec<ReceiptHandle>,
}

/// Gives back what a client holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseClient {
    /// Name of the consumer group.
    pub consumer_group: String,
    /// The client that went away.
    pub client_id: String,
}

/// Stores records again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarryOver {
    /// At most [`super::limits::RECORDS_PER_CARRY`].
    pub records: Vec<CarriedRecord>,
}

/// One record stored again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedRecord {
    /// Its topic.
    pub topic: TopicId,
    /// Its queue.
    pub queue_id: u32,
    /// Its place there.
    pub offset: QueueOffset,
    /// The entry it lies in until now; if it lies elsewhere, nothing happens.
    pub from: LogIndex,
    /// Its bytes.
    pub record: Bytes,
}
