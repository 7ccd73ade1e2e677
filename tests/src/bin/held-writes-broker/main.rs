//! The production broker on a [`HeldDisk`]: what its log did not sync dies with the process. RocksDB's files stay real; its
//! un-flushed memtables die anyway.
//!
//! `held-writes-broker --config FILE`, as `ledgermq broker --config FILE`.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use ledgermq_broker::{config::Config, process};
use ledgermq_raft_store::disk::RealDisk;
use ledgermq_tests::held_disk::HeldDisk;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, file] = arguments.as_slice() else {
        bail!("usage: held-writes-broker --config FILE")
    };
    if flag != "--config" {
        bail!("usage: held-writes-broker --config FILE");
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn,ledgermq=info"))
        .with_writer(std::io::stderr)
        .init();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let config = Config::from_toml(&text)?;
    let shutdown = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(error) => tracing::error!(%error, "no signals, so the broker stops"),
        }
    };
    process::run_on(config, Arc::new(HeldDisk::new(RealDisk)), shutdown)?;
    Ok(())
}
