//! `ledgermq cluster`: every broker group and its replicas, as their leaders see them; with `--digest`, whether the
//! replicas hold the same state.

mod digest;

use crate::admin::Target;
use crate::broker_groups;
use crate::failure::Failure;
use crate::output::{Table, json_line, line_out};
use clap::Args;
use ledgermq_proto::admin;
use serde::Serialize;

/// The flags.
#[derive(Args)]
pub struct Arguments {
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Have every replica hash its state as of one entry, and compare
    #[arg(long)]
    digest: bool,
    #[command(flatten)]
    target: Target,
}

/// What `--json` prints. Its keys are a promise to scripts.
#[derive(Serialize)]
pub struct Cluster {
    /// All broker groups, by name.
    pub broker_groups: Vec<BrokerGroup>,
}

/// One broker group.
#[derive(Serialize)]
pub struct BrokerGroup {
    /// Its name.
    pub name: String,
    /// The highest term known.
    pub term: u64,
    /// The leader's replica number, or null while there is none.
    pub leader: Option<u64>,
    /// What an acknowledgement stands for.
    pub durability: String,
    /// The format level of the state; null where nobody tells it.
    pub format_level: Option<u32>,
    /// A change of the membership is half done: the replicas are those of before and of after it.
    pub membership_joint: bool,
    /// Its replicas, by number.
    pub replicas: Vec<Replica>,
}

/// One replica.
#[derive(Serialize)]
pub struct Replica {
    /// Its number.
    pub id: u64,
    /// Where clients reach it.
    pub address: String,
    /// leader, follower, learner or candidate.
    pub role: String,
    /// The last entry of its log.
    pub last_index: u64,
    /// The last entry it knows to be committed.
    pub committed_index: u64,
    /// The last entry it applied.
    pub applied_index: u64,
    /// Heard by the leader within an election timeout, and writable.
    pub healthy: bool,
    /// The version it runs; null when it tells none or is not connected to the leader.
    pub version: Option<String>,
    /// The highest format level it supports; null while it is not connected to the leader.
    pub format_level_max: Option<u32>,
}

/// Asks for the state of the cluster: each broker group's own replicas know the most of it; those of another know only
/// its route, which is told when nobody of the broker group itself answers.
pub async fn describe(target: &Target) -> Result<Cluster, Failure> {
    let told = broker_groups_of(target).await?;
    Ok(Cluster {
        broker_groups: told.into_iter().map(broker_group).collect(),
    })
}

/// The same, as the brokers say it.
pub async fn broker_groups_of(target: &Target) -> Result<Vec<admin::BrokerGroup>, Failure> {
    let known = broker_groups::known(target).await?;
    let several = known.len() > 1;
    let mut broker_groups = Vec::new();
    for broker_groups::Known {
        broker_group: told,
        target,
    } in known
    {
        let own = match several {
            true => target
                .admin()
                .describe_cluster(admin::DescribeClusterRequest {})
                .await
                .ok(),
            false => None,
        };
        let own = own.and_then(|response| response.broker_groups.into_iter().find(|it| it.name == told.name));
        broker_groups.push(own.unwrap_or(told));
    }
    Ok(broker_groups)
}

fn broker_group(it: admin::BrokerGroup) -> BrokerGroup {
    let replica = |it: admin::Replica| Replica {
        id: it.id,
        address: it.address,
        role: it.role,
        last_index: it.last_index,
        committed_index: it.committed_index,
        applied_index: it.applied_index,
        healthy: it.healthy,
        version: Some(it.version).filter(|version| !version.is_empty()),
        format_level_max: it.format_level_max,
    };
    BrokerGroup {
        name: it.name,
        term: it.term,
        leader: it.leader,
        durability: it.durability,
        format_level: Some(it.format_level).filter(|level| *level > 0),
        membership_joint: it.membership_joint,
        replicas: it.replicas.into_iter().map(replica).collect(),
    }
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.digest {
        return digest::run(&arguments.target, arguments.json).await;
    }
    let cluster = describe(&arguments.target).await?;
    if arguments.json {
        return json_line(&cluster);
    }
    for broker_group in cluster.broker_groups {
        print(broker_group)?;
    }
    Ok(())
}

fn print(broker_group: BrokerGroup) -> Result<(), Failure> {
    let leader = broker_group.leader.map_or("none".to_owned(), |id| id.to_string());
    line_out(&format!(
        "broker group {}: term {}, leader {leader}, durability {}, format level {}",
        broker_group.name,
        broker_group.term,
        broker_group.durability,
        known(broker_group.format_level)
    ))?;
    if broker_group.replicas.len() == 1 {
        line_out("  one replica: no redundancy, a lost disk loses messages")?;
    }
    if broker_group.durability == "memory-quorum" {
        line_out("  memory-quorum: a power failure of several replicas can lose acknowledged messages")?;
    }
    if broker_group.membership_joint {
        line_out("  a change of the membership is half done: the replicas of before and of after it are told")?;
    }
    let mut table = Table::new(&[
        "REPLICA",
        "ADDRESS",
        "ROLE",
        "LAST",
        "COMMITTED",
        "APPLIED",
        "HEALTHY",
        "VERSION",
        "LEVEL",
    ]);
    for it in broker_group.replicas {
        table.row(vec![
            it.id.to_string(),
            it.address,
            it.role,
            it.last_index.to_string(),
            it.committed_index.to_string(),
            it.applied_index.to_string(),
            if it.healthy { "yes".to_owned() } else { "no".to_owned() },
            known(it.version),
            known(it.format_level_max),
        ]);
    }
    table.print()
}

fn known(value: Option<impl std::fmt::Display>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}
