//! Waiting for the end: SIGTERM and Ctrl-C both ask for an orderly stop.

use crate::failure::Failure;
use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGTERM or SIGINT. Both are caught from the moment this returns, not from the first poll.
pub fn stop_asked() -> Result<impl Future<Output = &'static str> + Send + 'static, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::local("SIGTERM", error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Failure::local("SIGINT", error))?;
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
