//! What is acknowledged stays done: no delivery to the same consumer group by a call that began after an acknowledgement
//! had succeeded.

use super::facts::Facts;

/// See the file's header.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((group, topic, key), handled) in &facts.handled {
        let Some(acked) = handled.acked() else { continue };
        for (at, receive) in &handled.received {
            let called = receive.called.unwrap_or(*at);
            if called > acked {
                wrong.push(format!(
                    "{key} of {topic} was handed to {group} by a call made at {called:.3} s, acknowledged at {acked:.3} s"
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
    fn a_delivery_after_the_acknowledgement_is_seen() {
        let found = |story: &Story| check(&Facts::of(story.events())).len();
        let consumed = Story::new().receive("g", "t", "a", 0, 1).ack("g", "t", "a");
        assert_eq!(found(&consumed), 0);
        assert_eq!(found(&consumed.clone().receive("h", "t", "a", 0, 1)), 0);
        assert_eq!(found(&consumed.receive("g", "t", "a", 0, 2)), 1);
    }
}
