//! Nothing is received or stored that was never sent, or whose send was refused for good.

use std::collections::BTreeSet;

use super::facts::Facts;

/// See the file's header.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut wrong: Vec<String> = facts
        .strangers
        .iter()
        .map(|id| format!("message {id} was received, and nobody of the workload sent it"))
        .collect();
    let received = facts.handled.iter().filter(|(_, handled)| !handled.received.is_empty());
    let received = received.map(|((_, _, key), _)| *key);
    let stored = facts.stored.values().flatten().map(|stored| stored.key.as_str());
    let there: BTreeSet<&str> = received.chain(stored).collect();
    for key in there {
        match facts.sends.get(key) {
            None => wrong.push(format!("{key} is there and was never sent")),
            Some(sent) if sent.failed && sent.acked.is_none() => {
                wrong.push(format!("{key} is there, and its send had failed for good"));
            }
            Some(_) => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Op, What, story::Story};

    fn found(story: &Story) -> usize {
        check(&Facts::of(story.events())).len()
    }

    #[test]
    fn what_was_sent_may_be_there() {
        let story = Story::new().acked("a", "t", 0).receive("g", "t", "a", 0, 1);
        let unknown = story
            .send(Op::Intent, "b", "t", None)
            .send(Op::Unknown, "b", "t", None)
            .stored("r", "t", "b", 1);
        assert_eq!(found(&unknown), 0);
    }

    #[test]
    fn strangers_and_failed_sends_are_seen() {
        assert_eq!(found(&Story::new().receive("g", "t", "a", 0, 1)), 1);
        assert_eq!(found(&Story::new().stored("r", "t", "a", 0)), 1);
        let failed = Story::new()
            .send(Op::Intent, "a", "t", None)
            .send(Op::Failed, "a", "t", None);
        assert_eq!(found(&failed), 0);
        assert_eq!(found(&failed.receive("g", "t", "a", 0, 1)), 1);
        let stranger = What::Stranger {
            message_id: "01AB".to_owned(),
        };
        assert_eq!(found(&Story::new().add(stranger)), 1);
    }
}
