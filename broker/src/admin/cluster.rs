//! The cluster of the command line: describe, bootstrap, hand leadership over.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_proto::admin as wire;
use ledgermq_proto::rocketmq::Code;
use ledgermq_raft_store::{BootstrapError, MemberStatus, ReplicaId, State, TransferError};
use tokio::time::Instant;
use tonic::Status;

use super::Administration;
use crate::call::Call;
use crate::leader::{Leader, Verb};
use crate::probe::{Ask, alive};
use crate::refusal::{LeadError, Refusal, grpc};

/// Waiting for the leader's view; without one the own view must do.
const LEADER_WAIT: Duration = Duration::from_millis(1000);

/// A broker group as its leader sees it.
pub struct DescribeGroup;
/// Hands leadership over.
pub struct Transfer;

pub(super) async fn describe(admin: &Administration) -> wire::DescribeClusterResponse {
    let mut call = admin.own_call();
    call.deadline = Instant::now() + LEADER_WAIT;
    let mut own = match admin.door.call::<DescribeGroup>(&call, &Ask {}).await {
        Ok(group) => group,
        Err(_) => without_leader(&admin.door.leader),
    };
    own.durability = super::durability(admin.durability).to_owned();
    let mut broker_groups = vec![own];
    broker_groups.extend(admin.routes.others().into_iter().map(|group| {
        wire::BrokerGroup {
            leader: group.leader,
            term: group.term,
            replicas: group
                .replicas
                .into_iter()
                .map(|replica| wire::Replica {
                    role: if Some(replica.id) == group.leader {
                        "leader"
                    } else {
                        "follower"
                    }
                    .to_owned(),
                    id: replica.id,
                    address: replica.client_address,
                    peer_address: replica.peer_address,
                    healthy: replica.alive,
                    voter: true,
                    ..wire::Replica::default()
                })
                .collect(),
            name: group.name,
            durability: String::new(),
            format_level: 0,
            membership_joint: false,
        }
    }));
    broker_groups.sort_by(|a, b| a.name.cmp(&b.name));
    wire::DescribeClusterResponse { broker_groups }
}

impl Verb for DescribeGroup {
    const NAME: &'static str = "Admin/DescribeGroup";
    type Request = Ask;
    type Reply = wire::BrokerGroup;

    async fn lead(leader: &Arc<Leader>, _call: &Call, _request: &Ask) -> Result<wire::BrokerGroup, LeadError> {
        // A leader cut off from its majority must not call itself healthy.
        leader.handle.read_barrier().await?;
        let status = leader.handle.status();
        let alive = alive(leader);
        let committed = status.committed.map_or(0, |id| id.index.get());
        let replicas = status.members.iter().map(|member| {
            let own = member.id == status.id;
            let last = member.last_index.map_or(0, |index| index.get());
            wire::Replica {
                id: member.id.get(),
                address: member.client_address.clone(),
                peer_address: member.peer_address.clone(),
                role: match (own, member.voter) {
                    (true, _) => "leader",
                    (false, true) => "follower",
                    (false, false) => "learner",
                }
                .to_owned(),
                last_index: last,
                committed_index: committed.min(last),
                applied_index: if own {
                    status.applied.map_or(0, |id| id.index.get())
                } else {
                    committed.min(last)
                },
                healthy: alive.contains(&member.id.get()) && (!own || status.poisoned.is_none()),
                voter: member.voter,
                incarnation: member.incarnation,
                heard_ms_ago: member.heard_ms_ago,
                caught_up: member.caught_up,
                format_level_max: member.release.as_ref().map(|release| release.level),
                version: version(member),
            }
        });
        Ok(wire::BrokerGroup {
            name: leader.broker_group.clone(),
            term: status.term.get(),
            leader: Some(status.id.get()),
            replicas: replicas.collect(),
            durability: String::new(),
            format_level: leader.view.format_level(),
            membership_joint: status.membership.joint,
        })
    }
}

fn version(member: &MemberStatus) -> String {
    let release = member.release.as_ref();
    release.map(|release| release.version.clone()).unwrap_or_default()
}

/// What this replica knows by itself when no leader answers: nobody is healthy, as nothing can be written.
fn without_leader(leader: &Leader) -> wire::BrokerGroup {
    let status = leader.handle.status();
    let replicas = status.members.iter().map(|member| {
        let own = member.id == status.id;
        let index = |id: Option<ledgermq_raft_store::EntryId>| id.filter(|_| own).map_or(0, |id| id.index.get());
        let role = match (own, member.voter) {
            (true, _) if status.removed => "removed",
            // A leader that nobody confirms does not count as one.
            (true, _) if status.state == State::Leader => State::Candidate.name(),
            (true, _) => status.state.name(),
            (false, true) => State::Follower.name(),
            (false, false) => State::Learner.name(),
        };
        wire::Replica {
            id: member.id.get(),
            address: member.client_address.clone(),
            peer_address: member.peer_address.clone(),
            role: role.to_owned(),
            last_index: index(status.last),
            committed_index: index(status.committed),
            applied_index: index(status.applied),
            healthy: false,
            voter: member.voter,
            incarnation: member.incarnation,
            heard_ms_ago: member.heard_ms_ago,
            caught_up: false,
            format_level_max: member.release.as_ref().map(|release| release.level),
            version: version(member),
        }
    });
    wire::BrokerGroup {
        name: leader.broker_group.clone(),
        term: status.term.get(),
        leader: None,
        replicas: replicas.collect(),
        durability: String::new(),
        format_level: leader.view.format_level(),
        membership_joint: status.membership.joint,
    }
}

pub(super) async fn bootstrap(
    admin: &Administration,
    request: wire::BootstrapRequest,
) -> Result<wire::BootstrapResponse, Status> {
    own_group(admin, &request.broker_group)?;
    let leader = &admin.door.leader;
    let members = request.members.into_iter();
    let members = members
        .map(|member| (ReplicaId(member.id), member.peer_address, member.client_address))
        .collect();
    let cluster_id = leader.handle.bootstrap(members).await.map_err(|error| match error {
        BootstrapError::AlreadyBootstrapped => Status::already_exists(error.to_string()),
        BootstrapError::BadMembers(_) => Status::invalid_argument(error.to_string()),
        BootstrapError::Unreachable { .. } => Status::unavailable(error.to_string()),
        BootstrapError::Refused { .. } => Status::failed_precondition(error.to_string()),
        BootstrapError::Failed(_) => Status::internal(error.to_string()),
    })?;
    tracing::info!(cluster_id, "broker group bootstrapped");
    Ok(wire::BootstrapResponse { cluster_id })
}

pub(super) async fn transfer(
    admin: &Administration,
    request: wire::TransferLeaderRequest,
) -> Result<wire::TransferLeaderResponse, Status> {
    own_group(admin, &request.broker_group)?;
    let mut call = admin.own_call();
    call.deadline = Instant::now() + Duration::from_secs(5);
    admin
        .door
        .call::<Transfer>(&call, &request)
        .await
        .map_err(|refusal| grpc(&refusal))
}

pub(super) fn own_group(admin: &Administration, name: &str) -> Result<(), Status> {
    let own = &admin.door.leader.broker_group;
    if name == own {
        return Ok(());
    }
    Err(Status::not_found(format!(
        "this broker has no replica of broker group {name:?}; it has one of {own:?}"
    )))
}

impl Verb for Transfer {
    const NAME: &'static str = "Admin/TransferLeader";
    type Request = wire::TransferLeaderRequest;
    type Reply = wire::TransferLeaderResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        let transferred = leader.handle.transfer_leader(ReplicaId(request.to)).await;
        transferred.map_err(|error| match error {
            TransferError::NotLeader { .. } | TransferError::Stopped(_) => LeadError::NotLeader,
            TransferError::UnknownReplica(_) => Refusal::new(Code::NotFound, error.to_string()).into(),
            TransferError::Timeout(_) | TransferError::Away(_) => {
                Refusal::new(Code::PreconditionFailed, error.to_string()).into()
            }
        })?;
        Ok(wire::TransferLeaderResponse {
            term: leader.handle.status().term.get(),
        })
    }
}
