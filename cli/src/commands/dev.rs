//! `ledgermq dev`: a whole cluster on this machine, until SIGTERM or Ctrl-C.
//!
//! ```text
//! choose ports, write configs ─▶ name server ─▶ replicas (in this process, or a child each) ─▶ bootstrap ─▶ ready
//! ```
//! It watches nobody: a replica that died stays dead until someone starts it with `ledgermq broker --config <file>`.

use crate::dev::layout::{Layout, Wanted};
use crate::dev::replicas::Replicas;
use crate::dev::{ready, replicas};
use crate::failure::{Failure, Kind};
use crate::limits::{DEV_BROKER_GROUPS_MAX, DEV_REPLICAS_MAX};
use crate::logging::LogFormat;
use crate::output::line_out;
use crate::signals::stop_asked;
use clap::Args;
use ledgermq_proto::net::TcpNet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The flags.
#[derive(Args)]
pub struct Arguments {
    /// Replicas of each broker group
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=DEV_REPLICAS_MAX))]
    replicas: u64,
    /// Broker groups
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=DEV_BROKER_GROUPS_MAX))]
    broker_groups: u64,
    /// The first access point; the others follow on consecutive ports. 0 takes free ports
    #[arg(long, default_value_t = 8081)]
    port: u16,
    /// Where configurations and data are kept [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A child process for each replica instead of one process for all
    #[arg(long)]
    processes: bool,
}

/// Runs it.
pub async fn run(arguments: Arguments, log_format: LogFormat) -> Result<(), Failure> {
    let stop = stop_asked()?;
    let temporary = match arguments.data {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(|error| Failure::local("temporary folder", error))?),
    };
    let folder = match (&arguments.data, &temporary) {
        (Some(folder), _) => absolute(folder)?,
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Err(Failure::new(Kind::Internal, "no folder")),
    };
    let wanted = Wanted {
        replicas: arguments.replicas,
        broker_groups: arguments.broker_groups,
        port: arguments.port,
    };
    let layout = Layout::prepare(&folder, &wanted)?;

    let (stop_name_server, name_server_stops) = oneshot::channel::<()>();
    let shutdown = async move {
        let _dropped = name_server_stops.await;
    };
    let (_, name_server) = ledgermq_namesrv::serve(
        Arc::new(TcpNet),
        &layout.name_server,
        ledgermq_namesrv::Options::default(),
        shutdown,
    )
    .await
    .map_err(|error| Failure::local(format_args!("name server on {}", layout.name_server), error))?;
    let name_server = tokio::spawn(name_server);

    let mut replicas = replicas::start(&layout, arguments.processes, log_format).await?;
    let outcome = serve(&layout, &replicas, stop).await;
    replicas.stop().await;
    drop(stop_name_server);
    let _ended = name_server.await;
    outcome
}

/// From started replicas to the asked end.
async fn serve(layout: &Layout, replicas: &Replicas, stop: impl Future<Output = &'static str>) -> Result<(), Failure> {
    tokio::pin!(stop);
    tokio::select! {
        biased;
        signal = &mut stop => {
            tracing::info!(signal, "asked to stop before the cluster was ready");
            return Ok(());
        }
        ready = ready::until_ready(layout) => ready?,
    }
    for (replica, pid) in layout.replicas.iter().zip(replicas.pids()) {
        line_out(&format!(
            "replica {} pid {pid} access-point {} config {}",
            replica.name(),
            replica.listen,
            replica.config.display()
        ))?;
    }
    let access_points: Vec<&str> = layout.replicas.iter().map(|replica| replica.listen.as_str()).collect();
    line_out(&format!("ready {}", access_points.join(";")))?;
    let signal = stop.await;
    tracing::info!(signal, "dev stops");
    Ok(())
}

fn absolute(folder: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(folder)
        .and_then(|()| folder.canonicalize())
        .map_err(|error| Failure::local(folder.display(), error))
}
