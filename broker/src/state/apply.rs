//! One entry being applied: what its commands share. Each kind of command has its file below.
//!
//! Changes of memory happen at once, changes of the store are gathered and written as one batch at the end of the
//! entry, together with `applied`. Runs of the queue index are gathered over all commands of the entry, so that
//! the index costs one pair a queue and entry.

mod consume;
mod create;
mod cut;
mod lease;
mod renew;
mod send;

use super::changes::Changes;
use super::codec::DecodeError;
use super::command::{Action, Command};
use super::hot::{self, Hot};
use super::identity::{ConsumerGroupId, QueueOffset, TopicId, number_of};
use super::kv::{Family, Kv, KvError};
use super::level;
use super::machine::Settings;
use super::meta::{APPLIED_KEY, MEMBERSHIP_KEY};
use super::outcome::{ConsumeError, Outcome};
use super::progress::Progress;
use super::queue::{Ahead, IndexError};
use super::recent::{FirstOutcome, RequestKind};
use super::run::{Run, RunRecord, run_key};
use super::topic::{ConsumerGroup, Topic};
use crate::marks::mark;
use bytes::Bytes;
use ledgermq_raft_store::types::EntryId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why an entry can't be applied. The replica stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(
        "command {number} of entry {id}: {error}; this replica runs version {}",
        level::VERSION
    )]
    Command {
        id: EntryId,
        number: usize,
        error: DecodeError,
    },
    #[error(
        "entry {id} raises the format level to {to}, and this replica supports {max} with version {}; start it with a newer release",
        level::VERSION
    )]
    FormatLevel { id: EntryId, to: u32, max: u32 },
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Kv(#[from] KvError),
}

/// When something of a topic becomes visible for a consumer group first.
pub(crate) type VisibleHint = (Arc<Topic>, Arc<ConsumerGroup>, u64);

/// What an entry hints to the shell.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    pub arrived: BTreeMap<TopicId, Arc<Topic>>,
    pub visible: BTreeMap<(TopicId, ConsumerGroupId), VisibleHint>,
    pub topics_changed: bool,
    /// The state as of this entry is to be hashed.
    pub digest: bool,
    /// The level from this entry on.
    pub format_level: Option<u32>,
}

/// One entry being applied.
pub(crate) struct Entry<'a> {
    hot: &'a mut Hot,
    kv: &'a dyn Kv,
    settings: &'a Settings,
    broker_group: &'a str,
    id: EntryId,
    changes: Changes,
    runs: BTreeMap<(TopicId, u32), Run>,
    /// Runs of earlier entries some of whose records lie in this one now.
    repointed: BTreeMap<(TopicId, u32, QueueOffset), Run>,
    hints: Hints,
    /// Time of the command at hand.
    now_ms: u64,
    /// What the command at hand gives as id to what it makes.
    number: u64,
}

impl<'a> Entry<'a> {
    pub fn new(hot: &'a mut Hot, kv: &'a dyn Kv, settings: &'a Settings, broker_group: &'a str, id: EntryId) -> Self {
        let now_ms = hot.meta.log_time_ms;
        Entry {
            hot,
            kv,
            settings,
            broker_group,
            id,
            changes: Changes::default(),
            runs: BTreeMap::new(),
            repointed: BTreeMap::new(),
            hints: Hints::default(),
            now_ms,
            number: 0,
        }
    }

    /// Applies the command at place `number` of the entry, whose bytes begin at `slot` of the entry's body.
    pub fn command(&mut self, number: usize, slot: u32, bytes: &Bytes) -> Result<Outcome, ApplyError> {
        let command = Command::decode(bytes).map_err(|error| ApplyError::Command {
            id: self.id,
            number,
            error,
        })?;
        self.now_ms = self.now_ms.max(command.stamp_ms);
        self.hot.meta.log_time_ms = self.now_ms;
        self.number = number_of(self.id.index, number);
        self.hot.recent.expire(self.now_ms, &mut self.changes);
        let id = command.request_id;
        match &command.action {
            Action::Probe => Ok(Outcome::Probed),
            Action::CreateTopic(create) => Ok(Outcome::TopicCreated(self.create_topic(id, create))),
            Action::DeleteTopic { name } => Ok(Outcome::TopicDeleted(self.delete_topic(id, name))),
            Action::CreateConsumerGroup(create) => {
                Ok(Outcome::ConsumerGroupCreated(self.create_consumer_group(id, create)))
            }
            Action::Send(send) => Ok(Outcome::Sent(self.send(send, slot, bytes.len()))),
            Action::Lease(lease) => Ok(Outcome::Leased(self.lease(id, lease)?)),
            Action::Ack(ack) => Ok(Outcome::Acked(self.ack(ack))),
            Action::ChangeVisibility(change) => Ok(Outcome::VisibilityChanged(self.change_visibility(id, change))),
            Action::GiveBack(back) => Ok(self.give_back(back)),
            Action::Renew(renew) => Ok(self.renew(renew)),
            Action::ReleaseClient(release) => Ok(self.release_client(release)),
            Action::Cut { upto } => Ok(Outcome::Cut(self.cut(*upto)?)),
            Action::CarryOver(carry) => {
                let moved = self.carry_over(carry, slot, bytes.len())?;
                Ok(Outcome::CarriedOver { moved })
            }
            Action::Digest => {
                self.hints.digest = true;
                Ok(Outcome::Digesting)
            }
            Action::RaiseFormatLevel { to } => self.raise_format_level(*to),
        }
    }

    /// The rest of this entry is applied and written at the new level. It never falls: a command of a leader that was
    /// overtaken changes nothing.
    fn raise_format_level(&mut self, to: u32) -> Result<Outcome, ApplyError> {
        let max = self.settings.format_level_max;
        if to > max {
            return Err(ApplyError::FormatLevel { id: self.id, to, max });
        }
        let level = &mut self.hot.meta.format_level;
        if to > *level {
            *level = to;
            mark("format_level_raised");
            self.hints.format_level = Some(to);
        }
        Ok(Outcome::FormatLevel { level: *level })
    }

    /// Keeps a membership.
    pub fn set_membership(&mut self, membership: Bytes) {
        self.put(Family::Meta, MEMBERSHIP_KEY.to_vec(), membership.to_vec());
        self.hot.meta.membership = membership;
    }

    /// Ends the entry: one batch with all it changed and `applied`.
    pub fn finish(mut self) -> Result<Hints, ApplyError> {
        for ((topic, queue_id, first), run) in std::mem::take(&mut self.repointed) {
            self.changes
                .put(Family::Runs, run_key(topic, queue_id, first), run.encode());
            self.hot.topics.replace_cached(topic, queue_id, run);
        }
        for ((topic, queue_id), run) in std::mem::take(&mut self.runs) {
            for reference in cut::references(topic, queue_id, &run) {
                self.changes.put(Family::References, reference.key(), reference.value());
            }
            self.changes
                .put(Family::Runs, run_key(topic, queue_id, run.first), run.encode());
            self.hot.topics.cache(topic, queue_id, run);
        }
        let format_level = self.hot.meta.format_level;
        self.hot
            .recent
            .close_entry(self.id.index.0, self.now_ms, format_level, &mut self.changes);
        self.hot.meta.applied = Some(self.id);
        self.changes
            .put(Family::Meta, APPLIED_KEY.to_vec(), self.hot.meta.encode());
        self.kv.write(self.changes.into_batch())?;
        Ok(self.hints)
    }

    /// Sets a pair of the entry's batch.
    pub fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.changes.put(family, key, value);
    }

    /// Adds a message to a queue and answers its offset.
    fn append(&mut self, topic: TopicId, queue_id: u32, record: RunRecord) -> QueueOffset {
        let state = self.hot.topics.of_mut(topic).expect("the caller looked it up");
        let queue = &mut state.queues[queue_id as usize];
        let offset = queue.end;
        queue.end = offset.next();
        queue.oldest.get_or_insert(self.id.index);
        let run = self.runs.entry((topic, queue_id)).or_insert_with(|| Run {
            first: offset,
            entry: self.id.index,
            records: Vec::new(),
        });
        run.records.push(record);
        self.hints.arrived.entry(topic).or_insert_with(|| state.topic.clone());
        for progress in self
            .hot
            .progress
            .range_mut(hot::of_topic(topic))
            .map(|(_, progress)| progress)
        {
            progress.note_end(queue_id, offset.next());
        }
        offset
    }

    /// The index record of an offset, also of those that this entry stored.
    fn record(
        &self,
        topic: TopicId,
        queue_id: u32,
        offset: QueueOffset,
        ahead: &mut Ahead,
    ) -> Result<RunRecord, IndexError> {
        let here = self.runs.get(&(topic, queue_id)).and_then(|run| run.record(offset));
        let here = here.or_else(|| self.repointed_run(topic, queue_id, offset)?.record(offset));
        match here {
            Some(record) => Ok(*record),
            None => self.hot.topics.record(self.kv, topic, queue_id, offset, ahead),
        }
    }

    /// Topic and consumer group of a command.
    fn consumes(&self, topic: &str, consumer_group: &str) -> Result<(Arc<Topic>, Arc<ConsumerGroup>), ConsumeError> {
        let topic = self.hot.topics.named(topic).ok_or(ConsumeError::TopicNotFound)?;
        let group = self
            .hot
            .groups
            .named(consumer_group)
            .ok_or(ConsumeError::ConsumerGroupNotFound)?;
        Ok((topic.topic.clone(), group.clone()))
    }

    /// The progress of a consumer group on a topic; the caller puts it back with [`Entry::return_progress`].
    fn take_progress(&mut self, topic: TopicId, group: ConsumerGroupId) -> Option<Progress> {
        self.hot.progress.remove(&(topic, group))
    }

    fn return_progress(&mut self, progress: Progress) {
        self.hot.progress.insert((progress.topic, progress.group.id), progress);
    }

    fn remember(&mut self, id: super::identity::RequestId, kind: RequestKind, made: u64) {
        self.hot.recent.add_request(id, FirstOutcome { kind, made });
    }

    fn hint_visible(&mut self, topic: &Arc<Topic>, group: &Arc<ConsumerGroup>, at_ms: u64) {
        let key = (topic.id, group.id);
        let hint = self
            .hints
            .visible
            .entry(key)
            .or_insert_with(|| (topic.clone(), group.clone(), at_ms));
        hint.2 = hint.2.min(at_ms);
    }
}
