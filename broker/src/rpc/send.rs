//! SendMessage (grpc.md B.3): a message or a batch is stored whole or not at all.
//!
//! The door checks the request; the leader checks it against the topic, chooses the queue, and proposes one command.

use std::hash::Hasher as _;
use std::sync::Arc;

use ledgermq_proto::headers;
use ledgermq_proto::rocketmq::{
    Encoding, Message, SendMessageRequest, SendMessageResponse, SendResultEntry, SystemProperties,
};
use siphasher::sip::SipHasher13;
use tonic::metadata::MetadataValue;

use super::Messaging;
use crate::call::{self, Call};
use crate::leader::{Leader, Verb, unexpected};
use crate::planted::Bug;
use crate::refusal::{LeadError, Refusal, ok};
use crate::state::command::{self, Action, NewMessage};
use crate::state::outcome::{Outcome, SendError};
use crate::state::record::{BodyEncoding, Record};
use crate::state::topic::Topic;
use crate::validate::message;

/// The verb between doors.
pub struct Send;

/// Where each message was stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sent {
    /// One queue id for each message.
    #[prost(uint32, repeated, tag = "1")]
    pub queue_ids: Vec<u32>,
    /// One queue offset for each message.
    #[prost(uint64, repeated, tag = "2")]
    pub offsets: Vec<u64>,
}

impl Messaging {
    pub(super) async fn send(
        &self,
        request: tonic::Request<SendMessageRequest>,
    ) -> tonic::Response<SendMessageResponse> {
        let language = call::language(request.metadata());
        let placement = call::text(request.metadata(), headers::PLACEMENT) == "1";
        let answer = match self.read(&request) {
            Ok(call) => self.send_checked(&call, request.get_ref()).await,
            Err(refusal) => Err(refusal),
        };
        match answer {
            Ok(sent) => {
                let mut response = tonic::Response::new(reply(request.into_inner(), &sent));
                if placement {
                    self.place(&mut response, &sent);
                }
                response
            }
            Err(refusal) => tonic::Response::new(SendMessageResponse {
                status: Some(refusal.status(language)),
                entries: Vec::new(),
            }),
        }
    }

    async fn send_checked(&self, call: &Call, request: &SendMessageRequest) -> Result<Sent, Refusal> {
        message::send(request, (self.wall_clock)())?;
        self.door.call::<Send>(call, request).await
    }

    /// Says in the headers where the messages are, for clients that ask.
    fn place(&self, response: &mut tonic::Response<SendMessageResponse>, sent: &Sent) {
        let ids: Vec<String> = sent.queue_ids.iter().map(u32::to_string).collect();
        if let (Ok(group), Ok(ids)) = (
            MetadataValue::try_from(&self.leader().broker_group),
            MetadataValue::try_from(ids.join(",")),
        ) {
            response.metadata_mut().insert(headers::BROKER_GROUP, group);
            response.metadata_mut().insert(headers::QUEUE_IDS, ids);
        }
    }
}

fn reply(request: SendMessageRequest, sent: &Sent) -> SendMessageResponse {
    let entry = |(message, offset): (Message, &u64)| SendResultEntry {
        status: Some(ok()),
        message_id: message
            .system_properties
            .map(|system| system.message_id)
            .unwrap_or_default(),
        offset: *offset as i64,
        ..SendResultEntry::default()
    };
    SendMessageResponse {
        status: Some(ok()),
        entries: request.messages.into_iter().zip(&sent.offsets).map(entry).collect(),
    }
}

impl Verb for Send {
    const NAME: &'static str = "SendMessage";
    type Request = SendMessageRequest;
    type Reply = Sent;

    async fn lead(leader: &Arc<Leader>, call: &Call, request: &SendMessageRequest) -> Result<Sent, LeadError> {
        leader.room.check_send()?;
        let Some(name) = request.messages.first().and_then(|message| message.topic.as_ref()) else {
            return Err(SendError::BadRecord.into());
        };
        let topic = leader.topic(call, &name.name).await?;
        let action = Action::Send(command(leader, call, &topic, request)?);
        if leader.planted.has(Bug::AnswerBeforeCommit) {
            return answered_ahead(leader, call, &topic, action);
        }
        match leader.propose(call.request_id, action).await? {
            Outcome::Sent(Ok(results)) => {
                leader.metrics.messages_in(&topic.name, results.len());
                Ok(Sent {
                    queue_ids: results.iter().map(|result| result.queue_id).collect(),
                    offsets: results.iter().map(|result| result.offset.0).collect(),
                })
            }
            Outcome::Sent(Err(error)) => Err(error.into()),
            other => Err(unexpected(&other)),
        }
    }
}

/// The bug: the places that the messages should get, told before they have them.
fn answered_ahead(leader: &Arc<Leader>, call: &Call, topic: &Topic, action: Action) -> Result<Sent, LeadError> {
    let mut ends = leader.view.queue_bounds(&topic.name).unwrap_or_default();
    let Action::Send(send) = &action else {
        return Err(SendError::TopicNotFound.into());
    };
    let mut sent = Sent::default();
    for message in &send.messages {
        let Some(bounds) = ends.get_mut(message.queue_id as usize) else {
            return Err(SendError::TopicNotFound.into());
        };
        sent.queue_ids.push(message.queue_id);
        sent.offsets.push(bounds.end.0);
        bounds.end = bounds.end.next();
    }
    let (leader, request_id) = (Arc::clone(leader), call.request_id);
    tokio::spawn(async move { leader.propose(request_id, action).await });
    Ok(sent)
}

fn command(
    leader: &Leader,
    call: &Call,
    topic: &Topic,
    request: &SendMessageRequest,
) -> Result<command::Send, LeadError> {
    let mut messages = Vec::with_capacity(request.messages.len());
    let mut queue_id = None;
    for message in &request.messages {
        let system = message::system_properties(message)?;
        let message_type = message::message_type(system);
        if queue_id.is_none() && !topic.takes(message_type) {
            return Err(SendError::MessageTypeConflict {
                kind: topic.kind,
                message_type,
            }
            .into());
        }
        // One queue for the whole request: a batch of FIFO messages is of one message group, and one run costs less.
        let queue_id = *queue_id.get_or_insert_with(|| queue_of(leader, topic, system));
        let record = record(leader, call, message, system).encode();
        messages.push(NewMessage { queue_id, record });
    }
    Ok(command::Send {
        client_id: call.client_id.clone(),
        topic: topic.name.clone(),
        messages,
    })
}

/// The client's choice is ignored (grpc.md B.3.5): the message group decides, else the queues take turns.
fn queue_of(leader: &Leader, topic: &Topic, system: &SystemProperties) -> u32 {
    match system.message_group.as_deref().filter(|group| !group.is_empty()) {
        Some(group) => (group_hash(group) % u64::from(topic.queues)) as u32,
        None => leader.next_round() % topic.queues,
    }
}

/// Must never change: it keeps a message group in its queue.
fn group_hash(group: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6c65_6467_6572_6d71, 0x6d73_675f_6772_6f75);
    hasher.write(group.as_bytes());
    hasher.finish()
}

fn record(leader: &Leader, call: &Call, message: &Message, system: &SystemProperties) -> Record {
    let born = system.born_timestamp.as_ref();
    let born_ms = born.map_or(0, |at| {
        at.seconds
            .saturating_mul(1000)
            .saturating_add(i64::from(at.nanos) / 1_000_000)
    });
    Record {
        topic: message
            .topic
            .as_ref()
            .map(|topic| topic.name.clone())
            .unwrap_or_default(),
        message_id: system.message_id.clone(),
        tag: system.tag.clone().unwrap_or_default(),
        keys: system.keys.iter().filter(|key| !key.is_empty()).cloned().collect(),
        message_group: system.message_group.clone().unwrap_or_default(),
        born_timestamp_ms: u64::try_from(born_ms).unwrap_or_default(),
        born_host: if system.born_host.is_empty() {
            call.peer_host.clone()
        } else {
            system.born_host.clone()
        },
        store_host: leader.client_address.clone(),
        body_encoding: match Encoding::try_from(system.body_encoding) {
            Ok(Encoding::Gzip) => BodyEncoding::Gzip,
            _ => BodyEncoding::Identity,
        },
        message_type: message::message_type(system),
        delivery_timestamp_ms: None,
        trace_context: system.trace_context.clone().unwrap_or_default(),
        properties: message
            .user_properties
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        body: message.body.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::group_hash;

    #[test]
    fn a_message_group_stays_in_its_queue() {
        assert_eq!(group_hash("order-1"), group_hash("order-1"));
        let queues: std::collections::BTreeSet<u64> = (0..100).map(|i| group_hash(&format!("g{i}")) % 8).collect();
        assert_eq!(queues.len(), 8);
    }
}
