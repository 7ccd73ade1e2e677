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

use crate::disk::Disk;
use crate::log::format::{Cut, FrameHeader, Marks, segment_name};
use crate::log::reading::read_header;
use crate::log::segment::zero_from;
use crate::log::writer::{Store, Writer};
use crate::types::{EntryId, LogIndex};

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// Deletes segments, in the order given.
pub fn delete_segments(disk: &dyn Disk, dir: &Path, segments: &[u64]) -> io::Result<()> {
    segments
        .iter()
        .try_for_each(|segment| disk.remove(&dir.join(segment_name(*segment))))
}

impl Store {
    async fn mark(&mut self, marks: Marks) -> io::Result<()> {
        self.marks.replace(&marks.encode()).await?;
        self.marked = marks;
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

impl Writer {
    /// Drops the entries behind `last`. `InvalidInput` when that reaches into what was purged.
    pub(super) async fn truncate_after(&mut self, last: Option<LogIndex>) -> io::Result<()> {
        self.settle().await?;
        let shared = self.shared();
        let (end, place) = {
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
            let place = index
                .place(end)
                .map(|(segment, position)| (segment.segment, segment.first, position, segment.file.clone()));
            (end, place)
        };
        let Some((segment, first, position, file)) = place else {
            return Err(io::Error::other(format!("entry {end} has no place in the log")));
        };
        let whole = first == end;
        // The header of the first entry to go knows the checksum before it.
        let chain = match FrameHeader::decode(&read_header(&file, u64::from(position))?) {
            Ok((header, _)) if header.id.index == end => header.previous,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("entry {end} is damaged"),
                ));
            }
        };
        let cut = match whole {
            true => Cut {
                segment: segment - 1,
                position: u64::MAX,
            },
            false => Cut {
                segment,
                position: u64::from(position),
            },
        };
        self.store
            .mark(Marks {
                cut: Some(cut),
                ..self.store.marked
            })
            .await?;
        let dropped = shared.index().truncate(end);
        self.store.delete(&dropped).await?;
        let active = self.store.segment.take();
        self.store.unsealed = !whole;
        if !whole {
            zero_from(&file, cut.position)?;
            file.sync().await?;
            let mut kept = match active {
                Some(active) if active.number == segment => active,
                _ => {
                    let generation = shared.index().newest_segment().map_or(0, |newest| newest.generation);
                    let place = (segment, generation);
                    super::segment::Segment::resume(place, file, cut.position, chain, self.store.segment_bytes)?
                }
            };
            kept.cut(position, chain);
            self.store.segment = Some(kept);
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
            self.store
                .mark(Marks {
                    purged: Some(upto),
                    ..self.store.marked
                })
                .await?;
            let dropped = shared.index().purge(upto);
            return self.store.delete(&dropped).await;
        }
        let all = oldest.map(|oldest| Cut {
            segment: oldest - 1,
            position: u64::MAX,
        });
        self.store
            .mark(Marks {
                purged: Some(upto),
                cut: all,
            })
            .await?;
        let dropped = shared.index().restart_after(upto);
        self.store.segment = None;
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
