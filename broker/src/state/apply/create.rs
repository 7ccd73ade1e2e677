//! Topics and consumer groups made and deleted.

use super::Entry;
use crate::state::command::{CreateConsumerGroup, CreateTopic};
use crate::state::hot::{self, encode_consumer_group, encode_topic};
use crate::state::identity::{ConsumerGroupId, RequestId, TopicId};
use crate::state::kv::Family;
use crate::state::limits;
use crate::state::outcome::{CreateConsumerGroupError, CreateTopicError, DeleteTopicError};
use crate::state::queue::TopicState;
use crate::state::recent::RequestKind;
use crate::state::topic::{ConsumerGroup, DEAD_LETTER_PREFIX, Topic, TopicKind};
use std::sync::Arc;

impl Entry<'_> {
    pub(super) fn create_topic(&mut self, id: RequestId, create: &CreateTopic) -> Result<Arc<Topic>, CreateTopicError> {
        if let Some(known) = self.hot.topics.named(&create.name) {
            return match self.hot.recent.request(id, RequestKind::CreateTopic) {
                Some(made) if made == known.topic.id.0 => Ok(known.topic.clone()),
                _ => Err(CreateTopicError::Exists(known.topic.clone())),
            };
        }
        if !(1..=limits::QUEUES_PER_TOPIC).contains(&create.queues) {
            return Err(CreateTopicError::Queues {
                queues: create.queues,
                max: limits::QUEUES_PER_TOPIC,
            });
        }
        if self.hot.topics.len() >= limits::TOPICS as usize {
            return Err(CreateTopicError::TooMany { max: limits::TOPICS });
        }
        if !self.hot.recent.has_room_for_request(self.settings.request_ids) {
            return Err(CreateTopicError::RequestWindowFull);
        }
        self.remember(id, RequestKind::CreateTopic, self.number);
        Ok(self.add_topic(&create.name, create.kind, create.queues))
    }

    fn add_topic(&mut self, name: &str, kind: TopicKind, queues: u32) -> Arc<Topic> {
        let topic = Topic {
            id: TopicId(self.number),
            name: name.to_string(),
            kind,
            queues,
            created_ms: self.now_ms,
        };
        self.put(Family::Topics, topic.id.0.to_be_bytes().to_vec(), encode_topic(&topic));
        let state = TopicState::new(topic);
        let topic = state.topic.clone();
        self.hot.topics.add(state);
        self.hints.topics_changed = true;
        topic
    }

    /// The topic of a consumer group's dead letters, made if it is not there; `None` if there is no room.
    pub(super) fn dead_letter_topic(&mut self, group: &ConsumerGroup) -> Option<Arc<Topic>> {
        let name = format!("{DEAD_LETTER_PREFIX}{}", group.name);
        if let Some(known) = self.hot.topics.named(&name) {
            return Some(known.topic.clone());
        }
        let room = self.hot.topics.len() < limits::TOPICS as usize;
        room.then(|| self.add_topic(&name, TopicKind::Normal, 1))
    }

    pub(super) fn delete_topic(&mut self, id: RequestId, name: &str) -> Result<(), DeleteTopicError> {
        if self.hot.recent.request(id, RequestKind::DeleteTopic).is_some() {
            return Ok(());
        }
        let topic = self.hot.topics.named(name).ok_or(DeleteTopicError::NotFound)?.topic.id;
        if !self.hot.recent.has_room_for_request(self.settings.request_ids) {
            return Err(DeleteTopicError::RequestWindowFull);
        }
        self.remember(id, RequestKind::DeleteTopic, topic.0);
        self.hot.topics.remove(topic);
        self.runs.retain(|(of, _), _| *of != topic);
        self.repointed.retain(|(of, _, _), _| *of != topic);
        self.hints.arrived.remove(&topic);
        let groups: Vec<ConsumerGroupId> = self
            .hot
            .progress
            .range(hot::of_topic(topic))
            .map(|((_, group), _)| *group)
            .collect();
        for group in groups {
            self.hot.progress.remove(&(topic, group));
        }
        let key = topic.0.to_be_bytes();
        self.changes.delete(Family::Topics, key.to_vec());
        // References to its records are of no topic then, and go with the next cut.
        for family in [Family::Runs, Family::Queues, Family::Progress, Family::Spans] {
            self.changes.delete_prefix(family, &key);
        }
        self.hints.topics_changed = true;
        Ok(())
    }

    pub(super) fn create_consumer_group(
        &mut self,
        id: RequestId,
        create: &CreateConsumerGroup,
    ) -> Result<Arc<ConsumerGroup>, CreateConsumerGroupError> {
        if let Some(known) = self.hot.groups.named(&create.name) {
            return match self.hot.recent.request(id, RequestKind::CreateConsumerGroup) {
                Some(made) if made == known.id.0 => Ok(known.clone()),
                _ => Err(CreateConsumerGroupError::Exists(known.clone())),
            };
        }
        if self.hot.groups.len() >= limits::CONSUMER_GROUPS as usize {
            return Err(CreateConsumerGroupError::TooMany {
                max: limits::CONSUMER_GROUPS,
            });
        }
        if !self.hot.recent.has_room_for_request(self.settings.request_ids) {
            return Err(CreateConsumerGroupError::RequestWindowFull);
        }
        self.remember(id, RequestKind::CreateConsumerGroup, self.number);
        let group = Arc::new(ConsumerGroup {
            id: ConsumerGroupId(self.number),
            name: create.name.clone(),
            fifo: create.fifo,
            max_attempts: create.max_attempts.max(1),
            from: create.from,
            schedule_ms: limits::SCHEDULE_MS.to_vec(),
            created_ms: self.now_ms,
        });
        let key = group.id.0.to_be_bytes().to_vec();
        self.put(Family::ConsumerGroups, key, encode_consumer_group(&group));
        self.hot.groups.add(group.clone());
        Ok(group)
    }
}
