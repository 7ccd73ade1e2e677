//! The retention cut: records of old entries are forgotten, and the log may forget their bodies once this is durable.
//!
//! ```text
//!             upto
//!   entries ────┤├──────────────▶
//!   queue   runs│runs               the queue begins at the first run that came after `upto`
//!                  ▲ a dead letter's run came later, but its record lies before: it must have been carried over
//! ```

use super::{ApplyError, Entry};
use crate::marks::mark;
use crate::state::command::CarriedRecord;
use crate::state::command::CarryOver;
use crate::state::hot;
use crate::state::identity::{QueueOffset, TopicId};
use crate::state::kv::Family;
use crate::state::outcome::CutError;
use crate::state::plan::RecordLocation;
use crate::state::queue::Ahead;
use crate::state::record::RecordHead;
use crate::state::reference::{Reference, first_key};
use crate::state::retained;
use crate::state::run::{Run, run_key};
use crate::state::start::{start_key, start_value};
use ledgermq_raft_store::types::LogIndex;

impl Entry<'_> {
    pub(super) fn cut(&mut self, upto: LogIndex) -> Result<Result<LogIndex, CutError>, ApplyError> {
        let entry = self.id.index;
        if upto >= entry {
            return Ok(Err(CutError::Ahead { upto, entry }));
        }
        if upto <= self.hot.meta.cut {
            return Ok(Ok(self.hot.meta.cut));
        }
        if let Some(error) = self.in_the_way(upto)? {
            mark("cut_in_the_way");
            return Ok(Err(error));
        }
        mark("retention_cut");
        for (topic, queue_id) in self.hot.topics.with_runs_upto(upto) {
            self.forget(topic, queue_id, upto)?;
        }
        self.changes
            .delete_range(Family::References, Vec::new(), first_key(upto.next()));
        self.hot.meta.cut = upto;
        Ok(Ok(upto))
    }

    /// A record that stays and lies in an entry to forget.
    fn in_the_way(&self, upto: LogIndex) -> Result<Option<CutError>, ApplyError> {
        let mut found = None;
        retained::for_each_reference(self.hot, self.kv, upto, |reference| {
            if reference.came > upto && !self.changes.deletes(Family::References, &reference.key()) {
                found = Some(reference);
                return None;
            }
            Some(upto)
        })?;
        // What this entry put into queues is not in the store yet.
        for ((topic, queue_id), run) in &self.runs {
            for reference in references(*topic, *queue_id, run) {
                if reference.index <= upto {
                    found = Some(reference);
                }
            }
        }
        Ok(found.map(|reference| CutError::InTheWay {
            index: reference.index,
            topic: match self.hot.topics.of(reference.topic) {
                Some(state) => state.topic.name.clone(),
                None => String::new(),
            },
            queue_id: reference.queue_id,
            offset: reference.offset,
        }))
    }

    /// Lets a queue begin behind `upto`.
    fn forget(&mut self, topic: TopicId, queue_id: u32, upto: LogIndex) -> Result<(), ApplyError> {
        let state = self.hot.topics.of_mut(topic).expect("it has runs");
        let queue = &mut state.queues[queue_id as usize];
        let boundary = retained::boundary(self.kv, (topic, queue_id), queue.first, upto)?;
        let here = self.runs.get(&(topic, queue_id)).map(|run| (run.first, run.entry));
        let (start, oldest) = match boundary.stays.or(here) {
            Some((first, entry)) => (first, Some(entry)),
            None => (queue.end, None),
        };
        match boundary.keys {
            Some(keys) => keys.into_iter().for_each(|key| self.changes.delete(Family::Runs, key)),
            None => {
                let (from, to) = (run_key(topic, queue_id, queue.first), run_key(topic, queue_id, start));
                self.changes.delete_range(Family::Runs, from, to);
            }
        }
        (queue.first, queue.oldest) = (start, oldest);
        let end = queue.end;
        self.changes
            .put(Family::Queues, start_key(topic, queue_id), start_value(start));
        self.repointed
            .retain(|(of, queue, first), _| (*of, *queue) != (topic, queue_id) || *first >= start);
        let topic = state.topic.clone();
        let mut freed = Vec::new();
        for (_, progress) in self.hot.progress.range_mut(hot::of_topic(topic.id)) {
            let Some(last) = start.0.checked_sub(1).map(QueueOffset) else {
                continue;
            };
            let gone = progress.cut(queue_id, QueueOffset(0), last, &mut self.changes);
            if !gone.is_empty() && progress.group.fifo {
                freed.push(progress.group.clone());
            }
            if progress.next(queue_id) < start {
                mark("progress_moved_by_cut");
                progress.advance(queue_id, start, end, &mut self.changes);
            }
        }
        // What was behind them in their message groups may go now.
        freed.iter().for_each(|group| self.hint_visible(&topic, group, 0));
        Ok(())
    }

    pub(super) fn carry_over(
        &mut self,
        carry: &CarryOver,
        slot: u32,
        command_length: usize,
    ) -> Result<u32, ApplyError> {
        let mut moved = 0;
        for (carried, place) in carry.records.iter().zip(carry.record_places(command_length)) {
            moved += u32::from(self.repoint(carried, slot + place)?);
        }
        Ok(moved)
    }

    /// Lets a queue's record lie in this entry from now on, if it is the one that was read.
    fn repoint(&mut self, carried: &CarriedRecord, slot: u32) -> Result<bool, ApplyError> {
        let CarriedRecord {
            topic,
            queue_id,
            offset,
            from,
            ..
        } = *carried;
        let state = self.hot.topics.of(topic);
        let Some((state, queue)) = state.and_then(|state| Some((state, state.queues.get(queue_id as usize)?))) else {
            return Ok(false);
        };
        let is_new = self.runs.get(&(topic, queue_id)).is_some_and(|run| run.first <= offset);
        if offset < queue.first || offset >= queue.end || is_new {
            return Ok(false);
        }
        let mut run = match self.repointed_run(topic, queue_id, offset) {
            Some(run) => run.clone(),
            None => Run::clone(&*state.run(self.kv, queue_id, offset, &mut Ahead::new())?),
        };
        let record = &mut run.records[offset.since(run.first) as usize];
        let head = RecordHead::read(&carried.record);
        let same =
            head.is_ok_and(|head| (head.tag_hash, head.message_group_hash) == (record.tag, record.message_group));
        if !same || record.location.index != from || record.location.length as usize != carried.record.len() {
            return Ok(false);
        }
        record.location = RecordLocation {
            index: self.id.index,
            slot,
            ..record.location
        };
        let reference = Reference {
            index: from,
            topic,
            queue_id,
            offset,
            came: run.entry,
        };
        self.changes.delete(Family::References, reference.key());
        mark("carry_over");
        self.repointed.insert((topic, queue_id, run.first), run);
        Ok(true)
    }

    /// The run of an offset, if this entry changed it.
    pub(super) fn repointed_run(&self, topic: TopicId, queue_id: u32, offset: QueueOffset) -> Option<&Run> {
        let upto = (topic, queue_id, offset);
        let (_, run) = self
            .repointed
            .range((topic, queue_id, QueueOffset(0))..=upto)
            .next_back()?;
        run.record(offset).map(|_| run)
    }
}

/// The records of a run that lie in older entries than its own.
pub(super) fn references(topic: TopicId, queue_id: u32, run: &Run) -> impl Iterator<Item = Reference> {
    let older = run.records.iter().zip(run.first.0..);
    older
        .filter(|(record, _)| record.location.index < run.entry)
        .map(move |(record, offset)| Reference {
            index: record.location.index,
            topic,
            queue_id,
            offset: QueueOffset(offset),
            came: run.entry,
        })
}
