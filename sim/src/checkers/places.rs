//! A message has one place, and a place has one message: one copy for each message id, an unknown outcome 0 times or once,
//! and its sender, its consumers and every replica name the same queue and offset.

use std::collections::BTreeMap;

use super::facts::{Facts, Place};

/// See the file's header.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut messages: BTreeMap<(&str, Place<'_>), &str> = BTreeMap::new();
    for ((topic, key), places) in facts.places() {
        if places.len() > 1 {
            wrong.push(format!("{key} is at {} places of {topic}: {places:?}", places.len()));
        }
        for place in places {
            if let Some(other) = messages.insert((topic, place), key) {
                wrong.push(format!("{place:?} of {topic} holds {other} and {key}"));
            }
        }
    }
    // A sender that was told an offset without its queue.
    for (key, sent) in &facts.sends {
        let Some((_, (_, -1, told))) = sent.acked else { continue };
        let stored = facts.stored.values().flatten();
        let mut elsewhere = stored.filter(|stored| stored.key == *key && stored.topic == sent.topic);
        if told >= 0
            && let Some(stored) = elsewhere.find(|stored| stored.offset != told)
        {
            wrong.push(format!(
                "{key} was acknowledged at offset {told}, it is at {}",
                stored.offset
            ));
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
    fn one_place_and_a_dead_letter_are_fine() {
        let story = Story::new().acked("a", "t", 0).receive("g", "t", "a", 0, 1);
        let dead = story.receive("g", "%DLQ%g", "a", 4, 1).stored("r", "t", "a", 0);
        assert_eq!(found(&dead), 0);
    }

    #[test]
    fn copies_and_shared_places_are_seen() {
        let story = Story::new().acked("a", "t", 0);
        assert_eq!(found(&story.clone().receive("g", "t", "a", 1, 1)), 1);
        assert_eq!(found(&story.clone().stored("r", "t", "a", 1)), 1);
        assert_eq!(found(&story.acked("b", "t", 0)), 1);
    }
}
