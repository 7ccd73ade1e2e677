//! The one writer of a log: takes whatever waits in the inbox, writes it, syncs once, reports in order.
//!
//! The first write or sync that fails ends it for good: what was waiting and what comes later gets the error, and
//! nothing is tried again, because after a failed sync nobody knows what the disk holds.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::disk::Disk;
use crate::draws::Draws;
use crate::log::Frame;
use crate::log::format::{self, Marks, SegmentHeader, StoredKind};
use crate::log::index::SegmentIndex;
use crate::log::limits::{BATCH_BYTES, BUFFER_BYTES, SEAL_AFTER, SIDECAR_EVERY_BYTES};
use crate::log::reading::stored_kind;
use crate::log::segment::Segment;
use crate::log::shared::{Done, Op, Reply, Shared, stopped};
use crate::log::sidecar::Sidecar;
use crate::log::slots::Slots;
use crate::log::sweeper::{Retired, Sweeper};
use crate::marks::mark;
use crate::planted::Bug;
use crate::types::{LogIndex, Term};

/// The driver of a log. In production it runs on an operating system thread of its own, inside a current-thread tokio
/// runtime with its timer enabled, since a sync blocks the thread; in the simulation it runs as a task.
pub struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    ops: VecDeque<Op>,
    batch: Batch,
    ended: bool,
}

/// The files as the writer changes them.
pub(super) struct Store {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub segment_bytes: u64,
    pub segment: Option<Segment>,
    /// Beside the segment, and there whenever it is.
    pub sidecar: Option<Sidecar>,
    /// Number of the next segment; never used before.
    pub next_segment: u64,
    pub vote: Slots,
    pub marks: Slots,
    pub marked: Marks,
    pub buffer: Vec<u8>,
    /// A frame was written after the last seal.
    pub unsealed: bool,
    /// Where generations come from.
    pub draws: Draws,
    /// Where purged segments go.
    pub retired: mpsc::UnboundedSender<Retired>,
    /// The other end, until somebody runs it.
    pub sweeper: Option<Sweeper>,
}

/// What was written since the last sync.
#[derive(Default)]
struct Batch {
    /// Positions of the entries, all in the newest segment.
    positions: Vec<u32>,
    /// Index behind the last entry written.
    end: u64,
    bytes: u64,
    done: Vec<Done>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, store: Store) -> Writer {
        Writer {
            shared,
            store,
            ops: VecDeque::new(),
            batch: Batch::default(),
            ended: false,
        }
    }

    /// What deals with the files of purged segments, to be run beside the writer; there is one. Without it the writer
    /// deletes them itself.
    pub fn sweeper(&mut self) -> Option<Sweeper> {
        self.store.sweeper.take()
    }

    /// Writes until all handles of the log are gone, or until the disk fails.
    pub async fn run(mut self) {
        let reason = match self.serve().await {
            Ok(()) => "it was closed".to_owned(),
            Err(error) => {
                mark("log_poisoned");
                tracing::error!(%error, dir = %self.store.dir.display(), "the log failed and stops for good");
                error.to_string()
            }
        };
        self.end(&reason);
    }

    async fn serve(&mut self) -> io::Result<()> {
        while self.wait().await? {
            self.shared.note_writing(true);
            while let Some(op) = self.ops.pop_front() {
                self.on_op(op).await?;
                if self.batch.bytes >= BATCH_BYTES as u64 {
                    self.settle().await?;
                    self.shared.note_writing(true);
                }
            }
            self.settle().await?;
            self.shared.note_writing(false);
        }
        Ok(())
    }

    /// Waits for operations; `false` when none will come.
    async fn wait(&mut self) -> io::Result<bool> {
        loop {
            self.ops = self.shared.take_ops();
            if !self.ops.is_empty() {
                return Ok(true);
            }
            if let Some(reason) = self.shared.stopped() {
                return Err(io::Error::other(reason));
            }
            if self.shared.is_closed() {
                self.seal().await?;
                return Ok(false);
            }
            let shared = self.shared.clone();
            let woken = shared.notify.notified();
            if !self.store.unsealed {
                woken.await;
            } else if tokio::time::timeout(SEAL_AFTER, woken).await.is_err() {
                self.seal().await?;
            }
        }
    }

    async fn on_op(&mut self, op: Op) -> io::Result<()> {
        match op {
            Op::Append { frames, done } => {
                // Whatever happens, `done` is called: here it is already among those that are told.
                self.batch.done.push(done);
                for frame in &frames {
                    self.put(frame).await?;
                }
                Ok(())
            }
            Op::Vote { vote, reply } => {
                let result = self.save_vote(vote).await;
                answer(reply, result)
            }
            Op::Truncate { last, reply } => {
                let result = self.truncate_after(last).await;
                answer(reply, result)
            }
            Op::Purge { upto, reply } => {
                let result = self.purge(upto).await;
                answer(reply, result)
            }
        }
    }

    async fn put(&mut self, frame: &Frame) -> io::Result<()> {
        let bytes = format::frame_bytes(frame.body.len());
        if self
            .store
            .segment
            .as_ref()
            .is_none_or(|segment| !segment.has_room(bytes))
        {
            self.roll(frame.id.index).await?;
        }
        let durable_end = self.shared.index().durable_end();
        let Store {
            segment: Some(segment),
            buffer,
            unsealed,
            ..
        } = &mut self.store
        else {
            unreachable!("there is a segment after a roll");
        };
        let body = (&frame.body, frame.body_crc);
        let position = segment.push(buffer, stored_kind(frame.kind), frame.id, durable_end, body)?;
        *unsealed = true;
        self.batch.positions.push(position);
        self.batch.end = frame.id.index.get() + 1;
        self.batch.bytes += bytes;
        Ok(())
    }

    /// Starts a new segment with this entry. The one before is durable to its end before the new one exists.
    async fn roll(&mut self, first: LogIndex) -> io::Result<()> {
        self.sync().await?;
        if let (Some(sidecar), Some(segment)) = (self.store.sidecar.take(), &self.store.segment) {
            sidecar.finish(segment.place())?;
        }
        let before = self.shared.index().id_below(first.get());
        let spare = self.shared.spares().pop_front();
        if before.is_some() {
            mark("segment_rolled");
        }
        if spare.is_some() {
            mark("segment_recycled");
        }
        let header = SegmentHeader {
            segment: self.store.next_segment,
            generation: self.store.draws.draw() as u32,
            first,
            term_before: before.map_or(Term(0), |id| id.term),
            start: before.is_none(),
            recycled: spare.is_some(),
        };
        let store = &mut self.store;
        store.next_segment += 1;
        let segment = Segment::create(store.disk.as_ref(), &store.dir, header, spare, store.segment_bytes).await?;
        let begins = (&header, segment.place().chain);
        store.sidecar = Some(Sidecar::create(store.disk.as_ref(), &store.dir, begins)?);
        self.shared.index().add_segment(SegmentIndex {
            segment: segment.number,
            generation: segment.generation,
            first,
            entries: 0,
            positions: Some(Vec::new()),
            end: segment.end(),
            file: segment.file.clone(),
        });
        store.segment = Some(segment);
        Ok(())
    }

    /// Writes and syncs what was gathered, and lets the index know. Tells nobody yet.
    async fn sync(&mut self) -> io::Result<()> {
        let Store {
            segment: Some(segment),
            sidecar,
            buffer,
            segment_bytes,
            ..
        } = &mut self.store
        else {
            return Ok(());
        };
        segment.flush(buffer)?;
        if buffer.capacity() > 2 * BUFFER_BYTES {
            *buffer = Vec::new();
        }
        if segment.is_dirty() {
            let started = Instant::now();
            let synced = match segment.sync().await {
                Err(_) if self.shared.planted.has(Bug::SyncRetried) => segment.sync().await,
                synced => synced,
            };
            synced?;
            // A failure that the sweeper met belongs to this folder too, and is told once.
            if let Some(reason) = self.shared.stopped() {
                return Err(io::Error::other(reason));
            }
            self.shared.histogram.count(started.elapsed());
        }
        if !self.batch.positions.is_empty() {
            let mut index = self.shared.index();
            if let Some(sidecar) = sidecar {
                let first = self.batch.end - self.batch.positions.len() as u64;
                sidecar.note(
                    &self.batch.positions,
                    index
                        .terms_from(LogIndex(first))
                        .take_while(|start| start.index.get() < self.batch.end),
                );
            }
            index.settle(&self.batch.positions, segment.end(), self.batch.end);
            let durable = index.state().durable;
            drop(index);
            self.shared.announce_durable(durable);
            self.batch.positions.clear();
        }
        if let Some(sidecar) = sidecar
            && sidecar.behind(segment.end()) >= SIDECAR_EVERY_BYTES.min(*segment_bytes as u32 / 4)
        {
            sidecar.write(segment.place())?;
        }
        Ok(())
    }

    /// Makes everything written so far durable and reports it, in order.
    pub(super) async fn settle(&mut self) -> io::Result<()> {
        if self.shared.planted.has(Bug::AckBeforeFsync) {
            self.report();
        }
        self.sync().await?;
        self.batch.bytes = 0;
        self.report();
        Ok(())
    }

    /// Tells whoever waits that what was written is durable.
    fn report(&mut self) {
        for done in self.batch.done.drain(..) {
            done(Ok(()));
        }
    }

    /// Says on disk that everything is durable, so that damage to the newest entries is not mistaken for a torn write.
    async fn seal(&mut self) -> io::Result<()> {
        let (durable_end, last) = {
            let index = self.shared.index();
            // Not the last one: another may have come that is not written yet.
            (index.durable_end(), index.state().durable)
        };
        if let (Some(segment), Some(last), true) = (&mut self.store.segment, last, self.store.unsealed) {
            let buffer = &mut self.store.buffer;
            segment.push(buffer, StoredKind::Seal, last, durable_end, (&Bytes::new(), 0))?;
            segment.flush(buffer)?;
            segment.sync().await?;
            self.shared.index().sealed(segment.end());
        }
        self.store.unsealed = false;
        Ok(())
    }

    async fn save_vote(&mut self, vote: Bytes) -> io::Result<()> {
        if !self.shared.planted.has(Bug::VoteBeforeAppends) {
            self.settle().await?;
        }
        if self.shared.planted.has(Bug::VoteNotSynced) {
            self.store.vote.put_unsynced(&vote)?;
        } else {
            self.store.vote.replace(&vote).await?;
        }
        *self.shared.vote() = Some(vote);
        Ok(())
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    fn end(&mut self, reason: &str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let waiting = self.shared.stop(reason);
        for done in self.batch.done.drain(..) {
            done(Err(stopped(reason)));
        }
        for op in std::mem::take(&mut self.ops).into_iter().chain(waiting) {
            op.refuse(reason);
        }
        // Whoever watches looks again and finds the reason.
        self.shared.durable.send_modify(|_| {});
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end("its writer was dropped");
    }
}

/// Passes a result to whoever waits; a failure also ends the writer, except a refusal of what was asked.
fn answer(reply: Reply, result: io::Result<()>) -> io::Result<()> {
    let copy = match &result {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    };
    // Whoever asked may be gone.
    let _ = reply.send(copy);
    match result {
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
        _ => Ok(()),
    }
}
