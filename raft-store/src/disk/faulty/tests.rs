//! What the faulty disk keeps, loses and tears.

use std::path::Path;

use futures::executor::block_on;

use super::FaultyDisk;
use crate::disk::{Disk, Open, conformance};

#[test]
fn conforms() {
    let mut seed = 0;
    conformance::run(|| {
        seed += 1;
        (FaultyDisk::new(seed), "/disk".into())
    });
}

fn disk(seed: u64) -> FaultyDisk {
    let disk = FaultyDisk::new(seed);
    disk.create_dir_all(Path::new("/d")).expect("create directory");
    disk
}

#[test]
fn synced_bytes_survive_and_others_may_not() {
    let path = Path::new("/d/file");
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..300 {
        let disk = disk(seed);
        let file = disk.open(path, Open::Create).expect("open");
        file.write_at(0, &[1; 2000]).expect("write");
        block_on(file.sync()).expect("sync");
        block_on(disk.sync_dir(Path::new("/d"))).expect("sync directory");
        file.write_at(2000, &[2; 3000]).expect("write");
        disk.crash();
        assert!(file.len().is_err(), "a handle from before the crash");
        let file = disk.open(path, Open::Read).expect("open again");
        let mut bytes = vec![0; 5000];
        let count = file.read_at(0, &mut bytes).expect("read");
        assert!(count >= 2000 && bytes[..2000].iter().all(|byte| *byte == 1));
        match bytes[2000..].iter().filter(|byte| **byte == 2).count() {
            3000 => kept += 1,
            0 => lost += 1,
            _ => torn += 1,
        }
    }
    assert!(
        kept > 20 && lost > 20 && torn > 20,
        "kept {kept}, lost {lost}, torn {torn}"
    );
}

#[test]
fn the_durable_part_can_be_looked_at() {
    let path = Path::new("/d/file");
    let disk = disk(1);
    let file = disk.open(path, Open::Create).expect("open");
    file.write_at(0, b"synced").expect("write");
    block_on(file.sync()).expect("sync");
    assert!(!disk.durable().exists(path).expect("looks"), "its name is not synced");
    block_on(disk.sync_dir(Path::new("/d"))).expect("sync directory");
    file.write_at(6, b" and not").expect("write");
    let durable = disk.durable().open(path, Open::Read).expect("open");
    assert_eq!(durable.len().expect("length"), 6);
    assert_eq!(file.len().expect("length"), 14, "the disk itself goes on");
}

#[test]
fn names_need_their_own_sync() {
    let gone = (0..100).filter(|seed| {
        let disk = disk(*seed);
        let file = disk.open(Path::new("/d/file"), Open::Create).expect("open");
        file.write_at(0, b"x").expect("write");
        block_on(file.sync()).expect("sync");
        disk.crash();
        !disk.exists(Path::new("/d/file")).expect("exists")
    });
    let gone = gone.count();
    assert!((20..80).contains(&gone), "{gone} of 100 names lost");
}

#[test]
fn a_failed_sync_loses_bytes_for_good() {
    let disk = disk(7);
    let path = Path::new("/d/file");
    let file = disk.open(path, Open::Create).expect("open");
    block_on(disk.sync_dir(Path::new("/d"))).expect("sync directory");
    file.write_at(0, b"lost").expect("write");
    disk.fail_next_sync();
    block_on(file.sync()).expect_err("told to fail");
    block_on(file.sync()).expect("the next one succeeds");
    let mut bytes = [0; 4];
    file.read_at(0, &mut bytes).expect("read");
    assert_eq!(&bytes, b"lost", "readers go on seeing the bytes");
    disk.crash();
    assert_eq!(disk.open(path, Open::Read).expect("open").len().expect("len"), 0);
}

#[test]
fn space_writes_and_bits_fail_on_demand() {
    let disk = disk(3);
    let path = Path::new("/d/file");
    let file = disk.open(path, Open::Create).expect("open");
    let space = || disk.space(Path::new("/d")).expect("space");
    assert_eq!(space().used_percent(), 0);
    disk.capacity_bytes(Some(8192));
    file.write_at(0, &[5; 4096]).expect("fits");
    assert_eq!((space().total_bytes, space().free_bytes), (8192, 4096));
    file.write_at(0, &[5; 8192]).expect("fits");
    assert_eq!(space().used_percent(), 100);
    let full = file.write_at(8192, &[5]).expect_err("full");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    file.write_at(100, &[5; 10]).expect("no new page");
    disk.fail_next_write();
    file.write_at(0, &[6; 100]).expect_err("told to fail");
    disk.flip_bit(path, 5000).expect("flip");
    let mut byte = [0];
    file.read_at(5000, &mut byte).expect("read");
    assert_eq!((byte[0] ^ 5).count_ones(), 1);
}

#[test]
fn one_seed_is_one_story() {
    let story = |seed| {
        let disk = disk(seed);
        let file = disk.open(Path::new("/d/file"), Open::Create).expect("open");
        block_on(disk.sync_dir(Path::new("/d"))).expect("sync directory");
        for round in 0..50_u64 {
            file.write_at(round * 700, &[round as u8 + 1; 900]).expect("write");
        }
        disk.crash();
        let mut bytes = vec![0; 50 * 700 + 900];
        let file = disk.open(Path::new("/d/file"), Open::Read).expect("open");
        let count = file.read_at(0, &mut bytes).expect("read");
        (count, crc32c::crc32c(&bytes))
    };
    assert_eq!(story(5), story(5));
    assert_ne!(story(5), story(6));
}
