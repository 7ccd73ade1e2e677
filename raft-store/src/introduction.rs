//! What a replica asks another before it makes it a member: who are you, and: you belong to this cluster.

use tonic::{Code, Status};

use crate::limits;
use crate::peer::client::call;
use crate::peer::link::Links;
use crate::peer::passport::Passport;
use crate::peer::wire::{AdoptRequest, IdentifyReply, IdentifyRequest};
use crate::release::Release;
use crate::types::ReplicaId;

/// Why a replica was not introduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It does not answer.
    Unreachable(String),
    /// It answers, and refuses or is not the one that was meant.
    Refused(String),
}

/// Asks the replica at `address` who it is; fails unless it is replica `id` of this broker group.
pub async fn identify(
    links: &Links,
    passport: &Passport,
    id: ReplicaId,
    address: &str,
) -> Result<IdentifyReply, Rejection> {
    let broker_group = passport.identity().broker_group;
    let request = IdentifyRequest {
        broker_group: broker_group.clone(),
        to: id.get(),
    };
    let mut client = links.to(address).heartbeat.clone();
    let answer = call(limits::CALL_DEADLINE, client.identify(request)).await;
    let reply = answer.map_err(|status| rejection(&status))?;
    if reply.id != id.get() || reply.broker_group != broker_group {
        return Err(Rejection::Refused("another replica answers at this address".to_owned()));
    }
    Ok(reply)
}

/// Fails unless the replica is free: without a log, and without a cluster or with this one.
pub fn free(reply: &IdentifyReply, cluster_id: Option<&str>) -> Result<(), Rejection> {
    let refused = |reason: &str| Err(Rejection::Refused(reason.to_owned()));
    if !reply.cluster_id.is_empty() && Some(reply.cluster_id.as_str()) != cluster_id {
        return refused("it belongs to another cluster");
    }
    if reply.initialized {
        return refused("it is not empty: it was a member of a broker group; give it an empty folder and a new id");
    }
    Ok(())
}

/// Fails unless the replica's program supports the level of the state that it is to receive.
pub fn supports(reply: &IdentifyReply, level: u32) -> Result<(), Rejection> {
    let release = Release::told(reply.level, &reply.version);
    if release.level >= level {
        return Ok(());
    }
    Err(Rejection::Refused(format!(
        "it runs {}, which supports format level {}, and the state is at level {level}; start it with the release that the other replicas run",
        release.name(),
        release.level
    )))
}

/// Makes the replica at `address` belong to a cluster.
pub async fn adopt(
    links: &Links,
    passport: &Passport,
    id: ReplicaId,
    incarnation: u64,
    address: &str,
    cluster_id: &str,
) -> Result<(), Rejection> {
    let request = AdoptRequest {
        broker_group: passport.identity().broker_group,
        to: id.get(),
        to_incarnation: incarnation,
        cluster_id: cluster_id.to_owned(),
    };
    let mut client = links.to(address).heartbeat.clone();
    let answer = call(limits::CALL_DEADLINE, client.adopt(request)).await;
    answer.map(|_| ()).map_err(|status| rejection(&status))
}

fn rejection(status: &Status) -> Rejection {
    let reason = status.message().to_owned();
    match status.code() {
        Code::FailedPrecondition => Rejection::Refused(reason),
        _ => Rejection::Unreachable(reason),
    }
}

/// Why an address cannot be one, in words.
pub fn check_address(id: ReplicaId, address: &str) -> Result<(), String> {
    if address.is_empty() || address.len() > limits::ADDRESS_BYTES_MAX {
        return Err(format!(
            "the address {address:?} of replica {id} has {} bytes, must have 1 to {}",
            address.len(),
            limits::ADDRESS_BYTES_MAX
        ));
    }
    Ok(())
}
