//! The seam to the disk: everything that raft-store keeps in files goes through [`Disk`] and [`DiskFile`].
//!
//! Two implementations: [`RealDisk`] on `std::fs`, and [`FaultyDisk`] in
//! memory, which loses, reorders and tears whatever was not synced. One conformance suite runs against both.
//!
//! What a caller may rely on, and nothing more:
//! * bytes written to a file are readable at once, through every handle;
//! * they survive a crash only once [`DiskFile::sync`] on that file returned `Ok` after the write;
//! * a created, renamed or removed name survives only once [`Disk::sync_dir`] on its directory returned `Ok`;
//! * after a failed sync nothing is known about what was written since the last good one, and a later sync that
//!   succeeds says nothing about those bytes either: they have to be written again;
//! * directories themselves are durable once created and their parent is synced.

mod faulty;
mod real;

#[cfg(test)]
mod conformance;

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::future::{BoxFuture, ready};

pub use faulty::FaultyDisk;
pub use real::RealDisk;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    Write,
    /// For reading and writing; created empty when missing, never truncated.
    Create,
}

/// Room on the file system that holds a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can be used by ordinary processes, used ones included.
    pub total_bytes: u64,
    /// Those of them that are free.
    pub free_bytes: u64,
}

impl Space {
    /// How much is used, in percent, rounded up; 100 where there is no room at all.
    pub fn used_percent(&self) -> u64 {
        let total = u128::from(self.total_bytes);
        let used = u128::from(self.total_bytes.saturating_sub(self.free_bytes));
        match total {
            0 => 100,
            _ => u64::try_from((used * 100).div_ceil(total)).unwrap_or(100),
        }
    }
}

/// A file system, as far as the log needs one.
pub trait Disk: Send + Sync + 'static {
    /// Creates the directory and its parents; fine when it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Names of the files in a directory (not of directories), sorted. `NotFound` when there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Whether a file of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Opens a file. The handle stays good when the file is renamed or removed.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file inside its directory, replacing what had the new name. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; `NotFound` when missing. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Room on the file system that holds the directory, now. `NotFound` when there is no such directory.
    fn space(&self, dir: &Path) -> io::Result<Space>;

    /// Makes the names in a directory durable.
    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>>;

    /// Runs work that reads from this disk where it keeps no other task waiting: at once where nothing blocks. Work that
    /// panicked is over as well when this resolves.
    fn aside(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(ready(()))
    }
}

/// An open file. All methods take positions; there is no cursor.
pub trait DiskFile: Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends the file; new bytes read as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Fills `buffer` from `position` as far as the file goes; fewer bytes than asked for only at its end.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `position`, extending the file when needed; a gap reads as zeros.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written before the call durable, the length included (fdatasync). May block the thread.
    fn sync(&self) -> BoxFuture<'_, io::Result<()>>;
}

#[cfg(test)]
mod tests {
    use super::Space;

    #[test]
    fn what_is_used_is_rounded_up() {
        let used = |total_bytes, free_bytes| {
            Space {
                total_bytes,
                free_bytes,
            }
            .used_percent()
        };
        assert_eq!((used(100, 100), used(100, 26), used(1000, 249)), (0, 74, 76));
        assert_eq!((used(100, 0), used(0, 0), used(u64::MAX, 1)), (100, 100, 100));
    }
}
