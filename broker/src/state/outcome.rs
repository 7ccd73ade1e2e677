//! What apply answers to a command. Small: no body, no name that the caller does not know already.

use super::handle::ReceiptHandle;
use super::identity::{LeaseId, QueueOffset, TopicId};
use super::record::MessageType;
use super::topic::{ConsumerGroup, Topic, TopicKind};
use ledgermq_raft_store::types::LogIndex;
use std::sync::Arc;

/// The answer to one command, of the same name as its action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To a probe.
    Probed,
    /// To CreateTopic.
    TopicCreated(Result<Arc<Topic>, CreateTopicError>),
    /// To DeleteTopic.
    TopicDeleted(Result<(), DeleteTopicError>),
    /// To CreateConsumerGroup.
    ConsumerGroupCreated(Result<Arc<ConsumerGroup>, CreateConsumerGroupError>),
    /// To Send: one result for each message, in order.
    Sent(Result<Vec<SendResult>, SendError>),
    /// To Lease.
    Leased(Result<Leased, LeaseError>),
    /// To Ack: one result for each handle, in order.
    Acked(Result<Vec<Result<(), InvalidReceiptHandle>>, ConsumeError>),
    /// To ChangeVisibility: the handle that took the place of the old one.
    VisibilityChanged(Result<ReceiptHandle, ChangeVisibilityError>),
    /// To GiveBack: how many messages become visible.
    GivenBack {
        /// Messages that become visible after one second.
        count: u32,
    },
    /// To Renew: how many spans were extended and how many were given back because they were held too long.
    Renewed {
        /// Spans extended.
        extended: u32,
        /// Spans given back.
        returned: u32,
    },
    /// To ReleaseClient: how many spans become visible.
    ClientReleased {
        /// Spans that become visible after one second.
        spans: u32,
    },
    /// To Cut: the newest cut there is now.
    Cut(Result<LogIndex, CutError>),
    /// To CarryOver: how many records lie in its entry now. The others were gone, or lay elsewhere already.
    CarriedOver {
        /// Records that moved.
        moved: u32,
    },
    /// To Digest: the digest is told by [`super::view::View::digest_of`] once it is there.
    Digesting,
    /// To RaiseFormatLevel.
    FormatLevel {
        /// The level in force now: as asked, or one that was higher already.
        level: u32,
    },
}

/// Why nothing was cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// A command can't forget its own entry or a later one.
    #[error("entry {upto} can't be forgotten by entry {entry}")]
    Ahead {
        /// As asked.
        upto: LogIndex,
        /// Of the command.
        entry: LogIndex,
    },
    /// A record that stays lies in an entry to forget; it must be carried over first.
    #[error("queue {queue_id} of topic {topic} holds at offset {offset} a record of entry {index}")]
    InTheWay {
        /// The entry it lies in.
        index: LogIndex,
        /// Name of its topic.
        topic: String,
        /// Its queue.
        queue_id: u32,
        /// Its place there.
        offset: QueueOffset,
    },
}

/// Where a message was stored; for a duplicate, where the first one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendResult {
    /// The queue.
    pub queue_id: u32,
    /// Its place there.
    pub offset: QueueOffset,
    /// Whether this was known already and nothing was stored.
    pub duplicate: bool,
}

/// Messages handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leased {
    /// The topic that the messages are of.
    pub topic: TopicId,
    /// In the order of the plan; a subset of it.
    pub granted: Vec<Granted>,
    /// How many planned messages went to the dead letters instead.
    pub dead_lettered: u32,
}

/// One message handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The queue.
    pub queue_id: u32,
    /// Its place there.
    pub offset: QueueOffset,
    /// How often it was handed out, this time included; from 1.
    pub attempt: u32,
    /// The lease that its receipt handle names.
    pub lease: LeaseId,
    /// When it becomes visible again unless acknowledged.
    pub visible_at_ms: u64,
}

/// Why a topic was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    /// There is one of this name.
    #[error("topic {} exists", .0.name)]
    Exists(Arc<Topic>),
    /// The number of queues is out of bounds.
    #[error("a topic has 1 to {max} queues, not {queues}")]
    Queues {
        /// Asked for.
        queues: u32,
        /// The bound.
        max: u32,
    },
    /// The broker group is full.
    #[error("the broker group has {max} topics already")]
    TooMany {
        /// The bound.
        max: u32,
    },
    /// Too many request ids are remembered; try again later.
    #[error("too many requests are remembered")]
    RequestWindowFull,
}

/// Why a topic was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteTopicError {
    /// There is none of this name.
    #[error("topic not found")]
    NotFound,
    /// Too many request ids are remembered; try again later.
    #[error("too many requests are remembered")]
    RequestWindowFull,
}

/// Why a consumer group was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateConsumerGroupError {
    /// There is one of this name.
    #[error("consumer group {} exists", .0.name)]
    Exists(Arc<ConsumerGroup>),
    /// The broker group is full.
    #[error("the broker group has {max} consumer groups already")]
    TooMany {
        /// The bound.
        max: u32,
    },
    /// Too many request ids are remembered; try again later.
    #[error("too many requests are remembered")]
    RequestWindowFull,
}

/// Why nothing of a send was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No topic of this name.
    #[error("topic not found")]
    TopicNotFound,
    /// The topic does not take messages of this type (grpc.md B.3, 4).
    #[error("a topic of kind {kind} does not take a message of type {message_type}")]
    MessageTypeConflict {
        /// What the topic takes.
        kind: TopicKind,
        /// What was sent.
        message_type: MessageType,
    },
    /// The topic has no such queue.
    #[error("the topic has no queue {queue_id}")]
    QueueNotFound {
        /// As sent.
        queue_id: u32,
    },
    /// The bytes of a message are no record.
    #[error("the message is no record")]
    BadRecord,
    /// As many message ids as fit are remembered; none is forgotten early, so try again later.
    #[error("too many messages within the window of duplicates")]
    DedupeWindowFull,
}

/// Why a consumer group can't consume a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// No topic of this name.
    #[error("topic not found")]
    TopicNotFound,
    /// No consumer group of this name.
    #[error("consumer group not found")]
    ConsumerGroupNotFound,
}

/// Why no lease was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Topic or consumer group is not there.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// Too many request ids are remembered; try again later.
    #[error("too many requests are remembered")]
    RequestWindowFull,
    /// Too many topics to make one for the dead letters.
    #[error("no room for a topic of dead letters")]
    TooManyTopics,
}

/// Why the visibility was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeVisibilityError {
    /// Topic or consumer group is not there.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// The handle is not the current one of the message, or its time is over.
    #[error(transparent)]
    InvalidReceiptHandle(#[from] InvalidReceiptHandle),
    /// Too many request ids are remembered; try again later.
    #[error("too many requests are remembered")]
    RequestWindowFull,
}

/// The handle is not the current one of the message, or its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receipt handle is invalid or expired")]
pub struct InvalidReceiptHandle;
