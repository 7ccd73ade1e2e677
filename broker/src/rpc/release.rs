//! Giving back what was handed out and did not arrive: visible after one second, and not counted as an attempt. Internal:
//! no client calls it.

use std::sync::Arc;

use tokio::time::Instant;

use super::Messaging;
use crate::call::Call;
use crate::leader::{Leader, Verb};
use crate::limits;
use crate::refusal::LeadError;
use crate::state::command::{self, Action, ChangeVisibility};
use crate::state::handle::ReceiptHandle;
use crate::state::level;
use crate::state::limits::GIVEN_BACK_MS;

/// The verb between doors.
pub struct Release;

/// Messages to give back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GiveBack {
    /// Whose they are.
    #[prost(string, tag = "1")]
    pub consumer_group: String,
    /// Of which topic.
    #[prost(string, tag = "2")]
    pub topic: String,
    /// Their receipt handles.
    #[prost(string, repeated, tag = "3")]
    pub handles: Vec<String>,
}

/// Done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Done {}

impl Messaging {
    /// Gives messages back through the leader, wherever it is.
    pub(super) async fn release(&self, mut call: Call, consumer_group: String, topic: String, handles: Vec<String>) {
        call.deadline = Instant::now() + limits::HOLD;
        call.request_id = self.leader().request_id();
        let request = GiveBack {
            consumer_group,
            topic,
            handles,
        };
        if let Err(refusal) = self.door.call::<Release>(&call, &request).await {
            tracing::debug!(%refusal, "messages were not given back");
        }
    }
}

impl Verb for Release {
    const NAME: &'static str = "Release";
    type Request = GiveBack;
    type Reply = Done;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &GiveBack) -> Result<Done, LeadError> {
        let handles = request.handles.iter().take(limits::RECEIVE_BATCH_MAX as usize);
        let handles = handles.filter_map(|handle| handle.parse().ok()).collect();
        give_back(leader, &request.consumer_group, &request.topic, handles).await;
        Ok(Done {})
    }
}

/// Makes messages visible after one second. What fails is left to the end of its lease.
pub(super) async fn give_back(leader: &Leader, consumer_group: &str, topic: &str, handles: Vec<ReceiptHandle>) {
    let actions = match leader.view.format_level() >= level::GIVE_BACK {
        true => vec![Action::GiveBack(command::GiveBack {
            consumer_group: consumer_group.to_owned(),
            topic: topic.to_owned(),
            handles,
        })],
        false => put_off(consumer_group, topic, handles),
    };
    for action in actions {
        if let Err(error) = leader.propose(leader.request_id(), action).await {
            tracing::debug!(%error, "messages were not given back");
            return;
        }
    }
}

/// The same before there was a command of its own: an answer to a repeated attempt may lose its messages by it.
fn put_off(consumer_group: &str, topic: &str, handles: Vec<ReceiptHandle>) -> Vec<Action> {
    let change = |handle| ChangeVisibility {
        consumer_group: consumer_group.to_owned(),
        topic: topic.to_owned(),
        handle,
        invisible_ms: GIVEN_BACK_MS,
        suspend: true,
    };
    handles
        .into_iter()
        .map(|handle| Action::ChangeVisibility(change(handle)))
        .collect()
}

/// Marks messages done that the consumer's filter leaves out.
pub(super) async fn done(leader: &Leader, consumer_group: &str, topic: &str, handles: Vec<ReceiptHandle>) {
    let ack = command::Ack {
        consumer_group: consumer_group.to_owned(),
        topic: topic.to_owned(),
        handles,
    };
    if let Err(error) = leader.propose(leader.request_id(), Action::Ack(ack)).await {
        tracing::debug!(%error, "filtered messages will be looked at again");
    }
}
