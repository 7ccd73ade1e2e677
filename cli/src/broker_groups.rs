//! Commands that concern every broker group: each has topics, consumer groups and progress of its own, and its own
//! replicas answer for it.

use crate::admin::Target;
use crate::failure::Failure;
use ledgermq_client::Admin;
use ledgermq_proto::admin::{BrokerGroup, DescribeClusterRequest};
use tonic::{Code, Status};

/// One broker group and where to ask for it.
pub struct Known {
    /// What the asked broker says of it.
    pub broker_group: BrokerGroup,
    /// Its replicas, the leader first.
    pub target: Target,
}

/// All broker groups of the cluster.
pub async fn known(target: &Target) -> Result<Vec<Known>, Failure> {
    let request = DescribeClusterRequest {};
    let cluster = target
        .admin()
        .describe_cluster(request)
        .await
        .map_err(target.failed("describe cluster"))?;
    // The given endpoints serve a lone broker group as well as any, and may be the only ones that this machine reaches.
    let alone = cluster.broker_groups.len() == 1;
    Ok(cluster
        .broker_groups
        .into_iter()
        .map(|broker_group| Known {
            target: if alone {
                target.clone()
            } else {
                replicas_of(&broker_group).unwrap_or_else(|| target.clone())
            },
            broker_group,
        })
        .collect())
}

fn replicas_of(broker_group: &BrokerGroup) -> Option<Target> {
    let mut replicas: Vec<_> = broker_group.replicas.iter().collect();
    replicas.sort_by_key(|replica| (Some(replica.id) != broker_group.leader, replica.id));
    let addresses: Vec<&str> = replicas.iter().map(|replica| replica.address.as_str()).collect();
    Target::parse(&addresses.join(";")).ok()
}

/// Asks every broker group, and answers what each said. `passed_over` is what a part of them may refuse with (NOT_FOUND,
/// ALREADY_EXISTS); the call fails with it when all do.
pub async fn ask_each<A>(
    target: &Target,
    doing: &str,
    passed_over: Code,
    call: impl AsyncFn(Admin) -> Result<A, Status>,
) -> Result<Vec<A>, Failure> {
    let mut targets: Vec<Target> = known(target).await?.into_iter().map(|known| known.target).collect();
    if targets.is_empty() {
        targets.push(target.clone());
    }
    let mut answers = Vec::new();
    let mut refusal = None;
    for target in targets {
        match call(target.admin()).await {
            Ok(answer) => answers.push(answer),
            Err(status) if status.code() == passed_over => refusal = Some(target.failed(doing)(status)),
            Err(status) => return Err(target.failed(doing)(status)),
        }
    }
    match refusal {
        Some(failure) if answers.is_empty() => Err(failure),
        _ => Ok(answers),
    }
}
