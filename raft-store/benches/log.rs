//! What an append costs until it is durable, by the size of the batch that one sync serves, on the real disk.
//!
//! The folder is made below `LEDGERMQ_BENCH_DIR`, else below the system's temporary folder: it must not be in memory,
//! or the syncs are free.

use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ledgermq_raft_store::Planted;
use ledgermq_raft_store::disk::RealDisk;
use ledgermq_raft_store::log::{Frame, FrameKind, Log, LogOptions};
use ledgermq_raft_store::types::{EntryId, LogIndex};

fn append(criterion: &mut Criterion) {
    let root = std::env::var_os("LEDGERMQ_BENCH_DIR").unwrap_or_else(|| std::env::temp_dir().into_os_string());
    let mut cases = criterion.benchmark_group("append_and_sync");
    cases.sample_size(20);
    for (entries, body_bytes) in [(1, 1 << 10), (1, 64 << 10), (16, 64 << 10), (1, 4 << 20)] {
        let folder = tempfile::tempdir_in(&root).expect("temporary folder");
        let options = LogOptions {
            dir: folder.path().join("log"),
            segment_bytes: 1 << 30,
            tail_cache_bytes: 32 << 20,
            seed: 1,
            planted: Planted::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("runtime");
        let (log, writer) = runtime.block_on(Log::open(Arc::new(RealDisk), options)).expect("log");
        // The writer has a thread of its own, as in production.
        let thread = std::thread::Builder::new().name("log-writer".to_owned());
        let thread = thread.spawn(move || runtime.block_on(writer.run())).expect("thread");
        let body = Bytes::from(vec![7; body_bytes]);
        let body_crc = crc32c::crc32c(&body);
        let mut next = 0;
        cases.throughput(Throughput::Bytes(entries * body_bytes as u64));
        let name = BenchmarkId::from_parameter(format!("{entries}x{}KiB", body_bytes >> 10));
        cases.bench_function(name, |bencher| {
            bencher.iter(|| {
                let entry = |index| {
                    let (id, kind) = (EntryId::new(1, index), FrameKind::Commands);
                    Frame {
                        id,
                        kind,
                        body: body.clone(),
                        body_crc,
                    }
                };
                let frames = (next..next + entries).map(entry).collect();
                next += entries;
                let (sender, receiver) = std::sync::mpsc::channel();
                log.append(frames, Box::new(move |result| drop(sender.send(result))))
                    .expect("taken");
                receiver.recv().expect("the writer runs").expect("durable");
            });
        });
        check(&log, next);
        drop(log);
        thread.join().expect("the writer ends");
    }
    cases.finish();
}

/// Checks that everything is there, so that nothing is measured that was not done.
fn check(log: &Log, entries: u64) {
    assert_eq!(*log.durable().borrow(), LogIndex(entries - 1));
    assert!(!log.read(LogIndex(0), LogIndex(1), 1).expect("readable").is_empty());
}

criterion_group!(benches, append);
criterion_main!(benches);
