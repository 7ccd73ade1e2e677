//! Folders that the real log wrote on a real disk, whole and damaged, and the verdicts on them.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use tokio::sync::oneshot;

use super::*;
use crate::disk::RealDisk;
use crate::log::format::{FRAME_HEADER_BYTES, frame_bytes};
use crate::log::{Frame, Log, LogOptions};
use crate::planted::Planted;

const LEN: usize = 200;
const ENTRIES: u64 = 60;

struct Folder {
    dir: tempfile::TempDir,
}

fn frame(index: u64) -> Frame {
    let body = Bytes::from(vec![index as u8; LEN]);
    Frame {
        id: EntryId::new(1 + index / 25, index),
        kind: FrameKind::Commands,
        body_crc: crc32c::crc32c(&body),
        body,
    }
}

impl Folder {
    /// A log of 60 entries in segments of 4 KiB, each durable before the next; and a vote.
    async fn written() -> Folder {
        let folder = Folder {
            dir: tempfile::tempdir().expect("a folder"),
        };
        folder.append(0..ENTRIES, None).await;
        folder
    }

    async fn append(&self, range: std::ops::Range<u64>, purge: Option<EntryId>) {
        let options = LogOptions {
            dir: self.log(),
            segment_bytes: 4096,
            tail_cache_bytes: 1 << 10,
            seed: 1,
            planted: Planted::default(),
        };
        let (log, writer) = Log::open(Arc::new(RealDisk), options).await.expect("opens");
        let writer = tokio::spawn(writer.run());
        log.save_vote(Bytes::from_static(b"a vote")).await.expect("saves");
        for index in range {
            let (sender, receiver) = oneshot::channel();
            let done = Box::new(move |result| drop(sender.send(result)));
            log.append(vec![frame(index)], done).expect("follows");
            receiver.await.expect("answers").expect("durable");
        }
        if let Some(id) = purge {
            log.save_committed(Some(id)).await.expect("notes");
            log.purge(id).await.expect("purges");
        }
        drop(log);
        writer.await.expect("ends");
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn verify(&self) -> Report {
        self.walk(LogIndex(0), LogIndex(u64::MAX), Bodies::Check).1
    }

    fn walk(&self, from: LogIndex, to: LogIndex, bodies: Bodies) -> (Vec<Entry>, Report) {
        let before = self.bytes();
        let mut entries = Vec::new();
        let report = walk(&RealDisk, &self.log(), &Scope { from, to, bodies }, &mut |seen| {
            if let Seen::Entry(entry) = seen {
                entries.push(entry.clone());
            }
            ControlFlow::Continue(())
        });
        assert!(before == self.bytes(), "looking changes nothing");
        (entries, report.expect("readable"))
    }

    fn bytes(&self) -> Vec<(String, Vec<u8>)> {
        let names = RealDisk.list(&self.log()).expect("lists");
        let read = |name: String| {
            let bytes = std::fs::read(self.log().join(&name)).expect("reads");
            (name, bytes)
        };
        names.into_iter().map(read).collect()
    }

    fn entry(&self, index: u64) -> Entry {
        let (entries, _) = self.walk(LogIndex(index), LogIndex(index + 1), Bodies::Skip);
        entries.into_iter().next().expect("is there")
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.log().join(segment_name(number))
    }

    fn write(&self, segment: u64, position: u64, bytes: &[u8]) {
        let file = std::fs::OpenOptions::new().write(true).open(self.segment(segment));
        file.expect("opens").write_all_at(bytes, position).expect("writes");
    }

    fn flip(&self, segment: u64, position: u64) {
        let bytes = std::fs::read(self.segment(segment)).expect("reads");
        self.write(segment, position, &[bytes[position as usize] ^ 4]);
    }

    /// Zeroes everything in a segment from a position on.
    fn zero(&self, segment: u64, position: u64) {
        let length = std::fs::metadata(self.segment(segment)).expect("is there").len();
        self.write(segment, position, &vec![0; (length - position) as usize]);
    }
}

fn only(report: &Report) -> &Finding {
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    &report.findings[0]
}

#[tokio::test]
async fn a_whole_log_is_whole_and_counted() {
    let folder = Folder::written().await;
    let (entries, report) = folder.walk(LogIndex(0), LogIndex(u64::MAX), Bodies::Read);
    assert_eq!(report.findings, []);
    assert!(report.is_complete && !report.is_corrupt);
    assert_eq!(report.vote.as_deref(), Some(b"a vote".as_slice()));
    let found: Vec<(EntryId, Option<Bytes>)> = entries.into_iter().map(|entry| (entry.id, entry.body)).collect();
    let written: Vec<_> = (0..ENTRIES)
        .map(|index| (frame(index).id, Some(frame(index).body)))
        .collect();
    assert_eq!(found, written);
    assert!(report.segments.len() > 3);
    assert_eq!(report.segments.iter().map(SegmentReport::entries).sum::<u64>(), ENTRIES);
    let bodies: u64 = report.segments.iter().map(|segment| segment.body_bytes).sum();
    assert_eq!(bodies, ENTRIES * LEN as u64);
    let newest = report.segments.last().expect("some");
    assert_eq!(newest.last, Some(frame(ENTRIES - 1).id));
    assert!(newest.durable_end >= LogIndex(ENTRIES - 1));
}

#[tokio::test]
async fn a_part_is_walked_without_the_rest() {
    let folder = Folder::written().await;
    let (entries, report) = folder.walk(LogIndex(30), LogIndex(35), Bodies::Read);
    let indexes: Vec<u64> = entries.iter().map(|entry| entry.id.index.get()).collect();
    assert_eq!(indexes, [30, 31, 32, 33, 34]);
    assert!(!report.is_complete);
    assert_eq!(report.findings, []);
}

#[tokio::test]
async fn damage_in_bodies_is_named_and_the_walk_goes_on() {
    let folder = Folder::written().await;
    let damaged: Vec<Entry> = [3, 20, 50].map(|index| folder.entry(index)).into();
    for entry in &damaged {
        folder.flip(entry.segment, entry.position + FRAME_HEADER_BYTES as u64 + 7);
    }
    let (entries, report) = folder.walk(LogIndex(0), LogIndex(u64::MAX), Bodies::Check);
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|it| (it.file.clone(), it.position, it.index))
        .collect();
    let expected: Vec<_> = damaged
        .iter()
        .map(|it| (segment_name(it.segment), it.position, Some(it.id.index)))
        .collect();
    assert_eq!(found, expected);
    assert!(report.is_corrupt);
    assert_eq!(entries.len() as u64, ENTRIES);
    assert_eq!(entries.iter().filter(|entry| !entry.is_intact).count(), 3);
}

#[tokio::test]
async fn every_flipped_byte_of_a_header_is_corruption_at_its_place() {
    let folder = Folder::written().await;
    for index in [2, 56] {
        let entry = folder.entry(index);
        for byte in 0..FRAME_HEADER_BYTES as u64 {
            folder.flip(entry.segment, entry.position + byte);
            let report = folder.verify();
            let finding = only(&report);
            assert_eq!(
                (finding.position, finding.index),
                (entry.position, Some(entry.id.index)),
                "byte {byte}"
            );
            assert!(report.is_corrupt && finding.remedy.contains("rebuild"));
            folder.flip(entry.segment, entry.position + byte);
        }
    }
    assert_eq!(folder.verify().findings, []);
}

#[tokio::test]
async fn a_torn_tail_is_a_warning_and_says_what_is_cut() {
    let folder = Folder::written().await;
    let entry = folder.entry(ENTRIES - 1);
    // The header and a part of the body arrived.
    for kept in [20, 64, 100, 263] {
        folder.zero(entry.segment, entry.position + kept);
        let report = folder.verify();
        let finding = only(&report);
        assert_eq!(
            (finding.severity, finding.position),
            (Severity::Warning, entry.position),
            "{kept} bytes kept"
        );
        let torn = report.segments.last().expect("some").torn_bytes;
        assert!((1..=frame_bytes(LEN)).contains(&torn), "{torn}");
        let mut bytes = vec![0; frame_bytes(LEN) as usize];
        let (header, _) = FrameAgain::of(&folder, &entry);
        bytes[..FRAME_HEADER_BYTES].copy_from_slice(&header);
        bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + LEN].copy_from_slice(&frame(ENTRIES - 1).body);
        folder.write(entry.segment, entry.position, &bytes);
    }
    // The log thinks the same.
    folder.zero(entry.segment, entry.position + 70);
    folder.append(ENTRIES - 1..ENTRIES + 3, None).await;
    assert_eq!(folder.verify().findings, []);
}

/// The header of an entry as the log wrote it.
struct FrameAgain;

impl FrameAgain {
    fn of(folder: &Folder, entry: &Entry) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let before = folder.entry(entry.id.index.get() - 1);
        let bytes = std::fs::read(folder.segment(entry.segment)).expect("reads");
        let header = |at: u64| {
            let at = at as usize;
            <[u8; FRAME_HEADER_BYTES]>::try_from(&bytes[at..at + FRAME_HEADER_BYTES]).expect("64 bytes")
        };
        let (previous, checksum) = format::FrameHeader::decode(&header(before.position)).expect("intact");
        let again = format::FrameHeader {
            id: entry.id,
            durable_end: entry.id.index.get(),
            durable_position: entry.position as u32,
            body_crc: entry.body_crc,
            body_len: entry.body_len,
            previous: checksum,
            ..previous
        };
        again.encode()
    }
}

#[tokio::test]
async fn a_cut_file_and_a_missing_one_are_corruption() {
    let folder = Folder::written().await;
    let entry = folder.entry(20);
    let whole = std::fs::read(folder.segment(entry.segment)).expect("reads");
    std::fs::write(folder.segment(entry.segment), &whole[..entry.position as usize + 10]).expect("cuts");
    let report = folder.verify();
    assert_eq!(only(&report).index, Some(LogIndex(20)));
    assert!(report.is_corrupt);
    std::fs::remove_file(folder.segment(entry.segment)).expect("removes");
    let report = folder.verify();
    assert!(report.is_corrupt);
    assert!(
        only(&report).reason.contains("goes on with entry"),
        "{:?}",
        report.findings
    );
    std::fs::write(folder.segment(entry.segment), &whole).expect("puts it back");
    assert_eq!(folder.verify().findings, []);
    std::fs::remove_file(folder.segment(1)).expect("removes");
    assert!(only(&folder.verify()).reason.contains("is missing"));
}

#[tokio::test]
async fn what_an_earlier_use_left_is_no_torn_tail() {
    let folder = Folder::written().await;
    let old = folder.entry(3);
    let bytes = std::fs::read(folder.segment(old.segment)).expect("reads");
    let report = folder.verify();
    let newest = report.segments.last().expect("some");
    folder.write(
        newest.segment,
        newest.end,
        &bytes[old.position as usize..][..frame_bytes(LEN) as usize],
    );
    let report = folder.verify();
    assert_eq!(report.findings, []);
    assert!(report.segments.last().expect("some").leftover_bytes > 0);
}

#[tokio::test]
async fn slots_and_purges_are_read() {
    let folder = Folder::written().await;
    folder.append(ENTRIES..ENTRIES + 1, Some(frame(30).id)).await;
    let report = folder.verify();
    assert_eq!(report.findings, []);
    assert_eq!(
        (report.purged, report.committed),
        (Some(frame(30).id), Some(frame(30).id))
    );
    assert!(report.segments[0].first.expect("has entries").index > LogIndex(0));
    std::fs::write(folder.log().join("vote"), vec![7; 16 << 10]).expect("writes");
    std::fs::write(folder.log().join("committed"), vec![7; 16 << 10]).expect("writes");
    let report = folder.verify();
    assert_eq!((only(&report).file.as_str(), report.committed), ("vote", None));
    assert!(report.is_corrupt);
}

#[tokio::test]
async fn a_visitor_can_stop() {
    let folder = Folder::written().await;
    let scope = Scope {
        from: LogIndex(0),
        to: LogIndex(u64::MAX),
        bodies: Bodies::Skip,
    };
    let mut seen = 0;
    let report = walk(&RealDisk, &folder.log(), &scope, &mut |_| {
        seen += 1;
        if seen == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(!report.expect("readable").is_complete);
    assert_eq!(seen, 3);
}
