//! Topics with their queues in memory: the ends, and the newest runs of the queue index, which is what consumers
//! who keep up read. Older runs are read from the store.

use super::codec::DecodeError;
use super::identity::{QueueOffset, TopicId};
use super::kv::{Family, Kv, KvError};
use super::meta::MetaError;
use super::run::{Run, RunRecord, run_key, run_key_first};
use super::topic::Topic;
use ledgermq_raft_store::types::LogIndex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The index can't be read, or holds what no release wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The store failed.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// Bytes of a pair are wrong.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// No run holds this offset, though the queue does.
    #[error("queue {queue_id} of topic {topic} misses offset {offset} in its index")]
    Missing {
        /// Name of the topic.
        topic: String,
        /// The queue.
        queue_id: u32,
        /// The offset.
        offset: QueueOffset,
    },
}

impl From<MetaError> for IndexError {
    fn from(error: MetaError) -> IndexError {
        match error {
            MetaError::Kv(error) => IndexError::Kv(error),
            MetaError::Decode(error) => IndexError::Decode(error),
        }
    }
}

/// One topic and its queues.
#[derive(Debug)]
pub(crate) struct TopicState {
    pub topic: Arc<Topic>,
    pub queues: Vec<QueueState>,
}

/// One queue: it holds `first..end`.
#[derive(Debug, Default)]
pub(crate) struct QueueState {
    pub first: QueueOffset,
    pub end: QueueOffset,
    /// The entry by which its first run came; `None` while it holds nothing.
    pub oldest: Option<LogIndex>,
    /// The newest runs, contiguous up to `end`.
    recent: VecDeque<Arc<Run>>,
}

/// All topics.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_name: BTreeMap<String, TopicId>,
    by_id: BTreeMap<TopicId, TopicState>,
    /// Queues in the order in which their cached runs came.
    cached_order: VecDeque<(TopicId, u32)>,
    cached_records: usize,
    pub cached_records_max: usize,
}

/// Runs of one queue that were read from the store one after another and not used up yet.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    queue: Option<(TopicId, u32)>,
    runs: VecDeque<Arc<Run>>,
}

impl Ahead {
    pub fn new() -> Ahead {
        Ahead::default()
    }

    /// The run that holds an offset; forgets those before it, and all when the queue is another one.
    fn run(&mut self, topic: TopicId, queue_id: u32, offset: QueueOffset) -> Option<Arc<Run>> {
        if self.queue != Some((topic, queue_id)) {
            self.queue = Some((topic, queue_id));
            self.runs.clear();
        }
        while let Some(run) = self.runs.front() {
            if run.record(offset).is_some() {
                return Some(run.clone());
            }
            self.runs.pop_front();
        }
        None
    }
}

impl QueueState {
    /// The cached run that holds an offset.
    fn cached(&self, offset: QueueOffset) -> Option<&Arc<Run>> {
        let at = self.recent.partition_point(|run| run.end() <= offset);
        self.recent.get(at).filter(|run| run.first <= offset)
    }
}

impl TopicState {
    /// A topic whose queues are empty.
    pub fn new(topic: Topic) -> TopicState {
        let queues = (0..topic.queues).map(|_| QueueState::default()).collect();
        TopicState {
            topic: Arc::new(topic),
            queues,
        }
    }

    /// The run that holds an offset of a queue. `ahead` keeps what was read from the store beyond it.
    pub fn run(
        &self,
        kv: &dyn Kv,
        queue_id: u32,
        offset: QueueOffset,
        ahead: &mut Ahead,
    ) -> Result<Arc<Run>, IndexError> {
        const PAGE: usize = 32;
        if let Some(run) = self.queues[queue_id as usize].cached(offset) {
            return Ok(run.clone());
        }
        let id = self.topic.id;
        if let Some(run) = ahead.run(id, queue_id, offset) {
            return Ok(run);
        }
        // Runs are contiguous, so after another run one begins just here.
        let page = kv.scan(
            Family::Runs,
            &run_key(id, queue_id, offset),
            &run_key(id, queue_id, end_of_keys()),
            PAGE,
        )?;
        for (key, value) in page {
            ahead
                .runs
                .push_back(Arc::new(Run::decode(run_key_first(&key)?, &value)?));
        }
        if let Some(run) = ahead.runs.front().filter(|run| run.first == offset) {
            return Ok(run.clone());
        }
        let before = kv.last(
            Family::Runs,
            &run_key(id, queue_id, QueueOffset(0)),
            &run_key(id, queue_id, offset),
        )?;
        let missing = || IndexError::Missing {
            topic: self.topic.name.clone(),
            queue_id,
            offset,
        };
        let (key, value) = before.ok_or_else(missing)?;
        let run = Arc::new(Run::decode(run_key_first(&key)?, &value)?);
        if run.record(offset).is_none() {
            return Err(missing());
        }
        ahead.runs.push_front(run.clone());
        Ok(run)
    }
}

const fn end_of_keys() -> QueueOffset {
    QueueOffset(u64::MAX)
}

impl Topics {
    /// A topic by its name.
    pub fn named(&self, name: &str) -> Option<&TopicState> {
        self.by_id.get(self.by_name.get(name)?)
    }

    /// A topic by its id.
    pub fn of(&self, id: TopicId) -> Option<&TopicState> {
        self.by_id.get(&id)
    }

    /// A topic by its id, to change.
    pub fn of_mut(&mut self, id: TopicId) -> Option<&mut TopicState> {
        self.by_id.get_mut(&id)
    }

    /// All topics by name.
    pub fn iter(&self) -> impl Iterator<Item = &TopicState> {
        self.by_name.values().map(|id| &self.by_id[id])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The queues that hold something that came by entry `upto` or before.
    pub fn with_runs_upto(&self, upto: LogIndex) -> Vec<(TopicId, u32)> {
        let mut found = Vec::new();
        for (id, state) in &self.by_id {
            let queues = (0..).zip(&state.queues);
            let old = queues.filter(|(_, queue)| queue.oldest.is_some_and(|oldest| oldest <= upto));
            found.extend(old.map(|(queue_id, _)| (*id, queue_id)));
        }
        found
    }

    /// Puts a changed run in the place of the cached one, if it is cached.
    pub fn replace_cached(&mut self, topic: TopicId, queue_id: u32, run: Run) {
        let queue = self
            .by_id
            .get_mut(&topic)
            .and_then(|state| state.queues.get_mut(queue_id as usize));
        let Some(queue) = queue else { return };
        let at = queue.recent.partition_point(|cached| cached.first < run.first);
        if let Some(cached) = queue.recent.get_mut(at).filter(|cached| cached.first == run.first) {
            *cached = Arc::new(run);
        }
    }

    /// Adds a topic; its name must be new.
    pub fn add(&mut self, state: TopicState) {
        self.by_name.insert(state.topic.name.clone(), state.topic.id);
        self.by_id.insert(state.topic.id, state);
    }

    /// Removes a topic.
    pub fn remove(&mut self, id: TopicId) {
        let Some(state) = self.by_id.remove(&id) else { return };
        self.by_name.remove(&state.topic.name);
        let cached = state
            .queues
            .iter()
            .flat_map(|queue| &queue.recent)
            .map(|run| run.records.len())
            .sum::<usize>();
        self.cached_records -= cached;
        self.cached_order.retain(|(of, _)| *of != id);
    }

    /// The record of an offset.
    pub fn record(
        &self,
        kv: &dyn Kv,
        topic: TopicId,
        queue_id: u32,
        offset: QueueOffset,
        ahead: &mut Ahead,
    ) -> Result<RunRecord, IndexError> {
        let state = &self.by_id[&topic];
        let run = state.run(kv, queue_id, offset, ahead)?;
        run.record(offset).copied().ok_or_else(|| IndexError::Missing {
            topic: state.topic.name.clone(),
            queue_id,
            offset,
        })
    }

    /// Keeps a run that was just written, and lets the oldest cached ones go.
    pub fn cache(&mut self, topic: TopicId, queue_id: u32, run: Run) {
        let Some(state) = self.by_id.get_mut(&topic) else {
            return;
        };
        let queue = &mut state.queues[queue_id as usize];
        debug_assert!(queue.recent.back().is_none_or(|last| last.end() == run.first));
        self.cached_records += run.records.len();
        queue.recent.push_back(Arc::new(run));
        self.cached_order.push_back((topic, queue_id));
        while self.cached_records > self.cached_records_max {
            let Some((topic, queue_id)) = self.cached_order.pop_front() else {
                break;
            };
            let queue = self
                .by_id
                .get_mut(&topic)
                .and_then(|state| state.queues.get_mut(queue_id as usize));
            let run = queue.and_then(|queue| queue.recent.pop_front());
            self.cached_records -= run.map_or(0, |run| run.records.len());
        }
    }
}
