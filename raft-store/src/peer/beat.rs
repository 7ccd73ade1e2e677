//! The presence streams this replica keeps open to each other member: they show that it lives and what it runs, and
//! sample clocks; and a replica that was removed learns it here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream;
use futures::stream;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::Status;

use crate::limits;
use crate::peer::client::{Network, call};
use crate::peer::clock::ClusterClock;
use crate::peer::wire;
use crate::raft::adapter::Adapter;
use crate::raft::config::{Config, Node};
use crate::release::Release;

/// Keeps one presence stream to every other member, through changes of the membership, until the core ends.
pub async fn run(raft: Raft<Config, Adapter>, network: Network, clock: Arc<ClusterClock>, interval: Duration) {
    let own = network.passport.identity().id.get();
    let mut metrics = raft.server_metrics();
    let mut removed = network.passport.standing.removed();
    let mut tasks: BTreeMap<u64, (Node, Task)> = BTreeMap::new();
    loop {
        let (membership, committed) = {
            let metrics = metrics.borrow_and_update();
            (
                Arc::clone(&metrics.membership_config),
                Arc::clone(&metrics.committed_membership_config),
            )
        };
        network.passport.learn(&membership, &committed);
        // A removed replica would ask for votes for ever: it may never have seen its removal.
        raft.runtime_config().elect(!*removed.borrow_and_update());
        tasks.retain(|id, (node, _)| membership.get_node(id) == Some(node));
        clock.set_members(&membership.nodes().map(|(id, _)| *id).collect());
        for (id, node) in membership.nodes().filter(|(id, _)| **id != own) {
            tasks.entry(*id).or_insert_with(|| {
                let task = tokio::spawn(keep(network.clone(), Arc::clone(&clock), *id, node.clone(), interval));
                (node.clone(), Task(task.abort_handle()))
            });
        }
        tokio::select! {
            biased;
            changed = metrics.changed() => if changed.is_err() { return },
            // The sender lives in the passport, as long as this task.
            _ = removed.changed() => {}
        }
    }
}

/// Ends its task when dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep(network: Network, clock: Arc<ClusterClock>, id: u64, node: Node, interval: Duration) {
    let mut refused = false;
    loop {
        let Err(status) = once(&network, &clock, id, &node, interval).await else {
            continue;
        };
        let refuses = status.code() == tonic::Code::FailedPrecondition;
        network.presence.tried(id, Some((refuses, &words(&status))));
        if refuses && !refused {
            tracing::warn!(peer = id, reason = status.message(), "a replica refuses this one");
        }
        refused = refuses;
        tokio::time::sleep(match network.passport.standing.is_removed() {
            true => limits::REMOVED_RETRY,
            false => limits::PRESENCE_RETRY,
        })
        .await;
    }
}

/// What a failed call says, with the cause below it: "transport error" alone tells nobody what to do.
fn words(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    while let Some(below) = cause.and_then(std::error::Error::source) {
        cause = Some(below);
    }
    match cause.map(ToString::to_string) {
        Some(cause) if cause != status.message() => format!("{}: {cause}", status.message()),
        _ => status.message().to_owned(),
    }
}

/// When the beats that have no reply yet were sent, oldest first.
type Sent = Arc<Mutex<VecDeque<Instant>>>;

/// One stream, until it breaks.
async fn once(network: &Network, clock: &ClusterClock, id: u64, node: &Node, interval: Duration) -> Result<(), Status> {
    let link = network.links.to(&node.peer_address);
    let sent = Sent::default();
    // Dropped with the replies, which ends the beats.
    let (_open, closed) = oneshot::channel();
    let beats = beats(
        (network.passport.header(id, node), network.passport.release().clone()),
        clock.wall_clock(),
        Arc::clone(&sent),
        interval,
        closed,
    );
    let mut replies = call(limits::CALL_DEADLINE, link.heartbeat.clone().presence(beats)).await?;
    loop {
        let next = tokio::time::timeout(limits::PRESENCE_IDLE, replies.message()).await;
        let reply = next.map_err(|_| Status::deadline_exceeded("no reply to a beat for too long"))??;
        let Some(reply) = reply else {
            return Err(Status::unavailable("the stream ended"));
        };
        if let Some(theirs) = reply.not_a_member {
            let (theirs, own) = (theirs.into(), network.passport.membership_at());
            network.passport.standing.told(theirs, own);
            return Err(match own.is_some_and(|own| own > theirs) {
                true => Status::unavailable("it does not know this replica yet"),
                false => Status::failed_precondition("this replica is no member to it"),
            });
        }
        network.presence.heard(id);
        network.presence.tried(id, None);
        let at = sent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(at) = at {
            clock.sample(id, reply.wall_ms, at);
        }
    }
}

/// Ends as soon as nobody waits for replies any more: HTTP/2 keeps polling a request's body after its response was dropped,
/// and a replica whose core has ended must not seem alive.
fn beats(
    introduction: (wire::Header, Release),
    wall: Arc<dyn Fn() -> u64 + Send + Sync>,
    sent: Sent,
    interval: Duration,
    closed: oneshot::Receiver<()>,
) -> impl Stream<Item = wire::Beat> + Send {
    stream::unfold(
        (Some(introduction), 0u64, wall, sent, closed),
        move |(introduction, sequence, wall, sent, mut closed)| async move {
            if sequence > 0 {
                tokio::select! {
                    biased;
                    _ended = &mut closed => return None,
                    () = tokio::time::sleep(interval) => {}
                }
            }
            {
                let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
                // The reader gives up long before so many replies are missing.
                if sent.len() >= limits::BEATS_UNANSWERED {
                    return None;
                }
                sent.push_back(Instant::now());
            }
            let (header, release) = introduction.unzip();
            let beat = wire::Beat {
                header,
                sequence,
                wall_ms: wall(),
                level: release.as_ref().map_or(0, |release: &Release| release.level),
                version: release.map(|release| release.version).unwrap_or_default(),
            };
            Some((beat, (None, sequence + 1, wall, sent, closed)))
        },
    )
}
