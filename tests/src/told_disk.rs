//! A disk that fails when it is told to: [`RealDisk`], and a tongue that says what goes wrong from now on.
//!
//! ```text
//!   fail writes        every write fails (EIO)
//!   fail syncs         every sync of a file fails (EIO)
//!   fill               no room: a write beyond what a file has reached fails (ENOSPC), and so does a new file
//!   stall once MS      the next sync takes so many milliseconds longer
//!   stall MS           every sync does, from now on
//!   heal               all is well again; a sync that is stalled goes on
//! ```
//! A stalled sync blocks its thread, as the system call would.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _, ready};
use ledgermq_raft_store::disk::{Disk, DiskFile, Open, RealDisk, Space};

/// The longest stall that can be asked for.
const STALL_MAX: Duration = Duration::from_secs(600);

/// What a disk can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Every write fails from now on.
    FailWrites,
    /// Every sync of a file fails from now on.
    FailSyncs,
    /// No room from now on.
    Fill,
    /// The next sync takes longer.
    StallOnce(Duration),
    /// Every sync takes longer from now on.
    Stall(Duration),
    /// Nothing is wrong any more.
    Heal,
}

impl FromStr for Word {
    type Err = String;

    fn from_str(line: &str) -> Result<Word, String> {
        let stall = |ms: &str| match ms.parse().map(Duration::from_millis) {
            Ok(stall) if stall <= STALL_MAX => Ok(stall),
            _ => Err(format!(
                "{ms:?} is no number of milliseconds up to {}",
                STALL_MAX.as_millis()
            )),
        };
        match *line.split_whitespace().collect::<Vec<_>>() {
            ["fail", "writes"] => Ok(Word::FailWrites),
            ["fail", "syncs"] => Ok(Word::FailSyncs),
            ["fill"] => Ok(Word::Fill),
            ["stall", "once", ms] => stall(ms).map(Word::StallOnce),
            ["stall", ms] => stall(ms).map(Word::Stall),
            ["heal"] => Ok(Word::Heal),
            _ => Err(format!("a disk cannot be told {line:?}")),
        }
    }
}

/// What is wrong at the moment.
#[derive(Default)]
struct Wrong {
    writes: bool,
    syncs: bool,
    full: bool,
    stall: Duration,
    stall_next: Duration,
    /// Counts the stalls that have begun.
    stalls: u64,
    /// Counts the healings: a stall that began before one is over.
    healed: u64,
}

/// Tells a [`ToldDisk`] what to do; clones speak to the same disk.
#[derive(Clone, Default)]
pub struct Tongue {
    wrong: Arc<(Mutex<Wrong>, Condvar)>,
}

impl Tongue {
    /// What is said holds for everything that begins afterwards.
    pub fn say(&self, word: Word) {
        let mut wrong = self.wrong();
        match word {
            Word::FailWrites => wrong.writes = true,
            Word::FailSyncs => wrong.syncs = true,
            Word::Fill => wrong.full = true,
            Word::StallOnce(stall) => wrong.stall_next = stall,
            Word::Stall(stall) => wrong.stall = stall,
            Word::Heal => {
                *wrong = Wrong {
                    stalls: wrong.stalls,
                    healed: wrong.healed + 1,
                    ..Wrong::default()
                };
            }
        }
        self.wrong.1.notify_all();
    }

    fn wrong(&self) -> MutexGuard<'_, Wrong> {
        self.wrong.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a write, or to a new name, that needs more room than the file has.
    fn write(&self, grows: bool) -> io::Result<()> {
        let wrong = self.wrong();
        if wrong.writes {
            return Err(io::Error::other("the disk was told to fail writes"));
        }
        if wrong.full && grows {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the disk was told to have no room",
            ));
        }
        Ok(())
    }

    /// The answer to a sync, after the stall that was asked for.
    fn sync(&self) -> io::Result<()> {
        let mut wrong = self.wrong();
        let stall = wrong.stall + std::mem::take(&mut wrong.stall_next);
        let healed = wrong.healed;
        if !stall.is_zero() {
            wrong.stalls += 1;
            let stalled = self
                .wrong
                .1
                .wait_timeout_while(wrong, stall, |wrong| wrong.healed == healed);
            wrong = stalled.unwrap_or_else(PoisonError::into_inner).0;
        }
        match wrong.syncs {
            true => Err(io::Error::other("the disk was told to fail syncs")),
            false => Ok(()),
        }
    }
}

/// [`RealDisk`] that does what its [`Tongue`] says.
pub struct ToldDisk {
    real: RealDisk,
    tongue: Tongue,
    /// How far each file was ever written, which all its handles share.
    reached: Mutex<BTreeMap<PathBuf, Arc<Mutex<u64>>>>,
}

struct ToldFile {
    real: Arc<dyn DiskFile>,
    tongue: Tongue,
    /// Bytes below have their place on the disk.
    reached: Arc<Mutex<u64>>,
}

impl ToldDisk {
    /// A disk on which nothing is wrong, and its tongue.
    pub fn new(real: RealDisk) -> (Self, Tongue) {
        let tongue = Tongue::default();
        let disk = Self {
            real,
            tongue: tongue.clone(),
            reached: Mutex::default(),
        };
        (disk, tongue)
    }

    fn reached(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<Mutex<u64>>>> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for ToldDisk {
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
        if how == Open::Create {
            self.tongue.write(!self.real.exists(path)?)?;
        }
        let real = self.real.open(path, how)?;
        let len = real.len()?;
        let reached = self
            .reached()
            .entry(path.to_owned())
            .or_insert_with(|| Arc::new(Mutex::new(len)))
            .clone();
        Ok(Arc::new(ToldFile {
            real,
            tongue: self.tongue.clone(),
            reached,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.tongue.write(false)?;
        let mut reached = self.reached();
        self.real.rename(from, to)?;
        match reached.remove(from) {
            Some(file) => reached.insert(to.to_owned(), file),
            None => reached.remove(to),
        };
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.real.remove(path)?;
        self.reached().remove(path);
        Ok(())
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.real.space(dir)
    }

    fn aside(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.real.aside(work)
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        match self.tongue.sync() {
            Ok(()) => self.real.sync_dir(dir),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}

impl DiskFile for ToldFile {
    fn len(&self) -> io::Result<u64> {
        self.real.len()
    }

    /// Takes no room by itself: the new bytes are a hole.
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.tongue.write(false)?;
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        self.real.set_len(len)?;
        *reached = len.min(*reached);
        Ok(())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.real.read_at(position, buffer)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let end = position + bytes.len() as u64;
        self.tongue.write(end > *reached)?;
        self.real.write_at(position, bytes)?;
        *reached = end.max(*reached);
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        match self.tongue.sync() {
            Ok(()) => self.real.sync(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn opened(folder: &tempfile::TempDir) -> (ToldDisk, Tongue, Arc<dyn DiskFile>) {
        let (disk, tongue) = ToldDisk::new(RealDisk);
        let file = disk
            .open(&folder.path().join("file"), Open::Create)
            .expect("a new file");
        (disk, tongue, file)
    }

    #[test]
    fn fails_as_told_until_healed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_disk, tongue, file) = opened(&folder);
        file.write_at(0, b"a")
            .and_then(|()| block_on(file.sync()))
            .expect("well");
        tongue.say(Word::FailWrites);
        assert!(file.write_at(0, b"b").is_err());
        block_on(file.sync()).expect("syncs are well");
        tongue.say(Word::FailSyncs);
        assert!(block_on(file.sync()).is_err());
        tongue.say(Word::Heal);
        file.write_at(0, b"c")
            .and_then(|()| block_on(file.sync()))
            .expect("well again");
        let mut byte = [0];
        file.read_at(0, &mut byte).expect("read");
        assert_eq!(&byte, b"c", "a failed write has written nothing");
    }

    #[test]
    fn a_full_disk_takes_what_has_its_place_already() {
        let folder = tempfile::tempdir().expect("a folder");
        let (disk, tongue, file) = opened(&folder);
        file.write_at(0, &[1; 100]).expect("room");
        tongue.say(Word::Fill);
        file.set_len(5000).expect("a hole takes no room");
        file.write_at(50, &[2; 50]).expect("its own place");
        let full = file.write_at(50, &[2; 51]).expect_err("one byte more");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(disk.open(&folder.path().join("new"), Open::Create).is_err());
        disk.open(&folder.path().join("file"), Open::Create).expect("it exists");
    }

    #[test]
    fn a_stalled_sync_goes_on_when_healed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_disk, tongue, file) = opened(&folder);
        tongue.say(Word::Stall(STALL_MAX));
        std::thread::scope(|scope| {
            let stalled = scope.spawn(|| block_on(file.sync()));
            while tongue.wrong().stalls == 0 {
                std::thread::yield_now();
            }
            tongue.say(Word::Heal);
            stalled.join().expect("no panic").expect("a good sync");
        });
        tongue.say(Word::StallOnce(Duration::from_millis(1)));
        block_on(file.sync()).expect("after a millisecond");
        assert!(tongue.wrong().stall_next.is_zero(), "once");
    }

    #[test]
    fn words() {
        assert_eq!("fail  writes".parse(), Ok(Word::FailWrites));
        assert_eq!("stall once 20".parse(), Ok(Word::StallOnce(Duration::from_millis(20))));
        assert_eq!("stall 2000".parse(), Ok(Word::Stall(Duration::from_secs(2))));
        for wrong in ["", "fail", "stall", "stall x", "stall 600001", "heal now"] {
            assert!(wrong.parse::<Word>().is_err(), "{wrong:?}");
        }
    }
}
