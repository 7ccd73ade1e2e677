//! The membership in force, in our words.

use std::sync::Arc;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;

use crate::raft::adapter::Adapter;
use crate::raft::config::{Config, KeptMembership};
use crate::status::Member;
use crate::types::ReplicaId;

/// The members by number.
pub fn members(membership: &KeptMembership) -> Vec<Member> {
    let member = |(id, node): (&u64, &crate::raft::config::Node)| Member {
        id: ReplicaId(*id),
        peer_address: node.peer_address.clone(),
        client_address: node.client_address.clone(),
        voter: membership.voter_ids().any(|voter| voter == *id),
        incarnation: node.incarnation,
    };
    membership.nodes().map(member).collect()
}

/// The membership in force now.
pub fn now(raft: &Raft<Config, Adapter>) -> Arc<KeptMembership> {
    Arc::clone(&raft.server_metrics().borrow_watched().membership_config)
}
