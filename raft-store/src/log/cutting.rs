//! Truncation and purge: the two ways in which a log gets shorter.
//!
//! A truncation spans several files, so it is announced in the marks first. A crash in the middle leaves the
//! announcement, and recovery finishes the work before it reads anything. Steps:
//!
//! 1. everything appended before is durable; 2. the mark is durable; 3. the entries vanish from memory; 4. later
//!    segments are deleted, newest first; 5. the cut range is zeroed and synced, the directory is synced; 6. the mark
//!    is taken back.
//!
//! A purge marks the newest purged entry durably, then deletes the segments that hold nothing else.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::log::format::{Cut, FrameHeader, Marks, SegmentHeader, segment_name};
use crate::log::reading::read_header;
use crate::log::segment::{Segment, zero};
use crate::log::sidecar::{Place, Sidecar, read_positions, sidecar_name};
use crate::log::sweeper::Retired;
use crate::log::writer::{Store, Writer};
use crate::marks::mark;
use crate::planted::Bug;
use crate::types::{EntryId, LogIndex, Term};

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// Deletes segments, in the order given.
pub fn delete_segments(disk: &dyn Disk, dir: &Path, segments: &[u64]) -> io::Result<()> {
    for segment in segments {
        let sidecar = dir.join(sidecar_name(*segment));
        if disk.exists(&sidecar)? {
            disk.remove(&sidecar)?;
        }
        disk.remove(&dir.join(segment_name(*segment)))?;
    }
    Ok(())
}

impl Store {
    async fn mark(&mut self, marks: Marks) -> io::Result<()> {
        self.marks.replace(&marks.encode()).await?;
        self.marked = marks;
        Ok(())
    }

    /// Hands purged segments to the sweeper, or deletes them where it does not run.
    async fn retire(&mut self, segments: Vec<Retired>) -> io::Result<()> {
        if self.sweeper.is_some() {
            let numbers: Vec<u64> = segments.into_iter().map(|(number, _)| number).collect();
            return self.delete(&numbers).await;
        }
        for retired in segments {
            // A sweeper that has ended leaves them to the next start.
            let _ = self.retired.send(retired);
        }
        Ok(())
    }

    async fn delete(&mut self, segments: &[u64]) -> io::Result<()> {
        if segments.is_empty() {
            return Ok(());
        }
        delete_segments(self.disk.as_ref(), &self.dir, segments)?;
        self.disk.sync_dir(&self.dir).await
    }
}

/// What stays of a segment that is cut.
struct Kept {
    header: SegmentHeader,
    checksum: u32,
    place: Place,
    /// Nothing was written from here on.
    until: u32,
    file: Arc<dyn DiskFile>,
}

impl Writer {
    /// Drops the entries behind `last`. `InvalidInput` when that reaches into what was purged.
    pub(super) async fn truncate_after(&mut self, last: Option<LogIndex>) -> io::Result<()> {
        let synced = self.shared.index().state().durable;
        self.settle().await?;
        let shared = self.shared();
        let found = {
            let index = shared.index();
            let end = last.map_or(LogIndex(0), LogIndex::next);
            let end = if index.purged().is_none() {
                end.max(index.first())
            } else {
                end
            };
            if end < index.first() {
                return Err(refused(format!("entries up to {} were purged already", index.first())));
            }
            if end >= index.end() {
                return Ok(());
            }
            index.segment_of(end).map(|segment| (end, segment.segment))
        };
        let Some((end, segment)) = found else {
            return Err(io::Error::other("an entry has no place in the log"));
        };
        mark("log_truncated");
        if synced.is_some_and(|id| id.index >= end) {
            mark("truncation_of_synced_entry");
        }
        shared.load(segment)?;
        let kept = self.kept(end, segment)?;
        let whole = kept.header.first == end;
        let position = kept.place.end;
        let cut = match whole {
            true => Cut {
                segment: segment - 1,
                position: u64::MAX,
                until: u64::MAX,
            },
            false => Cut {
                segment,
                position: u64::from(position),
                until: kept.until.into(),
            },
        };
        let announced = Marks {
            cut: Some(cut),
            ..self.store.marked
        };
        if !shared.planted.has(Bug::CutUnannounced) {
            self.store.mark(announced).await?;
        }
        let dropped = shared.index().truncate(end);
        if !dropped.is_empty() {
            mark("truncation_over_segments");
        }
        self.store.delete(&dropped).await?;
        (self.store.segment, self.store.sidecar) = (None, None);
        self.store.unsealed = !whole;
        if !whole {
            if !shared.planted.has(Bug::TruncatedBytesAccepted) {
                zero(&kept.file, cut.position, cut.until)?;
            }
            kept.file.sync().await?;
            self.resume(kept, end)?;
        }
        let durable = shared.index().state().durable;
        shared.announce_durable(durable);
        self.store
            .mark(Marks {
                cut: None,
                ..self.store.marked
            })
            .await
    }

    /// What stays of a segment whose entries from `end` on go; its positions are in memory.
    fn kept(&self, end: LogIndex, segment: u64) -> io::Result<Kept> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("entry {end} is damaged"));
        let shared = self.shared();
        let index = shared.index();
        let found = index.segment(segment).ok_or_else(damaged)?;
        let positions = found.positions.as_ref().ok_or_else(damaged)?;
        let at = end.since(found.first) as usize;
        let cut = *positions.get(at).ok_or_else(damaged)?;
        let (header, checksum) = SegmentHeader::decode(&read_header(&found.file, 0)?).map_err(|_| damaged())?;
        // From the entry before on, over the seals behind it.
        let mut place = Place::start(&header, checksum);
        if let Some(before) = at.checked_sub(1) {
            place.end = positions[before];
            place.term = index.id_below(end.get()).map_or(Term(0), |id| id.term);
        }
        while place.end < cut {
            let (frame, checksum) =
                FrameHeader::decode(&read_header(&found.file, place.end.into())?).map_err(|_| damaged())?;
            (place.last_frame, place.chain) = (place.end, checksum);
            place.end += frame.frame_bytes() as u32;
        }
        // The header of the first entry to go knows the checksum before it.
        match FrameHeader::decode(&read_header(&found.file, cut.into())?) {
            Ok((frame, _)) if frame.id.index == end && (frame.previous, cut) == (place.chain, place.end) => {}
            _ => return Err(damaged()),
        }
        place.next = end;
        Ok(Kept {
            header,
            checksum,
            place,
            until: found.end,
            file: found.file.clone(),
        })
    }

    /// Makes what stays of a segment the newest one.
    fn resume(&mut self, kept: Kept, end: LogIndex) -> io::Result<()> {
        let store = &mut self.store;
        let begins = (&kept.header, kept.checksum);
        let known = read_positions(store.disk.as_ref(), &store.dir, begins, &kept.file, u32::MAX)?;
        let mut sidecar = Sidecar::resume(store.disk.as_ref(), &store.dir, &kept.header, &known)?;
        let index = self.shared.index();
        let noted = known.place.next.since(kept.header.first) as usize;
        let positions = index.newest_segment().and_then(|newest| newest.positions.as_ref());
        let positions = positions
            .and_then(|positions| positions.get(noted..))
            .unwrap_or_default();
        sidecar.note(
            positions,
            index.terms_from(known.place.next).take_while(|start| start.index < end),
        );
        let of = (kept.header.segment, kept.header.generation);
        store.segment = Some(Segment::resume(of, kept.file, kept.place, store.segment_bytes)?);
        store.sidecar = Some(sidecar);
        Ok(())
    }

    /// Forgets the entries up to `upto`. When the log does not hold that very entry, or nothing behind it, it starts
    /// anew behind `upto`.
    pub async fn purge(&mut self, upto: EntryId) -> io::Result<()> {
        self.settle().await?;
        let shared = self.shared();
        let (purged, first, last, held, oldest) = {
            let index = shared.index();
            let oldest = index.oldest_segment().map(|oldest| oldest.segment);
            (
                index.purged(),
                index.first(),
                index.last(),
                index.id(upto.index),
                oldest,
            )
        };
        if purged.is_some_and(|purged| upto.index <= purged.index) {
            return Ok(());
        }
        let goes_on = last.is_some_and(|last| last.index > upto.index);
        // A log may have begun in the middle; what it lacks is then purged without a change to its entries.
        if goes_on && upto.index.next() < first {
            return Ok(());
        }
        if goes_on && (held == Some(upto) || upto.index.next() == first) {
            if shared.planted.has(Bug::PurgeBeforeMarks) {
                let dropped = shared.index().purge(upto);
                self.store.retire(dropped).await?;
            }
            self.store
                .mark(Marks {
                    purged: Some(upto),
                    ..self.store.marked
                })
                .await?;
            let dropped = shared.index().purge(upto);
            mark("log_purged");
            return self.store.retire(dropped).await;
        }
        mark("log_restarted");
        let all = oldest.map(|oldest| Cut {
            segment: oldest - 1,
            position: u64::MAX,
            until: u64::MAX,
        });
        self.store
            .mark(Marks {
                purged: Some(upto),
                cut: all,
            })
            .await?;
        let dropped: Vec<u64> = shared.index().restart_after(upto);
        (self.store.segment, self.store.sidecar) = (None, None);
        self.store.unsealed = false;
        self.store.delete(&dropped).await?;
        let durable = shared.index().state().durable;
        shared.announce_durable(durable);
        self.store
            .mark(Marks {
                cut: None,
                ..self.store.marked
            })
            .await
    }
}
