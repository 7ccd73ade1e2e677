//! A disk that forgets: every write stays in this process until the file is synced, so a SIGKILL loses all un-synced writes,
//! as a loss of power would.
//!
//! ```text
//!   write_at, set_len ─▶ held changes (memory) ──sync──▶ real file ─▶ fdatasync
//!   read_at           ─▶ real file, then the held changes over it
//! ```
//! Invariant: the real file never holds a change of which `sync` was not called yet. Names (create, rename, remove) take
//! effect at once: what they lose is the simulation's business.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use ledgermq_raft_store::disk::{Disk, DiskFile, Open, RealDisk, Space};

/// [`RealDisk`] with held writes. All handles of a path share what is held.
pub struct HeldDisk {
    real: RealDisk,
    files: Mutex<BTreeMap<PathBuf, Arc<HeldFile>>>,
}

struct HeldFile {
    real: Arc<dyn DiskFile>,
    held: Mutex<Held>,
}

struct Held {
    len: u64,
    changes: Vec<Change>,
}

enum Change {
    Write {
        position: u64,
        bytes: Vec<u8>,
    },
    /// A write of zeros, of which a segment gets many: kept as a range.
    Zeros {
        position: u64,
        len: u64,
    },
    SetLen(u64),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HeldDisk {
    /// A disk with nothing held.
    pub fn new(real: RealDisk) -> Self {
        Self {
            real,
            files: Mutex::new(BTreeMap::new()),
        }
    }
}

impl Disk for HeldDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.real.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.real.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.real.exists(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = locked(&self.files);
        if let Some(file) = files.get(path) {
            return Ok(file.clone());
        }
        // A handle that only reads may be the first of a path; those that write later share it.
        let real = self
            .real
            .open(path, if how == Open::Read { Open::Write } else { how })?;
        let len = real.len()?;
        let file = Arc::new(HeldFile {
            real,
            held: Mutex::new(Held {
                len,
                changes: Vec::new(),
            }),
        });
        files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = locked(&self.files);
        self.real.rename(from, to)?;
        match files.remove(from) {
            Some(file) => files.insert(to.to_owned(), file),
            None => files.remove(to),
        };
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut files = locked(&self.files);
        self.real.remove(path)?;
        files.remove(path);
        Ok(())
    }

    fn aside(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.real.aside(work)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.real.space(dir)
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.real.sync_dir(dir)
    }
}

impl DiskFile for HeldFile {
    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.held).len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut held = locked(&self.held);
        held.len = len;
        held.changes.push(Change::SetLen(len));
        Ok(())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let held = locked(&self.held);
        let rest = held.len.saturating_sub(position);
        let wanted = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..wanted];
        let mut read = 0;
        while read < wanted {
            match self.real.read_at(position + read as u64, &mut buffer[read..])? {
                0 => break,
                n => read += n,
            }
        }
        // What the real file does not have yet was made by a held change, or is a hole.
        buffer[read..].fill(0);
        for change in &held.changes {
            change.show(position, buffer);
        }
        Ok(wanted)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut held = locked(&self.held);
        let len = bytes.len() as u64;
        held.len = held.len.max(position + len);
        held.changes.push(if bytes.iter().all(|&byte| byte == 0) {
            Change::Zeros { position, len }
        } else {
            Change::Write {
                position,
                bytes: bytes.to_vec(),
            }
        });
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async {
            {
                let mut held = locked(&self.held);
                for change in std::mem::take(&mut held.changes) {
                    change.carry_out(self.real.as_ref())?;
                }
            }
            self.real.sync().await
        })
    }
}

impl Change {
    /// Shows itself in `buffer`, which holds the file's bytes from `position` on.
    fn show(&self, position: u64, buffer: &mut [u8]) {
        let (from, until) = match self {
            Change::Write { position, bytes } => (*position, *position + bytes.len() as u64),
            Change::Zeros { position, len } => (*position, *position + len),
            Change::SetLen(len) => (*len, u64::MAX),
        };
        let start = from.max(position);
        let end = until.min(position + buffer.len() as u64);
        if start >= end {
            return;
        }
        let target = &mut buffer[(start - position) as usize..(end - position) as usize];
        match self {
            Change::Write { bytes, .. } => {
                target.copy_from_slice(&bytes[(start - from) as usize..(end - from) as usize]);
            }
            Change::Zeros { .. } | Change::SetLen(_) => target.fill(0),
        }
    }

    fn carry_out(self, file: &dyn DiskFile) -> io::Result<()> {
        static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
        match self {
            Change::Write { position, bytes } => file.write_at(position, &bytes),
            Change::Zeros { mut position, mut len } => {
                while len > 0 {
                    let piece = len.min(PIECE.len() as u64);
                    file.write_at(position, &PIECE[..piece as usize])?;
                    position += piece;
                    len -= piece;
                }
                Ok(())
            }
            Change::SetLen(len) => file.set_len(len),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use ledgermq_raft_store::disk::FaultyDisk;

    use super::*;

    /// Draws from a fixed sequence.
    struct Draws(u64);

    impl Draws {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 33) % bound
        }
    }

    /// A temporary folder's disk and one file of it, opened.
    fn open_file(folder: &tempfile::TempDir) -> (HeldDisk, PathBuf, Arc<dyn DiskFile>) {
        let disk = HeldDisk::new(RealDisk);
        let path = folder.path().join("file");
        let file = disk.open(&path, Open::Create).expect("a new file");
        (disk, path, file)
    }

    #[test]
    fn reads_what_a_disk_in_memory_reads() {
        for seed in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let (_disk, _path, held) = open_file(&folder);
            let model = FaultyDisk::new(seed);
            model.create_dir_all(Path::new("/d")).expect("a folder");
            let model = model.open(Path::new("/d/f"), Open::Create).expect("a new file");
            let mut draws = Draws(seed);
            for _ in 0..300 {
                match draws.below(10) {
                    0 => {
                        let len = draws.below(5000);
                        held.set_len(len).and(model.set_len(len)).expect("set_len");
                    }
                    1 => block_on(held.sync()).expect("sync"),
                    2..=5 => {
                        let byte = draws.below(3) as u8;
                        let bytes = vec![byte; draws.below(700) as usize];
                        let position = draws.below(5000);
                        held.write_at(position, &bytes)
                            .and(model.write_at(position, &bytes))
                            .expect("write");
                    }
                    _ => {
                        let position = draws.below(6000);
                        let (mut ours, mut theirs) = (vec![7; 900], vec![7; 900]);
                        let n = held.read_at(position, &mut ours).expect("read");
                        assert_eq!(n, model.read_at(position, &mut theirs).expect("read"));
                        assert_eq!(ours[..n], theirs[..n]);
                        assert_eq!(held.len().expect("len"), model.len().expect("len"));
                    }
                }
            }
        }
    }

    #[test]
    fn the_real_file_holds_only_what_was_synced() {
        let folder = tempfile::tempdir().expect("a folder");
        let (disk, path, file) = open_file(&folder);
        file.write_at(0, b"synced").expect("write");
        block_on(file.sync()).expect("sync");
        file.write_at(6, b" and lost").expect("write");
        assert_eq!(std::fs::read(&path).expect("the real file"), b"synced");
        let mut buffer = [0; 15];
        let other = disk.open(&path, Open::Read).expect("a second handle");
        assert_eq!(other.read_at(0, &mut buffer).expect("read"), 15);
        assert_eq!(&buffer, b"synced and lost");
        // Closing every handle writes nothing either.
        drop((other, file));
        assert_eq!(std::fs::read(&path).expect("the real file"), b"synced");
    }

    #[test]
    fn held_changes_follow_a_rename() {
        let folder = tempfile::tempdir().expect("a folder");
        let (disk, path, file) = open_file(&folder);
        file.write_at(0, b"held").expect("write");
        let renamed = folder.path().join("renamed");
        disk.rename(&path, &renamed).expect("rename");
        let mut buffer = [0; 4];
        disk.open(&renamed, Open::Read)
            .and_then(|file| file.read_at(0, &mut buffer))
            .expect("read");
        assert_eq!(&buffer, b"held");
    }
}
