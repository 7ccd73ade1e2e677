//! When all is quiet, every replica of a broker group holds the same messages at the same places. Retention may cut while one
//! after the other is asked: what it forgot is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;

type Held<'a> = BTreeSet<(&'a str, i64, i64, &'a str)>;

/// See the file's header.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut groups: BTreeMap<&str, BTreeMap<&str, Held<'_>>> = BTreeMap::new();
    for (reader, bounds) in &facts.bounds {
        for (broker_group, _, _) in bounds.keys() {
            groups.entry(broker_group).or_default().entry(reader).or_default();
        }
    }
    for (reader, stored) in &facts.stored {
        for stored in stored {
            let place = (stored.broker_group.as_str(), stored.queue, stored.offset);
            if facts.is_forgotten(&stored.topic, place) {
                continue;
            }
            let readers = groups.entry(&stored.broker_group).or_default();
            let held = readers.entry(reader).or_default();
            held.insert((&stored.topic, stored.queue, stored.offset, &stored.key));
        }
    }
    let mut wrong = Vec::new();
    for (broker_group, readers) in groups {
        let mut readers = readers.into_iter();
        let Some((first, held)) = readers.next() else { continue };
        for (other, its) in readers {
            if let Some(one) = held.symmetric_difference(&its).next() {
                wrong.push(format!(
                    "{one:?} is on one of {first} and {other} of {broker_group} alone"
                ));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::story::Story;

    #[test]
    fn a_difference_is_seen() {
        let found = |story: &Story| check(&Facts::of(story.events())).len();
        let same = Story::new().stored("r1", "t", "a", 0).stored("r2", "t", "a", 0);
        assert_eq!(found(&same), 0);
        assert_eq!(found(&same.clone().stored("r2", "t", "b", 1)), 1);
        assert_eq!(
            found(&same.clone().bounds("r3", "t", 0, 0)),
            1,
            "a replica without messages"
        );
        let cut = same.bounds("r1", "t", 0, 2).bounds("r2", "t", 1, 2);
        let cut = cut
            .stored("r1", "t", "b", 1)
            .stored("r2", "t", "b", 1)
            .stored("r1", "t", "c", 2);
        assert_eq!(found(&cut), 1, "c is missing");
        let cut = Story::new().bounds("r1", "t", 0, 1).stored("r1", "t", "a", 0);
        assert_eq!(found(&cut.bounds("r2", "t", 1, 1)), 0, "retention cut between the two");
    }
}
