//! The commands, and the runtime that each of them runs on.

mod bench;
mod bootstrap;
mod broker;
mod cluster;
mod config;
mod consumer_group;
mod dev;
mod doctor;
mod leader;
mod log;
mod namesrv;
mod receive;
mod replica;
mod send;
mod topic;

use crate::failure::Failure;
use crate::logging::LogFormat;
use clap::Subcommand;

pub use bootstrap::bootstrap as bootstrap_call;
pub use cluster::describe as describe_cluster;
pub use config::read as read_config;

/// Every command; its flags are in its own file.
#[derive(Subcommand)]
pub enum Command {
    /// Run a name server
    Namesrv(namesrv::Arguments),
    /// Run one broker process
    Broker(broker::Arguments),
    /// Check configuration files
    Config(config::Arguments),
    /// Run a whole cluster on this machine: name server and brokers
    Dev(dev::Arguments),
    /// Give a broker group its first membership, once
    Bootstrap(bootstrap::Arguments),
    /// Create, list, describe and delete topics
    Topic(topic::Arguments),
    /// Create, list and describe consumer groups
    ConsumerGroup(consumer_group::Arguments),
    /// Show every broker group and its replicas
    Cluster(cluster::Arguments),
    /// Say what is wrong with the cluster, why, and what to do next
    Doctor(doctor::Arguments),
    /// Look into a stopped replica's log: verify, dump, stat
    Log(log::Arguments),
    /// Move the leadership of a broker group
    Leader(leader::Arguments),
    /// Add, promote, remove, replace and list the replicas of a broker group
    Replica(replica::Arguments),
    /// Send messages
    Send(send::Arguments),
    /// Receive messages and acknowledge them
    Receive(receive::Arguments),
    /// Measure a cluster
    Bench(bench::Arguments),
}

impl Command {
    /// It runs servers in this process, whose log is worth reading at info.
    pub fn is_server(&self) -> bool {
        matches!(self, Command::Namesrv(_) | Command::Dev(_))
    }
}

/// Runs one command to its end.
pub fn run(command: Command, log_format: LogFormat) -> Result<(), Failure> {
    match command {
        // The broker builds its own runtimes.
        Command::Broker(arguments) => broker::run(arguments, log_format),
        Command::Config(arguments) => config::run(arguments),
        Command::Log(arguments) => log::run(arguments),
        Command::Namesrv(arguments) => on_runtime(namesrv::run(arguments)),
        Command::Dev(arguments) => on_runtime(dev::run(arguments, log_format)),
        Command::Bootstrap(arguments) => on_runtime(bootstrap::run(arguments)),
        Command::Topic(arguments) => on_runtime(topic::run(arguments)),
        Command::ConsumerGroup(arguments) => on_runtime(consumer_group::run(arguments)),
        Command::Cluster(arguments) => on_runtime(cluster::run(arguments)),
        Command::Doctor(arguments) => on_runtime(doctor::run(arguments)),
        Command::Leader(arguments) => on_runtime(leader::run(arguments)),
        Command::Replica(arguments) => on_runtime(replica::run(arguments)),
        Command::Send(arguments) => on_runtime(send::run(arguments)),
        Command::Receive(arguments) => on_runtime(receive::run(arguments)),
        Command::Bench(arguments) => on_runtime(bench::run(arguments)),
    }
}

/// Runs a future on a fresh runtime.
fn on_runtime(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("runtime", error))?;
    runtime.block_on(command)
}
