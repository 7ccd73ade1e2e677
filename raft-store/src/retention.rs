//! Lets the log forget what the machine has let go of.
//!
//! ```text
//! machine: released ─▶ P = min(released, applied, what living replicas still lack) ─▶ snapshot labelled P ─▶ purge up to P
//! ```
//!
//! Each replica does this by itself; what is let go of was decided by a command. A leader waits for replicas that are
//! heard but have not got so far yet, for a while: cut off in the middle of catching up, one would begin anew with a snapshot.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits;
use crate::log::Log;
use crate::marks::mark;
use crate::peer::presence::Presence;
use crate::raft::adapter::Adapter;
use crate::raft::config::{Config, entry_id};
use crate::raft::labels::Labels;
use crate::types::LogIndex;

/// What it takes to forget.
pub struct Retention {
    /// The core.
    pub raft: Raft<Config, Adapter>,
    /// The log.
    pub log: Log,
    /// What snapshots are labelled with.
    pub labels: Arc<Labels>,
    /// Who is heard.
    pub presence: Arc<Presence>,
    /// What the machine has let go of.
    pub released: watch::Receiver<LogIndex>,
    /// Unheard for longer, a replica is not waited for.
    pub away_after: Duration,
}

impl Retention {
    /// Runs until the core has ended.
    pub async fn run(mut self) {
        let mut waiting_since: Option<Instant> = None;
        loop {
            // The tick bounds how long a laggard's progress goes unnoticed, and lets old copies of the state go.
            let _ticked = tokio::time::timeout(limits::RETENTION_CHECK, self.released.changed()).await;
            if self.raft.metrics().borrow_watched().running_state.is_err() {
                return;
            }
            self.labels.expire();
            let Some(wanted) = self.wanted() else {
                waiting_since = None;
                continue;
            };
            let lacked = self.lacked_below(wanted);
            let since = *waiting_since.get_or_insert_with(Instant::now);
            let upto = match lacked {
                Some(index) if since.elapsed() < limits::LAGGARD_WAIT => {
                    mark("purge_waits_for_laggard");
                    index
                }
                _ => wanted,
            };
            if lacked.is_none() {
                waiting_since = None;
            }
            if self.is_new(upto) && !self.forget(upto).await {
                // Whatever was in the way, it is not tried again in a loop without a pause.
                tokio::time::sleep(limits::RETENTION_CHECK).await;
            }
        }
    }

    fn is_new(&self, index: LogIndex) -> bool {
        index > LogIndex(0) && self.log.state().purged.is_none_or(|purged| purged.index < index)
    }

    /// How far the log may be forgotten as far as this replica alone is concerned.
    fn wanted(&self) -> Option<LogIndex> {
        let released = *self.released.borrow();
        let metrics = self.raft.metrics();
        let applied = metrics.borrow_watched().last_applied.as_ref().map(entry_id)?;
        let wanted = released.min(applied.index);
        self.is_new(wanted).then_some(wanted)
    }

    /// What the slowest living replica has, where that is less; only a leader knows.
    fn lacked_below(&self, wanted: LogIndex) -> Option<LogIndex> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let living = replication.iter().filter(|(id, _)| {
            **id != metrics.id && self.presence.heard_ago(**id).is_some_and(|ago| ago <= self.away_after)
        });
        let slowest = living.map(|(_, matched)| matched.as_ref().map_or(LogIndex(0), |id| entry_id(id).index));
        slowest.min().filter(|slowest| *slowest < wanted)
    }

    /// Labels a snapshot and purges up to it; whether that was done.
    async fn forget(&self, upto: LogIndex) -> bool {
        self.labels.want(upto);
        let trigger = self.raft.trigger();
        if trigger.snapshot().await.is_err() {
            return false;
        }
        let mut metrics = self.raft.metrics();
        let labelled = metrics.wait_until(|metrics| {
            let snapshot = metrics.snapshot.as_ref().map(entry_id);
            snapshot.is_some_and(|label| label.index >= upto) || metrics.running_state.is_err()
        });
        if !matches!(tokio::time::timeout(limits::CALL_DEADLINE, labelled).await, Ok(Ok(_))) {
            mark("purge_put_off");
            tracing::warn!(%upto, "no snapshot was labelled, the log is not cut");
            return false;
        }
        if trigger.purge_log(upto.get()).await.is_err() {
            return false;
        }
        tracing::info!(%upto, "the log is cut");
        true
    }
}
