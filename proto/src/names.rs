//! The rule for topic names (grpc.md B.0), the same at brokers and name servers.

/// Longest name of a topic, in characters.
pub const TOPIC_CHARACTERS_MAX: usize = 127;

/// Topics of the system, in ascending order: no client names them.
const SYSTEM_TOPICS: [&str; 10] = [
    "BenchmarkTest",
    "CHECKPOINT_TOPIC",
    "OFFSET_MOVED_EVENT",
    "RMQ_SYS_TRACE_TOPIC",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "SCHEDULE_TOPIC_XXXX",
    "SELF_TEST_TOPIC",
    "TBW102",
    "TRANS_CHECK_MAX_TIME_TOPIC",
];
const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";

/// What is wrong with a topic's name, in words for its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTopic(pub String);

/// Whether a byte may be in the name of a topic or consumer group: `%`, `|`, letters, digits, `_` and `-`.
pub const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-')
}

/// Checks the name of a topic that a client gave.
pub fn topic(name: &str) -> Result<(), BadTopic> {
    let bad = |reason: String| Err(BadTopic(reason));
    if name.trim().is_empty() {
        return bad("the topic is blank".to_owned());
    }
    // Characters are ASCII once the set is checked; a longer text is refused by its bytes, which are at least as many.
    if name.len() > TOPIC_CHARACTERS_MAX {
        let length = name.len();
        return bad(format!(
            "the topic has {length} characters, at most {TOPIC_CHARACTERS_MAX} are allowed"
        ));
    }
    if !name.bytes().all(is_name_byte) {
        return bad(format!(
            "the topic {name:?} has characters other than % | a-z A-Z 0-9 _ -"
        ));
    }
    if SYSTEM_TOPICS.binary_search(&name).is_ok() || name.starts_with(SYSTEM_TOPIC_PREFIX) {
        return bad(format!("the topic {name} belongs to the system"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass_and_the_others_say_why() {
        for name in ["orders", "a", "%RETRY%x|y_z-1", &"x".repeat(TOPIC_CHARACTERS_MAX)] {
            assert_eq!(topic(name), Ok(()));
        }
        for (name, word) in [
            ("", "blank"),
            (" ", "blank"),
            ("a b", "other than"),
            ("ä", "other than"),
            (&"x".repeat(TOPIC_CHARACTERS_MAX + 1), "at most 127"),
            ("rmq_sys_x", "system"),
        ] {
            let BadTopic(reason) = topic(name).expect_err(name);
            assert!(reason.contains(word), "{reason}");
        }
        for system in SYSTEM_TOPICS {
            assert!(topic(system).is_err(), "{system}");
        }
    }
}
