//! `ledgermq replica`: the replicas of a broker group come and go.
//!
//! Every change may be asked for again: one that broke off is finished. Where the answer is "not now" (exit code 5), the
//! command asks again until `--wait` is over.

use std::time::Duration;

use crate::admin::Target;
use crate::broker_groups::{self, Known};
use crate::commands::cluster::broker_groups_of;
use crate::duration;
use crate::endpoints::check_address;
use crate::failure::{Failure, Kind};
use crate::limits::REPLICA_RETRY_PAUSE;
use crate::output::{Table, json_line, line_out};
use clap::{Args, Subcommand};
use ledgermq_client::Admin;
use ledgermq_proto::admin;
use serde::Serialize;
use tokio::time::Instant;
use tonic::{Code, Status};

/// The flags.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a running, empty replica a learner, and with --promote a voter
    #[command(after_help = "Example: ledgermq replica add --broker-group broker-a --id 4 \\\n  \
        --peer-address 10.0.0.4:9081 --client-address 10.0.0.4:8081 --promote --wait 60s")]
    Add {
        #[command(flatten)]
        group: Group,
        #[command(flatten)]
        replica: Replica,
        /// Make it a voter once it has caught up
        #[arg(long)]
        promote: bool,
        /// How long to wait until it has caught up
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
        wait: Duration,
    },
    /// Make a learner that has caught up a voter
    #[command(after_help = "Example: ledgermq replica promote --broker-group broker-a --id 4 --wait 60s")]
    Promote {
        #[command(flatten)]
        group: Group,
        /// The number of the learner
        #[arg(long)]
        id: u64,
        /// How long to wait until it has caught up
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
        wait: Duration,
    },
    /// Take a replica out of its broker group
    #[command(after_help = "Example: ledgermq replica remove --broker-group broker-a --id 2")]
    Remove {
        #[command(flatten)]
        group: Group,
        /// The number of the replica
        #[arg(long)]
        id: u64,
        /// Also where no majority of the others is heard: nothing can be written until one is
        #[arg(long)]
        force: bool,
    },
    /// Put a running, empty replica in the place of one that is lost
    #[command(
        after_help = "Example: ledgermq replica replace --broker-group broker-a --old 2 --id 4 \\\n  \
        --peer-address 10.0.0.4:9081 --client-address 10.0.0.4:8081"
    )]
    Replace {
        #[command(flatten)]
        group: Group,
        /// The number of the replica that goes
        #[arg(long, value_name = "ID")]
        old: u64,
        #[command(flatten)]
        replica: Replica,
        /// How long to wait until the new one has caught up
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
        wait: Duration,
    },
    /// Take note that a replica, which runs there already, is reached at other addresses
    #[command(
        after_help = "Example: ledgermq replica set-address --broker-group broker-a --id 2 \\\n  \
        --peer-address 10.0.1.2:9081 --client-address 10.0.1.2:8081"
    )]
    SetAddress {
        #[command(flatten)]
        group: Group,
        #[command(flatten)]
        replica: Replica,
    },
    /// List the replicas of every broker group, as its leader sees them
    #[command(after_help = "Example: ledgermq replica list --broker-group broker-a --json")]
    List {
        /// Only this broker group
        #[arg(long)]
        broker_group: Option<String>,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Args)]
struct Group {
    /// The broker group
    #[arg(long)]
    broker_group: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Replica {
    /// The number of the replica: never one that another folder had
    #[arg(long)]
    id: u64,
    /// Where the other replicas reach it
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    peer_address: String,
    /// Where clients reach it
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    client_address: String,
}

fn address(text: &str) -> Result<String, String> {
    check_address(text).map(|()| text.to_owned())
}

impl Replica {
    fn member(&self) -> Option<admin::Member> {
        Some(admin::Member {
            id: self.id,
            peer_address: self.peer_address.clone(),
            client_address: self.client_address.clone(),
        })
    }
}

impl Group {
    async fn known(&self) -> Result<Known, Failure> {
        let known = broker_groups::known(&self.target).await?;
        let found = known
            .into_iter()
            .find(|known| known.broker_group.name == self.broker_group);
        found.ok_or_else(|| {
            let message = format!("there is no broker group {}", self.broker_group);
            Failure::new(Kind::NotFound, message)
        })
    }
}

/// Asks for a change, again and again while the answer is "not now" and there is time.
async fn ask<A>(
    known: &Known,
    doing: &str,
    wait: Duration,
    change: impl AsyncFn(Admin) -> Result<A, Status>,
) -> Result<A, Failure> {
    let admin = known.target.admin();
    let asked = Instant::now();
    loop {
        match change(admin.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(status) => {
                let not_now = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
                if !not_now || asked.elapsed() >= wait {
                    return Err(known.target.failed(doing)(status));
                }
            }
        }
        tokio::time::sleep(REPLICA_RETRY_PAUSE).await;
    }
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Add {
            group,
            replica,
            promote,
            wait,
        } => add(group, replica, promote, wait).await,
        Verb::Promote { group, id, wait } => {
            let known = group.known().await?;
            promote(&known, id, wait).await
        }
        Verb::Remove { group, id, force } => remove(group, id, force).await,
        Verb::Replace {
            group,
            old,
            replica,
            wait,
        } => replace(group, old, replica, wait).await,
        Verb::SetAddress { group, replica } => set_address(group, replica).await,
        Verb::List {
            broker_group,
            json,
            target,
        } => list(broker_group, json, &target).await,
    }
}

async fn add(group: Group, replica: Replica, then_promote: bool, wait: Duration) -> Result<(), Failure> {
    let known = group.known().await?;
    let request = admin::AddReplicaRequest {
        broker_group: group.broker_group.clone(),
        replica: replica.member(),
    };
    let adding = ask(&known, "add replica", Duration::ZERO, async |admin: Admin| {
        admin.add_replica(request.clone()).await
    });
    adding.await?;
    line_out(&format!(
        "replica {} is a member of broker group {}",
        replica.id, group.broker_group
    ))?;
    match then_promote {
        true => promote(&known, replica.id, wait).await,
        false => Ok(()),
    }
}

async fn promote(known: &Known, id: u64, wait: Duration) -> Result<(), Failure> {
    let broker_group = &known.broker_group.name;
    let request = admin::PromoteReplicaRequest {
        broker_group: broker_group.clone(),
        id,
    };
    let promoting = ask(known, "promote replica", wait, async |admin: Admin| {
        admin.promote_replica(request.clone()).await
    });
    promoting.await?;
    line_out(&format!("replica {id} votes in broker group {broker_group}"))
}

async fn remove(group: Group, id: u64, force: bool) -> Result<(), Failure> {
    let known = group.known().await?;
    let broker_group = &group.broker_group;
    if !known.broker_group.replicas.iter().any(|replica| replica.id == id) {
        let message = format!("replica {id} is not a member of broker group {broker_group}");
        return Err(Failure::new(Kind::NotFound, message));
    }
    let request = admin::RemoveReplicaRequest {
        broker_group: broker_group.clone(),
        id,
        force,
    };
    let removing = ask(&known, "remove replica", Duration::ZERO, async |admin: Admin| {
        match admin.remove_replica(request.clone()).await {
            // It was a member just now: the answer to the first try was lost.
            Err(status) if status.code() == Code::NotFound => Ok(admin::RemoveReplicaResponse::default()),
            other => other,
        }
    });
    let warning = removing.await?.warning;
    if !warning.is_empty() {
        eprintln!("ledgermq: warning: {warning}");
    }
    line_out(&format!("replica {id} is removed from broker group {broker_group}"))
}

async fn replace(group: Group, old: u64, replica: Replica, wait: Duration) -> Result<(), Failure> {
    let known = group.known().await?;
    let request = admin::ReplaceReplicaRequest {
        broker_group: group.broker_group.clone(),
        old,
        replica: replica.member(),
    };
    let replacing = ask(&known, "replace replica", wait, async |admin: Admin| {
        admin.replace_replica(request.clone()).await
    });
    replacing.await?;
    line_out(&format!(
        "replica {} votes in broker group {} in the place of replica {old}",
        replica.id, group.broker_group
    ))
}

async fn set_address(group: Group, replica: Replica) -> Result<(), Failure> {
    let known = group.known().await?;
    let request = admin::ChangeAddressesRequest {
        broker_group: group.broker_group.clone(),
        replica: replica.member(),
    };
    let setting = ask(&known, "set address", Duration::ZERO, async |admin: Admin| {
        admin.change_addresses(request.clone()).await
    });
    setting.await?;
    line_out(&format!(
        "replica {} is reached at {} by replicas and at {} by clients",
        replica.id, replica.peer_address, replica.client_address
    ))
}

/// What `list --json` prints. Its keys are a promise to scripts.
#[derive(Serialize)]
struct Listed {
    replicas: Vec<ListedReplica>,
}

#[derive(Serialize)]
struct ListedReplica {
    broker_group: String,
    id: u64,
    role: String,
    voter: bool,
    peer_address: String,
    client_address: String,
    /// 16 hexadecimal digits.
    incarnation: String,
    /// Milliseconds, or null if the leader never heard it.
    heard_ms_ago: Option<u64>,
    last_index: u64,
    caught_up: bool,
    healthy: bool,
}

fn listed(broker_group: &str, it: admin::Replica) -> ListedReplica {
    ListedReplica {
        broker_group: broker_group.to_owned(),
        id: it.id,
        role: it.role,
        voter: it.voter,
        peer_address: it.peer_address,
        client_address: it.address,
        incarnation: format!("{:016x}", it.incarnation),
        heard_ms_ago: it.heard_ms_ago,
        last_index: it.last_index,
        caught_up: it.caught_up,
        healthy: it.healthy,
    }
}

async fn list(broker_group: Option<String>, json: bool, target: &Target) -> Result<(), Failure> {
    let mut told = broker_groups_of(target).await?;
    if let Some(name) = &broker_group {
        told.retain(|it| it.name == *name);
        if told.is_empty() {
            return Err(Failure::new(Kind::NotFound, format!("there is no broker group {name}")));
        }
    }
    let of_group = |it: admin::BrokerGroup| {
        let name = it.name;
        it.replicas.into_iter().map(move |replica| listed(&name, replica))
    };
    let replicas: Vec<ListedReplica> = told.into_iter().flat_map(of_group).collect();
    if json {
        return json_line(&Listed { replicas });
    }
    let headings = [
        "BROKER GROUP",
        "REPLICA",
        "ROLE",
        "PEER ADDRESS",
        "CLIENT ADDRESS",
        "INCARNATION",
    ];
    let mut table = Table::new(&[&headings[..], &["HEARD", "LAST", "CAUGHT UP"]].concat());
    for it in replicas {
        table.row(vec![
            it.broker_group,
            it.id.to_string(),
            it.role,
            it.peer_address,
            it.client_address,
            it.incarnation,
            it.heard_ms_ago.map_or("never".to_owned(), |ms| format!("{ms} ms ago")),
            it.last_index.to_string(),
            if it.caught_up {
                "yes".to_owned()
            } else {
                "no".to_owned()
            },
        ]);
    }
    table.print()
}
