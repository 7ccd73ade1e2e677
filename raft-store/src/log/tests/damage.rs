//! Torn or corrupt: what recovery makes of damaged places.

use std::ops::ControlFlow;

use super::*;
use crate::disk::Open;
use crate::log::format::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, frame_bytes};
use crate::log::inspect;

/// Position of an entry in a segment of equal entries.
fn position(entry: u64, len: usize) -> u64 {
    SEGMENT_HEADER_BYTES as u64 + entry * frame_bytes(len)
}

async fn stopped_log(disk: &Arc<FaultyDisk>, seal: bool) {
    let log = start(disk).await.expect("opens");
    for index in 0..8 {
        append(&log, frames(1, index..index + 1, 100)).await.expect("durable");
    }
    if seal {
        idle().await;
    }
    disk.kill();
}

fn corruption(opened: Result<Log, OpenLogError>) -> crate::log::Corruption {
    match opened.err().expect("refused") {
        OpenLogError::Corrupt(corruption) => corruption,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotten_bit_below_the_durable_index_is_corruption() {
    for at in [
        position(0, 100) + 9,
        position(3, 100) + 70,
        position(6, 100) + 40,
        position(6, 100) + 160,
    ] {
        let disk = faulty(at);
        stopped_log(&disk, false).await;
        disk.flip_bit(&segment_path(1), at).expect("inside");
        disk.remove(&sidecar_path(1)).expect("remove");
        let found = corruption(start(&disk).await);
        assert_eq!(found.file, "00000000000000000001.segment");
        let entry = (at - SEGMENT_HEADER_BYTES as u64) / frame_bytes(100);
        assert_eq!(
            (found.position, found.index),
            (position(entry, 100), Some(LogIndex(entry)))
        );
        assert!(found.to_string().contains("rebuild this replica from its peers"));
    }
}

/// Found by the fuzz target `recovery`: an inspection took it for a segment that was being created.
#[tokio::test(start_paused = true)]
async fn a_segment_that_ends_in_its_header_is_inspected_as_it_is_opened() {
    let disk = faulty(1);
    append(&start(&disk).await.expect("opens"), frames(1, 0..60, 100))
        .await
        .expect("durable");
    disk.kill();
    let newest = (1..)
        .take_while(|number| disk.exists(&segment_path(*number)).expect("no fault"))
        .last();
    let path = segment_path(newest.expect("there are segments"));
    disk.open(&path, Open::Write).expect("opens").set_len(1).expect("cuts");
    let scope = inspect::Scope {
        from: LogIndex(0),
        to: LogIndex(u64::MAX),
        bodies: inspect::Bodies::Check,
    };
    let report = inspect::walk(
        disk.as_ref(),
        Path::new(DIR),
        &scope,
        &mut |_| ControlFlow::Continue(()),
    );
    assert!(report.expect("no fault").is_corrupt);
    assert_eq!(corruption(start(&disk).await).position, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rotten_bit_that_opening_passed_over_is_not_served() {
    for at in [9, 70] {
        let disk = faulty(at);
        stopped_log(&disk, false).await;
        disk.flip_bit(&segment_path(1), position(0, 100) + at).expect("inside");
        let log = start(&disk).await.expect("the first frames are not read");
        let refused = log.read(LogIndex(0), LogIndex(1), 100).expect_err("damaged");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(refused.to_string().contains("rebuild this replica"), "{refused}");
        assert_eq!(
            log.read(LogIndex(7), LogIndex(8), 100).expect("readable"),
            frames(1, 7..8, 100)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_is_gone_rotten_or_of_another_past_is_made_again() {
    for case in 0..200 {
        let disk = faulty(case);
        let log = start(&disk).await.expect("opens");
        append(&log, frames(1, 0..60, 200)).await.expect("durable");
        let stale = (case % 4 == 0).then(|| {
            let file = disk.open(&sidecar_path(1), Open::Read).expect("open");
            let mut bytes = vec![0; file.len().expect("length") as usize];
            file.read_at(0, &mut bytes).expect("read");
            bytes
        });
        log.truncate_after(Some(LogIndex(5))).await.expect("cut");
        append(&log, frames(2, 6..60, 210)).await.expect("durable");
        disk.kill();
        drop(log);
        let mut sidecars = disk.list(Path::new(DIR)).expect("list");
        sidecars.retain(|name| name.ends_with(".index"));
        let path = Path::new(DIR).join(&sidecars[case as usize % sidecars.len()]);
        match stale {
            Some(bytes) => disk
                .open(&sidecar_path(1), Open::Write)
                .expect("open")
                .write_at(0, &bytes)
                .expect("write"),
            None if case % 4 == 1 => disk.remove(&path).expect("remove"),
            None => {
                let length = disk.open(&path, Open::Read).expect("open").len().expect("length");
                disk.flip_bit(&path, case * 7 % length).expect("inside");
            }
        }
        let log = start(&disk).await.expect("opens");
        let mut expected = frames(1, 0..6, 200);
        expected.extend(frames(2, 6..60, 210));
        assert_eq!(read_all(&log).expect("readable"), expected, "case {case}");
        assert_eq!(
            log.term_starts(),
            [EntryId::new(1, 0), EntryId::new(2, 6)],
            "case {case}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn opening_reads_no_old_segment() {
    let disk = faulty(9);
    let log = start(&disk).await.expect("opens");
    append(&log, frames(1, 0..200, 200)).await.expect("durable");
    disk.kill();
    drop(log);
    let log = start(&disk).await.expect("opens");
    let (old, all) = {
        let index = log.shared.index();
        let cold = |number| index.segment(number).is_some_and(|segment| segment.positions.is_none());
        let newest = index.newest_segment().expect("some").segment;
        ((1..newest).filter(|number| cold(*number)).count() as u64, newest - 1)
    };
    assert!(all > 8);
    assert_eq!(old, all, "their positions come when they are asked for");
    assert_eq!(read_all(&log).expect("readable"), frames(1, 0..200, 200));
}

#[tokio::test(start_paused = true)]
async fn a_seal_vouches_for_the_newest_entry() {
    for (seal, at) in [(false, 5), (false, 80), (true, 5), (true, 80)] {
        let disk = faulty(at);
        stopped_log(&disk, seal).await;
        disk.flip_bit(&segment_path(1), position(7, 100) + at).expect("inside");
        let opened = start(&disk).await;
        if seal {
            assert_eq!(corruption(opened).index, Some(LogIndex(7)));
        } else {
            // Nothing on disk says that entry 7 was durable: it looks like a torn write.
            let log = opened.expect("a torn tail never refuses to start");
            assert_eq!(log.state().last, Some(EntryId::new(1, 6)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_seal_does_not_hide_what_follows() {
    let disk = faulty(1);
    stopped_log(&disk, true).await;
    let log = start(&disk).await.expect("opens");
    append(&log, frames(1, 8..9, 100)).await.expect("durable");
    disk.kill();
    drop(log);
    disk.flip_bit(&segment_path(1), position(8, 100) + 20).expect("inside");
    assert_eq!(corruption(start(&disk).await).position, position(8, 100));
}

#[tokio::test(start_paused = true)]
async fn whole_segments_that_vanish_or_break_are_corruption() {
    for case in 0..4 {
        let disk = faulty(case);
        let log = start(&disk).await.expect("opens");
        append(&log, frames(1, 0..60, 200)).await.expect("durable");
        disk.kill();
        drop(log);
        match case {
            0 => disk.remove(&segment_path(1)).expect("remove"),
            1 => disk.remove(&segment_path(2)).expect("remove"),
            2 => disk.flip_bit(&segment_path(2), 30).expect("flip"),
            _ => disk.flip_bit(&segment_path(4), 30).expect("flip"),
        }
        corruption(start(&disk).await);
    }
}

#[tokio::test(start_paused = true)]
async fn damage_in_an_older_body_is_not_served() {
    let disk = faulty(4);
    let log = start(&disk).await.expect("opens");
    append(&log, frames(1, 0..60, 200)).await.expect("durable");
    disk.flip_bit(&segment_path(1), position(2, 200) + FRAME_HEADER_BYTES as u64 + 10)
        .expect("flip");
    assert_eq!(
        log.read(LogIndex(1), LogIndex(2), 100).expect("readable"),
        frames(1, 1..2, 200)
    );
    let refused = log.read(LogIndex(2), LogIndex(3), 100).expect_err("damaged");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    assert!(refused.to_string().contains("entry 2"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn any_torn_tail_opens() {
    let len = 100;
    for cut in 0..frame_bytes(len) * 3 {
        let disk = faulty(cut);
        stopped_log(&disk, false).await;
        // Three entries in one unsynced write, of which any part is missing at the end.
        let log = start(&disk).await.expect("opens");
        let synced = disk.open(&segment_path(1), Open::Write).expect("open");
        disk.fail_next_sync();
        append(&log, frames(2, 8..11, len)).await.expect_err("the sync fails");
        let torn = position(8, len) + cut;
        let zeros = vec![0; (position(11, len) - torn) as usize];
        synced.write_at(torn, &zeros).expect("write");
        disk.kill();
        drop(log);
        let log = start(&disk).await.expect("a torn tail never refuses to start");
        let whole = cut / frame_bytes(len);
        let last = log.state().last.expect("not empty");
        // Zeros at the end of a frame may be its padding.
        assert!(
            last.index.get() == 7 + whole || last.index.get() == 8 + whole,
            "cut at {cut}: {last}"
        );
        append(&log, frames(3, last.index.get() + 1..last.index.get() + 4, len))
            .await
            .expect("goes on");
        disk.kill();
        drop(log);
        let log = start(&disk).await.expect("opens");
        assert_eq!(log.state().last.map(|id| id.index), Some(last.index.plus(3)));
        read_all(&log).expect("readable");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_sync_lost_is_written_again() {
    for seed in 0..50 {
        let disk = faulty(seed);
        let log = start(&disk).await.expect("opens");
        append(&log, frames(1, 0..2, 50)).await.expect("durable");
        disk.fail_next_sync();
        append(&log, frames(1, 2..4, 50)).await.expect_err("the sync fails");
        // The process restarts and still sees the entries in the page cache; then the power goes.
        disk.kill();
        drop(log);
        let log = start(&disk).await.expect("opens");
        let seen = log.state().durable.expect("not empty");
        assert_eq!(seen.index, LogIndex(3));
        disk.crash();
        drop(log);
        let log = start(&disk).await.expect("opens");
        assert_eq!(log.state().last, Some(seen), "what was reported durable stays");
    }
}

/// Entries are cut off, and the sidecar, whose shortening is not synced, still speaks of them after a crash; then the same
/// entries come again. Frames that a block names are not durable because they are there.
#[tokio::test(start_paused = true)]
async fn a_block_that_outlived_a_truncation_vouches_for_nothing() {
    for seed in 0..300 {
        let disk = faulty(seed);
        let log = start(&disk).await.expect("opens");
        append(&log, frames(1, 0..2, 300)).await.expect("durable");
        append(&log, frames(1, 2..7, 300)).await.expect("durable");
        let sidecar = disk.open(&sidecar_path(1), Open::Write).expect("open");
        let mut outlived = vec![0; sidecar.len().expect("len") as usize];
        sidecar.read_at(0, &mut outlived).expect("read");
        log.truncate_after(Some(LogIndex(1))).await.expect("cuts");
        assert!(sidecar.len().expect("len") < outlived.len() as u64);
        sidecar.write_at(0, &outlived).expect("write");
        sidecar.sync().await.expect("sync");
        disk.sync_delay(std::time::Duration::from_secs(1)..std::time::Duration::from_secs(2));
        log.append(frames(1, 2..7, 300), Box::new(|_| {})).expect("takes them");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        disk.crash();
        disk.sync_delay(std::time::Duration::ZERO..std::time::Duration::ZERO);
        let log = start(&disk)
            .await
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let held = read_all(&log).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(
            held.len() >= 2 && held == frames(1, 0..held.len() as u64, 300),
            "seed {seed}"
        );
    }
}

/// A crash brings the first block of an earlier life back in front of a later one that fits it in all but the places.
#[tokio::test(start_paused = true)]
async fn a_block_that_outlived_a_truncation_is_told_between_newer_ones() {
    let disk = faulty(1);
    let log = start(&disk).await.expect("opens");
    append(&log, frames(1, 0..3, 300)).await.expect("durable");
    let sidecar = disk.open(&sidecar_path(1), Open::Write).expect("open");
    let mut outlived = vec![0; sidecar.len().expect("len") as usize];
    sidecar.read_at(0, &mut outlived).expect("read");
    assert!(!outlived.is_empty(), "a block is there");
    log.truncate_after(Some(LogIndex(0))).await.expect("cuts");
    let uneven = vec![frame(EntryId::new(1, 1), 500), frame(EntryId::new(1, 2), 100)];
    append(&log, uneven.clone()).await.expect("durable");
    assert_eq!(sidecar.len().expect("len"), outlived.len() as u64, "as long as before");
    append(&log, frames(1, 3..6, 300)).await.expect("durable");
    append(&log, frames(1, 6..7, 300)).await.expect("durable");
    assert!(sidecar.len().expect("len") > outlived.len() as u64, "another block");
    sidecar.write_at(0, &outlived).expect("write");
    disk.kill();
    let log = start(&disk).await.expect("opens");
    let held = read_all(&log).expect("readable");
    let expected = [frames(1, 0..1, 300), uneven, frames(1, 3..7, 300)].concat();
    assert_eq!(held, expected);
}

/// A crash brings back the summary of an earlier life, which ended before the seal: what a truncation zeroes goes to the
/// true end all the same.
#[tokio::test(start_paused = true)]
async fn a_summary_that_knows_no_seal_does_not_save_it_from_a_truncation() {
    let disk = faulty(1);
    let log = start(&disk).await.expect("opens");
    for index in 0..4 {
        append(&log, frames(1, index..index + 1, 300)).await.expect("durable");
    }
    append(&log, frames(1, 4..5, 3000)).await.expect("durable");
    let sidecar = disk.open(&sidecar_path(1), Open::Write).expect("open");
    let mut outlived = vec![0; sidecar.len().expect("len") as usize];
    sidecar.read_at(0, &mut outlived).expect("read");
    log.truncate_after(Some(LogIndex(2))).await.expect("cuts");
    append(&log, frames(1, 3..4, 300)).await.expect("durable");
    idle().await;
    append(&log, frames(1, 4..5, 3000)).await.expect("durable");
    sidecar.set_len(outlived.len() as u64).expect("cut");
    sidecar.write_at(0, &outlived).expect("write");
    disk.kill();
    let log = start(&disk).await.expect("opens");
    log.truncate_after(Some(LogIndex(1))).await.expect("cuts");
    disk.kill();
    let log = start(&disk).await.expect("nothing is left behind the cut");
    assert_eq!(read_all(&log).expect("readable"), frames(1, 0..2, 300));
}

/// Whoever can send a message can have it hold what looks like a frame of a later version. In the old bytes of a recycled
/// segment it says nothing; only a frame of this very segment does.
#[tokio::test(start_paused = true)]
async fn a_later_version_speaks_for_its_own_segment_alone() {
    for (of_it, refused) in [(false, false), (true, true)] {
        let disk = faulty(1);
        stopped_log(&disk, false).await;
        let file = disk.open(&segment_path(1), Open::Write).expect("open");
        let mut frame = [0; 64];
        file.read_at(64, &mut frame).expect("read");
        frame[4] = 9;
        if !of_it {
            frame[44] ^= 1;
        }
        let checksum = crc32c::crc32c(&frame[..60]);
        frame[60..].copy_from_slice(&checksum.to_le_bytes());
        let words = (0..file.len().expect("len")).step_by(8).filter(|at| {
            let mut word = [0; 8];
            file.read_at(*at, &mut word).expect("read") == 8 && word != [0; 8]
        });
        let last = words.last().expect("it holds frames");
        file.write_at(last + 8, &frame).expect("write");
        let opened = start(&disk).await;
        let named = matches!(opened, Err(OpenLogError::Version { version: 9, .. }));
        assert_eq!((named, opened.is_ok()), (refused, !refused));
    }
}

/// The system tells a failed sync of a folder once. Whoever is told, the log must stop.
#[tokio::test(start_paused = true)]
async fn a_folder_that_the_sweeper_could_not_sync_stops_the_log() {
    for fails in [false, true] {
        let disk = faulty(1);
        let (log, mut writer) = Log::open(disk.clone(), options()).await.expect("opens");
        let sweeper = writer.sweeper().expect("taken once");
        tokio::spawn(writer.run());
        for index in 0..40 {
            append(&log, frames(1, index..index + 1, 300)).await.expect("durable");
        }
        log.purge(EntryId::new(1, 30)).await.expect("purges");
        idle().await;
        if fails {
            disk.fail_next_sync();
        }
        let sweeping = tokio::spawn(sweeper.run());
        idle().await;
        assert_eq!(append(&log, frames(1, 40..41, 300)).await.is_err(), fails);
        sweeping.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn another_version_is_named() {
    let disk = faulty(1);
    stopped_log(&disk, true).await;
    let file = disk.open(&segment_path(1), Open::Write).expect("open");
    let mut header = [0; 64];
    file.read_at(0, &mut header).expect("read");
    header[4] = 9;
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    file.write_at(0, &header).expect("write");
    let refused = start(&disk).await.err().expect("refused");
    assert!(matches!(refused, OpenLogError::Version { version: 9, .. }), "{refused}");
    let options = LogOptions {
        segment_bytes: 100,
        ..options()
    };
    assert!(matches!(
        Log::open(disk, options).await.err(),
        Some(OpenLogError::SegmentBytes(100))
    ));
}
