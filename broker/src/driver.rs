//! What keeps an open broker going, and how it stops: leadership handed over, not ready, polls ended, GOAWAY, state
//! flushed.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::leader::Leader;
use crate::limits;
use crate::state::kv::KvError;
use crate::timers;
use crate::tuning::Tuning;

/// Why a broker stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The log or the consensus core failed for good.
    #[error("the replica stopped: {0}")]
    Replica(String),
    /// The state could not be made durable.
    #[error("the state cannot be flushed: {0}")]
    Flush(#[from] KvError),
}

/// What keeps a broker going.
pub struct Driver {
    pub(crate) leader: Arc<Leader>,
    pub(crate) tuning: Tuning,
    pub(crate) reporter: HealthReporter,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) peers_stopping: watch::Sender<bool>,
    /// Ends when the clients' connections have ended.
    pub(crate) clients: JoinHandle<()>,
    /// Everything else of this runtime.
    pub(crate) tasks: JoinSet<()>,
}

/// Keeps gRPC health as `ready` says.
pub(crate) async fn tell_health(reporter: HealthReporter, mut ready: watch::Receiver<bool>) {
    loop {
        let serving = *ready.borrow_and_update();
        set_health(&reporter, serving).await;
        if ready.changed().await.is_err() {
            return;
        }
    }
}

async fn set_health(reporter: &HealthReporter, serving: bool) {
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for service in ["", "apache.rocketmq.v2.MessagingService"] {
        reporter.set_service_status(service, status).await;
    }
}

impl Driver {
    /// Keeps the broker going until `shutdown`, then stops it within 30 s: hands leadership over, ends polls and
    /// Telemetry, says goodbye to connections, flushes the state.
    pub fn run<'a>(self, shutdown: impl Future<Output = ()> + Send + 'a) -> BoxFuture<'a, Result<(), BrokerError>> {
        self.run_until(Box::pin(shutdown))
    }

    fn run_until(self, shutdown: BoxFuture<'_, ()>) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(self.running(shutdown))
    }

    async fn running(mut self, shutdown: BoxFuture<'_, ()>) -> Result<(), BrokerError> {
        let leader = Arc::clone(&self.leader);
        let asked = tokio::select! {
            biased;
            () = shutdown => Ok(()),
            error = timers::flush_state(Arc::clone(&leader), self.tuning) => Err(BrokerError::Flush(error)),
            reason = stopped(&leader) => Err(BrokerError::Replica(reason)),
        };
        match &asked {
            Ok(()) => tracing::info!("broker stops"),
            Err(error) => tracing::error!(%error, "broker stops by itself"),
        }
        if timeout(limits::STOP_TIMEOUT, self.stop()).await.is_err() {
            tracing::warn!("the stop took too long and is cut short");
        }
        asked
    }

    async fn stop(&mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        set_health(&self.reporter, false).await;
        // Also where the state cannot be flushed: the log is well. One that failed leads nobody any more.
        self.hand_over().await;
        self.stopping.send_replace(true);
        if timeout(limits::DRAIN_TIMEOUT * 2, &mut self.clients).await.is_err() {
            self.clients.abort();
        }
        self.leader.handle.shutdown().await;
        self.peers_stopping.send_replace(true);
        let view = self.leader.view.clone();
        if let Some(Err(error)) = self.leader.blocking.run(move || view.flush()).await {
            tracing::error!(%error, "the state was not flushed; the log is replayed at the next start");
        }
        tracing::info!("broker stopped");
    }

    /// Gives leadership to the voter with the longest log, so that no election is needed.
    async fn hand_over(&self) {
        let status = self.leader.handle.status();
        if !self.leader.role().serving {
            return;
        }
        let others = status
            .members
            .iter()
            .filter(|member| member.voter && member.id != status.id);
        let mut candidates: Vec<_> = others
            .filter(|member| member.heard_ms_ago.is_some_and(|ago| ago <= self.leader.away_after_ms))
            .collect();
        candidates.sort_by_key(|member| std::cmp::Reverse((member.last_index, std::cmp::Reverse(member.id))));
        for candidate in candidates.into_iter().take(2) {
            match timeout(
                limits::HANDOVER_TIMEOUT,
                self.leader.handle.transfer_leader(candidate.id),
            )
            .await
            {
                Ok(Ok(())) => return tracing::info!(to = candidate.id.get(), "leadership handed over"),
                Ok(Err(error)) => tracing::warn!(to = candidate.id.get(), %error, "leadership was not handed over"),
                Err(_) => tracing::warn!(to = candidate.id.get(), "leadership was not handed over in time"),
            }
        }
    }
}

/// Resolves with the reason when the replica has stopped for good.
async fn stopped(leader: &Leader) -> String {
    loop {
        sleep(limits::POISON_CHECK).await;
        if let Some(reason) = leader.handle.status().poisoned {
            return reason;
        }
    }
}
