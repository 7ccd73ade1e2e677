//! `ledgermq broker`: runs one broker process until SIGTERM or Ctrl-C.
//!
//! A stop hands leadership over, ends polls, tells clients to go elsewhere and exits 0 within 30 s.

use crate::commands::config::read;
use crate::failure::{Failure, Kind};
use crate::logging::{self, LogFormat};
use crate::signals::stop_asked;
use clap::Args;
use std::path::PathBuf;

/// The flags.
#[derive(Args)]
pub struct Arguments {
    /// Its configuration; every key is described in docs/operations.md
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Stop as on SIGTERM when stdin ends, so that a child never outlives its parent
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// Runs it.
pub fn run(arguments: Arguments, log_format: LogFormat) -> Result<(), Failure> {
    let config = read(&arguments.config)?;
    logging::start(log_format, &config.log_level);
    let until_stdin_ends = arguments.until_stdin_ends;
    let shutdown = async move {
        let signal = match stop_asked() {
            Ok(signal) => signal,
            Err(failure) => {
                tracing::error!(%failure, "no signals, so the broker stops");
                return;
            }
        };
        tokio::select! {
            biased;
            signal = signal => tracing::info!(signal, "broker stops"),
            () = stdin_ends(), if until_stdin_ends => tracing::info!("broker stops with its parent"),
        }
    };
    ledgermq_broker::process::run(config, shutdown)
        .map_err(|error| Failure::new(Kind::Internal, format!("broker: {error}")))
}

/// Resolves when stdin is closed. Reading happens on a thread of its own, which ends with the process.
#[expect(
    clippy::disallowed_methods,
    reason = "stdin has no asynchronous reading; nothing of it is simulated"
)]
async fn stdin_ends() {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _all = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(ended);
    });
    let _closed = end.await;
}
