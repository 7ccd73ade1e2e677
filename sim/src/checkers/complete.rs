//! At the end nothing is left over: every acknowledged message was consumed by each consumer group that consumes its topic,
//! or is its dead letter, or was forgotten by the retention; and progress says the same (acked + dead + in flight + ready =
//! sent).

use std::collections::BTreeMap;

use super::facts::Facts;
use crate::history::{DEAD_LETTER_PREFIX, Progress};

/// See the file's header.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for group in facts.groups.values() {
        for (key, sent) in &facts.sends {
            let Some((_, place)) = sent.acked else { continue };
            if !group.consumes.iter().any(|topic| topic == sent.topic) || facts.is_forgotten(sent.topic, place) {
                continue;
            }
            let name = group.consumer_group.as_str();
            let handled = facts.handled.get(&(name, sent.topic, *key));
            if handled.and_then(|handled| handled.acked_from()).is_none() && !died(facts, name, key) {
                let received = handled.map_or(0, |handled| handled.received.len());
                wrong.push(format!(
                    "{name} never consumed {key} of {}, received {received} times",
                    sent.topic
                ));
            }
        }
    }
    wrong.extend(left_over(facts));
    wrong
}

fn died(facts: &Facts<'_>, consumer_group: &str, key: &str) -> bool {
    let is_its = |topic: &str| topic.strip_prefix(DEAD_LETTER_PREFIX) == Some(consumer_group);
    let received = facts.handled.iter();
    let mut received =
        received.filter(|((_, topic, of), handled)| *of == key && is_its(topic) && !handled.received.is_empty());
    let mut stored = facts.stored.values().flatten();
    received.next().is_some() || stored.any(|stored| stored.key == key && is_its(&stored.topic))
}

/// The newest progress of each consumer group says that all is done.
fn left_over(facts: &Facts<'_>) -> Vec<String> {
    let mut newest: BTreeMap<(&str, &str, &str, i64), &Progress> = BTreeMap::new();
    for progress in &facts.progress {
        let of = (
            progress.broker_group.as_str(),
            progress.consumer_group.as_str(),
            progress.topic.as_str(),
            progress.queue,
        );
        let known = newest.entry(of).or_insert(progress);
        if known.index <= progress.index {
            *known = progress;
        }
    }
    let mut wrong = Vec::new();
    for ((_, name, topic, queue), progress) in newest {
        let consumes = facts
            .groups
            .get(name)
            .is_some_and(|group| group.consumes.iter().any(|of| of == topic));
        if consumes && (progress.done != progress.end || progress.not_done != 0) {
            let (done, end, not_done) = (progress.done, progress.end, progress.not_done);
            wrong.push(format!(
                "{name} is done up to {done} of {end} in queue {queue} of {topic}, {not_done} not done"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::story::{Story, group};

    fn found(story: &Story) -> usize {
        check(&Facts::of(story.events())).len()
    }

    #[test]
    fn what_nobody_consumed_is_seen() {
        let sent = Story::new().with(group("g", &["t"])).acked("a", "t", 0);
        assert_eq!(found(&sent), 1);
        assert_eq!(found(&sent.clone().receive("g", "t", "a", 0, 1)), 1);
        assert_eq!(found(&sent.clone().receive("g", "t", "a", 0, 1).ack("g", "t", "a")), 0);
        assert_eq!(found(&sent.clone().receive("u", "%DLQ%g", "a", 0, 1)), 0);
        assert_eq!(found(&sent.bounds("r", "t", 1, 1)), 0);
    }

    #[test]
    fn progress_that_is_behind_is_seen() {
        let none = Story::new().with(group("g", &["t"]));
        assert_eq!(found(&none.clone().progress("g", "t", (2, 2, 2), 9)), 0);
        assert_eq!(found(&none.clone().progress("g", "t", (1, 2, 2), 9)), 1);
        let later = none.progress("g", "t", (1, 2, 2), 9).progress("g", "t", (2, 2, 2), 12);
        assert_eq!(found(&later), 0);
    }
}
