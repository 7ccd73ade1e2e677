//! One replica's report on itself and on what it hears: what `ledgermq doctor` judges. Reads what is at hand, waits for
//! nobody.

use std::sync::Arc;

use ledgermq_proto::admin as wire;
use ledgermq_raft_store::{EntryId, MemberStatus, RefusedCall, Status};
use tokio::sync::watch;

use super::{Administration, durability};
use crate::leader::Leader;
use crate::name_servers::NameServers;
use crate::state::level::VERSION;

/// What a replica knows of itself beside its log.
pub struct Own {
    /// host:port that the other replicas are told.
    pub peer_address: String,
    /// Whether it reaches committed probes.
    pub ready: watch::Receiver<bool>,
    /// The highest format level that it supports.
    pub format_level_max: u32,
    /// How it stands with its name servers.
    pub name_servers: Arc<NameServers>,
    /// Unix milliseconds.
    pub wall_clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

pub(super) fn report(admin: &Administration) -> wire::ReportHealthResponse {
    let (leader, own) = (&admin.door.leader, &admin.own);
    let status = leader.handle.status();
    let role = leader.role();
    let index = |id: Option<EntryId>| id.map_or(0, |id| id.index.get());
    let (damage, damage_reads) = leader.handle.log().damage().unwrap_or_default();
    let lately = leader.handle.log().fsyncs_lately();
    wire::ReportHealthResponse {
        broker_group: leader.broker_group.clone(),
        replica: status.id.get(),
        cluster_id: status.cluster_id.clone().unwrap_or_default(),
        incarnation: status.incarnation,
        client_address: leader.client_address.clone(),
        peer_address: own.peer_address.clone(),
        version: VERSION.to_owned(),
        format_level_max: own.format_level_max,
        format_level: leader.view.format_level(),
        role: match status.removed {
            true => "removed",
            false => status.state.name(),
        }
        .to_owned(),
        term: status.term.get(),
        leader: status.leader.map(|id| id.get()),
        serving: role.serving,
        ready: *own.ready.borrow(),
        last_index: index(status.last),
        committed_index: index(status.committed),
        applied_index: index(status.applied),
        poisoned: status.poisoned.clone().unwrap_or_default(),
        damage,
        damage_reads,
        durability: durability(admin.durability).to_owned(),
        away_after_ms: leader.away_after_ms,
        members: status.members.iter().map(member).collect(),
        membership_term: status.membership.at.map_or(0, |at| at.term.get()),
        membership_index: index(status.membership.at),
        membership_joint: status.membership.joint,
        membership_committed: status.membership.committed,
        refused: status.refused.iter().map(refused).collect(),
        disk: disk(leader),
        sends_refused: leader.room.sends_refused().unwrap_or_default(),
        fsyncs: lately.count,
        fsync_p99_us: lately.p99_us,
        wall_ms: (own.wall_clock)(),
        clock_offset_ms: clock_offset(&status),
        name_servers: own.name_servers.all().into_iter().map(name_server).collect(),
        others: others(admin),
    }
}

/// A replica without a cluster hears nobody on purpose.
fn clock_offset(status: &Status) -> Option<i64> {
    status.clock_offset_ms.filter(|_| !status.members.is_empty())
}

fn member(member: &MemberStatus) -> wire::HealthMember {
    wire::HealthMember {
        id: member.id.get(),
        peer_address: member.peer_address.clone(),
        client_address: member.client_address.clone(),
        voter: member.voter,
        incarnation: member.incarnation,
        heard_ms_ago: member.heard_ms_ago,
        last_index: member.last_index.map(|index| index.get()),
        caught_up: member.caught_up,
        trouble: member.trouble.as_ref().map(|trouble| wire::HealthTrouble {
            refuses: trouble.refuses,
            reason: trouble.reason.clone(),
            for_ms: trouble.for_ms,
        }),
    }
}

fn refused(call: &RefusedCall) -> wire::RefusedCall {
    wire::RefusedCall {
        from: call.from.get(),
        why: call.why.name().to_owned(),
        reason: call.reason.clone(),
        ms_ago: call.ms_ago,
    }
}

fn disk(leader: &Leader) -> Option<wire::HealthDisk> {
    leader.room.own().map(|told| wire::HealthDisk {
        total_bytes: told.space.total_bytes,
        free_bytes: told.space.free_bytes,
        full_percent: leader.room.full_percent(),
        full: told.full,
    })
}

fn name_server((address, standing): (String, crate::name_servers::Standing)) -> wire::HealthNameServer {
    wire::HealthNameServer {
        address,
        registered: standing.registered,
        reason: standing.reason,
    }
}

fn others(admin: &Administration) -> Vec<wire::KnownReplica> {
    let mut known = Vec::new();
    for group in admin.routes.others() {
        for replica in group.replicas {
            known.push(wire::KnownReplica {
                broker_group: group.name.clone(),
                id: replica.id,
                client_address: replica.client_address,
            });
        }
    }
    known
}
