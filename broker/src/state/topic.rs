//! Topics and consumer groups as the state keeps them.

use super::identity::{ConsumerGroupId, TopicId};
use super::record::MessageType;
use std::fmt;

/// What names the topic of a consumer group's dead letters, before its name.
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";

/// A topic of this broker group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// For good; another one when deleted and made again.
    pub id: TopicId,
    /// Name.
    pub name: String,
    /// Which messages it takes.
    pub kind: TopicKind,
    /// Its queues have the ids `0..queues`.
    pub queues: u32,
    /// Log time of its creation.
    pub created_ms: u64,
}

/// Which messages a topic takes (grpc.md D.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKind {
    /// Plain messages.
    Normal,
    /// Messages with a message group.
    Fifo,
    /// Messages with a delivery time.
    Delay,
    /// Half messages.
    Transaction,
    /// All of these.
    Mixed,
}

/// Where a consumer group starts in a topic that it never consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsumeFrom {
    /// At the oldest message that is kept.
    Earliest,
    /// After the newest message at its first receive.
    Latest,
}

/// A consumer group of this broker group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// For good.
    pub id: ConsumerGroupId,
    /// Name.
    pub name: String,
    /// Whether messages of one message group are handed out one batch after another.
    pub fifo: bool,
    /// Deliveries of one message before it goes to the dead letters.
    pub max_attempts: u32,
    /// Where it starts in a topic that it never consumed.
    pub from: ConsumeFrom,
    /// Delays of redelivery told to clients, by attempt; the last one repeats (grpc.md B.10).
    pub schedule_ms: Vec<u64>,
    /// Log time of its creation.
    pub created_ms: u64,
}

impl Topic {
    /// Whether the topic holds the dead letters of a consumer group.
    pub fn is_dead_letters(&self) -> bool {
        self.name.starts_with(DEAD_LETTER_PREFIX)
    }

    /// Whether messages of this type may be sent to it (grpc.md B.3, 4).
    pub fn takes(&self, message_type: MessageType) -> bool {
        self.is_dead_letters() || self.kind.takes(message_type)
    }
}

impl TopicKind {
    /// Whether messages of this type belong here.
    pub fn takes(self, message_type: MessageType) -> bool {
        match self {
            TopicKind::Mixed => true,
            TopicKind::Normal => message_type == MessageType::Normal,
            TopicKind::Fifo => message_type == MessageType::Fifo,
            TopicKind::Delay => message_type == MessageType::Delay,
            TopicKind::Transaction => message_type == MessageType::Transaction,
        }
    }
}

impl ConsumerGroup {
    /// The delay at place `index` of the schedule, from 0; the last one repeats.
    pub fn delay_ms(&self, index: usize) -> u64 {
        let last = self.schedule_ms.len().saturating_sub(1);
        self.schedule_ms.get(index.min(last)).copied().unwrap_or(0)
    }
}

impl fmt::Display for TopicKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TopicKind::Normal => "normal",
            TopicKind::Fifo => "fifo",
            TopicKind::Delay => "delay",
            TopicKind::Transaction => "transaction",
            TopicKind::Mixed => "mixed",
        })
    }
}
