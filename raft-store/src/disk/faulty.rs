//! A disk in memory that takes its liberties: what was not synced may be lost, kept or torn by a crash, in any
//! combination; writes and syncs fail when told to, space runs out, bits rot. All choices come from the seed.
//!
//! ```text
//!   write_at ──► current image (what readers see)  ──► pending list ──sync──► durable image
//!                                                          │
//!                                              crash: a random part of it, torn
//! ```
//!
//! * A crash keeps a random subset of the pending changes of each file and, apart from that, of the names in each
//!   directory. A kept write may be torn: some of its 512-byte sectors, or its bytes up to any point.
//! * A failed sync reports an error and drops the pending list while readers go on seeing the bytes, as Linux does
//!   (fsyncgate): later syncs succeed without them. Names stay pending when the sync of a directory fails: file
//!   systems journal them.
//! * Handles from before a crash answer with an error: their process is dead.
//! * Directories are durable as soon as they are created.

mod image;
mod state;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Disk, DiskFile, Open, Space};
use state::{InodeId, State};

/// A disk in memory with faults on demand. A clone is the same disk.
#[derive(Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

struct FaultyFile {
    state: Arc<Mutex<State>>,
    inode: InodeId,
    writable: bool,
    /// Crashes of the disk when the file was opened.
    crashes: u64,
}

impl FaultyDisk {
    /// An empty disk whose liberties are drawn from `seed`.
    pub fn new(seed: u64) -> FaultyDisk {
        FaultyDisk {
            state: Arc::new(Mutex::new(State::new(seed))),
        }
    }

    /// Power loss: pending changes are kept, torn or lost at random, and all open handles become useless.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// The process died, the machine did not: nothing is lost, but all open handles become useless.
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// What a loss of power would leave now if it took everything that is not synced: another disk, which goes its own way
    /// from here on.
    pub fn durable(&self) -> FaultyDisk {
        FaultyDisk {
            state: Arc::new(Mutex::new(self.lock().durable())),
        }
    }

    /// The next write to any file fails, after a random part of its bytes arrived.
    pub fn fail_next_write(&self) {
        self.lock().fail_writes = 1;
    }

    /// The next sync of any file fails, and what it should have made durable is lost at the next crash.
    pub fn fail_next_sync(&self) {
        self.lock().fail_syncs = 1;
    }

    /// Takes back [`FaultyDisk::fail_next_write`] and [`FaultyDisk::fail_next_sync`] that did not happen yet.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.fail_writes = 0;
        state.fail_syncs = 0;
    }

    /// Room for file contents, in bytes, counted in pages of 4 KiB that were written to; `None` for no bound.
    /// A write that finds no room fails with `StorageFull`.
    pub fn capacity_bytes(&self, capacity: Option<u64>) {
        self.lock().capacity = capacity;
    }

    /// Bytes in use, as [`FaultyDisk::capacity_bytes`] counts them.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Flips one bit of the byte at `position`, durably. Errors when the file does not reach so far.
    pub fn flip_bit(&self, path: &Path, position: u64) -> io::Result<()> {
        self.lock().flip_bit(path, position)
    }

    /// Each sync from now on sleeps for a random time in the range (tokio time) before it takes effect.
    pub fn sync_delay(&self, range: Range<Duration>) {
        self.lock().sync_delay = range;
    }

    /// How many file syncs succeeded so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// How many `write_at` calls succeeded so far.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sleeps as the disk's sync delay asks.
async fn delayed(state: &Mutex<State>) {
    let delay = lock(state).draw_delay();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

impl Disk for FaultyDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.lock().create_dir_all(path);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.lock().list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.lock().find(path).is_ok())
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        let inode = match how {
            Open::Read | Open::Write => state.find(path)?,
            Open::Create => state.find_or_create(path)?,
        };
        let crashes = state.crashes;
        drop(state);
        Ok(Arc::new(FaultyFile {
            state: self.state.clone(),
            inode,
            writable: how != Open::Read,
            crashes,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock().remove(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.lock().space(dir)
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let dir: PathBuf = dir.to_path_buf();
        async move {
            let (crashes, upto) = {
                let state = self.lock();
                (state.crashes, state.changes)
            };
            delayed(&self.state).await;
            let mut state = self.lock();
            state.check_alive(crashes)?;
            state.sync_dir(&dir, upto)
        }
        .boxed()
    }
}

impl FaultyFile {
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        state.check_alive(self.crashes)?;
        Ok(state)
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        if !self.writable {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file was opened for reading",
            ));
        }
        self.alive()
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.alive()?.len(self.inode)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?.set_len(self.inode, len)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.alive()?.read_at(self.inode, position, buffer)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable()?.write_at(self.inode, position, bytes)
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        async move {
            // Only what was written before the call is promised.
            let upto = self.alive()?.changes;
            delayed(&self.state).await;
            self.alive()?.sync(self.inode, upto)
        }
        .boxed()
    }
}
