//! `ledgermq leader transfer`: hands the leadership of a broker group to another replica.

use crate::admin::Target;
use crate::broker_groups;
use crate::failure::{Failure, Kind};
use crate::output::line_out;
use clap::{Args, Subcommand};
use ledgermq_proto::admin::TransferLeaderRequest;

/// The flags.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Hand leadership to a replica
    Transfer {
        /// The broker group
        #[arg(long)]
        broker_group: String,
        /// The number of the replica that is to lead
        #[arg(long, value_name = "ID")]
        to: u64,
        #[command(flatten)]
        target: Target,
    },
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Verb::Transfer {
        broker_group,
        to,
        target,
    } = arguments.verb;
    let known = broker_groups::known(&target).await?;
    let Some(known) = known.into_iter().find(|known| known.broker_group.name == broker_group) else {
        return Err(Failure::new(
            Kind::NotFound,
            format!("there is no broker group {broker_group}"),
        ));
    };
    let request = TransferLeaderRequest {
        broker_group: broker_group.clone(),
        to,
    };
    let transferred = known.target.admin().transfer_leader(request).await;
    let response = transferred.map_err(known.target.failed("transfer leadership"))?;
    line_out(&format!(
        "replica {to} leads broker group {broker_group} in term {}",
        response.term
    ))
}
