//! A broker as a process: runtimes, threads, real network, disk and clock. The only file that names them; nothing of it
//! runs in the simulation.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use ledgermq_proto::net::TcpNet;
use ledgermq_raft_store::Driver;
use ledgermq_raft_store::disk::{Disk, RealDisk};
use rand::TryRng as _;
use tokio::runtime::{Builder, Runtime};

use crate::broker::{KvSource, OpenBrokerError, Seams, Spawn, open};
use crate::config::Config;
use crate::driver::BrokerError;
use crate::limits;
use crate::planted::Planted;
use crate::tuning::Tuning;

/// Why a broker process ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A runtime or a thread could not be started.
    #[error("cannot start threads: {0}")]
    Threads(#[from] io::Error),
    /// Another process runs on the same data folder.
    #[error("data_dir {path} is in use by another process")]
    InUse {
        /// As configured.
        path: String,
    },
    /// The data folder could not be claimed.
    #[error("cannot claim data_dir {path}: {source}")]
    Claim {
        /// As configured.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The broker did not start.
    #[error(transparent)]
    Open(#[from] OpenBrokerError),
    /// The broker stopped by itself.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Runs a broker on the real disk until `shutdown`.
pub fn run(config: Config, shutdown: impl Future<Output = ()> + Send) -> Result<(), ProcessError> {
    run_on(config, Arc::new(RealDisk), shutdown)
}

/// Runs a broker whose log lies on `disk` until `shutdown`.
pub fn run_on(
    config: Config,
    disk: Arc<dyn Disk>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ProcessError> {
    run_until(config, disk, Box::pin(shutdown))
}

fn run_until(config: Config, disk: Arc<dyn Disk>, shutdown: BoxFuture<'_, ()>) -> Result<(), ProcessError> {
    let name = format!("{}/{}", config.broker_group, config.replica_id);
    let _claim = claim(&config.data_dir)?;
    let raft = runtime(&format!("raft {name}"), 1)?;
    let threads = match config.rpc_threads {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        threads => threads,
    };
    let rpc = runtime(&format!("rpc {name}"), threads)?;
    let raft_handle = raft.handle().clone();
    let seams = Seams {
        tuning: Tuning::default(),
        net: Arc::new(TcpNet),
        disk,
        kv: KvSource::Rocks,
        wall_clock: Arc::new(unix_ms),
        seed: seed()?,
        planted: Planted::default(),
        spawn: Spawn::Apart {
            raft: Arc::new(move |work| drop(raft_handle.spawn(work))),
            drivers: Box::new(move |log| run_drivers(&name, log)),
        },
    };
    let ended = rpc.block_on(async {
        let (_broker, driver) = open(config, seams).await?;
        driver.run(shutdown).await?;
        Ok(())
    });
    rpc.shutdown_timeout(Duration::from_millis(500));
    raft.shutdown_timeout(Duration::from_millis(500));
    ended
}

/// Makes this the one process that uses the folder: two writers would ruin its log. The claim ends with the process, however
/// it ends.
fn claim(data_dir: &Path) -> Result<File, ProcessError> {
    let path = data_dir.display().to_string();
    let claimed = std::fs::create_dir_all(data_dir).and_then(|()| File::create(data_dir.join("lock")));
    let file = match claimed {
        Ok(file) => file,
        Err(source) => return Err(ProcessError::Claim { path, source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ProcessError::InUse { path }),
        Err(TryLockError::Error(source)) => Err(ProcessError::Claim { path, source }),
    }
}

fn runtime(name: &str, threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(limits::BLOCKING_JOBS_MAX * 2)
        .thread_name(name)
        .enable_all()
        .build()
}

/// The log's writer blocks on the disk, and so does what sweeps behind it: each has a thread to itself.
fn run_drivers(name: &str, log: Driver) -> io::Result<()> {
    run_apart(format!("log {name}"), log.writer.run())?;
    run_apart(format!("sweep {name}"), log.sweeper.run())
}

fn run_apart(name: String, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(name);
    thread.spawn(move || runtime.block_on(work))?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "production's wall clock")]
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn seed() -> io::Result<u64> {
    let mut rng = rand::rngs::SysRng;
    rng.try_next_u64().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user() {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = folder.path().join("data");
        let first = claim(&data_dir).expect("free");
        assert!(matches!(claim(&data_dir), Err(ProcessError::InUse { .. })));
        drop(first);
        claim(&data_dir).expect("free again");
    }
}
