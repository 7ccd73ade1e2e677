//! Every replica is a door: it takes any call and brings it to the leader (design.md section 5).
//!
//! ```text
//!   client ─▶ door ─┬─ leads ───────────────▶ Verb::lead
//!                   ├─ knows the leader ─▶ Forward ─▶ the leader's Verb::lead
//!                   └─ no leader ─▶ wait for a change of role, then again
//! ```
//! The call is held and tried again, with the same request id, until it has an answer or its deadline has come: about
//! 2.5 s, less where the client says so. A leader that is frozen does not hold a call for longer than the election takes:
//! a change of role ends the wait for it.

pub mod forward;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledgermq_proto::door::door_client::DoorClient;
use ledgermq_proto::net::{ChannelOptions, Net, channel};
use ledgermq_raft_store::{ReplicaId, Role, State};
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at};
use tonic::transport::Channel;

use crate::call::Call;
use crate::delivered::Delivered;
use crate::leader::{Leader, Verb};
use crate::limits;
use crate::marks::mark;
use crate::refusal::{LeadError, Refusal};

/// One replica's door.
pub struct Door {
    /// The own side, for calls that need no hop.
    pub leader: Arc<Leader>,
    /// What went out through it.
    pub delivered: Delivered,
    net: Arc<dyn Net>,
    /// Connections to other doors, by address.
    doors: Mutex<BTreeMap<String, DoorClient<Channel>>>,
    /// The door of the leader last asked.
    last: Mutex<Option<(ReplicaId, String, DoorClient<Channel>)>>,
}

impl Door {
    /// A door that reaches the others over `net`.
    pub fn new(leader: Arc<Leader>, net: Arc<dyn Net>) -> Self {
        Self {
            leader,
            delivered: Delivered::default(),
            net,
            doors: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// Brings a call to the leader and answers what it says, or refuses with HA_NOT_AVAILABLE at the call's deadline, and at once
    /// where this replica has stopped for good.
    pub async fn call<V: Verb>(&self, call: &Call, request: &V::Request) -> Result<V::Reply, Refusal> {
        match timeout_at(call.deadline, self.hold::<V>(call, request)).await {
            Ok(answer) => answer,
            Err(_) => {
                mark("call_without_leader");
                Err(Refusal::no_leader())
            }
        }
    }

    async fn hold<V: Verb>(&self, call: &Call, request: &V::Request) -> Result<V::Reply, Refusal> {
        let mut pause = limits::RETRY_PAUSE;
        let mut unknown = false;
        loop {
            let role = self.leader.role();
            let tried = self.attempt::<V>(role, call, request).await;
            if let Some(answer) = answer::<V>(tried, &mut unknown) {
                return answer;
            }
            // It will never know a leader again, while another door does.
            if self.leader.handle.has_stopped() {
                return Err(Refusal::stopped());
            }
            mark("call_held");
            self.role_changes(role, pause).await;
            pause = (pause * 2).min(limits::RETRY_PAUSE_MAX);
        }
    }

    async fn attempt<V: Verb>(&self, role: Role, call: &Call, request: &V::Request) -> Result<V::Reply, LeadError> {
        if role.serving {
            let mut watch = self.leader.role_watch();
            return tokio::select! {
                biased;
                answer = V::lead(&self.leader, call, request) => answer,
                // Its disk may be what holds the call: the next leader answers a repeat as this one would have.
                () = leadership_ends(&mut watch, role.term) => Err(LeadError::Unknown("another replica is to lead".into())),
            };
        }
        match role.leader {
            Some(leader) if leader != self.leader.id && role.state != State::Leader => {
                let mut watch = self.leader.role_watch();
                let moved = until(&mut watch, |role| role.leader.is_some() && role.leader != Some(leader));
                mark("call_forwarded");
                tokio::select! {
                    biased;
                    answer = self.forward::<V>(leader, call, request) => answer,
                    () = moved => Err(LeadError::Unknown("another replica leads".into())),
                }
            }
            _ => Err(LeadError::NotLeader),
        }
    }

    /// Waits until the role differs from `before`, at most for `pause`.
    async fn role_changes(&self, before: Role, pause: Duration) {
        let mut watch = self.leader.role_watch();
        tokio::select! {
            biased;
            () = until(&mut watch, |role| *role != before) => {}
            () = sleep(pause) => {}
        }
    }

    /// The door of a replica: cached for the leader of the moment, looked up in the membership otherwise.
    fn door_of(&self, leader: ReplicaId) -> Option<DoorClient<Channel>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, _, door)) = last.as_ref()
            && *id == leader
        {
            return Some(door.clone());
        }
        let members = self.leader.handle.members();
        let address = members.into_iter().find(|member| member.id == leader)?.client_address;
        let door = self.door_at(&address);
        *last = Some((leader, address, door.clone()));
        Some(door)
    }

    /// Forgets the cached door: the next look-up reads the membership again, as addresses may change.
    fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The door at an address, connected at its first use.
    pub fn door_at(&self, address: &str) -> DoorClient<Channel> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(door) = doors.get(address) {
            return door.clone();
        }
        let options = ChannelOptions {
            connect_timeout: limits::FORWARD_CONNECT_TIMEOUT,
            stream_window: Some(limits::STREAM_WINDOW_BYTES),
            connection_window: Some(4 * limits::STREAM_WINDOW_BYTES),
            ..ChannelOptions::default()
        };
        let door = DoorClient::new(channel(Arc::clone(&self.net), address, options))
            .max_decoding_message_size(limits::FORWARD_BYTES_MAX)
            .max_encoding_message_size(limits::FORWARD_BYTES_MAX);
        doors.insert(address.to_owned(), door.clone());
        door
    }
}

/// What a try answers; `None` to try again. `unknown` is whether an earlier try of the call ended without an outcome.
fn answer<V: Verb>(tried: Result<V::Reply, LeadError>, unknown: &mut bool) -> Option<Result<V::Reply, Refusal>> {
    match tried {
        Ok(reply) => return Some(Ok(reply)),
        Err(LeadError::Refused(refusal)) if !*unknown => return Some(Err(refusal)),
        Err(LeadError::Refused(refusal)) if refusal.is_of_the_state() => {
            return Some(V::done_before(&refusal).ok_or(refusal));
        }
        // That there is no room now says nothing of the earlier try, and the client would take it for a failure.
        Err(LeadError::Refused(_)) => mark("refusal_after_unknown"),
        Err(LeadError::NotLeader) => {}
        Err(LeadError::Unknown(_)) => *unknown = true,
    }
    None
}

/// Resolves when the replica does not serve as leader in this term any more.
pub async fn leadership_ends(watch: &mut watch::Receiver<Role>, term: ledgermq_raft_store::Term) {
    until(watch, |role| !role.serving || role.term != term).await;
}

/// Resolves once the role is as wanted; never when the replica has stopped and its role changes no more.
async fn until(watch: &mut watch::Receiver<Role>, wanted: impl FnMut(&Role) -> bool) {
    if watch.wait_for(wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Resolves when the process stops.
pub async fn stops(stopping: &mut watch::Receiver<bool>) {
    // A closed watch means the same.
    let _stopped = stopping.wait_for(|stopping| *stopping).await;
}

#[cfg(test)]
mod tests {
    use ledgermq_proto::admin::RemoveReplicaResponse;
    use ledgermq_proto::rocketmq::Code;

    use super::*;
    use crate::admin::replicas::{PromoteReplica, RemoveReplica};

    /// What a door answers where the leader refused, or a try had no outcome.
    fn told<V: Verb>(tried: Result<Code, &str>, unknown: &mut bool) -> Option<Result<V::Reply, Code>> {
        let tried = Err(match tried {
            Ok(code) => LeadError::Refused(Refusal::new(code, "no")),
            Err(cause) => LeadError::Unknown(cause.to_owned()),
        });
        answer::<V>(tried, unknown).map(|answer| answer.map_err(|refusal| refusal.code))
    }

    #[test]
    fn want_of_room_is_no_answer_after_a_try_without_an_outcome() {
        let told = told::<PromoteReplica>;
        let mut unknown = false;
        assert_eq!(
            told(Ok(Code::TooManyRequests), &mut unknown),
            Some(Err(Code::TooManyRequests))
        );
        assert!(answer::<PromoteReplica>(Err(LeadError::NotLeader), &mut unknown).is_none());
        assert!(told(Ok(Code::TooManyRequests), &mut unknown).is_some(), "nobody had it");
        assert_eq!(told(Err("?"), &mut unknown), None);
        assert_eq!(told(Ok(Code::TooManyRequests), &mut unknown), None);
        assert_eq!(
            told(Ok(Code::InvalidReceiptHandle), &mut unknown),
            Some(Err(Code::InvalidReceiptHandle)),
            "the state knows the first try"
        );
        let done = answer::<PromoteReplica>(Ok(Default::default()), &mut unknown);
        assert_eq!(done, Some(Ok(Default::default())));
    }

    /// The leader that took the member out died before it could say so; the next knows no such member.
    #[test]
    fn a_removal_that_nobody_heard_of_is_done() {
        let mut unknown = false;
        assert_eq!(
            told::<RemoveReplica>(Ok(Code::NotFound), &mut unknown),
            Some(Err(Code::NotFound)),
            "there never was one"
        );
        assert_eq!(told::<RemoveReplica>(Err("?"), &mut unknown), None);
        assert_eq!(
            told::<RemoveReplica>(Ok(Code::NotFound), &mut unknown),
            Some(Ok(RemoveReplicaResponse::default()))
        );
        assert_eq!(
            told::<PromoteReplica>(Ok(Code::NotFound), &mut unknown),
            Some(Err(Code::NotFound)),
            "another verb has no such excuse"
        );
    }
}
