//! What the faulty disk holds: names, files, what of both is pending, and what a crash makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::image::{Image, PAGE_BYTES};
use crate::disk::Space;

/// Bytes that a disk writes whole or not at all, most of the time.
const SECTOR_BYTES: usize = 512;

/// What a disk without a capacity says that it has.
const UNBOUNDED_BYTES: u64 = 1 << 50;

/// Number of a file; names point to it.
pub type InodeId = u64;

/// A change of a file that is not durable yet.
enum FileChange {
    Write { position: u64, bytes: Vec<u8> },
    SetLen(u64),
}

#[derive(Default)]
struct Inode {
    current: Image,
    durable: Image,
    pending: Vec<(u64, FileChange)>,
}

/// A change of names that is not durable yet.
enum NameChange {
    Link {
        path: PathBuf,
        inode: InodeId,
    },
    Unlink {
        path: PathBuf,
    },
    /// Both at once.
    Rename {
        from: PathBuf,
        to: PathBuf,
        inode: InodeId,
    },
}

/// The whole disk.
pub struct State {
    draws: u64,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, InodeId>,
    durable_names: BTreeMap<PathBuf, InodeId>,
    pending_names: Vec<(u64, NameChange)>,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    /// Changes made so far; numbers them.
    pub changes: u64,
    pub crashes: u64,
    pub fail_writes: u32,
    pub fail_syncs: u32,
    pub capacity: Option<u64>,
    pub sync_delay: Range<Duration>,
    pub syncs: u64,
    pub writes: u64,
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

fn stale() -> io::Error {
    io::Error::other("the file was opened before the crash")
}

impl State {
    pub fn new(seed: u64) -> State {
        State {
            draws: seed,
            dirs: BTreeSet::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            changes: 0,
            crashes: 0,
            fail_writes: 0,
            fail_syncs: 0,
            capacity: None,
            sync_delay: Duration::ZERO..Duration::ZERO,
            syncs: 0,
            writes: 0,
        }
    }

    /// The same disk without what is pending.
    pub fn durable(&self) -> State {
        let inode = |(id, inode): (&InodeId, &Inode)| {
            let kept = Inode {
                current: inode.durable.clone(),
                durable: inode.durable.clone(),
                pending: Vec::new(),
            };
            (*id, kept)
        };
        State {
            dirs: self.dirs.clone(),
            names: self.durable_names.clone(),
            durable_names: self.durable_names.clone(),
            inodes: self.inodes.iter().map(inode).collect(),
            next_inode: self.next_inode,
            ..State::new(self.draws)
        }
    }

    /// The next number of the seed's sequence (splitmix64).
    fn draw(&mut self) -> u64 {
        self.draws = self.draws.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.draws;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    pub fn draw_delay(&mut self) -> Duration {
        let span = self.sync_delay.end.saturating_sub(self.sync_delay.start).as_nanos() as u64;
        match span {
            0 => self.sync_delay.start,
            _ => self.sync_delay.start + Duration::from_nanos(self.below(span)),
        }
    }

    pub fn check_alive(&self, crashes: u64) -> io::Result<()> {
        if crashes == self.crashes { Ok(()) } else { Err(stale()) }
    }

    fn change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    // Names.

    pub fn create_dir_all(&mut self, path: &Path) {
        for dir in path.ancestors() {
            self.dirs.insert(dir.to_path_buf());
        }
    }

    pub fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        let inside = self.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    pub fn find(&self, path: &Path) -> io::Result<InodeId> {
        self.names.get(path).copied().ok_or_else(|| not_found(path))
    }

    pub fn find_or_create(&mut self, path: &Path) -> io::Result<InodeId> {
        if let Ok(inode) = self.find(path) {
            return Ok(inode);
        }
        if !path.parent().is_some_and(|dir| self.dirs.contains(dir)) {
            return Err(not_found(path));
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.names.insert(path.to_path_buf(), inode);
        let number = self.change();
        self.pending_names.push((
            number,
            NameChange::Link {
                path: path.to_path_buf(),
                inode,
            },
        ));
        Ok(inode)
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if from.parent() != to.parent() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "renamed into another directory",
            ));
        }
        let inode = self.find(from)?;
        self.names.remove(from);
        self.names.insert(to.to_path_buf(), inode);
        let number = self.change();
        let change = NameChange::Rename {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
            inode,
        };
        self.pending_names.push((number, change));
        Ok(())
    }

    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.names.remove(path);
        let number = self.change();
        self.pending_names.push((
            number,
            NameChange::Unlink {
                path: path.to_path_buf(),
            },
        ));
        Ok(())
    }

    fn settle_name(durable: &mut BTreeMap<PathBuf, InodeId>, change: NameChange) {
        match change {
            NameChange::Link { path, inode } => {
                durable.insert(path, inode);
            }
            NameChange::Unlink { path } => {
                durable.remove(&path);
            }
            NameChange::Rename { from, to, inode } => {
                durable.remove(&from);
                durable.insert(to, inode);
            }
        }
    }

    pub fn sync_dir(&mut self, dir: &Path, upto: u64) -> io::Result<()> {
        if !self.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        let concerns = |change: &NameChange| match change {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path.parent() == Some(dir),
            NameChange::Rename { to, .. } => to.parent() == Some(dir),
        };
        if std::mem::take(&mut self.fail_syncs) > 0 {
            return Err(io::Error::other("injected: sync of a directory failed"));
        }
        for (number, change) in std::mem::take(&mut self.pending_names) {
            if number > upto || !concerns(&change) {
                self.pending_names.push((number, change));
            } else {
                State::settle_name(&mut self.durable_names, change);
            }
        }
        Ok(())
    }

    // Files.

    fn inode(&self, inode: InodeId) -> io::Result<&Inode> {
        self.inodes.get(&inode).ok_or_else(stale)
    }

    fn inode_mut(&mut self, inode: InodeId) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(stale)
    }

    pub fn len(&self, inode: InodeId) -> io::Result<u64> {
        Ok(self.inode(inode)?.current.len())
    }

    pub fn used_bytes(&self) -> u64 {
        let pages = |inode: &InodeId| self.inodes.get(inode).map_or(0, |inode| inode.current.page_count());
        self.names.values().map(pages).sum::<u64>() * PAGE_BYTES
    }

    /// Room as the capacity has it; without one, more than anybody fills.
    pub fn space(&self, dir: &Path) -> io::Result<Space> {
        if !self.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        let total_bytes = self.capacity.unwrap_or(UNBOUNDED_BYTES);
        Ok(Space {
            total_bytes,
            free_bytes: total_bytes.saturating_sub(self.used_bytes()),
        })
    }

    pub fn read_at(&self, inode: InodeId, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.inode(inode)?.current.read(position, buffer))
    }

    pub fn set_len(&mut self, inode: InodeId, len: u64) -> io::Result<()> {
        let number = self.change();
        let file = self.inode_mut(inode)?;
        file.current.set_len(len);
        file.pending.push((number, FileChange::SetLen(len)));
        Ok(())
    }

    fn put(&mut self, inode: InodeId, position: u64, bytes: &[u8]) -> io::Result<()> {
        let number = self.change();
        let file = self.inode_mut(inode)?;
        file.current.write(position, bytes);
        file.pending.push((
            number,
            FileChange::Write {
                position,
                bytes: bytes.to_vec(),
            },
        ));
        Ok(())
    }

    pub fn write_at(&mut self, inode: InodeId, position: u64, bytes: &[u8]) -> io::Result<()> {
        if self.fail_writes > 0 {
            self.fail_writes -= 1;
            let arrived = self.below(bytes.len() as u64 + 1) as usize;
            self.put(inode, position, &bytes[..arrived])?;
            return Err(io::Error::other("injected: write failed"));
        }
        if let Some(capacity) = self.capacity {
            let added = self.inode(inode)?.current.pages_added_by(position, bytes.len()) * PAGE_BYTES;
            if added > 0 && self.used_bytes() + added > capacity {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "injected: no space left"));
            }
        }
        self.put(inode, position, bytes)?;
        self.writes += 1;
        Ok(())
    }

    pub fn sync(&mut self, inode: InodeId, upto: u64) -> io::Result<()> {
        let failing = std::mem::take(&mut self.fail_syncs) > 0;
        let file = self.inode_mut(inode)?;
        let split = file.pending.partition_point(|(number, _)| *number <= upto);
        let later = file.pending.split_off(split);
        let settled = std::mem::replace(&mut file.pending, later);
        if failing {
            return Err(io::Error::other("injected: sync failed"));
        }
        for (_, change) in settled {
            match change {
                FileChange::Write { position, bytes } => file.durable.write(position, &bytes),
                FileChange::SetLen(len) => file.durable.set_len(len),
            }
        }
        self.syncs += 1;
        Ok(())
    }

    pub fn flip_bit(&mut self, path: &Path, position: u64) -> io::Result<()> {
        let mask = 1 << self.below(8);
        let inode = self.find(path)?;
        let file = self.inode_mut(inode)?;
        if position >= file.current.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the file does not reach so far",
            ));
        }
        let mut byte = [0];
        file.current.read(position, &mut byte);
        file.current.write(position, &[byte[0] ^ mask]);
        if position < file.durable.len() {
            file.durable.read(position, &mut byte);
            file.durable.write(position, &[byte[0] ^ mask]);
        }
        Ok(())
    }

    // The end of a process, and of power.

    pub fn kill(&mut self) {
        self.crashes += 1;
    }

    pub fn crash(&mut self) {
        self.crashes += 1;
        for (_, change) in std::mem::take(&mut self.pending_names) {
            if self.below(2) == 0 {
                State::settle_name(&mut self.durable_names, change);
            }
        }
        self.names = self.durable_names.clone();
        let linked: BTreeSet<InodeId> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| linked.contains(inode));
        for (number, mut file) in std::mem::take(&mut self.inodes) {
            for (_, change) in std::mem::take(&mut file.pending) {
                self.settle_in_part(&mut file.durable, change);
            }
            file.current = file.durable.clone();
            self.inodes.insert(number, file);
        }
    }

    /// A pending change meets a crash: kept, lost, or kept in part.
    fn settle_in_part(&mut self, durable: &mut Image, change: FileChange) {
        match (change, self.below(6)) {
            (_, 0 | 1) => {}
            (FileChange::SetLen(len), _) => durable.set_len(len),
            (FileChange::Write { position, bytes }, 2 | 3) => durable.write(position, &bytes),
            (FileChange::Write { position, bytes }, 4) => self.settle_sectors(durable, position, &bytes),
            (FileChange::Write { position, bytes }, _) => {
                let kept = self.below(bytes.len() as u64 + 1) as usize;
                // Mostly the head arrives; at times only the tail does.
                match self.below(4) {
                    0 => durable.write(position + kept as u64, &bytes[kept..]),
                    _ => durable.write(position, &bytes[..kept]),
                }
            }
        }
    }

    fn settle_sectors(&mut self, durable: &mut Image, position: u64, bytes: &[u8]) {
        let mut start = 0;
        while start < bytes.len() {
            let at = position + start as u64;
            let end = (start + SECTOR_BYTES - (at % SECTOR_BYTES as u64) as usize).min(bytes.len());
            if self.below(2) == 0 {
                durable.write(at, &bytes[start..end]);
            }
            start = end;
        }
    }
}
