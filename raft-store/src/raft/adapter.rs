//! openraft's state machine: hands committed entries to the [`Machine`], each only once it is durable here.
//!
//! The leader may commit on its followers' disks before its own has synced. If the machine made such an entry durable
//! and this replica lost it in a crash, the state would be ahead of the log; so the adapter waits.

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
use crate::machine::{Applied, Machine, MachineError};
use crate::raft::config::{Config, Entry, KeptMembership, LogId, Node, Outcome, Outcomes, Payload, entry_id, log_id};
use crate::raft::format;
use crate::types::{EntryId, LogIndex};

/// What a snapshot says about itself.
pub type Meta = SnapshotMeta<CommittedLeaderIdOf<Config>, u64, Node>;
/// A snapshot: what it says about itself, and the machine's export.
pub type Export = Snapshot<CommittedLeaderIdOf<Config>, u64, Node, Bytes>;

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
    /// See [`Machine::export`].
    fn export(&mut self) -> Result<Bytes, MachineError>;
    /// See [`Machine::install`].
    fn install(&mut self, applied: Applied, export: Bytes) -> Result<(), MachineError>;
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

    fn export(&mut self) -> Result<Bytes, MachineError> {
        Machine::export(self)
    }

    fn install(&mut self, applied: Applied, export: Bytes) -> Result<(), MachineError> {
        Machine::install(self, applied, export)
    }
}

/// The state machine as openraft drives it.
pub struct Adapter {
    /// The one owner is the core's worker task; the lock only makes the adapter `Sync` and is never contended.
    machine: Mutex<Box<dyn Driven>>,
    membership: KeptMembership,
    applied: Option<EntryId>,
    /// Waits here until an entry is durable; absent only where there is no log (openraft's storage suite).
    log: Option<Log>,
    durable: Option<watch::Receiver<LogIndex>>,
    progress: watch::Sender<Option<EntryId>>,
    snapshot: Arc<Mutex<Option<Export>>>,
}

/// Hands out one export, made when the builder was made.
pub struct Builder {
    export: Option<io::Result<Export>>,
    snapshot: Arc<Mutex<Option<Export>>>,
}

impl Adapter {
    /// Drives `machine`; entries wait until `log` has them durable. The receiver follows what is applied.
    pub fn new(
        machine: Box<dyn Driven>,
        log: Option<Log>,
    ) -> Result<(Adapter, watch::Receiver<Option<EntryId>>), format::FormatError> {
        let (applied, membership) = match machine.applied() {
            Some(applied) => (Some(applied.id), format::decode_kept(&applied.membership)?),
            None => (None, KeptMembership::default()),
        };
        let (progress, receiver) = watch::channel(applied);
        let durable = log.as_ref().map(Log::durable);
        let machine = Mutex::new(machine);
        let snapshot = Arc::new(Mutex::new(None));
        Ok((
            Adapter {
                machine,
                membership,
                applied,
                log,
                durable,
                progress,
                snapshot,
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
                self.membership = KeptMembership::new(Some(log_id(id)), members);
                let bytes = format::encode_kept(&self.membership);
                self.machine()
                    .apply_membership(id, bytes)
                    .map(|()| Outcomes(Vec::new()))
            }
        };
        outcomes.map_err(io::Error::other)
    }

    fn export(&mut self) -> io::Result<Export> {
        let meta = Meta {
            last_log_id: self.applied.map(log_id),
            last_membership: self.membership.clone(),
        };
        let export = self.machine().export().map_err(io::Error::other)?;
        Ok(Snapshot { meta, snapshot: export })
    }
}

impl RaftStateMachine<Config> for Adapter {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, KeptMembership), io::Error> {
        Ok((self.applied.map(log_id), self.membership.clone()))
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
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            export: Some(self.export()),
            snapshot: Arc::clone(&self.snapshot),
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, export: Bytes) -> Result<(), io::Error> {
        let Some(id) = meta.last_log_id.as_ref().map(entry_id) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a snapshot of nothing"));
        };
        let applied = Applied {
            id,
            membership: format::encode_kept(&meta.last_membership),
        };
        self.machine()
            .install(applied, export.clone())
            .map_err(io::Error::other)?;
        self.applied = Some(id);
        self.membership = meta.last_membership.clone();
        let kept = Snapshot {
            meta: meta.clone(),
            snapshot: export,
        };
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        self.progress.send_replace(Some(id));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Export>, io::Error> {
        Ok(self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl RaftSnapshotBuilder<Config> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Export, io::Error> {
        let export = self
            .export
            .take()
            .unwrap_or_else(|| Err(io::Error::other("a builder builds once")))?;
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(export.clone());
        Ok(export)
    }
}
