//! What was acknowledged is there, at the place its sender was told, until the retention forgets it.

use std::collections::BTreeMap;

use super::facts::{Facts, Queue};

/// See the file's header. Says nothing when nobody read the queues.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (reader, stored) in facts.read() {
        let there: BTreeMap<(&str, &str), (&str, i64, i64)> = stored
            .iter()
            .map(|stored| {
                let place = (stored.broker_group.as_str(), stored.queue, stored.offset);
                ((stored.topic.as_str(), stored.key.as_str()), place)
            })
            .collect();
        let bounds = facts.bounds.get(reader);
        // A replica reads all that its broker group has, a client what it likes.
        let reads = |broker_group: &str, topic: &str| {
            let is_meant = |queue: &Queue<'_>| queue.0 == broker_group && (queue.1 == topic || !reader.is_empty());
            bounds.is_none_or(|bounds| bounds.keys().any(is_meant))
        };
        for (key, sent) in &facts.sends {
            let Some((at, place)) = sent.acked else { continue };
            if facts.is_forgotten(sent.topic, place) || !reads(place.0, sent.topic) {
                continue;
            }
            match there.get(&(sent.topic, *key)) {
                Some(found) if place.1 < 0 || *found == place => {}
                Some(found) => wrong.push(format!(
                    "{key} was acknowledged at {place:?} of {}, {reader} has it at {found:?}",
                    sent.topic
                )),
                None => wrong.push(format!(
                    "{key}, acknowledged at {at:.3} s at {place:?} of {}, is lost: {reader} has not got it",
                    sent.topic
                )),
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::story::Story;

    fn found(story: &Story) -> usize {
        check(&Facts::of(story.events())).len()
    }

    #[test]
    fn a_lost_message_is_seen() {
        let sent = Story::new().acked("a", "t", 0).acked("b", "t", 1);
        assert_eq!(found(&sent), 0, "nobody looked");
        let read = sent.clone().bounds("r", "t", 0, 2).stored("r", "t", "b", 1);
        assert_eq!(found(&read), 1);
        assert_eq!(found(&read.stored("r", "t", "a", 0)), 0);
    }

    #[test]
    fn a_topic_that_is_gone_is_seen() {
        let sent = Story::new().acked("a", "t", 0);
        assert_eq!(found(&sent.clone().bounds("r", "u", 0, 0)), 1);
        assert_eq!(found(&sent.clone().bounds("r", "t", 0, 0)), 1, "an empty queue");
        assert_eq!(
            found(&sent.bounds("", "u", 0, 0)),
            0,
            "a client that read another topic"
        );
    }

    #[test]
    fn what_retention_forgot_may_be_gone_and_nothing_else() {
        let sent = Story::new().acked("a", "t", 0).acked("b", "t", 1);
        let cut = sent.bounds("r", "t", 1, 2);
        assert_eq!(found(&cut.clone().stored("r", "t", "b", 1)), 0);
        assert_eq!(found(&cut.stored("r", "t", "c", 1)), 1);
    }
}
