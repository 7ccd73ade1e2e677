//! One life of a replica: production's storage, store and adapter over the faulty disk, driven as openraft drives them.

use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::stream;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};
use tokio::task::JoinHandle;

use crate::disk::{Disk, FaultyDisk};
use crate::errors::OpenError;
use crate::log::{Log, LogOptions};
use crate::machine::Export;
use crate::options::Durability;
use crate::peer::transfer::Incoming;
use crate::planted::Planted;
use crate::raft::adapter::{Adapter, Content, Labelled, Meta};
use crate::raft::config::{KeptMembership, log_id};
use crate::raft::labels::Labels;
use crate::raft::memberships::Memberships;
use crate::raft::store::Store;
use crate::spool::Label;
use crate::storage::{self, Storage};
use crate::tests::counting::Counting;
use crate::types::EntryId;

/// The replica's folder.
pub const DIR: &str = "/replica";

/// How long an operation is waited for before the process dies in the middle of it.
#[derive(Clone, Copy)]
pub enum Patience {
    /// Until it ends.
    Endless,
    /// For so long.
    Time(Duration),
    /// So many times it may go on.
    Turns(u64),
}

impl Patience {
    /// What the operation ended in; `None` when it was not waited for so long.
    pub async fn wait<T>(self, operation: impl Future<Output = T>) -> Option<T> {
        match self {
            Patience::Endless => Some(operation.await),
            Patience::Time(time) => tokio::time::timeout(time, operation).await.ok(),
            Patience::Turns(turns) => {
                let (mut operation, mut left) = (pin!(operation), turns);
                std::future::poll_fn(|context| {
                    if left == 0 {
                        return Poll::Ready(None);
                    }
                    left -= 1;
                    operation.as_mut().poll(context).map(Some)
                })
                .await
            }
        }
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The power is lost.
    Crash,
    /// The process dies.
    Kill,
    /// The process ends in order.
    Close,
}

/// An open replica.
pub struct Replica {
    /// Its log.
    pub log: Log,
    /// The log as openraft writes it.
    pub store: Store,
    /// The machine as openraft drives it.
    pub adapter: Adapter,
    /// What snapshots arrive in.
    pub incoming: Incoming,
    /// What snapshots are labelled with.
    pub labels: Arc<Labels>,
    driver: JoinHandle<()>,
}

/// Where and how the replica's log is kept.
pub fn log_options(seed: u64, planted: Planted) -> LogOptions {
    LogOptions {
        dir: Path::new(DIR).join("log"),
        segment_bytes: 4096,
        tail_cache_bytes: 1 << 10,
        seed,
        planted,
    }
}

impl Replica {
    /// Opens the folder, as production does. With `sweeps`, purged segments are written over.
    pub async fn open(
        disk: &Arc<FaultyDisk>,
        machine: &Counting,
        log_options: LogOptions,
        sweeps: bool,
    ) -> Result<Replica, OpenError> {
        let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(disk);
        disk.create_dir_all(Path::new(DIR))?;
        let mut driven = machine.clone();
        let opened = storage::open(disk, Path::new(DIR), log_options, &mut driven).await?;
        let Storage {
            log,
            spool,
            writer,
            sweeper,
        } = opened;
        let driver = tokio::spawn(async move {
            let sweeping = async {
                if sweeps {
                    sweeper.run().await;
                }
            };
            tokio::join!(writer.run(), sweeping);
        });
        let labels = Arc::<Labels>::default();
        let (adapter, _) = Adapter::new(Box::new(driven), Some(log.clone()), Arc::clone(&labels))
            .map_err(|error| OpenError::Membership(error.to_string()))?;
        Ok(Replica {
            store: Store::new(log.clone(), Durability::FsyncQuorum),
            incoming: Incoming::new(spool, log.clone()),
            log,
            adapter,
            labels,
            driver,
        })
    }

    /// Ends this life. The disk dies at the same moment, unless it ends in order.
    pub async fn end(self, end: End, disk: &FaultyDisk) {
        let Replica {
            log,
            store,
            adapter,
            incoming,
            labels: _,
            driver,
        } = self;
        // The writer ends in order once all handles are gone.
        drop((log, store, adapter, incoming));
        match end {
            End::Close => {}
            End::Kill => {
                driver.abort();
                disk.kill();
            }
            End::Crash => {
                driver.abort();
                disk.crash();
            }
        }
        if let Err(error) = driver.await
            && error.is_panic()
        {
            resume_unwind(error.into_panic());
        }
        if end == End::Close {
            disk.kill();
        }
    }

    /// Applies the entries of a range that the log holds.
    pub async fn apply(&mut self, first: u64, end: u64) -> io::Result<()> {
        let mut reader = self.store.get_log_reader().await;
        let entries = reader.try_get_log_entries(first..end).await?;
        assert_eq!(entries.len() as u64, end - first, "entries {first}..{end} are there");
        let entries = entries.into_iter().map(|entry| Ok((entry, None)));
        self.adapter.apply(stream::iter(entries)).await
    }

    /// Labels a snapshot.
    pub async fn label(&mut self, wanted: EntryId) -> io::Result<Labelled> {
        self.labels.want(wanted.index);
        let builder = self.adapter.try_create_snapshot_builder(false).await;
        builder.expect("there is something to label").build_snapshot().await
    }

    /// Receives what is missing of a snapshot, and installs it.
    pub async fn receive(&mut self, export: &dyn Export, label: EntryId, membership: KeptMembership) -> io::Result<()> {
        let mut spool = self.incoming.admit().map_err(io::Error::other)?;
        let mut place = Some(spool.place(export.id()));
        assert!(spool.resume(export.id(), place.as_deref().unwrap_or_default())?);
        while let Some(from) = place {
            let part = export.read(&from, 1).map_err(io::Error::other)?;
            spool.put(&part)?;
            place = part.next;
            tokio::task::yield_now().await;
        }
        let memberships = Memberships::one(membership.clone()).encode();
        spool.complete(&Label { id: label, memberships }).await?;
        let meta = Meta {
            last_log_id: Some(log_id(label)),
            last_membership: membership,
        };
        let content = Content::Received(Arc::new(Mutex::new(spool.parts()?)));
        self.adapter.install_snapshot(&meta, content).await?;
        // Nobody promises which comes first.
        let (settled, purged) = tokio::join!(self.incoming.settle(&mut spool, label), self.store.purge(log_id(label)));
        let () = settled;
        purged
    }
}
