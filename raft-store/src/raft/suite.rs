//! openraft's own storage suite, over both disks.

use std::sync::Arc;

use bytes::Bytes;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::disk::{Disk, FaultyDisk, RealDisk};
use crate::log::{Log, LogOptions};
use crate::machine::{Applied, Export, ExportPart, Machine, MachineError};
use crate::options::Durability;
use crate::planted::Planted;
use crate::raft::adapter::Adapter;
use crate::raft::config::Config;
use crate::raft::store::Store;
use crate::types::{EntryId, LogIndex};

/// Keeps how far it came; the suite proposes no commands.
#[derive(Default)]
struct Cursor(Option<Applied>);

impl Cursor {
    fn step(&mut self, id: EntryId) {
        let membership = self.0.take().map(|applied| applied.membership).unwrap_or_default();
        self.0 = Some(Applied { id, membership });
    }
}

/// A copy of nothing.
struct Nothing(EntryId);

impl Export for Nothing {
    fn id(&self) -> EntryId {
        self.0
    }

    fn read(&self, _from: &[u8], _bytes_max: usize) -> Result<ExportPart, MachineError> {
        Ok(ExportPart {
            bytes: Bytes::from_static(b"cursor"),
            next: None,
        })
    }
}

impl Machine for Cursor {
    type Outcome = ();

    fn applied(&self) -> Option<Applied> {
        self.0.clone()
    }

    fn apply(&mut self, id: EntryId, commands: &[(u32, Bytes)]) -> Result<Vec<()>, MachineError> {
        self.step(id);
        Ok(commands.iter().map(|_| ()).collect())
    }

    fn apply_blank(&mut self, id: EntryId) -> Result<(), MachineError> {
        self.step(id);
        Ok(())
    }

    fn apply_membership(&mut self, id: EntryId, membership: Bytes) -> Result<(), MachineError> {
        self.0 = Some(Applied { id, membership });
        Ok(())
    }

    fn view(&mut self) -> Result<Arc<dyn Export>, MachineError> {
        let applied = self.0.as_ref().map(|applied| applied.id);
        Ok(Arc::new(Nothing(applied.unwrap_or_default())))
    }

    fn install_begin(&mut self) -> Result<(), MachineError> {
        Ok(())
    }

    fn install_part(&mut self, _part: Bytes) -> Result<(), MachineError> {
        Ok(())
    }

    fn install_finish(&mut self, label: Applied) -> Result<(), MachineError> {
        self.0 = Some(label);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn released(&self) -> watch::Receiver<LogIndex> {
        watch::channel(LogIndex(0)).1
    }

    fn level(&self) -> watch::Receiver<u32> {
        watch::channel(1).1
    }
}

/// Ends the writer, and keeps the folder until then.
struct Open {
    writer: JoinHandle<()>,
    _folder: Option<tempfile::TempDir>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

async fn store(disk: Arc<dyn Disk>, folder: Option<tempfile::TempDir>) -> (Open, Store, Adapter) {
    let dir = folder
        .as_ref()
        .map_or("/suite".into(), |folder| folder.path().to_path_buf());
    disk.create_dir_all(&dir).expect("creates the folder");
    let options = LogOptions {
        dir: dir.join("log"),
        segment_bytes: 1 << 20,
        tail_cache_bytes: 1 << 16,
        seed: 1,
        planted: Planted::default(),
    };
    let (log, writer) = Log::open(disk, options).await.expect("opens");
    let open = Open {
        writer: tokio::spawn(writer.run()),
        _folder: folder,
    };
    // The suite applies entries it never appended, so nothing waits for the log here.
    let (adapter, _) = Adapter::new(Box::new(Cursor::default()), None, Arc::default()).expect("no membership yet");
    (open, Store::new(log, Durability::FsyncQuorum), adapter)
}

struct Faulty;

impl StoreBuilder<Config, Store, Adapter, Open> for Faulty {
    async fn build(&self) -> Result<(Open, Store, Adapter), StorageError<Config>> {
        Ok(store(Arc::new(FaultyDisk::new(5)), None).await)
    }
}

struct Real;

impl StoreBuilder<Config, Store, Adapter, Open> for Real {
    async fn build(&self) -> Result<(Open, Store, Adapter), StorageError<Config>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Ok(store(Arc::new(RealDisk), Some(folder)).await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_faulty_disk() {
    Suite::<Config, Store, Adapter, Faulty, Open>::test_all(Faulty)
        .await
        .expect("passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_real_disk() {
    Suite::<Config, Store, Adapter, Real, Open>::test_all(Real)
        .await
        .expect("passes");
}
