//! The offsets of a queue are dense: every place between its bounds holds a message.

use std::collections::BTreeMap;

use super::facts::{Facts, Queue};

/// See the file's header.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (reader, stored) in facts.read() {
        let mut queues: BTreeMap<Queue<'_>, Vec<i64>> = BTreeMap::new();
        for stored in stored {
            let queue = (stored.broker_group.as_str(), stored.topic.as_str(), stored.queue);
            queues.entry(queue).or_default().push(stored.offset);
        }
        let bounds = facts.bounds.get(reader);
        for (queue, bounds) in bounds.into_iter().flatten() {
            let offsets = queues.entry(*queue).or_default();
            offsets.sort_unstable();
            offsets.dedup();
            let expected = bounds.first..bounds.end;
            if !expected.clone().eq(offsets.iter().copied()) {
                let missing = expected.clone().find(|offset| !offsets.contains(offset));
                let count = offsets.len();
                wrong.push(format!(
                    "{queue:?} of {reader} holds {count} messages in {expected:?}, offset {missing:?} is the first one missing"
                ));
            }
        }
        if bounds.is_some() {
            continue;
        }
        for (queue, mut offsets) in queues {
            offsets.sort_unstable();
            offsets.dedup();
            if let Some(pair) = offsets.windows(2).find(|pair| pair[1] != pair[0] + 1) {
                wrong.push(format!("{queue:?}: offset {} follows {}", pair[1], pair[0]));
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
    fn a_gap_is_seen() {
        let two = Story::new().stored("r", "t", "a", 3).stored("r", "t", "b", 4);
        assert_eq!(found(&two), 0);
        assert_eq!(found(&two.clone().stored("r", "t", "c", 6)), 1);
        assert_eq!(found(&two.clone().bounds("r", "t", 3, 5)), 0);
        assert_eq!(found(&two.clone().bounds("r", "t", 2, 5)), 1);
        assert_eq!(found(&two.bounds("r", "t", 3, 6)), 1);
        assert_eq!(found(&Story::new().bounds("r", "t", 0, 2)), 1, "nothing at all");
        assert_eq!(found(&Story::new().stored("q", "t", "a", 0).bounds("q", "u", 0, 1)), 1);
    }
}
