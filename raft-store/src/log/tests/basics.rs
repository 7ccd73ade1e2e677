//! Appending, reading, group commit, truncation, purge, poison: without crashes.

use super::*;

#[tokio::test(start_paused = true)]
async fn entries_come_back_from_memory_and_from_disk() {
    let disk = faulty(1);
    let log = start(&disk).await.expect("opens");
    assert_eq!(log.state(), Default::default());
    let mut all = Vec::new();
    for round in 0..40 {
        let more = frames(1 + round / 10, round * 3..round * 3 + 3, (round as usize * 37) % 700);
        all.extend(more.clone());
        append(&log, more).await.expect("durable");
        assert_eq!(read_all(&log).expect("readable"), all);
        assert_eq!(read_all_aside(&log).await.expect("readable"), all);
    }
    assert!(disk.list(Path::new(DIR)).expect("list").len() > 10, "several segments");
    let starts: Vec<EntryId> = (0..4).map(|term| EntryId::new(term + 1, term * 30)).collect();
    assert_eq!(log.term_starts(), starts);
    assert_eq!(*log.durable().borrow(), LogIndex(119));
    drop(log);
    idle().await;
    let log = start(&disk).await.expect("opens again");
    assert_eq!(read_all(&log).expect("readable"), all);
    assert_eq!(log.term_starts(), starts);
    assert_eq!(log.state().durable, Some(EntryId::new(4, 119)));
    append(&log, frames(4, 120..125, 10)).await.expect("goes on");
    assert_eq!(
        log.read(LogIndex(124), LogIndex(125), 0).expect("readable"),
        frames(4, 124..125, 10)
    );
    assert!(
        log.read(LogIndex(125), LogIndex(126), 100)
            .expect("readable")
            .is_empty()
    );
}

#[tokio::test]
async fn the_real_disk_does_the_same() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let options = LogOptions {
        dir: folder.path().join("log"),
        segment_bytes: 64 << 10,
        tail_cache_bytes: 4096,
        seed: 1,
        planted: Planted::default(),
    };
    let disk: Arc<dyn Disk> = Arc::new(crate::disk::RealDisk);
    let (log, writer) = Log::open(disk.clone(), options.clone()).await.expect("opens");
    let thread = tokio::spawn(writer.run());
    let mut all = frames(1, 0..200, 1000);
    // Larger than a segment, and written from where it lies.
    all.extend(frames(2, 200..202, 300 << 10));
    append(&log, all.clone()).await.expect("durable");
    log.save_vote(Bytes::from_static(b"vote")).await.expect("durable");
    log.save_committed(Some(EntryId::new(1, 5))).await.expect("noted");
    log.truncate_after(Some(LogIndex(199))).await.expect("truncated");
    append(&log, frames(3, 200..210, 500)).await.expect("durable");
    log.purge(EntryId::new(1, 99)).await.expect("purged");
    drop(log);
    thread.await.expect("the writer ends with the last handle");
    let log = start_with(disk, options).await.expect("opens again");
    let expected: Vec<Frame> = all[100..200].iter().cloned().chain(frames(3, 200..210, 500)).collect();
    assert_eq!(read_all(&log).expect("readable"), expected);
    assert_eq!(read_all_aside(&log).await.expect("readable"), expected);
    assert_eq!(log.vote().as_deref(), Some(b"vote".as_slice()));
    assert_eq!(log.committed(), Some(EntryId::new(1, 5)));
    assert_eq!(log.term_starts(), [EntryId::new(1, 100), EntryId::new(3, 200)]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_written_and_synced_at_once() {
    let disk = faulty(2);
    let log = start(&disk).await.expect("opens");
    append(&log, frames(1, 0..1, 10)).await.expect("durable");
    let (syncs, writes) = (disk.syncs(), disk.writes());
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    for index in 1..21 {
        let order = order.clone();
        let done = move |result: io::Result<()>| {
            result.expect("durable");
            order.lock().expect("no panic").push(index);
        };
        log.append(frames(1, index..index + 1, 50), Box::new(done))
            .expect("taken");
        assert_eq!(log.state().last, Some(EntryId::new(1, index)), "readable at once");
    }
    assert_eq!(log.state().durable, Some(EntryId::new(1, 0)));
    let mut durable = log.durable();
    durable
        .wait_for(|index| *index == LogIndex(20))
        .await
        .expect("the writer runs");
    tokio::task::yield_now().await;
    assert_eq!(*order.lock().expect("no panic"), (1..21).collect::<Vec<u64>>());
    assert_eq!(
        (disk.syncs() - syncs, disk.writes() - writes),
        (1, 2),
        "one sync for twenty appends: one write of them, one of where they lie"
    );
    assert!(log.fsync_histogram().iter().map(|(_, count)| count).sum::<u64>() >= 2);
    idle().await;
    assert_eq!(
        (disk.syncs() - syncs, disk.writes() - writes),
        (2, 3),
        "and a seal when nothing more came"
    );
    idle().await;
    assert_eq!(disk.syncs() - syncs, 2, "one only");
}

#[tokio::test(start_paused = true)]
async fn refusals_change_nothing() {
    let log = start(&faulty(3)).await.expect("opens");
    append(&log, frames(2, 0..3, 10)).await.expect("durable");
    for wrong in [frames(2, 4..5, 1), frames(2, 2..3, 1), frames(1, 3..4, 1)] {
        let (count, seen) = counter();
        let done = move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        };
        let refused = log.append(wrong, Box::new(done)).expect_err("does not follow");
        assert_eq!((refused.kind(), seen()), (io::ErrorKind::InvalidInput, 0));
    }
    log.purge(EntryId::new(2, 1)).await.expect("purged");
    let refused = log.truncate_after(Some(LogIndex(0))).await.expect_err("purged");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(log.poison(), None);
    append(&log, frames(2, 3..4, 1)).await.expect("goes on");
    assert_eq!(log.state().purged, Some(EntryId::new(2, 1)));
}

#[tokio::test(start_paused = true)]
async fn truncation_at_every_place() {
    for last in (0..30).map(Some).chain([None]) {
        let disk = faulty(4);
        let log = start(&disk).await.expect("opens");
        let all = frames(1, 0..30, 400);
        append(&log, all.clone()).await.expect("durable");
        if last.is_some_and(|last| last % 2 == 0) {
            idle().await;
        }
        log.truncate_after(last.map(LogIndex)).await.expect("truncated");
        let kept = last.map_or(0, |last| last + 1);
        assert_eq!(read_all(&log).expect("readable"), all[..kept as usize]);
        assert_eq!(log.state().durable, last.map(|last| EntryId::new(1, last)));
        let more = frames(2, kept..kept + 12, 300);
        append(&log, more.clone()).await.expect("durable");
        let expected: Vec<Frame> = all[..kept as usize].iter().chain(&more).cloned().collect();
        assert_eq!(read_all(&log).expect("readable"), expected);
        drop(log);
        disk.crash();
        let log = start(&disk).await.expect("opens again");
        assert_eq!(
            read_all(&log).expect("readable"),
            expected,
            "after truncation to {last:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn purge_deletes_whole_segments_and_readers_keep_theirs() {
    let disk = faulty(5);
    let log = start(&disk).await.expect("opens");
    append(&log, frames(1, 0..40, 700)).await.expect("durable");
    let before = disk.list(Path::new(DIR)).expect("list").len();
    log.shared.load(1).expect("readable");
    let located = log.shared.index().locate(LogIndex(0), LogIndex(3), 10_000, 10_000);
    let super::super::index::Located::There(span, _) = located else {
        panic!("on disk")
    };
    log.purge(EntryId::new(1, 20)).await.expect("purged");
    assert!(disk.list(Path::new(DIR)).expect("list").len() < before);
    assert_eq!(
        super::super::reading::read_span(&span).expect("still there"),
        frames(1, 0..3, 700)
    );
    assert!(log.read(LogIndex(20), LogIndex(21), 100).expect("absent").is_empty());
    assert_eq!(read_all(&log).expect("readable"), frames(1, 21..40, 700));
    assert_eq!(log.term_starts(), [EntryId::new(1, 21)]);
    // A snapshot ahead of the log.
    log.purge(EntryId::new(3, 99)).await.expect("purged");
    let at = Some(EntryId::new(3, 99));
    let empty = crate::log::LogState {
        purged: at,
        last: at,
        durable: at,
    };
    assert_eq!(log.state(), empty);
    drop(log);
    disk.crash();
    let log = start(&disk).await.expect("opens again");
    assert_eq!(log.state(), empty);
    append(&log, frames(3, 100..110, 700)).await.expect("durable");
    drop(log);
    disk.crash();
    let log = start(&disk).await.expect("opens again");
    assert_eq!(read_all(&log).expect("readable"), frames(3, 100..110, 700));
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_is_the_last() {
    for (write, seed) in [(true, 6), (false, 7)] {
        let disk = faulty(seed);
        let log = start(&disk).await.expect("opens");
        append(&log, frames(1, 0..3, 10)).await.expect("durable");
        if write {
            disk.fail_next_write()
        } else {
            disk.fail_next_sync()
        };
        let (count, seen) = counter();
        for index in 3..6 {
            let count = count.clone();
            let done = move |result: io::Result<()>| {
                count.fetch_add(result.is_err().into(), Ordering::SeqCst);
            };
            log.append(frames(1, index..index + 1, 10), Box::new(done))
                .expect("taken");
        }
        idle().await;
        assert_eq!(seen(), 3, "every pending append is told");
        assert!(log.poison().expect("poisoned").contains("injected"));
        log.append(frames(1, 6..7, 1), Box::new(|_| panic!("never called")))
            .expect_err("stopped");
        log.save_vote(Bytes::new()).await.expect_err("stopped");
        log.truncate_after(None).await.expect_err("stopped");
        log.purge(EntryId::new(1, 1)).await.expect_err("stopped");
        log.save_committed(None).await.expect_err("stopped");
        assert_eq!(log.state().durable, Some(EntryId::new(1, 2)));
        drop(log);
        disk.crash();
        let log = start(&disk).await.expect("opens again");
        assert!(read_all(&log).expect("readable").starts_with(&frames(1, 0..3, 10)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_and_a_dropped_writer_stop_the_log() {
    let disk = faulty(8);
    let log = start(&disk).await.expect("opens");
    append(&log, frames(1, 0..3, 10)).await.expect("durable");
    disk.capacity_bytes(Some(disk.used_bytes()));
    append(&log, frames(1, 3..9, 3000)).await.expect_err("full");
    assert!(log.poison().expect("poisoned").contains("no space left"));
    let (log, writer) = Log::open(faulty(9), options()).await.expect("opens");
    let (count, seen) = counter();
    let done = move |result: io::Result<()>| {
        count.fetch_add(result.is_err().into(), Ordering::SeqCst);
    };
    log.append(frames(1, 0..1, 1), Box::new(done)).expect("taken");
    drop(writer);
    assert_eq!(seen(), 1);
    assert!(log.poison().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_log_may_begin_in_the_middle() {
    let disk = faulty(10);
    let log = start(&disk).await.expect("opens");
    append(&log, frames(1, 2..6, 10)).await.expect("durable");
    assert_eq!(
        log.read(LogIndex(2), LogIndex(9), 999).expect("readable"),
        frames(1, 2..6, 10)
    );
    let last = Some(EntryId::new(1, 5));
    for purged in [EntryId::new(1, 1), EntryId::new(1, 3)] {
        log.purge(purged).await.expect("purged");
        let expected = crate::log::LogState {
            purged: Some(purged),
            last,
            durable: last,
        };
        assert_eq!(log.state(), expected);
        let reopened = Log::open(disk.clone(), options()).await.expect("opens beside").0;
        assert_eq!(reopened.state(), expected);
        assert_eq!(
            read_all(&reopened).expect("readable"),
            frames(1, purged.index.get() + 1..6, 10)
        );
    }
}
