//! What happens by the clock: renewing leases on the leader; on every replica, flushing the state, hashing it when a
//! command asked for that, and looking at the room on the disk. Each acts by commands, or off the apply path.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ledgermq_raft_store::disk::Disk;
use ledgermq_raft_store::{ReplicaId, Term};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::leader::Leader;
use crate::limits;
use crate::marks::mark;
use crate::room::Decision;
use crate::state::command::{Action, Renew, RenewSpan};
use crate::state::kv::KvError;
use crate::tuning::Tuning;

/// Renews self-renewing leases while their clients live. A new leader, which heard of nobody yet, takes all for alive for
/// a while.
pub async fn renew_leases(leader: Arc<Leader>) {
    let mut beat = interval(limits::RENEW_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leads_since: Option<(Term, Instant)> = None;
    loop {
        beat.tick().await;
        let role = leader.role();
        if !role.serving {
            leads_since = None;
            continue;
        }
        let now = Instant::now();
        let since = match leads_since {
            Some((term, since)) if term == role.term => since,
            _ => now,
        };
        leads_since = Some((role.term, since));
        let grace = now.saturating_duration_since(since) < limits::NEW_LEADER_GRACE;
        let mut due: BTreeMap<(String, String), Vec<RenewSpan>> = BTreeMap::new();
        for lease in leader.view.auto_renew_due(leader.now_ms()) {
            if grace || leader.clients.lives(lease.client) {
                due.entry((lease.consumer_group, lease.topic))
                    .or_default()
                    .push(lease.span);
            }
        }
        for ((consumer_group, topic), spans) in due {
            for spans in spans.chunks(limits::RENEW_BATCH_MAX) {
                let renew = Renew {
                    consumer_group: consumer_group.clone(),
                    topic: topic.clone(),
                    spans: spans.to_vec(),
                };
                if let Err(error) = leader.propose(leader.request_id(), Action::Renew(renew)).await {
                    tracing::debug!(%error, consumer_group, topic, "leases were not renewed");
                }
            }
        }
    }
}

/// Flushes the state about every 128 MiB of log or 30 s (as `tuning` says), and at the next look after a cut, so that the
/// log may forget. Ends with the error of the first flush that fails.
pub async fn flush_state(leader: Arc<Leader>, tuning: Tuning) -> KvError {
    let mut beat = interval(tuning.flush_check);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut flushed_bytes = 0;
    let mut flushed_at = Instant::now();
    loop {
        beat.tick().await;
        let bytes = leader.view.applied_bytes();
        let grown = bytes.saturating_sub(flushed_bytes);
        let is_due = grown >= tuning.flush_bytes || (grown > 0 && flushed_at.elapsed() >= tuning.flush_interval);
        if !is_due && leader.view.cut() <= leader.view.released() {
            continue;
        }
        let view = leader.view.clone();
        match leader.blocking.run(move || view.flush()).await {
            Some(Ok(_)) => {
                flushed_bytes = bytes;
                flushed_at = Instant::now();
            }
            Some(Err(error)) => return error,
            None => {}
        }
    }
}

/// Hashes the state as of each digest command.
pub async fn make_digests(leader: Arc<Leader>) {
    let mut due = leader.view.digest_due();
    while due.changed().await.is_ok() {
        due.borrow_and_update();
        mark("digest_made");
        let view = leader.view.clone();
        if let Some(Err(error)) = leader.blocking.run(move || view.make_digest()).await {
            tracing::warn!(%error, "the state was not hashed");
        }
    }
}

/// Looks at the room on the disk that holds the data folder, and does on the leader what follows from it.
pub async fn watch_disk(leader: Arc<Leader>, disk: Arc<dyn Disk>, data_dir: PathBuf) {
    let mut beat = interval(limits::DISK_CHECK);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tried: Option<Instant> = None;
    loop {
        beat.tick().await;
        let (disk, dir) = (Arc::clone(&disk), data_dir.clone());
        match leader.blocking.run(move || disk.space(&dir)).await {
            Some(Ok(space)) => leader.room.looked(Some(space)),
            Some(Err(error)) => {
                tracing::warn!(%error, "the room on the disk is not known");
                leader.room.looked(None);
            }
            None => {}
        }
        if !leader.role().serving {
            leader.room.leads_not();
            continue;
        }
        let decision = leader.room.settle(&leader.handle.status(), leader.away_after_ms);
        if let Decision::HandOver(to) = decision
            && tried.is_none_or(|at| at.elapsed() >= limits::DISK_HANDOVER_PAUSE)
        {
            tried = Some(Instant::now());
            hand_over(&leader, to).await;
        }
    }
}

async fn hand_over(leader: &Leader, to: ReplicaId) {
    let transfer = timeout(limits::HANDOVER_TIMEOUT, leader.handle.transfer_leader(to));
    match transfer.await {
        Ok(Ok(())) => tracing::warn!(to = to.get(), "the disk is full: leadership handed over"),
        Ok(Err(error)) => tracing::warn!(to = to.get(), %error, "the disk is full, but leadership was not handed over"),
        Err(_) => tracing::warn!(
            to = to.get(),
            "the disk is full, but leadership was not handed over in time"
        ),
    }
}
