//! Opening a log: finish what a crash interrupted, read what is there, and decide what a damaged place means.
//!
//! A frame carries what was durable when it was written. So a bad place whose entry, or whose bytes, are reported
//! durable by any readable header is **corruption**: the log refuses to open. A bad place that nobody vouches for is a
//! **torn tail**: it was never acknowledged, and is cut, zeroed and synced.
//!
//! The last frames may be in the page cache alone, or even be lost on disk already if an earlier sync failed (the
//! kernel then keeps the pages and calls them clean). So everything that the frames themselves do not prove durable is
//! written again and synced before it counts as durable.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::disk::{Disk, DiskFile, Open};
use crate::draws::Draws;
use crate::log::cutting::delete_segments;
use crate::log::format::{self, HeaderError, Marks, SegmentHeader, is_unmade_name, segment_name, segment_of_spare};
use crate::log::index::{Index, SegmentIndex};
use crate::log::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SPARES_MAX, WRITE_AHEAD_BYTES_MAX, ZERO_PIECE_BYTES};
use crate::log::reading::read_header;
use crate::log::scan::{Depth, Evidence, Scan, evidence, scan};
use crate::log::segment::{Segment, zero};
use crate::log::shared::{Committed, Shared};
use crate::log::sidecar::{Place, Sidecar, read_positions, read_summary, segment_of_sidecar};
use crate::log::slots::{Slots, VOTE_LOST, vote_is_lost};
use crate::log::sweeper::Sweeper;
use crate::log::writer::{Store, Writer};
use crate::log::{Corruption, LogOptions, OpenLogError};
use crate::marks::mark;
use crate::types::{EntryId, LogIndex};

/// A segment file with an intact header.
struct Found {
    header: SegmentHeader,
    checksum: u32,
    file: Arc<dyn DiskFile>,
}

fn corrupt(file: &str, position: u64, index: Option<LogIndex>, reason: impl Into<String>) -> OpenLogError {
    OpenLogError::Corrupt(Corruption {
        file: file.to_owned(),
        position,
        index,
        reason: reason.into(),
    })
}

/// Opens the log in its folder, creating it when there is none.
pub async fn open(disk: Arc<dyn Disk>, options: LogOptions) -> Result<(Arc<Shared>, Writer), OpenLogError> {
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&options.segment_bytes) {
        return Err(OpenLogError::SegmentBytes(options.segment_bytes));
    }
    let dir = options.dir.as_path();
    disk.create_dir_all(dir)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        disk.sync_dir(parent).await?;
    }
    if vote_is_lost(disk.as_ref(), dir)? {
        return Err(corrupt("vote", 0, None, VOTE_LOST));
    }
    let (mut vote, kept_vote) = open_slots(disk.as_ref(), dir, "vote").await?;
    if !disk.exists(&dir.join("marks"))? {
        disk.sync_dir(dir).await?;
    }
    let (mut marks, kept_marks) = open_slots(disk.as_ref(), dir, "marks").await?;
    let (committed, kept_committed) = open_committed(disk.as_ref(), dir).await?;
    let mut marked = match &kept_marks {
        Some(bytes) => Marks::decode(bytes).ok_or_else(|| corrupt("marks", 0, None, "unknown contents"))?,
        None => Marks::default(),
    };
    finish_cut(disk.as_ref(), dir, &marked).await?;
    // What was read may never have reached the disk, so it is written once more before anything relies on it.
    if let Some(bytes) = &kept_vote {
        vote.confirm(bytes).await?;
    }
    marked.cut = None;
    if kept_marks.is_some() {
        marks.replace(&marked.encode()).await?;
    }
    let found = find_segments(disk.as_ref(), dir, marked.purged).await?;
    let spares = find_spares(disk.as_ref(), &options)?;
    let newest = found.back().map(|found| found.header.segment);
    let next_segment = newest
        .max(spares.last_key_value().map(|(number, _)| *number))
        .map_or(1, |used| used + 1);
    let (index, newest, unsealed) = recover(disk.as_ref(), &options, marked.purged, found).await?;
    disk.sync_dir(dir).await?;
    let committed = Committed {
        slots: committed,
        id: kept_committed,
    };
    let shared = Shared::new(
        disk.clone(),
        (options.dir.clone(), options.planted),
        index,
        kept_vote,
        committed,
    );
    let shared = Arc::new(shared);
    let (segment, sidecar) = newest.unzip();
    let (retired, receiver) = mpsc::unbounded_channel();
    let sweeper = Sweeper {
        disk: disk.clone(),
        dir: options.dir.clone(),
        segment_bytes: options.segment_bytes,
        shared: shared.clone(),
        retired: receiver,
    };
    *shared.spares() = spares.into_values().collect();
    let store = Store {
        draws: Draws::new(options.seed),
        retired,
        sweeper: Some(sweeper),
        disk,
        segment_bytes: options.segment_bytes,
        segment,
        sidecar,
        next_segment,
        vote,
        marks,
        marked,
        buffer: Vec::new(),
        unsealed,
        dir: options.dir,
    };
    Ok((shared.clone(), Writer::new(shared, store)))
}

async fn open_slots(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(Slots, Option<Bytes>), OpenLogError> {
    match Slots::open(disk, &dir.join(name)).await? {
        Ok(opened) => Ok(opened),
        Err(unreadable) => Err(corrupt(name, 0, None, unreadable.0.to_string())),
    }
}

/// The committed id is only a hint: when it cannot be read, it starts anew.
async fn open_committed(disk: &dyn Disk, dir: &Path) -> Result<(Slots, Option<EntryId>), OpenLogError> {
    let path = dir.join("committed");
    let opened = match Slots::open(disk, &path).await? {
        Ok(opened) => opened,
        Err(_) => {
            disk.remove(&path)?;
            open_slots(disk, dir, "committed").await?
        }
    };
    let id = opened.1.as_deref().and_then(format::decode_committed);
    Ok((opened.0, id))
}

/// The segments in the folder, in order.
fn segment_numbers(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    Ok(disk
        .list(dir)?
        .iter()
        .filter_map(|name| format::segment_of_name(name))
        .collect())
}

/// Carries out a truncation that a crash interrupted.
async fn finish_cut(disk: &dyn Disk, dir: &Path, marked: &Marks) -> io::Result<()> {
    let Some(cut) = marked.cut else { return Ok(()) };
    let mut later = segment_numbers(disk, dir)?;
    later.retain(|segment| *segment > cut.segment);
    later.reverse();
    mark("truncation_finished");
    tracing::info!(
        segment = cut.segment,
        position = cut.position,
        deleted = later.len(),
        "finishing a truncation"
    );
    delete_segments(disk, dir, &later)?;
    let path = dir.join(segment_name(cut.segment));
    if cut.position != u64::MAX && disk.exists(&path)? {
        let file = disk.open(&path, Open::Write)?;
        zero(&file, cut.position, cut.until)?;
        file.sync().await?;
    }
    disk.sync_dir(dir).await
}

/// Opens the segments, and drops those that are wholly purged. A segment gets its name once its header is durable.
async fn find_segments(disk: &dyn Disk, dir: &Path, purged: Option<EntryId>) -> Result<VecDeque<Found>, OpenLogError> {
    let numbers = segment_numbers(disk, dir)?;
    let mut found = VecDeque::new();
    for number in &numbers {
        let (name, path) = (segment_name(*number), dir.join(segment_name(*number)));
        let file = disk.open(&path, Open::Write)?;
        match SegmentHeader::decode(&read_header(&file, 0)?) {
            Ok((header, checksum)) if header.segment == *number => found.push_back(Found { header, checksum, file }),
            Err(HeaderError::Version(version)) => return Err(OpenLogError::Version { file: name, version }),
            Err(error) => return Err(corrupt(&name, 0, None, error.to_string())),
            Ok(_) => return Err(corrupt(&name, 0, None, "the header is of another segment")),
        }
    }
    let first_wanted = purged.map_or(0, |id| id.index.get() + 1);
    while found
        .get(1)
        .is_some_and(|next: &Found| next.header.first.get() <= first_wanted)
        && let Some(dropped) = found.pop_front()
    {
        delete_segments(disk, dir, &[dropped.header.segment])?;
    }
    let kept = |segment| found.iter().any(|found: &Found| found.header.segment == segment);
    for name in disk.list(dir)? {
        if segment_of_sidecar(&name).is_some_and(|segment| !kept(segment)) {
            disk.remove(&dir.join(name))?;
        }
    }
    if let Some(first) = found.front() {
        let has_start = first.header.start && purged.is_none();
        if first.header.first.get() > first_wanted && !has_start {
            let name = segment_name(first.header.segment);
            let missing = format!("the segment before it, from entry {first_wanted} on, is missing");
            return Err(corrupt(&name, 0, Some(first.header.first), missing));
        }
    }
    Ok(found)
}

/// Files that new segments can be written over, by their numbers. What is too small for that, too much, or was never
/// finished, goes.
fn find_spares(disk: &dyn Disk, options: &LogOptions) -> io::Result<BTreeMap<u64, String>> {
    let mut spares = BTreeMap::new();
    for name in disk.list(&options.dir)? {
        let path = options.dir.join(&name);
        let Some(number) = segment_of_spare(&name) else {
            if is_unmade_name(&name) {
                disk.remove(&path)?;
            }
            continue;
        };
        if spares.len() < SPARES_MAX && disk.open(&path, Open::Read)?.len()? >= options.segment_bytes {
            spares.insert(number, name);
        } else {
            disk.remove(&path)?;
        }
    }
    Ok(spares)
}

/// Scans the segments, mends the end, and builds the index.
async fn recover(
    disk: &dyn Disk,
    options: &LogOptions,
    purged: Option<EntryId>,
    mut found: VecDeque<Found>,
) -> Result<(Index, Option<(Segment, Sidecar)>, bool), OpenLogError> {
    let (mut segments, mut terms, mut last) = (VecDeque::new(), Vec::new(), None);
    let mut newest = None;
    let dir = options.dir.as_path();
    while let Some(Found { header, checksum, file }) = found.pop_front() {
        let after = found.front().map(|after| after.header.first);
        let summary = match after {
            Some(after) => read_summary(disk, dir, (&header, &file))?.filter(|known| known.place.next == after),
            None => None,
        };
        if let Some(mut known) = summary {
            begin_terms(&mut terms, &known.terms, &header);
            last = last_at(&known.place, &header, last);
            terms.append(&mut known.terms);
            segments.push_back(indexed(&header, &file, known.place, None));
            continue;
        }
        let depth = if after.is_none() { Depth::Bodies } else { Depth::Headers };
        let mut below = u32::MAX;
        let (mut known, mut scanned) = loop {
            let known = read_positions(disk, dir, (&header, checksum), &file, below)?;
            let before = last_at(&known.place, &header, last);
            let scanned = scan(&file, &header, known.place, before, depth, options.planted)?;
            let vouched = known.place.last_frame == 0 || scanned.durable_position >= known.place.end;
            if vouched || after.is_some() {
                break (known, scanned);
            }
            // The block may have outlived a truncation, and its frames may be there again without being durable.
            below = known.place.end;
        };
        let name = segment_name(header.segment);
        let next = scanned.place.next;
        match after {
            Some(after) if after != next => {
                return Err(corrupt(&name, scanned.place.end.into(), Some(next), scanned.stop));
            }
            Some(_) => {}
            None => mend(&name, &file, &header, &scanned, next).await?,
        }
        last = scanned.last;
        let mut sidecar = Sidecar::resume(disk, dir, &header, &known)?;
        sidecar.note(&scanned.positions, scanned.terms.iter().copied());
        known.positions.append(&mut scanned.positions);
        known.terms.append(&mut scanned.terms);
        begin_terms(&mut terms, &known.terms, &header);
        terms.append(&mut known.terms);
        segments.push_back(indexed(&header, &file, scanned.place, Some(known.positions)));
        if after.is_some() {
            mark("sidecar_rebuilt");
            sidecar.finish(scanned.place)?;
        } else {
            newest = Some((header, file, scanned, sidecar));
        }
    }
    let end = last.map_or(LogIndex(0), |last| last.index.next());
    // Everything was purged, yet the deletion did not survive.
    if let Some(purged) = purged.filter(|purged| end.get() <= purged.index.get() + 1) {
        if !segments.is_empty() {
            mark("purge_finished");
        }
        let leftover: Vec<u64> = segments.iter().rev().map(|segment| segment.segment).collect();
        delete_segments(disk, &options.dir, &leftover)?;
        let index = Index::new(Some(purged), VecDeque::new(), Vec::new(), end, options.tail_cache_bytes);
        return Ok((index, None, false));
    }
    let first = segments.front().map_or(LogIndex(0), |segment| segment.first);
    let index = Index::new(purged, segments, terms, end.max(first), options.tail_cache_bytes);
    let Some((header, file, scanned, sidecar)) = newest else {
        return Ok((index, None, false));
    };
    let of = (header.segment, header.generation);
    let segment = Segment::resume(of, file, scanned.place, options.segment_bytes)?;
    Ok((index, Some((segment, sidecar)), !scanned.sealed))
}

/// The oldest segment may begin in the middle of a term, whose first entry is gone.
fn begin_terms(terms: &mut Vec<EntryId>, of_segment: &[EntryId], header: &SegmentHeader) {
    if terms.is_empty() && of_segment.first().is_none_or(|start| start.index > header.first) {
        terms.push(EntryId {
            term: header.term_before,
            index: header.first,
        });
    }
}

/// The entry before a place in a segment; `last` is the one before the segment.
fn last_at(place: &Place, header: &SegmentHeader, last: Option<EntryId>) -> Option<EntryId> {
    match place.next > header.first {
        true => place.next.previous().map(|index| EntryId {
            term: place.term,
            index,
        }),
        false => last,
    }
}

fn indexed(
    header: &SegmentHeader,
    file: &Arc<dyn DiskFile>,
    place: Place,
    positions: Option<Vec<u32>>,
) -> SegmentIndex {
    SegmentIndex {
        segment: header.segment,
        generation: header.generation,
        first: header.first,
        entries: place.next.since(header.first),
        positions,
        end: place.end,
        file: file.clone(),
    }
}

/// Judges what lies behind the last good frame of the newest segment, and makes the frames durable.
async fn mend(
    name: &str,
    file: &Arc<dyn DiskFile>,
    header: &SegmentHeader,
    scanned: &Scan,
    next: LogIndex,
) -> Result<(), OpenLogError> {
    let end = scanned.place.end;
    let found: Evidence = evidence(file, header, end)?;
    let position = u64::from(end);
    if found.condemns(next, end) {
        return Err(corrupt(name, position, Some(next), scanned.stop.clone()));
    }
    if let Some(version) = found.version {
        return Err(OpenLogError::Version {
            file: name.to_owned(),
            version,
        });
    }
    if found.frames {
        mark("torn_tail_cut");
        tracing::warn!(file = name, position, index = %next, reason = scanned.stop, "a torn tail is cut");
    }
    if found.frames || found.garbage && !header.recycled {
        zero(file, position, position + WRITE_AHEAD_BYTES_MAX)?;
    }
    rewrite(file, u64::from(scanned.durable_position), position)?;
    Ok(file.sync().await?)
}

/// Writes bytes over themselves.
fn rewrite(file: &Arc<dyn DiskFile>, start: u64, end: u64) -> io::Result<()> {
    let mut bytes = vec![0; ZERO_PIECE_BYTES.min((end - start) as usize)];
    let mut position = start;
    while position < end {
        let piece = bytes.len().min((end - position) as usize);
        let count = file.read_at(position, &mut bytes[..piece])?;
        if count == 0 {
            break;
        }
        file.write_at(position, &bytes[..count])?;
        position += count as u64;
    }
    Ok(())
}
