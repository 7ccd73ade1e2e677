//! What happens to the files of segments that were purged: a few become spares, which new segments are written over, the
//! others are removed. Both can take long on a large file, so it is not the writer's work.
//!
//! A spare keeps its old bytes. They never pass for new ones: frames name their segment, whose number is used once, and its
//! generation, which is drawn at random, and they are chained. Writing over bytes that exist is what makes it worth while:
//! a sync then has no new blocks of the file to make durable.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::disk::{Disk, DiskFile};
use crate::log::format::{segment_name, spare_name};
use crate::log::limits::{SPARES_MAX, SWEEP_PAUSE, SWEEP_READERS_WAIT};
use crate::log::shared::Shared;
use crate::log::sidecar::sidecar_name;
use crate::marks::mark;

/// A purged segment, and the file that readers may still hold.
pub type Retired = (u64, Arc<dyn DiskFile>);

/// Deals with the files of purged segments. In production it runs on an operating system thread of its own, as it blocks on the
/// disk; in the simulation as a task.
pub struct Sweeper {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) segment_bytes: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) retired: mpsc::UnboundedReceiver<Retired>,
}

impl Sweeper {
    /// Runs until the log's writer has ended.
    pub async fn run(mut self) {
        while let Some((number, file)) = self.retired.recv().await {
            if let Err(error) = self.sweep(number, file).await {
                // The files are gone for the log in any case; the next start tries again.
                tracing::warn!(%error, segment = number, "a purged segment was not removed");
            }
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
    }

    async fn sweep(&self, number: u64, file: Arc<dyn DiskFile>) -> io::Result<()> {
        let sidecar = self.dir.join(sidecar_name(number));
        if self.disk.exists(&sidecar)? {
            self.disk.remove(&sidecar)?;
        }
        let path = self.dir.join(segment_name(number));
        let fits = (self.segment_bytes..=2 * self.segment_bytes).contains(&file.len()?);
        if fits && self.shared.spares().len() < SPARES_MAX && readers_left(&file).await {
            let spare = spare_name(number);
            self.disk.rename(&path, &self.dir.join(&spare))?;
            self.sync_dir().await?;
            self.shared.spares().push_back(spare);
            mark("segment_spared");
            return Ok(());
        }
        self.disk.remove(&path)?;
        self.sync_dir().await
    }

    /// Makes the folder's names durable. When that fails the log must not go on: the name of a segment that the writer has
    /// just made may be among those that are lost, and the writer's own sync of the folder would be told nothing any more.
    async fn sync_dir(&self) -> io::Result<()> {
        let synced = self.disk.sync_dir(&self.dir).await;
        if let Err(error) = &synced {
            let refused = self.shared.stop(&format!("the folder could not be synced: {error}"));
            refused
                .into_iter()
                .for_each(|op| op.refuse("its folder could not be synced"));
            self.shared.notify.notify_one();
        }
        synced
    }
}

/// Whether everybody who was reading the file has left it: it is never written over under a reader.
async fn readers_left(file: &Arc<dyn DiskFile>) -> bool {
    let mut waited = Duration::ZERO;
    while Arc::strong_count(file) > 1 && waited < SWEEP_READERS_WAIT {
        tokio::time::sleep(SWEEP_PAUSE).await;
        waited += SWEEP_PAUSE;
    }
    Arc::strong_count(file) == 1
}
