//! The running replicas of a development cluster: all in this process, or a child process each.
//!
//! A child's stdin is a pipe of ours: closing it asks the child to stop, and the kernel closes it too when this process
//! dies in any way, so no child outlives its parent. Each replica has one task here that waits for its end (so a
//! killed child is no zombie); nobody starts it again.

use super::layout::{Layout, ReplicaLayout};
use crate::commands::read_config;
use crate::failure::{Failure, Kind};
use crate::limits::DEV_STOP_DEADLINE;
use crate::logging::LogFormat;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// Between two looks whether a replica has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// One running replica.
struct Running {
    pid: u32,
    /// Dropped to ask for the stop.
    stop: Option<oneshot::Sender<()>>,
    /// Ends when the replica has ended.
    watch: tokio::task::JoinHandle<()>,
}

/// All replicas of the cluster, in the layout's order.
pub struct Replicas {
    running: Vec<Running>,
}

/// Starts every replica.
pub async fn start(layout: &Layout, processes: bool, log_format: LogFormat) -> Result<Replicas, Failure> {
    let mut replicas = Replicas { running: Vec::new() };
    for replica in &layout.replicas {
        let started = if processes {
            start_process(replica, log_format)
        } else {
            start_thread(replica)
        };
        match started {
            Ok(running) => replicas.running.push(running),
            Err(failure) => {
                replicas.stop().await;
                return Err(failure);
            }
        }
    }
    Ok(replicas)
}

impl Replicas {
    /// The process of each replica, in the layout's order.
    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.running.iter().map(|running| running.pid)
    }

    /// Asks all to stop at once and waits for them; a child that does not stop in time is killed.
    pub async fn stop(&mut self) {
        for running in &mut self.running {
            drop(running.stop.take());
        }
        for running in &mut self.running {
            let _ended = (&mut running.watch).await;
        }
    }
}

fn start_process(replica: &ReplicaLayout, log_format: LogFormat) -> Result<Running, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::local("own program", error))?;
    let child = Command::new(program)
        .args([
            "broker",
            "--until-stdin-ends",
            "--log-format",
            log_format.word(),
            "--config",
        ])
        .arg(&replica.config)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| Failure::local(format_args!("start replica {}", replica.name()), error))?;
    let (stop, stopped) = oneshot::channel();
    let pid = child.id();
    Ok(Running {
        pid,
        stop: Some(stop),
        watch: tokio::spawn(watch_process(child, replica.name(), stopped)),
    })
}

async fn watch_process(mut child: Child, name: String, mut stopped: oneshot::Receiver<()>) {
    let mut deadline = None;
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) if deadline.is_some() => return tracing::info!(replica = name, %status, "replica stopped"),
            Ok(Some(status)) => return tracing::warn!(replica = name, %status, "replica died"),
            Err(error) => return tracing::error!(replica = name, %error, "replica is not watched any more"),
        }
        if deadline.is_none() && stopped.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
            drop(child.stdin.take());
            deadline = Some(Instant::now() + DEV_STOP_DEADLINE);
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            tracing::error!(replica = name, "replica did not stop in time and is killed");
            let _dead = child.kill();
        }
        sleep(PAUSE).await;
    }
}

fn start_thread(replica: &ReplicaLayout) -> Result<Running, Failure> {
    let config = read_config(&replica.config)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let name = replica.name();
    let shutdown = async move {
        let _dropped = stopped.await;
    };
    let thread = std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || match ledgermq_broker::process::run(config, shutdown) {
            Ok(()) => tracing::info!(replica = name, "replica stopped"),
            Err(error) => tracing::error!(replica = name, %error, "replica died"),
        })
        .map_err(|error| Failure::new(Kind::Local, format!("thread of {}: {error}", replica.name())))?;
    Ok(Running {
        pid: std::process::id(),
        stop: Some(stop),
        watch: tokio::spawn(watch_thread(thread)),
    })
}

/// A thread cannot be killed: past the deadline of a stop the process ends around it.
async fn watch_thread(thread: JoinHandle<()>) {
    while !thread.is_finished() {
        sleep(PAUSE).await;
    }
}
