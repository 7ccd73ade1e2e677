//! The state in memory: all that apply and the view need at hand, loaded on opening and written through.

use super::codec::{DecodeError, Reader, Writer};
use super::format::{consume_from, consume_from_number, topic_kind, topic_kind_number};
use super::identity::{ConsumerGroupId, QueueOffset, TopicId};
use super::kv::{Family, Kv, for_each_pair};
use super::limits;
use super::machine::Settings;
use super::meta::{self, Meta};
use super::progress::{Progress, SpanPlace};
use super::queue::{IndexError, QueueState, TopicState, Topics};
use super::recent::Recent;
use super::run::{Run, read_entry, run_key, run_key_first};
use super::span::{self, Span};
use super::start::{read_start, start_key};
use super::topic::{ConsumeFrom, ConsumerGroup, Topic};
use crate::planted::{Bug, Planted};
use ledgermq_raft_store::types::EntryId;
use std::collections::BTreeMap;
use std::sync::Arc;

const VERSION: u8 = 1;
/// All consumer groups.
#[derive(Debug, Default)]
pub(crate) struct ConsumerGroups {
    by_name: BTreeMap<String, Arc<ConsumerGroup>>,
    by_id: BTreeMap<ConsumerGroupId, Arc<ConsumerGroup>>,
}

impl ConsumerGroups {
    pub fn named(&self, name: &str) -> Option<&Arc<ConsumerGroup>> {
        self.by_name.get(name)
    }

    pub fn of(&self, id: ConsumerGroupId) -> Option<&Arc<ConsumerGroup>> {
        self.by_id.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<ConsumerGroup>> {
        self.by_name.values()
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn add(&mut self, group: Arc<ConsumerGroup>) {
        self.by_name.insert(group.name.clone(), group.clone());
        self.by_id.insert(group.id, group);
    }
}

/// The state in memory.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    /// A bug on purpose.
    pub planted: Planted,
    pub meta: Meta,
    /// The entry that an installed export is of.
    pub covered: Option<EntryId>,
    pub topics: Topics,
    pub groups: ConsumerGroups,
    pub progress: BTreeMap<(TopicId, ConsumerGroupId), Progress>,
    pub recent: Recent,
}

/// Names of one topic's progress: all its consumer groups.
pub(crate) fn of_topic(topic: TopicId) -> std::ops::RangeInclusive<(TopicId, ConsumerGroupId)> {
    (topic, ConsumerGroupId(0))..=(topic, ConsumerGroupId(u64::MAX))
}

impl Hot {
    /// Spans in self-renewing leases that end after `from_ms` and by `upto_ms`, each with its topic, its consumer group's
    /// progress there and its place.
    pub fn self_renewing(
        &self,
        from_ms: u64,
        upto_ms: u64,
    ) -> impl Iterator<Item = (&Progress, &Topic, SpanPlace, &Span)> {
        let known = self.progress.iter().filter_map(|((topic, _), progress)| {
            let topic = &*self.topics.of(*topic)?.topic;
            Some((topic, progress))
        });
        known.flat_map(move |(topic, progress)| {
            let places = progress.renewals(from_ms, upto_ms);
            places.filter_map(move |place| Some((progress, topic, place, progress.span_of(place.0, place.1)?.1)))
        })
    }

    /// Where a consumer group that never consumed a topic starts in its queues.
    pub fn start(state: &TopicState, from: ConsumeFrom) -> Vec<QueueOffset> {
        let place = |queue: &QueueState| match from {
            ConsumeFrom::Earliest => queue.first,
            ConsumeFrom::Latest => queue.end,
        };
        state.queues.iter().map(place).collect()
    }

    /// Nothing.
    pub fn empty(settings: &Settings) -> Hot {
        let mut hot = Hot {
            planted: settings.planted,
            recent: Recent::new(settings.planted),
            ..Hot::default()
        };
        hot.topics.cached_records_max = settings.cached_records;
        hot
    }

    /// The entry whose effect the state holds: the last one applied, or a later one whose export was installed.
    pub fn holds(&self) -> Option<EntryId> {
        let later = self
            .covered
            .filter(|id| self.meta.applied.is_none_or(|applied| applied.index < id.index));
        later.or(self.meta.applied)
    }

    /// Loads everything from a store.
    pub fn load(kv: &dyn Kv, settings: &Settings) -> Result<Hot, IndexError> {
        let mut hot = Hot::empty(settings);
        hot.meta = Meta::of(kv)?;
        hot.covered = meta::covered(kv)?;
        for_each_pair(kv, Family::Topics, |_, value| hot.load_topic(kv, value))?;
        for_each_pair(kv, Family::ConsumerGroups, |_, value| {
            hot.groups.add(Arc::new(decode_consumer_group(value)?));
            Ok::<(), IndexError>(())
        })?;
        for_each_pair(kv, Family::Progress, |key, value| hot.load_progress(key, value))?;
        for_each_pair(kv, Family::Spans, |key, value| hot.load_span(key, value))?;
        for_each_pair(kv, Family::Recent, |key, value| {
            Ok::<(), IndexError>(hot.recent.load(key, value)?)
        })?;
        for ((topic, _), progress) in &mut hot.progress {
            let state = hot.topics.of(*topic).ok_or(DecodeError::Bounds {
                what: "topic of progress",
            })?;
            (0..)
                .zip(&state.queues)
                .for_each(|(queue_id, queue)| progress.note_end(queue_id, queue.end));
        }
        Ok(hot)
    }

    fn load_topic(&mut self, kv: &dyn Kv, value: &[u8]) -> Result<(), IndexError> {
        let mut state = TopicState::new(decode_topic(value)?);
        let id = state.topic.id;
        for (queue_id, queue) in (0..).zip(&mut state.queues) {
            let (from, upto) = (
                run_key(id, queue_id, QueueOffset(0)),
                run_key(id, queue_id, QueueOffset(u64::MAX)),
            );
            if let Some(value) = kv.get(Family::Queues, &start_key(id, queue_id))? {
                queue.first = read_start(&value)?;
                queue.end = queue.first;
            }
            if let Some((key, value)) = kv.last(Family::Runs, &from, &upto)? {
                queue.end = Run::decode(run_key_first(&key)?, &value)?.end();
                if let Some((key, value)) = kv.scan(Family::Runs, &from, &upto, 1)?.first() {
                    queue.first = run_key_first(key)?;
                    queue.oldest = Some(read_entry(value)?);
                }
            }
        }
        self.topics.add(state);
        Ok(())
    }

    fn load_progress(&mut self, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        let (topic, group, queue_id, _) = span::read_key(key)?;
        let Some(queue_id) = queue_id else {
            let unknown = DecodeError::Bounds {
                what: "names of progress",
            };
            let state = self.topics.of(topic).ok_or(unknown.clone())?;
            let group = self.groups.of(group).ok_or(unknown)?.clone();
            let key = (topic, group.id);
            let start = Hot::start(state, ConsumeFrom::Earliest);
            self.progress.insert(key, Progress::new(topic, group, start));
            return Ok(());
        };
        let next = span::read_next(value)?;
        self.loaded(topic, group, queue_id)?.load_next(queue_id, next);
        Ok(())
    }

    fn load_span(&mut self, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        let (topic, group, queue_id, first) = span::read_key(key)?;
        let (Some(queue_id), Some(first)) = (queue_id, first) else {
            return Err(DecodeError::Bounds { what: "key of span" }.into());
        };
        let mut span = Span::decode(first, value)?;
        if self.planted.has(Bug::FifoLockLost) {
            span.message_group = 0;
        }
        if self.planted.has(Bug::AttemptsNotStored) {
            span.attempt = span.attempt.min(1);
        }
        self.loaded(topic, group, queue_id)?.load_span(queue_id, first, span);
        Ok(())
    }

    /// Progress whose first pair, which sorts before all others of it, was loaded.
    fn loaded(&mut self, topic: TopicId, group: ConsumerGroupId, queue_id: u32) -> Result<&mut Progress, DecodeError> {
        let progress = self.progress.get_mut(&(topic, group));
        progress
            .filter(|progress| (queue_id as usize) < progress.queue_count())
            .ok_or(DecodeError::Bounds {
                what: "names of progress",
            })
    }
}

/// The value of a topic: u8 version = 1, u64 id, text name, u8 kind, varint queues, varint created (unix ms).
pub(crate) fn encode_topic(topic: &Topic) -> Vec<u8> {
    let mut writer = Writer::with_capacity(64);
    writer.u8(VERSION);
    writer.u64(topic.id.0);
    writer.text(&topic.name);
    writer.u8(topic_kind_number(topic.kind));
    writer.varint(topic.queues.into());
    writer.varint(topic.created_ms);
    writer.into_vec()
}

fn decode_topic(bytes: &[u8]) -> Result<Topic, DecodeError> {
    let mut reader = Reader::new("topic", bytes);
    reader.version(VERSION)?;
    let topic = Topic {
        id: TopicId(reader.u64()?),
        name: reader.text()?.to_string(),
        kind: topic_kind(reader.u8()?)?,
        queues: reader.varint_u32()?,
        created_ms: reader.varint()?,
    };
    reader.end()?;
    if topic.queues > limits::QUEUES_PER_TOPIC {
        return Err(DecodeError::Bounds {
            what: "queues of a topic",
        });
    }
    Ok(topic)
}

/// The value of a consumer group: u8 version = 1, u64 id, text name, u8 fifo, varint attempts, u8 from,
/// varint created (unix ms), varint count, count × varint delay (ms).
pub(crate) fn encode_consumer_group(group: &ConsumerGroup) -> Vec<u8> {
    let mut writer = Writer::with_capacity(128);
    writer.u8(VERSION);
    writer.u64(group.id.0);
    writer.text(&group.name);
    writer.u8(group.fifo.into());
    writer.varint(group.max_attempts.into());
    writer.u8(consume_from_number(group.from));
    writer.varint(group.created_ms);
    writer.varint(group.schedule_ms.len() as u64);
    group.schedule_ms.iter().for_each(|delay| writer.varint(*delay));
    writer.into_vec()
}

fn decode_consumer_group(bytes: &[u8]) -> Result<ConsumerGroup, DecodeError> {
    let mut reader = Reader::new("consumer group", bytes);
    reader.version(VERSION)?;
    let id = ConsumerGroupId(reader.u64()?);
    let name = reader.text()?.to_string();
    let fifo = reader.flag()?;
    let max_attempts = reader.varint_u32()?;
    let from = consume_from(reader.u8()?)?;
    let created_ms = reader.varint()?;
    let count = reader.count(1)?;
    let schedule_ms = (0..count).map(|_| reader.varint()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(ConsumerGroup {
        id,
        name,
        fifo,
        max_attempts,
        from,
        schedule_ms,
        created_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::topic::TopicKind;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(name in ".{0,20}", numbers: [u32; 4], delays: Vec<u64>, fifo: bool) {
            let [id, queues, created, attempts] = numbers.map(u64::from);
            let topic = Topic {
                id: TopicId(id),
                name: name.clone(),
                kind: TopicKind::Mixed,
                queues: (queues % 4097) as u32,
                created_ms: created,
            };
            prop_assert_eq!(decode_topic(&encode_topic(&topic)).expect("decode"), topic);
            let group = ConsumerGroup {
                id: ConsumerGroupId(id),
                name,
                fifo,
                max_attempts: attempts as u32,
                from: ConsumeFrom::Latest,
                schedule_ms: delays,
                created_ms: created,
            };
            prop_assert_eq!(decode_consumer_group(&encode_consumer_group(&group)).expect("decode"), group);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut bytes = bytes;
            bytes.insert(0, VERSION);
            let _ = decode_topic(&bytes);
            let _ = decode_consumer_group(&bytes);
        }
    }
}
