//! From started replicas to a serving cluster: bootstrap once, then wait for leader and health.

use super::layout::{Layout, ReplicaLayout};
use crate::admin::Target;
use crate::commands::{bootstrap_call, describe_cluster};
use crate::failure::{Failure, Kind};
use crate::limits::DEV_READY_DEADLINE;
use ledgermq_proto::admin::Member;
use ledgermq_proto::net::{self, ChannelOptions, TcpNet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Between two looks at a cluster that is not ready yet.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one look may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);

/// Returns once every broker group has a leader and every replica's health says that it serves.
pub async fn until_ready(layout: &Layout) -> Result<(), Failure> {
    match timeout(DEV_READY_DEADLINE, bring_up(layout)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(
            Kind::Unavailable,
            format!("the cluster did not serve within {} s", DEV_READY_DEADLINE.as_secs()),
        )),
    }
}

async fn bring_up(layout: &Layout) -> Result<(), Failure> {
    for broker_group in layout.replicas.chunk_by(|a, b| a.broker_group == b.broker_group) {
        born(broker_group).await?;
    }
    for replica in &layout.replicas {
        while !leads_somewhere(replica).await || !healthy(&replica.listen).await {
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Gives the broker group its membership, unless it has one from an earlier run.
async fn born(broker_group: &[ReplicaLayout]) -> Result<(), Failure> {
    let Some(first) = broker_group.first() else {
        return Ok(());
    };
    let members: Vec<Member> = broker_group
        .iter()
        .map(|it| Member {
            id: it.id,
            peer_address: it.peer_listen.clone(),
            client_address: it.listen.clone(),
        })
        .collect();
    loop {
        if broker_group_leads(first).await.is_some() {
            return Ok(());
        }
        match bootstrap_call(&target(&first.listen)?, &first.broker_group, members.clone()).await {
            Ok(cluster_id) => {
                tracing::info!(
                    broker_group = first.broker_group,
                    cluster_id,
                    "broker group bootstrapped"
                );
                return Ok(());
            }
            // It has a membership already.
            Err(failure) if failure.kind() == Kind::Refused => {
                tracing::info!(broker_group = first.broker_group, reason = %failure, "broker group not bootstrapped");
                return Ok(());
            }
            Err(failure) if failure.kind() == Kind::Unavailable => sleep(PAUSE).await,
            Err(failure) => return Err(failure),
        }
    }
}

async fn leads_somewhere(replica: &ReplicaLayout) -> bool {
    broker_group_leads(replica).await.is_some()
}

/// The leader of the replica's broker group as that replica tells it.
async fn broker_group_leads(replica: &ReplicaLayout) -> Option<u64> {
    let cluster = describe_cluster(&target(&replica.listen).ok()?).await.ok()?;
    cluster
        .broker_groups
        .into_iter()
        .find(|it| it.name == replica.broker_group)?
        .leader
}

/// gRPC health of one access point.
async fn healthy(address: &str) -> bool {
    let channel = net::channel(Arc::new(TcpNet), address, ChannelOptions::default());
    let request = HealthCheckRequest { service: String::new() };
    let answer = timeout(LOOK_DEADLINE, HealthClient::new(channel).check(request)).await;
    matches!(answer, Ok(Ok(response)) if response.get_ref().status() == ServingStatus::Serving)
}

fn target(address: &str) -> Result<Target, Failure> {
    Target::parse(address).map_err(|error| Failure::new(Kind::Internal, error))
}
