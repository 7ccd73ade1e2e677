//! What consumer groups must still consume, kept up to date event by event: the run asks every 100 ms whether all is done.

use std::collections::{BTreeMap, BTreeSet};

use super::{DEAD_LETTER_PREFIX, Op, Receive, What};

#[derive(Default)]
pub(super) struct Owed {
    pub acked_since_healed: usize,
    healed: bool,
    topics: BTreeMap<String, String>,
    /// Acknowledged messages of each topic with their places: broker group, queue, offset.
    acked: BTreeMap<String, BTreeMap<String, (String, i64, i64)>>,
    /// Consumer groups of each topic.
    consumers: BTreeMap<String, Vec<String>>,
    /// Consumer group and key.
    done: BTreeSet<(String, String)>,
    missing: BTreeSet<(String, String)>,
    /// The first offset kept of each queue: broker group, topic, queue.
    begins: BTreeMap<(String, String, i64), i64>,
}

impl Owed {
    pub fn take(&mut self, what: &What) {
        match what {
            What::Group(group) => {
                for topic in &group.consumes {
                    let of_topic = self.consumers.entry(topic.clone()).or_default();
                    if of_topic.contains(&group.consumer_group) {
                        continue;
                    }
                    of_topic.push(group.consumer_group.clone());
                    for key in self.acked.get(topic).into_iter().flat_map(BTreeMap::keys) {
                        self.missing.insert((group.consumer_group.clone(), key.clone()));
                    }
                }
            }
            What::Send(send) => match (send.op, &send.topic) {
                (Op::Intent, Some(topic)) => {
                    self.topics.insert(send.key.clone(), topic.clone());
                }
                (Op::Ok, _) => self.sent(send),
                _ => {}
            },
            What::Receive(receive) => self.died(receive),
            What::Ack(ack) if matches!(ack.op, Op::Ok | Op::Unknown) => {
                self.finish(&ack.consumer_group, &ack.key);
            }
            What::Healed {} => self.healed = true,
            _ => {}
        }
    }

    fn sent(&mut self, send: &super::Send) {
        self.acked_since_healed += usize::from(self.healed);
        let Some(topic) = self.topics.get(&send.key) else {
            return;
        };
        let place = (
            send.broker_group.clone().unwrap_or_default(),
            send.queue.unwrap_or(-1),
            send.offset.unwrap_or(-1),
        );
        let queue = (place.0.clone(), topic.clone(), place.1);
        let gone = self.begins.get(&queue).is_some_and(|first| place.2 < *first);
        self.acked
            .entry(topic.clone())
            .or_default()
            .insert(send.key.clone(), place);
        if gone {
            return;
        }
        for group in self.consumers.get(topic).into_iter().flatten() {
            let owed = (group.clone(), send.key.clone());
            if !self.done.contains(&owed) {
                self.missing.insert(owed);
            }
        }
    }

    /// A dead letter is done for the consumer group that it died in.
    fn died(&mut self, receive: &Receive) {
        if let Some(group) = receive.topic.strip_prefix(DEAD_LETTER_PREFIX) {
            self.finish(group, &receive.key);
        }
    }

    fn finish(&mut self, consumer_group: &str, key: &str) {
        let owed = (consumer_group.to_owned(), key.to_owned());
        self.missing.remove(&owed);
        self.done.insert(owed);
    }

    /// What lies below was forgotten: nobody can consume it. Answers whether that is news.
    pub fn begins(&mut self, broker_group: &str, topic: &str, queue: i64, first: i64) -> bool {
        let of = (broker_group.to_owned(), topic.to_owned(), queue);
        let known = self.begins.entry(of).or_default();
        if first <= *known {
            return false;
        }
        *known = first;
        let Some(acked) = self.acked.get(topic) else {
            return true;
        };
        let gone = |key: &String| {
            acked.get(key).is_some_and(|(in_group, in_queue, offset)| {
                in_group == broker_group && *in_queue == queue && *offset < first
            })
        };
        self.missing.retain(|(_, key)| !gone(key));
        true
    }

    /// Whether a consumer group must consume all of a topic.
    pub fn consumes(&self, consumer_group: &str, topic: &str) -> bool {
        let groups = self.consumers.get(topic);
        groups.is_some_and(|groups| groups.iter().any(|group| group == consumer_group))
    }

    pub fn first(&self) -> Option<(usize, String)> {
        let (group, key) = self.missing.first()?;
        Some((self.missing.len(), format!("{key} by {group}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::story::{Story, group};

    #[test]
    fn what_is_acknowledged_is_owed_until_it_is_consumed_or_forgotten() {
        let mut owed = Owed::default();
        let told = |owed: &mut Owed, story: Story| story.events().iter().for_each(|event| owed.take(&event.what));
        told(&mut owed, Story::new().with(group("billing", &["orders"])));
        told(
            &mut owed,
            Story::new().acked("p1-1", "orders", 0).acked("p1-2", "orders", 1),
        );
        assert_eq!(owed.first(), Some((2, "p1-1 by billing".to_owned())));
        owed.begins("broker-a", "orders", 0, 1);
        assert_eq!(owed.first(), Some((1, "p1-2 by billing".to_owned())));
        told(&mut owed, Story::new().ack("billing", "orders", "p1-2"));
        assert_eq!(owed.first(), None);
    }
}
