//! The hop from a door to the leader: ledgermq.door.v1.
//!
//! A reply carries two messages: the status (OK or what was refused), and when it is OK the verb's reply.

use bytes::Bytes;
use ledgermq_proto::door::forward_reply::Result as Forwarded;
use ledgermq_proto::door::{ForwardRequest, NotLeader, Replies, Unknown};
use ledgermq_proto::rocketmq::{Code, Status};
use ledgermq_raft_store::ReplicaId;
use prost::Message as _;

use super::Door;
use crate::call::Call;
use crate::leader::{Leader, Verb};
use crate::refusal::{LeadError, Refusal};

impl Door {
    /// Asks the replica that leads.
    pub(super) async fn forward<V: Verb>(
        &self,
        to: ReplicaId,
        call: &Call,
        request: &V::Request,
    ) -> Result<V::Reply, LeadError> {
        let Some(mut door) = self.door_of(to) else {
            return Err(LeadError::NotLeader);
        };
        let forward = ForwardRequest {
            broker_group: self.leader.broker_group.clone(),
            verb: V::NAME.to_owned(),
            request_id: Bytes::copy_from_slice(&call.request_id.0),
            client_id: call.client_id.clone(),
            language: call.language.word().to_owned(),
            peer_host: call.peer_host.clone(),
            remaining_ms: u32::try_from(call.remaining().as_millis()).unwrap_or(u32::MAX),
            request: Bytes::from(request.encode_to_vec()),
        };
        let reply = match door.forward(forward).await {
            Ok(reply) => reply.into_inner(),
            Err(status) if status.code() == tonic::Code::InvalidArgument => {
                return Err(Refusal::new(Code::NotImplemented, status.message()).into());
            }
            Err(status) => {
                self.forget();
                return Err(LeadError::Unknown(status.to_string()));
            }
        };
        match reply.result {
            Some(Forwarded::Replies(replies)) => read::<V>(replies),
            Some(Forwarded::NotLeader(_)) => Err(LeadError::NotLeader),
            Some(Forwarded::Unknown(unknown)) => Err(LeadError::Unknown(unknown.reason)),
            None => Err(LeadError::Unknown("an empty reply".into())),
        }
    }
}

fn read<V: Verb>(replies: Replies) -> Result<V::Reply, LeadError> {
    let damaged = |what: &dyn std::fmt::Display| LeadError::Unknown(format!("a damaged reply: {what}"));
    let mut messages = replies.messages.into_iter();
    let status = Status::decode(messages.next().unwrap_or_default()).map_err(|error| damaged(&error))?;
    if status.code != Code::Ok as i32 {
        let code = Code::try_from(status.code).unwrap_or(Code::InternalServerError);
        return Err(Refusal::new(code, status.message).into());
    }
    V::Reply::decode(messages.next().unwrap_or_default()).map_err(|error| damaged(&error))
}

/// What the leader's answer is between doors.
pub fn write<V: Verb>(answer: Result<V::Reply, LeadError>, leader: &Leader) -> Forwarded {
    let replies = |status: Status, reply: Vec<u8>| {
        Forwarded::Replies(Replies {
            messages: vec![Bytes::from(status.encode_to_vec()), Bytes::from(reply)],
        })
    };
    match answer {
        Ok(reply) => replies(
            Status {
                code: Code::Ok as i32,
                message: String::new(),
            },
            reply.encode_to_vec(),
        ),
        Err(LeadError::Refused(refusal)) => replies(
            Status {
                code: refusal.code as i32,
                message: refusal.message,
            },
            Vec::new(),
        ),
        Err(LeadError::NotLeader) => not_leader(leader),
        Err(LeadError::Unknown(reason)) => Forwarded::Unknown(Unknown { reason }),
    }
}

/// Says that this replica does not lead.
pub fn not_leader(leader: &Leader) -> Forwarded {
    let role = leader.role();
    Forwarded::NotLeader(NotLeader {
        leader: role.leader.map(|id| id.get()),
        term: role.term.get(),
    })
}
