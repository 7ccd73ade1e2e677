//! Names of topics and consumer groups, and the texts of a message (grpc.md B.0).

use ledgermq_proto::names::{self, BadTopic, is_name_byte};
use ledgermq_proto::rocketmq::{Code, Resource};

use crate::refusal::Refusal;

/// Longest name of a consumer group, and (exclusive) of a message group in bytes.
const CONSUMER_GROUP_CHARS_MAX: usize = 120;
const MESSAGE_GROUP_BYTES_END: usize = 64;

/// Keys of user properties that belong to the broker (grpc.md C.3).
pub const RESERVED_PROPERTIES: &[&str] = &[
    "1ST_POP_TIME",
    "ARRIVE_TIME",
    "BORN_TIMESTAMP",
    "BUYER_ID",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRECTION_FLAG",
    "CORRELATION_ID",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INNER_MULTI_QUEUE_OFFSET",
    "INSTANCE_ID",
    "KEYS",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MQ2_FLAG",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "POP_CK_OFFSET",
    "PUSH_REPLY_TIME",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "REPLY_TO_CLIENT",
    "RETRY_TOPIC",
    "TAGS",
    "TIMER_DELAY_LEVEL",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DEQUEUE_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_OUT_MS",
    "TIMER_ROLL_TIMES",
    "TRACE_ON",
    "TRANSFER_FLAG",
    "TRAN_MSG",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
    "__BORNHOST",
    "__CRC32#",
];

/// The name of a topic that is given and well formed.
pub fn topic(resource: Option<&Resource>) -> Result<&str, Refusal> {
    let name = resource.map(|resource| resource.name.as_str()).unwrap_or_default();
    match names::topic(name) {
        Ok(()) => Ok(name),
        Err(BadTopic(reason)) => Err(Refusal::new(Code::IllegalTopic, reason)),
    }
}

/// The name of a consumer group that is given and well formed.
pub fn consumer_group(resource: Option<&Resource>) -> Result<&str, Refusal> {
    let name = resource.map(|resource| resource.name.as_str()).unwrap_or_default();
    let refuse = |message: String| Err(Refusal::new(Code::IllegalConsumerGroup, message));
    if name.trim().is_empty() {
        return refuse("the consumer group is blank".into());
    }
    if name.len() > CONSUMER_GROUP_CHARS_MAX {
        let length = name.len();
        return refuse(format!(
            "the consumer group has {length} characters, at most {CONSUMER_GROUP_CHARS_MAX} are allowed"
        ));
    }
    if !name.bytes().all(is_name_byte) {
        return refuse(format!(
            "the consumer group {name:?} has characters other than % | a-z A-Z 0-9 _ -"
        ));
    }
    if name.starts_with("CID_RMQ_SYS_") {
        return refuse(format!("the consumer group {name} belongs to the system"));
    }
    Ok(name)
}

/// A tag that is not empty.
pub fn tag(tag: &str) -> Result<(), Refusal> {
    let refuse = |message: &str| Err(Refusal::new(Code::IllegalMessageTag, message));
    if tag.chars().all(char::is_whitespace) {
        return refuse("the tag is blank");
    }
    if tag.contains('|') {
        return refuse("the tag has the character |");
    }
    if tag.chars().any(char::is_control) {
        return refuse("the tag has a control character");
    }
    Ok(())
}

/// A key that is not empty.
pub fn key(key: &str) -> Result<(), Refusal> {
    let refuse = |message: &str| Err(Refusal::new(Code::IllegalMessageKey, message));
    if key.chars().all(char::is_whitespace) {
        return refuse("a key is blank");
    }
    if key.chars().any(char::is_control) {
        return refuse("a key has a control character");
    }
    Ok(())
}

/// A message group that is not empty.
pub fn message_group(group: &str) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(Code::IllegalMessageGroup, message));
    if group.chars().all(char::is_whitespace) {
        return refuse("the message group is blank".into());
    }
    if group.len() >= MESSAGE_GROUP_BYTES_END {
        let length = group.len();
        return refuse(format!(
            "the message group has {length} bytes, it must be shorter than {MESSAGE_GROUP_BYTES_END}"
        ));
    }
    if group.chars().any(char::is_control) {
        return refuse("the message group has a control character".into());
    }
    Ok(())
}

/// One user property.
pub fn property(key: &str, value: &str) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(Code::IllegalMessagePropertyKey, message));
    if key.chars().any(char::is_control) || value.chars().any(char::is_control) {
        return refuse(format!("the user property {key:?} has a control character"));
    }
    if RESERVED_PROPERTIES.binary_search(&key).is_ok() {
        return refuse(format!("the user property {key} belongs to the system"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> Option<Resource> {
        Some(Resource {
            name: name.into(),
            ..Resource::default()
        })
    }

    #[test]
    fn reserved_keys_are_sorted() {
        assert!(RESERVED_PROPERTIES.is_sorted());
    }

    #[test]
    fn topics() {
        let (long, longest) = ("t".repeat(128), "t".repeat(127));
        for good in ["a", "%DLQ%g", "a|b-c_9", &longest] {
            assert_eq!(topic(resource(good).as_ref()), Ok(good));
        }
        for bad in [
            "",
            "  ",
            "a b",
            "a.b",
            "ä",
            "TBW102",
            "SELF_TEST_TOPIC",
            "rmq_sys_x",
            &long,
        ] {
            assert_eq!(
                topic(resource(bad).as_ref()).expect_err(bad).code,
                Code::IllegalTopic,
                "{bad}"
            );
        }
        assert_eq!(topic(None).expect_err("none").code, Code::IllegalTopic);
    }

    #[test]
    fn consumer_groups() {
        let (long, longest) = ("g".repeat(121), "g".repeat(120));
        for good in ["g", "%a|b", &longest] {
            assert_eq!(consumer_group(resource(good).as_ref()), Ok(good));
        }
        for bad in ["", "\t", "a/b", "CID_RMQ_SYS_TRANS", &long] {
            let refusal = consumer_group(resource(bad).as_ref()).expect_err(bad);
            assert_eq!(refusal.code, Code::IllegalConsumerGroup, "{bad}");
        }
    }

    #[test]
    fn texts() {
        for bad in [" ", "a|b", "a\u{7}"] {
            assert_eq!(tag(bad).expect_err(bad).code, Code::IllegalMessageTag);
        }
        for bad in ["  ", "a\nb"] {
            assert_eq!(key(bad).expect_err(bad).code, Code::IllegalMessageKey);
        }
        for bad in [" ", "\u{1}", &"x".repeat(64), &"ä".repeat(32)] {
            assert_eq!(message_group(bad).expect_err(bad).code, Code::IllegalMessageGroup);
        }
        assert_eq!(message_group(&"x".repeat(63)), Ok(()));
        for (name, value) in [
            ("a\u{0}", ""),
            ("a", "\u{2}"),
            ("KEYS", "x"),
            ("__CRC32#", "x"),
            ("1ST_POP_TIME", ""),
        ] {
            assert_eq!(
                property(name, value).expect_err(name).code,
                Code::IllegalMessagePropertyKey
            );
        }
        assert_eq!(property("a", "KEYS"), Ok(()));
    }
}
