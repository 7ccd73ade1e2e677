//! What happens by the clock: renewing leases and giving back those of the dead on the leader; on every replica, flushing the state, hashing it when a
//! command asked for that, and looking at the room on the disk. Each acts by commands, or off the apply path.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use ledgermq_raft_store::disk::Disk;
use ledgermq_raft_store::{ReplicaId, Term};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::leader::Leader;
use crate::limits;
use crate::marks::mark;
use crate::room::Decision;
use crate::state::command::{Action, ChangeVisibility, Renew, RenewSpan};
use crate::state::handle::ReceiptHandle;
use crate::state::kv::KvError;
use crate::state::limits::RELEASE_MS;
use crate::state::plan::{Abandoned, RenewDue};
use crate::tuning::Tuning;

/// For how long this replica has led its present term without a break, as far as it was asked.
#[derive(Default)]
struct Reign(Option<(Term, Instant)>);

impl Reign {
    /// `None` where it does not lead.
    fn lasts(&mut self, leader: &Leader) -> Option<Duration> {
        let role = leader.role();
        let now = Instant::now();
        let since = match self.0 {
            Some((term, since)) if term == role.term => since,
            _ => now,
        };
        self.0 = role.serving.then_some((role.term, since));
        role.serving.then(|| now.saturating_duration_since(since))
    }
}

/// Renews self-renewing leases while their clients live. A new leader, which heard of nobody yet, takes all for alive for
/// a while.
pub async fn renew_leases(leader: Arc<Leader>) {
    let mut beat = interval(limits::RENEW_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reign = Reign::default();
    loop {
        beat.tick().await;
        let Some(lasts) = reign.lasts(&leader) else { continue };
        let grace = lasts < limits::NEW_LEADER_GRACE;
        // Another round for what one question had no room for, and for what was acknowledged in the middle meanwhile.
        for _ in 0..limits::RENEW_ROUNDS {
            let lives = |client| grace || leader.clients.lives(client);
            let due = leader.view.auto_renew_due(leader.now_ms(), lives);
            if due.is_empty() || !renew(&leader, due).await {
                break;
            }
        }
    }
}

/// True when all are renewed.
async fn renew(leader: &Leader, due: Vec<RenewDue>) -> bool {
    let mut spans_of: BTreeMap<(String, String), Vec<RenewSpan>> = BTreeMap::new();
    for lease in due {
        let of = (lease.consumer_group, lease.topic);
        spans_of.entry(of).or_default().push(lease.span);
    }
    for ((consumer_group, topic), spans) in spans_of {
        for spans in spans.chunks(limits::RENEW_BATCH_MAX) {
            let renew = Renew {
                consumer_group: consumer_group.clone(),
                topic: topic.clone(),
                spans: spans.to_vec(),
            };
            if let Err(error) = leader.propose(leader.request_id(), Action::Renew(renew)).await {
                tracing::debug!(%error, consumer_group, topic, "leases were not renewed");
                return false;
            }
        }
    }
    true
}

/// Gives back what clients hold in self-renewing leases that nobody heard of for [`limits::CLIENT_EXPIRY`]: a lease may have
/// been renewed for an hour just before its client died (grpc.md D.2). A new leader waits until it would have heard of all.
pub async fn release_abandoned(leader: Arc<Leader>) {
    let mut beat = interval(limits::RELEASE_CHECK);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reign = Reign::default();
    loop {
        beat.tick().await;
        if reign.lasts(&leader).is_none_or(|lasts| lasts < limits::CLIENT_EXPIRY) {
            continue;
        }
        let lives = |client| leader.clients.lives(client);
        let abandoned = leader.view.abandoned(leader.now_ms(), lives);
        let releases = abandoned.into_iter().map(|message| release(&leader, message));
        let mut releases = stream::iter(releases).buffer_unordered(limits::RELEASES_AT_ONCE);
        while releases.next().await.is_some() {}
    }
}

/// Makes a message visible in a second. Its delivery counts: its consumer may have died of it.
async fn release(leader: &Leader, message: Abandoned) {
    mark("abandoned_given_back");
    let change = ChangeVisibility {
        consumer_group: message.consumer_group,
        topic: message.topic,
        handle: ReceiptHandle {
            broker_group: leader.broker_group.clone(),
            topic: message.topic_id,
            queue_id: message.queue_id,
            offset: message.offset,
            lease: message.lease,
        },
        invisible_ms: RELEASE_MS,
        suspend: false,
    };
    let request_id = leader.request_id();
    if let Err(error) = leader.propose(request_id, Action::ChangeVisibility(change)).await {
        tracing::debug!(%error, "a message whose consumer is gone was not given back");
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
