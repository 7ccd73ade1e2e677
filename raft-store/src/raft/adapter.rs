//! openraft's state machine: hands committed entries to the [`Machine`], each only once it is durable here.
//!
//! The leader may commit on its followers' disks before its own has synced. If the machine made such an entry durable
//! and this replica lost it in a crash, the state would be ahead of the log; so the adapter waits.
//!
//! A snapshot is labelled with the entry that the log begins behind, and carries the state of a later one: so the
//! bodies between the two come by the log alone.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::type_config::alias::CommittedLeaderIdOf;
use tokio::sync::watch;

use crate::body;
use crate::log::Log;
use crate::machine::{Applied, Export, Machine, MachineError};
use crate::marks::mark;
use crate::planted::Bug;
use crate::raft::config::{Config, Entry, KeptMembership, LogId, Node, Outcome, Outcomes, Payload, entry_id, log_id};
use crate::raft::format;
use crate::raft::labels::Labels;
use crate::raft::memberships::Memberships;
use crate::spool::Parts;
use crate::types::{EntryId, LogIndex};

/// What a snapshot says about itself.
pub type Meta = SnapshotMeta<CommittedLeaderIdOf<Config>, u64, Node>;
/// A snapshot: its label and membership, and where its content is.
pub type Labelled = Snapshot<CommittedLeaderIdOf<Config>, u64, Node, Content>;

/// Where the state of a snapshot is.
#[derive(Clone)]
pub enum Content {
    /// At this replica, to be read and sent.
    View(Arc<dyn Export>),
    /// Received whole; the lock guards the file's one reader.
    Received(Arc<Mutex<Parts>>),
}

/// A [`Machine`] with its outcome type erased: what drives it is compiled once, in this crate.
pub trait Driven: Send {
    /// See [`Machine::applied`].
    fn applied(&self) -> Option<Applied>;
    /// See [`Machine::apply`].
    fn apply(&mut self, id: EntryId, commands: &[(u32, Bytes)]) -> Result<Outcomes, MachineError>;
    /// See [`Machine::apply_blank`].
    fn apply_blank(&mut self, id: EntryId) -> Result<(), MachineError>;
    /// See [`Machine::apply_membership`].
    fn apply_membership(&mut self, id: EntryId, membership: Bytes) -> Result<(), MachineError>;
    /// See [`Machine::view`].
    fn view(&mut self) -> Result<Arc<dyn Export>, MachineError>;
    /// See [`Machine::install_begin`].
    fn install_begin(&mut self) -> Result<(), MachineError>;
    /// See [`Machine::install_part`].
    fn install_part(&mut self, part: Bytes) -> Result<(), MachineError>;
    /// See [`Machine::install_finish`].
    fn install_finish(&mut self, label: Applied) -> Result<(), MachineError>;
    /// See [`Machine::is_whole`].
    fn is_whole(&self) -> bool;
    /// See [`Machine::released`].
    fn released(&self) -> watch::Receiver<LogIndex>;
    /// See [`Machine::level`].
    fn level(&self) -> watch::Receiver<u32>;
}

impl<M: Machine> Driven for M {
    fn applied(&self) -> Option<Applied> {
        Machine::applied(self)
    }

    fn apply(&mut self, id: EntryId, commands: &[(u32, Bytes)]) -> Result<Outcomes, MachineError> {
        let outcomes = Machine::apply(self, id, commands)?;
        if outcomes.len() != commands.len() {
            let reason = format!(
                "{} outcomes for the {} commands of entry {id}",
                outcomes.len(),
                commands.len()
            );
            return Err(MachineError::new(reason));
        }
        Ok(Outcomes(
            outcomes
                .into_iter()
                .map(|outcome| -> Outcome { Box::new(outcome) })
                .collect(),
        ))
    }

    fn apply_blank(&mut self, id: EntryId) -> Result<(), MachineError> {
        Machine::apply_blank(self, id)
    }

    fn apply_membership(&mut self, id: EntryId, membership: Bytes) -> Result<(), MachineError> {
        Machine::apply_membership(self, id, membership)
    }

    fn view(&mut self) -> Result<Arc<dyn Export>, MachineError> {
        Machine::view(self)
    }

    fn install_begin(&mut self) -> Result<(), MachineError> {
        Machine::install_begin(self)
    }

    fn install_part(&mut self, part: Bytes) -> Result<(), MachineError> {
        Machine::install_part(self, part)
    }

    fn install_finish(&mut self, label: Applied) -> Result<(), MachineError> {
        Machine::install_finish(self, label)
    }

    fn is_whole(&self) -> bool {
        Machine::is_whole(self)
    }

    fn released(&self) -> watch::Receiver<LogIndex> {
        Machine::released(self)
    }

    fn level(&self) -> watch::Receiver<u32> {
        Machine::level(self)
    }
}

/// The state machine as openraft drives it.
pub struct Adapter {
    /// The one owner is the core's worker task; the lock only makes the adapter `Sync` and is never contended.
    machine: Mutex<Box<dyn Driven>>,
    memberships: Memberships,
    applied: Option<EntryId>,
    /// Waits here until an entry is durable; absent only where there is no log (openraft's storage suite).
    log: Option<Log>,
    durable: Option<watch::Receiver<LogIndex>>,
    progress: watch::Sender<Option<EntryId>>,
    labels: Arc<Labels>,
}

/// Hands out one snapshot, labelled when the builder was made.
pub struct Builder {
    labelled: Option<io::Result<Labelled>>,
}

impl Adapter {
    /// Drives `machine`; entries wait until `log` has them durable. The receiver follows what is applied. Without a log
    /// snapshots are labelled with what is applied.
    pub fn new(
        machine: Box<dyn Driven>,
        log: Option<Log>,
        labels: Arc<Labels>,
    ) -> Result<(Adapter, watch::Receiver<Option<EntryId>>), format::FormatError> {
        let (applied, memberships) = match machine.applied() {
            Some(applied) => (Some(applied.id), Memberships::decode(&applied.membership)?),
            None => (None, Memberships::default()),
        };
        if let Some(purged) = log.as_ref().and_then(|log| log.state().purged) {
            labels.set_current(purged);
        }
        let (progress, receiver) = watch::channel(applied);
        let durable = log.as_ref().map(Log::durable);
        let machine = Mutex::new(machine);
        Ok((
            Adapter {
                machine,
                memberships,
                applied,
                log,
                durable,
                progress,
                labels,
            },
            receiver,
        ))
    }

    fn machine(&mut self) -> &mut dyn Driven {
        self.machine.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut()
    }

    /// Returns once entry `index` is durable here, or the log has failed for good.
    async fn durable(&mut self, index: LogIndex) -> io::Result<()> {
        let (Some(log), Some(durable)) = (&self.log, &mut self.durable) else {
            return Ok(());
        };
        if log.planted().has(Bug::KvAheadOfLog) {
            return Ok(());
        }
        loop {
            if index > LogIndex(0) && *durable.borrow_and_update() >= index {
                return Ok(());
            }
            if log.state().durable.is_some_and(|id| id.index >= index) {
                return Ok(());
            }
            if let Some(reason) = log.poison() {
                return Err(io::Error::other(reason));
            }
            mark("committed_before_durable_here");
            // Bounded, so that a poisoned log is noticed.
            if let Ok(Err(_)) = tokio::time::timeout(Duration::from_millis(50), durable.changed()).await {
                return Err(io::Error::other("the log's writer has ended"));
            }
        }
    }

    fn apply_entry(&mut self, id: EntryId, payload: Payload) -> io::Result<Outcomes> {
        let outcomes = match payload {
            Payload::Blank => self.machine().apply_blank(id).map(|()| Outcomes(Vec::new())),
            Payload::Commands(batch) => {
                let commands = body::decode(&batch.body).map_err(io::Error::other)?;
                self.machine().apply(id, &commands)
            }
            Payload::Membership(members) => {
                if let Some(oldest) = self.oldest_label() {
                    self.memberships.forget_below(oldest.index);
                }
                self.memberships.push(KeptMembership::new(Some(log_id(id)), members));
                let bytes = self.memberships.encode();
                self.machine()
                    .apply_membership(id, bytes)
                    .map(|()| Outcomes(Vec::new()))
            }
        };
        outcomes.map_err(io::Error::other)
    }

    /// No snapshot will be labelled with an earlier entry: after a restart the log begins where it was last purged, whatever
    /// was labelled since.
    fn oldest_label(&self) -> Option<EntryId> {
        match &self.log {
            Some(log) => log.state().purged,
            None => self.labels.current(),
        }
    }

    /// The entry that the next snapshot is labelled with. Labels never go back.
    fn next_label(&self) -> Option<EntryId> {
        let log = self.log.as_ref()?;
        let wanted = self.labels.wanted()?.min(self.applied?.index);
        match self.labels.current() {
            Some(current) if current.index > wanted => self.known_from(current),
            _ => self.known_from(log.id(wanted)?),
        }
    }

    /// The label, or the first entry behind it whose membership is known: a snapshot that was installed tells of none before
    /// its own, while the log may still begin before it.
    fn known_from(&self, label: EntryId) -> Option<EntryId> {
        let oldest = self.memberships.oldest()?;
        match oldest <= label.index {
            true => Some(label),
            false => self.log.as_ref()?.id(oldest),
        }
    }

    fn labelled(&mut self, label: EntryId) -> io::Result<Labelled> {
        let forgotten = || io::Error::other(format!("the membership as of entry {label} is forgotten"));
        let meta = Meta {
            last_log_id: Some(log_id(label)),
            last_membership: self.memberships.as_of(label.index).ok_or_else(forgotten)?,
        };
        let view = match self.labels.view(label) {
            Some(view) => view,
            None => {
                let view = self.machine().view().map_err(io::Error::other)?;
                self.labels.keep_view(&view);
                view
            }
        };
        Ok(Snapshot {
            meta,
            snapshot: Content::View(view),
        })
    }

    /// A snapshot labelled with what is applied, be it nothing: where there is no log.
    fn of_applied(&mut self) -> io::Result<Labelled> {
        Ok(Snapshot {
            meta: Meta {
                last_log_id: self.applied.map(log_id),
                last_membership: self.memberships.newest(),
            },
            snapshot: Content::View(self.machine().view().map_err(io::Error::other)?),
        })
    }

    /// Gives the machine the parts of an export. Other work of the runtime goes on in between.
    async fn install(&mut self, content: Content) -> io::Result<()> {
        self.machine().install_begin().map_err(io::Error::other)?;
        let mut from = Some(Bytes::new());
        loop {
            let part = match &content {
                Content::Received(parts) => parts.lock().unwrap_or_else(PoisonError::into_inner).next()?,
                Content::View(view) => match from.take() {
                    Some(place) => {
                        let part = view
                            .read(&place, crate::limits::SNAPSHOT_PART_BYTES)
                            .map_err(io::Error::other)?;
                        from = part.next;
                        Some(part.bytes)
                    }
                    None => None,
                },
            };
            let Some(part) = part else { return Ok(()) };
            self.machine().install_part(part).map_err(io::Error::other)?;
            tokio::task::yield_now().await;
        }
    }
}

impl RaftStateMachine<Config> for Adapter {
    type SnapshotData = Content;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, KeptMembership), io::Error> {
        Ok((self.applied.map(log_id), self.memberships.newest()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Config>, io::Error>> + Unpin + Send,
    {
        while let Some(item) = entries.next().await {
            let (Entry { id, payload }, responder) = item?;
            let id = entry_id(&id);
            self.durable(id.index).await?;
            let outcomes = self.apply_entry(id, payload)?;
            self.applied = Some(id);
            self.progress.send_replace(Some(id));
            if let Some(responder) = responder {
                responder.send(outcomes);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        let labelled = match self.log {
            Some(_) => {
                let label = self.next_label()?;
                let labelled = self.labelled(label);
                if labelled.is_ok() {
                    self.labels.set_current(label);
                }
                labelled
            }
            None => {
                let labelled = self.of_applied();
                if let Some(applied) = self.applied {
                    self.labels.set_current(applied);
                }
                labelled
            }
        };
        Some(Builder {
            labelled: Some(labelled),
        })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let nothing = || Builder {
            labelled: Some(Err(io::Error::other("there is nothing to label a snapshot with"))),
        };
        self.try_create_snapshot_builder(true).await.unwrap_or_else(nothing)
    }

    async fn install_snapshot(&mut self, meta: &Meta, content: Content) -> Result<(), io::Error> {
        let Some(id) = meta.last_log_id.as_ref().map(entry_id) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a snapshot of nothing"));
        };
        mark("install_begun");
        tracing::info!(label = %id, "installing a snapshot");
        let memberships = Memberships::one(meta.last_membership.clone());
        self.install(content).await?;
        let label = Applied {
            id,
            membership: memberships.encode(),
        };
        self.machine().install_finish(label).map_err(io::Error::other)?;
        self.applied = Some(id);
        self.memberships = memberships;
        self.labels.installed(id);
        mark("install_ended");
        self.progress.send_replace(Some(id));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Labelled>, io::Error> {
        match self.labels.current() {
            Some(_) if self.log.is_none() => self.of_applied().map(Some),
            Some(label) if self.applied.is_some() => {
                let Some(label) = self.known_from(label) else {
                    return Ok(None);
                };
                self.labels.set_current(label);
                self.labelled(label).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl RaftSnapshotBuilder<Config> for Builder {
    type SnapshotData = Content;

    async fn build_snapshot(&mut self) -> Result<Labelled, io::Error> {
        self.labelled
            .take()
            .unwrap_or_else(|| Err(io::Error::other("a builder builds once")))
    }
}
