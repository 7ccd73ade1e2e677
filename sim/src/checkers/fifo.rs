//! Messages of a message group lie in one queue in the order of their sends, through retries and failovers; a FIFO consumer
//! group is handed the next one only when those before it are done.

use std::collections::BTreeMap;

use super::facts::{Facts, Handled, Place};

/// A message group of a topic.
type Of<'a> = (&'a str, &'a str);

/// Dead letters leave their message group: groups with fewer attempts than this are not judged by deliveries.
const ATTEMPTS_MIN: i64 = 10;

/// See the file's header.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let places = facts.places();
    let mut members: BTreeMap<Of<'_>, Vec<(&str, Place<'_>)>> = BTreeMap::new();
    for (key, sent) in &facts.sends {
        let (Some(group), Some([place, ..])) = (sent.message_group, places.get(&(sent.topic, *key)).map(Vec::as_slice))
        else {
            continue;
        };
        members.entry((sent.topic, group)).or_default().push((key, *place));
    }
    let mut wrong = Vec::new();
    for ((topic, group), mut messages) in members {
        messages.sort_unstable_by_key(|(_, place)| *place);
        stored_in_order(facts, (topic, group), &messages, &mut wrong);
        for rules in facts.groups.values() {
            if rules.fifo && rules.max_attempts >= ATTEMPTS_MIN {
                delivered_in_order(facts, &rules.consumer_group, (topic, group), &messages, &mut wrong);
            }
        }
    }
    wrong
}

fn stored_in_order(facts: &Facts<'_>, (topic, group): Of<'_>, messages: &[(&str, Place<'_>)], wrong: &mut Vec<String>) {
    for pair in messages.windows(2) {
        let ((one, here), (other, there)) = (pair[0], pair[1]);
        if (here.0, here.1) != (there.0, there.1) {
            wrong.push(format!(
                "{group} of {topic} lies in several queues: {one} at {here:?}, {other} at {there:?}"
            ));
        }
    }
    // What was acknowledged before another was sent lies before it: the latest beginning so far may not be after the
    // acknowledgement of what comes next.
    let mut latest: Option<(f64, &str)> = None;
    for (key, _) in messages {
        let Some(sent) = facts.sends.get(key) else { continue };
        if let (Some((acked, _)), Some((begun, before))) = (sent.acked, latest)
            && begun > acked
        {
            wrong.push(format!(
                "{group} of {topic}: {before}, sent at {begun:.3} s, lies before {key}, acknowledged at {acked:.3} s"
            ));
        }
        if let Some(begun) = sent.intent
            && latest.is_none_or(|(known, _)| begun > known)
        {
            latest = Some((begun, key));
        }
    }
}

fn delivered_in_order(
    facts: &Facts<'_>,
    consumer_group: &str,
    (topic, group): Of<'_>,
    messages: &[(&str, Place<'_>)],
    wrong: &mut Vec<String>,
) {
    for (nth, (key, _)) in messages.iter().enumerate() {
        for (at, receive) in of(facts, consumer_group, topic, key)
            .into_iter()
            .flat_map(|handled| &handled.received)
        {
            let before = messages[..nth].iter().rev();
            let open = before
                .filter(|(_, place)| !facts.is_forgotten(topic, *place))
                .find(|(earlier, _)| {
                    let Some(earlier) = of(facts, consumer_group, topic, earlier) else {
                        return true;
                    };
                    let done = earlier.acked_from().is_some_and(|from| from <= *at);
                    let together = earlier.received.iter().any(|(_, other)| {
                        (&other.consumer, other.called) == (&receive.consumer, receive.called)
                            && receive.called.is_some()
                    });
                    !done && !together
                });
            if let Some((earlier, _)) = open {
                wrong.push(format!(
                    "{consumer_group} was handed {key} of {group} at {at:.3} s, while {earlier} before it was not done"
                ));
            }
        }
    }
}

fn of<'f>(facts: &'f Facts<'f>, consumer_group: &'f str, topic: &'f str, key: &'f str) -> Option<&'f Handled<'f>> {
    facts.handled.get(&(consumer_group, topic, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::story::{Story, fifo};

    fn found(story: &Story) -> usize {
        check(&Facts::of(story.events())).len()
    }

    fn two() -> Story {
        Story::new()
            .with(fifo("g", &[]))
            .of_group("red")
            .acked("a", "t", 0)
            .acked("b", "t", 1)
    }

    #[test]
    fn the_order_of_the_sends_is_the_order_of_the_queue() {
        assert_eq!(found(&two()), 0);
        let swapped = Story::new().of_group("red").acked("a", "t", 1).acked("b", "t", 0);
        assert_eq!(found(&swapped), 1);
    }

    #[test]
    fn the_next_comes_when_the_one_before_is_done() {
        let first = two().receive("g", "t", "a", 0, 1);
        assert_eq!(found(&first.clone().ack("g", "t", "a").receive("g", "t", "b", 1, 1)), 0);
        assert_eq!(found(&first.receive("g", "t", "b", 1, 1)), 1);
        assert_eq!(found(&two().receive("g", "t", "b", 1, 1)), 1);
        let cut = two().bounds("r", "t", 1, 2);
        assert_eq!(found(&cut.receive("g", "t", "b", 1, 1)), 0);
    }
}
