//! A snapshot between two replicas: parts of a consistent copy of the state, kept by the receiver as they arrive.
//!
//! ```text
//! sender                                    receiver
//! SnapshotPlace(export) ──────────────────▶ where the spool has come with this export
//!                       ◀────────────────── from
//! Snapshot: head, part, part, … ──────────▶ checked, spooled; the last one: labelled, synced, installed
//!                       ◀────────────────── the receiver's vote
//! ```
//!
//! An interruption costs no part that arrived: the sender's copy and the receiver's file outlive it. Memory is bounded by
//! a few parts and the HTTP/2 windows, and the parts have a connection of their own, so the log does not wait for them.

use std::sync::Arc;
use std::sync::Mutex as StdMutex;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::{self, Stream};
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::Snapshot;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tonic::Status;

use crate::limits;
use crate::log::Log;
use crate::machine::{Export, ExportPart};
use crate::marks::mark;
use crate::peer::client::call;
use crate::peer::link::Client;
use crate::peer::presence::Presence;
use crate::peer::wire;
use crate::planted::Bug;
use crate::raft::adapter::{Adapter, Content, Labelled, Meta};
use crate::raft::config::{Config, KeptMembership, Vote, log_id};
use crate::raft::format;
use crate::raft::labels::Labels;
use crate::raft::memberships::Memberships;
use crate::spool::{Label, Spool};
use crate::types::EntryId;

/// What a part's receiver checks.
fn checksum(part: &ExportPart) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&part.bytes), part.next.as_deref().unwrap_or_default())
}

/// Sends a snapshot, or the rest of it, and answers what the receiver said once it had installed it.
pub async fn send(
    mut client: Client,
    header: wire::Header,
    vote: Vote,
    snapshot: Labelled,
    labels: Arc<Labels>,
) -> Result<wire::SnapshotReply, Status> {
    let Content::View(view) = snapshot.snapshot else {
        return Err(Status::internal("a snapshot that is being received cannot be sent on"));
    };
    let export = Some(view.id().into());
    let question = wire::SnapshotPlaceRequest {
        header: Some(header.clone()),
        export,
    };
    let place = call(limits::CALL_DEADLINE, client.snapshot_place(question)).await?;
    let head = wire::SnapshotHead {
        header: Some(header),
        vote: Some(wire::vote_out(&vote)),
        last: snapshot.meta.last_log_id.as_ref().map(wire::id_out),
        membership: format::encode_kept(&snapshot.meta.last_membership),
        export,
        from: place.from.clone(),
    };
    mark("snapshot_sent");
    if !place.from.is_empty() {
        mark("snapshot_resumed");
    }
    tracing::info!(
        export = %view.id(),
        to = head.header.as_ref().map(|header| header.to),
        resumed = !place.from.is_empty(),
        "sending a snapshot"
    );
    let chunks = chunks(head, view, place.from, labels);
    call(limits::SNAPSHOT_DEADLINE, client.snapshot(chunks)).await
}

/// The head, then part by part, each read when there is room for it. A part that can't be read ends the stream early.
fn chunks(
    head: wire::SnapshotHead,
    view: Arc<dyn Export>,
    from: Bytes,
    labels: Arc<Labels>,
) -> impl Stream<Item = wire::SnapshotChunk> + Send {
    let first = wire::SnapshotChunk {
        head: Some(head),
        part: None,
    };
    let parts = stream::unfold(Some(from), move |from| {
        let (view, labels) = (Arc::clone(&view), Arc::clone(&labels));
        async move {
            labels.touch();
            let part = match view.read(&from?, limits::SNAPSHOT_PART_BYTES) {
                Ok(part) => part,
                Err(error) => {
                    tracing::error!(%error, "the state cannot be read for a snapshot");
                    return None;
                }
            };
            // Other work of the runtime goes on between two parts.
            tokio::task::yield_now().await;
            let chunk = wire::SnapshotChunk {
                head: None,
                part: Some(wire::SnapshotPart {
                    checksum: checksum(&part),
                    data: part.bytes,
                    next: part.next.clone(),
                }),
            };
            Some((chunk, part.next))
        }
    });
    futures::StreamExt::chain(stream::iter([first]), parts)
}

/// The receiving side of a replica.
pub struct Incoming {
    spool: Arc<Mutex<Spool>>,
    log: Log,
}

impl Incoming {
    /// Keeps what arrives in this spool; one transfer at a time.
    pub fn new(spool: Spool, log: Log) -> Incoming {
        Incoming {
            spool: Arc::new(Mutex::new(spool)),
            log,
        }
    }

    /// Whether the log has durably caught up with a snapshot that was installed: only then its file may go, since it
    /// explains to a restart why the state is ahead of the log.
    fn is_settled(&self, label: EntryId) -> bool {
        if self.log.planted().has(Bug::SnapshotForgottenEarly) {
            return true;
        }
        let state = self.log.state();
        let reaches = |end: Option<EntryId>| end.is_some_and(|end| end.index >= label.index);
        reaches(state.purged) || reaches(state.durable) && self.log.id(label.index) == Some(label)
    }

    /// The spool, for one transfer at a time.
    pub fn admit(&self) -> Result<OwnedMutexGuard<Spool>, Status> {
        let spool = Arc::clone(&self.spool).try_lock_owned().map_err(|_| busy())?;
        if spool.label().is_some_and(|label| !self.is_settled(label.id)) {
            return Err(busy());
        }
        Ok(spool)
    }

    /// Forgets an installed snapshot once the log begins behind its label.
    pub async fn settle(&self, spool: &mut Spool, label: EntryId) {
        let waiting = async {
            while !self.is_settled(label) {
                tokio::time::sleep(limits::SNAPSHOT_SETTLE_CHECK).await;
            }
        };
        if tokio::time::timeout(limits::CALL_DEADLINE, waiting).await.is_ok() {
            forget(spool).await;
        }
    }

    /// Where the transfer of an export goes on.
    pub fn place(&self, export: EntryId) -> Result<Bytes, Status> {
        Ok(self.spool.try_lock().map_err(|_| busy())?.place(export))
    }

    /// Takes a snapshot's stream to its end and installs it.
    pub async fn receive(
        self: &Arc<Self>,
        raft: &Raft<Config, Adapter>,
        presence: &Presence,
        (from, head): (u64, wire::SnapshotHead),
        mut inbound: impl Stream<Item = Result<wire::SnapshotChunk, Status>> + Unpin,
    ) -> Result<wire::SnapshotReply, Status> {
        let vote = wire::vote_in(head.vote).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (Some(label), Some(export)) = (head.last, head.export) else {
            return Err(Status::invalid_argument("the snapshot's head names no entries"));
        };
        let last_membership =
            format::decode_kept(&head.membership).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut spool = self.admit()?;
        // The answer to this very snapshot did not arrive: the leader sends nothing else before it has one.
        let known = raft.metrics().borrow_watched().vote;
        if self.is_settled(label.into()) && known >= vote {
            mark("snapshot_here_already");
            return Ok(wire::SnapshotReply {
                vote: Some(wire::vote_out(&known)),
            });
        }
        if !spool.resume(export.into(), &head.from).map_err(disk)? {
            return Err(Status::aborted("the transfer cannot go on at this place"));
        }
        loop {
            let next = tokio::time::timeout(limits::SNAPSHOT_IDLE, inbound.try_next()).await;
            let chunk = next.map_err(|_| Status::deadline_exceeded("the snapshot's stream stalled"))??;
            let Some(wire::SnapshotPart {
                data,
                checksum: sent,
                next,
            }) = chunk.and_then(|chunk| chunk.part)
            else {
                return Err(Status::data_loss("the snapshot ends early"));
            };
            presence.heard(from);
            let part = ExportPart { bytes: data, next };
            if checksum(&part) != sent {
                return Err(Status::data_loss("a part of the snapshot does not match its checksum"));
            }
            spool.put_and_sync(&part).await.map_err(disk)?;
            if part.next.is_none() {
                break;
            }
        }
        if presence.is_gone(&vote) {
            return Err(Status::aborted(
                "this replica believes the leader gone and is electing another",
            ));
        }
        let label = Label {
            id: label.into(),
            memberships: Memberships::one(last_membership.clone()).encode(),
        };
        // Goes on when the sender hangs up: a snapshot that is labelled and not installed would be in the way of every later
        // one.
        let installing = tokio::spawn(Arc::clone(self).install(raft.clone(), (vote, last_membership), label, spool));
        let answer = installing.await;
        answer.unwrap_or_else(|_| Err(Status::unavailable("the installation broke off")))
    }

    /// Labels a snapshot that arrived whole, and has the core install it. The spool is held until then: the parts are read
    /// from its file.
    async fn install(
        self: Arc<Self>,
        raft: Raft<Config, Adapter>,
        (vote, last_membership): (Vote, KeptMembership),
        label: Label,
        mut spool: OwnedMutexGuard<Spool>,
    ) -> Result<wire::SnapshotReply, Status> {
        spool.complete(&label).await.map_err(disk)?;
        let snapshot = Snapshot {
            meta: Meta {
                last_log_id: Some(log_id(label.id)),
                last_membership,
            },
            snapshot: Content::Received(Arc::new(StdMutex::new(spool.parts().map_err(disk)?))),
        };
        let response = raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(|fatal| Status::unavailable(format!("the replica has stopped: {fatal}")))?;
        if response.vote == vote {
            self.settle(&mut spool, label.id).await;
        } else {
            // Its sender was deposed while it was on its way.
            mark("snapshot_of_deposed_leader");
            forget(&mut spool).await;
        }
        Ok(wire::SnapshotReply {
            vote: Some(wire::vote_out(&response.vote)),
        })
    }
}

async fn forget(spool: &mut Spool) {
    if let Err(error) = spool.clear().await {
        tracing::warn!(%error, "the file of a snapshot that is of no use any more was not removed");
    }
}

fn busy() -> Status {
    Status::aborted("another snapshot is being received")
}

fn disk(error: std::io::Error) -> Status {
    Status::unavailable(format!("the snapshot cannot be kept: {error}"))
}
