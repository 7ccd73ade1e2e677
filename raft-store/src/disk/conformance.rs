//! What every [`Disk`] must do, run against each implementation.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use futures::executor::block_on;

use super::{Disk, Open};

/// Runs the whole suite; `make` answers a disk and a directory on it that does not exist yet.
pub fn run<D: Disk>(mut make: impl FnMut() -> (D, PathBuf)) {
    let suite: [fn(&dyn Disk, &Path); 6] = [names, opening, reading_and_writing, lengths, removed_and_renamed, room];
    for case in suite {
        let (disk, dir) = make();
        disk.create_dir_all(&dir.join("log")).expect("create directories");
        disk.create_dir_all(&dir.join("log")).expect("once more");
        case(&disk, &dir.join("log"));
    }
}

fn names(disk: &dyn Disk, dir: &Path) {
    assert_eq!(
        disk.list(&dir.join("none")).expect_err("no directory").kind(),
        ErrorKind::NotFound
    );
    assert!(disk.list(dir).expect("list").is_empty());
    for name in ["b", "a", "c10", "c9"] {
        disk.open(&dir.join(name), Open::Create).expect("create");
    }
    assert_eq!(disk.list(dir).expect("list"), ["a", "b", "c10", "c9"]);
    let above = dir.parent().expect("has a parent");
    assert!(disk.list(above).expect("list").is_empty(), "directories are not listed");
    assert!(disk.exists(&dir.join("a")).expect("exists"));
    assert!(!disk.exists(&dir.join("z")).expect("exists"));
    block_on(disk.sync_dir(dir)).expect("sync directory");
    block_on(disk.sync_dir(&dir.join("none"))).expect_err("no directory to sync");
}

fn opening(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("file");
    for how in [Open::Read, Open::Write] {
        let refused = disk.open(&path, how).err().expect("missing");
        assert_eq!(refused.kind(), ErrorKind::NotFound);
    }
    let file = disk.open(&path, Open::Create).expect("create");
    file.write_at(0, b"kept").expect("write");
    let again = disk.open(&path, Open::Create).expect("create never truncates");
    assert_eq!(again.len().expect("len"), 4);
    let reader = disk.open(&path, Open::Read).expect("open");
    reader.write_at(0, b"no").expect_err("opened for reading");
    disk.open(&path, Open::Write)
        .expect("open")
        .write_at(4, b"!")
        .expect("write");
    let mut bytes = [0; 8];
    assert_eq!(reader.read_at(0, &mut bytes).expect("sees other handles' writes"), 5);
    assert_eq!(&bytes[..5], b"kept!");
    disk.open(&dir.join("none/file"), Open::Create)
        .err()
        .expect("no such directory");
}

fn reading_and_writing(disk: &dyn Disk, dir: &Path) {
    let file = disk.open(&dir.join("file"), Open::Create).expect("create");
    assert!(file.is_empty().expect("is empty"));
    file.write_at(10_000, &[7; 5000]).expect("write behind the end");
    assert_eq!(file.len().expect("len"), 15_000);
    let mut bytes = vec![9; 20_000];
    assert_eq!(file.read_at(0, &mut bytes).expect("read"), 15_000);
    assert!(bytes[..10_000].iter().all(|byte| *byte == 0), "a gap reads as zeros");
    assert!(bytes[10_000..15_000].iter().all(|byte| *byte == 7));
    assert_eq!(file.read_at(14_999, &mut bytes[..10]).expect("read at the end"), 1);
    assert_eq!(file.read_at(15_000, &mut bytes[..10]).expect("read at the end"), 0);
    assert_eq!(file.read_at(99_999, &mut bytes[..10]).expect("read behind the end"), 0);
    file.write_at(12_000, &[8; 10]).expect("overwrite");
    assert_eq!(file.read_at(11_999, &mut bytes[..12]).expect("read"), 12);
    assert_eq!(&bytes[..12], [7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7]);
    block_on(file.sync()).expect("sync");
    block_on(file.sync()).expect("nothing to sync");
}

fn lengths(disk: &dyn Disk, dir: &Path) {
    let file = disk.open(&dir.join("file"), Open::Create).expect("create");
    file.write_at(0, &[3; 6000]).expect("write");
    file.set_len(10_000).expect("extend");
    let mut bytes = vec![9; 10_000];
    assert_eq!(file.read_at(0, &mut bytes).expect("read"), 10_000);
    assert!(bytes[6000..].iter().all(|byte| *byte == 0));
    file.set_len(100).expect("cut");
    assert_eq!(file.len().expect("len"), 100);
    file.set_len(6000).expect("extend again");
    assert_eq!(file.read_at(0, &mut bytes).expect("read"), 6000);
    assert!(bytes[..100].iter().all(|byte| *byte == 3));
    assert!(
        bytes[100..6000].iter().all(|byte| *byte == 0),
        "what a cut took away does not come back"
    );
}

fn removed_and_renamed(disk: &dyn Disk, dir: &Path) {
    let (old, new) = (dir.join("old"), dir.join("new"));
    let file = disk.open(&old, Open::Create).expect("create");
    file.write_at(0, b"old").expect("write");
    disk.open(&new, Open::Create)
        .expect("create")
        .write_at(0, b"newer")
        .expect("write");
    disk.rename(&old, &new).expect("rename");
    assert_eq!(disk.list(dir).expect("list"), ["new"]);
    assert_eq!(
        disk.open(&new, Open::Read).expect("open").len().expect("len"),
        3,
        "replaced"
    );
    assert_eq!(disk.rename(&old, &new).expect_err("gone").kind(), ErrorKind::NotFound);
    disk.remove(&new).expect("remove");
    assert_eq!(disk.remove(&new).expect_err("gone").kind(), ErrorKind::NotFound);
    let mut bytes = [0; 3];
    assert_eq!(file.read_at(0, &mut bytes).expect("an open handle stays good"), 3);
    assert_eq!(&bytes, b"old");
    let fresh = disk.open(&new, Open::Create).expect("create again");
    assert!(
        fresh.is_empty().expect("is empty"),
        "a new file of an old name is empty"
    );
    block_on(disk.sync_dir(dir)).expect("sync directory");
}

fn room(disk: &dyn Disk, dir: &Path) {
    let space = disk.space(dir).expect("space");
    assert!(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
    let none = disk.space(&dir.join("none")).expect_err("no such directory");
    assert_eq!(none.kind(), ErrorKind::NotFound);
}
