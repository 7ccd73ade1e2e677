//! What a consumer group is like, for verbs that every door answers by itself.

use ledgermq_proto::admin::{ConsumerGroup as Told, DescribeConsumerGroupRequest};
use ledgermq_proto::rocketmq::Code;

use super::Messaging;
use crate::admin::consumer_groups::DescribeConsumerGroup;
use crate::call::Call;
use crate::marks::mark;
use crate::refusal::Refusal;
use crate::state::limits::SCHEDULE_MS;
use crate::state::topic::ConsumerGroup;

/// The rules of a consumer group that its clients must know.
pub(super) struct Rules {
    /// Whether messages of one message group are handed out one after another.
    pub fifo: bool,
    /// Deliveries of one message before it goes to the dead letters.
    pub max_attempts: u32,
    /// Delays of redelivery by attempt, milliseconds.
    pub schedule_ms: Vec<u64>,
}

impl From<&ConsumerGroup> for Rules {
    fn from(group: &ConsumerGroup) -> Rules {
        Rules {
            fifo: group.fifo,
            max_attempts: group.max_attempts,
            schedule_ms: group.schedule_ms.clone(),
        }
    }
}

impl From<Told> for Rules {
    fn from(told: Told) -> Rules {
        Rules {
            fifo: told.fifo,
            max_attempts: told.max_attempts,
            // There is no other yet.
            schedule_ms: SCHEDULE_MS.to_vec(),
        }
    }
}

impl Messaging {
    /// The rules of a consumer group; `None` where there is none yet. A consumer group that this replica does not know is
    /// asked of the leader: the state here may be behind, or still be on its way from another replica, and a client that is
    /// told once that its consumer group has no order consumes side by side for good (grpc.md D.3).
    pub(super) async fn rules(&self, call: &Call, name: &str) -> Result<Option<Rules>, Refusal> {
        if let Some(group) = self.leader().view.consumer_group(name) {
            return Ok(Some(Rules::from(&*group)));
        }
        let request = DescribeConsumerGroupRequest { name: name.to_owned() };
        match self.door.call::<DescribeConsumerGroup>(call, &request).await {
            Ok(answer) => {
                mark("consumer_group_asked");
                Ok(answer.consumer_group.map(Rules::from))
            }
            Err(refusal) if refusal.code == Code::ConsumerGroupNotFound => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }
}
