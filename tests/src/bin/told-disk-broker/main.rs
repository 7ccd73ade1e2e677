//! The production broker on a [`ToldDisk`]: what goes wrong with the disk of its log is said on standard input, a word a
//! line; each is repeated on standard output once it holds. The state's disk, RocksDB's, stays well.
//!
//! `told-disk-broker --config FILE`, as `ledgermq broker --config FILE`. It stops when its standard input ends, too.

use std::{
    io::{BufRead as _, Write as _},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use ledgermq_broker::{config::Config, process};
use ledgermq_raft_store::disk::RealDisk;
use ledgermq_tests::told_disk::{ToldDisk, Tongue, Word};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, file] = arguments.as_slice() else {
        bail!("usage: told-disk-broker --config FILE")
    };
    if flag != "--config" {
        bail!("usage: told-disk-broker --config FILE");
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn,ledgermq=info"))
        .with_writer(std::io::stderr)
        .init();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let config = Config::from_toml(&text)?;
    let (disk, tongue) = ToldDisk::new(RealDisk);
    let (ended, end) = oneshot::channel();
    listen(tongue, ended);
    let shutdown = async {
        let terminated = async {
            match signal(SignalKind::terminate()) {
                Ok(mut terminate) => {
                    terminate.recv().await;
                }
                Err(error) => tracing::error!(%error, "no signals, so the broker stops"),
            }
        };
        tokio::select! {
            biased;
            () = terminated => {}
            _ended = end => tracing::info!("broker stops with its parent"),
        }
    };
    process::run_on(config, Arc::new(disk), shutdown)?;
    Ok(())
}

/// Passes on what is said, on a thread of its own, which ends with the process.
#[expect(clippy::disallowed_methods, reason = "standard input has no asynchronous reading")]
fn listen(tongue: Tongue, ended: oneshot::Sender<()>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let answer = match line.parse::<Word>() {
                Ok(word) => {
                    tongue.say(word);
                    line
                }
                Err(error) => format!("error: {error}"),
            };
            // Whoever speaks may not listen.
            let _unheard = writeln!(std::io::stdout(), "{answer}");
        }
        drop(ended);
    });
}
