//! What callers hold of an open replica.

mod membership;

pub use membership::MembershipHold;

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{Raft, ReadPolicy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::bootstrap::{Asked, Candidate};
use crate::errors::{BootstrapError, ProposeError, ReadError, TransferError};
use crate::limits;
use crate::log::Log;
use crate::machine::Machine;
use crate::marks::mark;
use crate::membership::{Changes, progress};
use crate::peer::client::Network;
use crate::peer::clock::ClusterClock;
use crate::peer::service::{PeerService, Service};
use crate::peer::transfer::Incoming;
use crate::planted::Bug;
use crate::raft::adapter::Adapter;
use crate::raft::config::{Config, entry_id};
use crate::raft::members;
use crate::raft::proposer::Proposer;
use crate::status::{LogSpan, Member, MemberStatus, MembershipStatus, Role, State, Status, Trouble};
use crate::types::{EntryId, LogIndex, ReplicaId, Term};

/// What became of a proposed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed<O> {
    /// The entry it went into.
    pub id: EntryId,
    /// What the machine answered.
    pub outcome: O,
}

/// The parts of an open replica, shared by all handles.
pub(crate) struct Parts {
    pub(crate) raft: Raft<Config, Adapter>,
    pub(crate) log: Log,
    pub(crate) network: Network,
    pub(crate) incoming: Arc<Incoming>,
    pub(crate) clock: Arc<ClusterClock>,
    pub(crate) proposer: Proposer,
    pub(crate) role: watch::Receiver<Role>,
    pub(crate) applied: watch::Receiver<Option<EntryId>>,
    pub(crate) elections: Arc<AtomicU64>,
    pub(crate) takeovers: Arc<AtomicU64>,
    pub(crate) births: mpsc::Sender<Asked>,
    pub(crate) changes: Changes,
    pub(crate) members: watch::Receiver<Vec<Member>>,
    pub(crate) silence: Duration,
    pub(crate) tasks: Vec<AbortHandle>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A replica, from outside. Cheap to clone; the replica stops when [`Handle::shutdown`] is called.
pub struct Handle<M> {
    pub(crate) parts: Arc<Parts>,
    machine: PhantomData<fn() -> M>,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Handle {
            parts: Arc::clone(&self.parts),
            machine: PhantomData,
        }
    }
}

impl<M> std::fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("id", &self.parts.network.passport.identity().id)
            .finish_non_exhaustive()
    }
}

impl<M: Machine> Handle<M> {
    pub(crate) fn new(parts: Parts) -> Handle<M> {
        Handle {
            parts: Arc::new(parts),
            machine: PhantomData,
        }
    }

    /// Proposes a command and waits until it is applied here. Commands of many callers are coalesced into one entry
    /// while earlier entries are in flight. A caller that goes away does not take its command back.
    pub async fn propose(&self, command: Bytes) -> Result<Proposed<M::Outcome>, ProposeError> {
        if let Some(reason) = self.stopped() {
            return Err(ProposeError::Stopped(reason));
        }
        let role = *self.parts.role.borrow();
        if role.state != State::Leader {
            return Err(ProposeError::NotLeader { leader: role.leader });
        }
        let (id, outcome) = self.parts.proposer.propose(command).await?;
        match outcome.downcast::<M::Outcome>() {
            Ok(outcome) => Ok(Proposed { id, outcome: *outcome }),
            Err(_) => Err(ProposeError::Unknown("the outcome is of another machine".to_owned())),
        }
    }

    /// The role of this replica, and its changes.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.parts.role.clone()
    }

    /// The last entry applied, and its changes.
    pub fn applied(&self) -> watch::Receiver<Option<EntryId>> {
        self.parts.applied.clone()
    }

    /// The body of an applied entry: a command's slot is an offset into it. Reads the cache, or blocks on the disk.
    pub fn read(&self, index: LogIndex) -> Result<Bytes, ReadError> {
        if self.parts.applied.borrow().is_none_or(|applied| applied.index < index) {
            return Err(ReadError::NotApplied(index));
        }
        let purged = || {
            self.parts
                .log
                .state()
                .purged
                .is_some_and(|purged| index <= purged.index)
        };
        if purged() {
            return Err(ReadError::Purged(index));
        }
        match self.parts.log.read(index, index.next(), usize::MAX) {
            Ok(frames) => match frames.into_iter().next() {
                Some(frame) => Ok(frame.body),
                None => Err(ReadError::Purged(index)),
            },
            Err(_) if purged() => Err(ReadError::Purged(index)),
            Err(source) => Err(ReadError::Io { index, source }),
        }
    }

    /// Why this replica stopped for good, if it did.
    fn stopped(&self) -> Option<String> {
        if let Some(reason) = self.parts.log.poison() {
            return Some(reason);
        }
        let metrics = self.parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.running_state.as_ref().err().map(ToString::to_string)
    }

    /// Whether this replica stopped for good: its log or its core has failed, or was shut down.
    pub fn has_stopped(&self) -> bool {
        self.stopped().is_some()
    }

    /// How this replica is, by what it knows itself.
    pub fn status(&self) -> Status {
        let identity = self.parts.network.passport.identity();
        let poisoned = self.stopped();
        let metrics = self.parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        let log = self.parts.log.state();
        let role = *self.parts.role.borrow();
        let matched = |id: u64| {
            let replication = metrics.replication.as_ref()?;
            replication.get(&id)?.as_ref().map(|id| LogIndex(id.index()))
        };
        let network = &self.parts.network;
        let members = self.members().into_iter().map(|member| {
            let own = member.id == identity.id;
            let id = member.id.get();
            let progress = progress(&metrics, &network.presence, self.parts.silence, id);
            MemberStatus {
                last_index: if own { log.last.map(|id| id.index) } else { matched(id) },
                heard_ms_ago: progress.heard_ms_ago,
                id: member.id,
                peer_address: member.peer_address,
                client_address: member.client_address,
                voter: member.voter,
                incarnation: member.incarnation,
                caught_up: progress.caught_up,
                trouble: network.presence.trouble(id).filter(|_| !own).map(|trouble| Trouble {
                    refuses: trouble.refuses,
                    reason: trouble.reason,
                    for_ms: u64::try_from(trouble.since.elapsed().as_millis()).unwrap_or(u64::MAX),
                }),
                release: match own {
                    true => Some(network.passport.release().clone()),
                    false => network.presence.release(id),
                },
            }
        });
        Status {
            id: identity.id,
            term: Term(metrics.current_term),
            leader: role.leader,
            state: role.state,
            last: log.last.or(log.purged),
            committed: metrics.local_committed.as_ref().map(entry_id),
            applied: *self.parts.applied.borrow(),
            durable: log.durable,
            members: members.collect(),
            membership: MembershipStatus {
                at: metrics.membership_config.log_id().as_ref().map(entry_id),
                joint: metrics.membership_config.get_joint_config().len() > 1,
                committed: metrics.membership_config.log_id() == metrics.committed_membership_config.log_id(),
            },
            refused: network.passport.refused(),
            clock_offset_ms: self.parts.clock.offset_ms(),
            removed: self.is_removed(),
            poisoned,
            elections: self.parts.elections.load(Ordering::Relaxed),
            takeovers: self.parts.takeovers.load(Ordering::Relaxed),
            cluster_id: identity.cluster_id,
            incarnation: identity.incarnation,
        }
    }

    /// The members of the broker group by number, this replica included; empty before the bootstrap.
    pub fn members(&self) -> Vec<Member> {
        members::members(&members::now(&self.parts.raft))
    }

    /// The same, and its changes.
    pub fn members_watch(&self) -> watch::Receiver<Vec<Member>> {
        self.parts.members.clone()
    }

    /// Whether this replica was a member and is none any more.
    pub fn is_removed(&self) -> bool {
        self.parts.network.passport.standing.is_removed()
    }

    /// Confirms with a majority that this replica still leads, waits until all that was committed before is applied,
    /// and answers how far: a read of the state after this sees every write acknowledged before the call.
    pub async fn read_barrier(&self) -> Result<LogIndex, ProposeError> {
        if let Some(reason) = self.stopped() {
            return Err(ProposeError::Stopped(reason));
        }
        let barrier = self.parts.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        let confirmed = match tokio::time::timeout(limits::BARRIER_WAIT, barrier).await {
            Err(_) => {
                return Err(ProposeError::Unknown(format!(
                    "no majority within {:?}",
                    limits::BARRIER_WAIT
                )));
            }
            Ok(confirmed) => confirmed,
        };
        match confirmed {
            Ok(id) => Ok(LogIndex(id.index())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => Err(ProposeError::NotLeader {
                leader: forward.leader_id.map(ReplicaId),
            }),
            Err(RaftError::APIError(error)) => Err(ProposeError::Unknown(error.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Stopped(fatal.to_string())),
        }
    }

    /// Makes these replicas a broker group, with this one among them, and answers the new cluster's id. All must be
    /// reachable and empty.
    pub async fn bootstrap(&self, members: Vec<Candidate>) -> Result<String, BootstrapError> {
        let stopped = || BootstrapError::Failed("the replica has stopped".to_owned());
        let (reply, outcome) = oneshot::channel();
        self.parts.births.send((members, reply)).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }

    /// Hands the leadership to another voter and waits until it leads.
    pub async fn transfer_leader(&self, to: ReplicaId) -> Result<(), TransferError> {
        let mut role = self.role();
        let now = *role.borrow_and_update();
        if now.state != State::Leader {
            return Err(TransferError::NotLeader { leader: now.leader });
        }
        if !self.members().iter().any(|member| member.id == to && member.voter) {
            return Err(TransferError::UnknownReplica(to));
        }
        if now.leader == Some(to) {
            return Ok(());
        }
        let presence = &self.parts.network.presence;
        if presence.is_away(to.get()) {
            return Err(TransferError::Away(to));
        }
        let stopped = |reason: String| TransferError::Stopped(reason);
        self.parts
            .raft
            .trigger()
            .transfer_leader(to.get())
            .await
            .map_err(|fatal| stopped(fatal.to_string()))?;
        let moved = role.wait_for(|role| {
            role.leader
                .is_some_and(|leader| leader != now.leader.unwrap_or_default())
        });
        let leader = tokio::select! {
            biased;
            moved = moved => match moved {
                Ok(role) => role.leader,
                Err(_) => return Err(stopped("the replica has stopped".to_owned())),
            },
            () = presence.goes_away(to.get()) => return Err(TransferError::Away(to)),
            () = tokio::time::sleep(limits::TRANSFER_WAIT) => return Err(TransferError::Timeout(to)),
        };
        if leader == Some(to) {
            mark("leadership_handed_over");
            Ok(())
        } else {
            Err(TransferError::Timeout(to))
        }
    }

    /// Unix milliseconds: the median of the replicas' wall clocks, advanced by monotonic time, from `floor` on at least: the
    /// newest time that any replica has told. Never goes back.
    pub fn cluster_clock(&self, floor: u64) -> u64 {
        if self.parts.log.planted().has(Bug::LeaseTimerOnLocalClock) {
            return self.parts.clock.wall();
        }
        self.parts.clock.now(floor)
    }

    /// What answers the other replicas; to be served on the peer listener, with HTTP/2 keepalive
    /// ([`limits::KEEPALIVE_INTERVAL`], [`limits::KEEPALIVE_TIMEOUT`]) and stream and connection windows of
    /// [`limits::HTTP2_WINDOW_BYTES`].
    pub fn peer_service(&self) -> PeerService {
        let network = &self.parts.network;
        let service = Service {
            raft: self.parts.raft.clone(),
            passport: Arc::clone(&network.passport),
            presence: Arc::clone(&network.presence),
            incoming: Arc::clone(&self.parts.incoming),
            clock: Arc::clone(&self.parts.clock),
        };
        service.mount()
    }

    /// The finished segments of the log, oldest first.
    pub fn log_spans(&self) -> Vec<LogSpan> {
        self.parts.log.finished_spans()
    }

    /// The log itself, for its metrics.
    pub fn log(&self) -> &Log {
        &self.parts.log
    }

    /// Stops the replica: its tasks first, then the core. Proposals under way end as unknown. The log's writer ends once all handles are gone.
    pub async fn shutdown(&self) {
        for task in &self.parts.tasks {
            task.abort();
        }
        if let Err(error) = self.parts.raft.shutdown().await {
            tracing::warn!(%error, "the consensus core did not end cleanly");
        }
    }
}
