//! Every rule with its refusal.

use ledgermq_proto::rocketmq::{Digest, Resource};

use super::*;

const NOW: u64 = 1_800_000_000_000;

fn message() -> Message {
    Message {
        topic: Some(Resource {
            name: "t".into(),
            ..Resource::default()
        }),
        body: bytes::Bytes::from_static(b"hello"),
        system_properties: Some(SystemProperties {
            message_id: "01".into(),
            body_encoding: Encoding::Identity as i32,
            message_type: WireType::Normal as i32,
            ..SystemProperties::default()
        }),
        ..Message::default()
    }
}

fn with(change: impl FnOnce(&mut Message, &mut SystemProperties)) -> Message {
    let mut message = message();
    let mut system = message.system_properties.take().expect("set above");
    change(&mut message, &mut system);
    message.system_properties = Some(system);
    message
}

fn code(messages: Vec<Message>) -> Code {
    match send(&SendMessageRequest { messages }, NOW) {
        Ok(_) => Code::Ok,
        Err(refusal) => {
            assert!(!refusal.message.is_empty());
            refusal.code
        }
    }
}

fn one(change: impl FnOnce(&mut Message, &mut SystemProperties)) -> Code {
    code(vec![with(change)])
}

#[test]
fn good_messages() {
    assert_eq!(code(vec![message()]), Code::Ok);
    assert_eq!(one(|_, s| s.message_group = Some("g".into())), Code::Ok);
    assert_eq!(
        one(|_, s| (s.tag, s.keys) = (Some(String::new()), vec![String::new()])),
        Code::Ok
    );
    assert_eq!(one(|m, _| m.body = vec![0; 4 << 20].into()), Code::Ok);
    assert_eq!(code(vec![message(), message()]), Code::Ok);
}

#[test]
fn every_rule_has_its_code() {
    assert_eq!(code(vec![]), Code::MessageCorrupted);
    assert_eq!(one(|m, _| m.topic = None), Code::IllegalTopic);
    assert_eq!(one(|m, _| m.body = bytes::Bytes::new()), Code::MessageBodyEmpty);
    assert_eq!(
        one(|m, _| m.body = vec![0; (4 << 20) + 1].into()),
        Code::MessageBodyTooLarge
    );
    assert_eq!(one(|_, s| s.message_id = " ".into()), Code::IllegalMessageId);
    assert_eq!(one(|_, s| s.tag = Some("a|b".into())), Code::IllegalMessageTag);
    assert_eq!(
        one(|_, s| s.keys = vec!["a".into(), " ".into()]),
        Code::IllegalMessageKey
    );
    assert_eq!(
        one(|_, s| s.message_group = Some("x".repeat(64))),
        Code::IllegalMessageGroup
    );
    assert_eq!(
        one(|m, _| _ = m.user_properties.insert("KEYS".into(), "".into())),
        Code::IllegalMessagePropertyKey
    );
    let many = |m: &mut Message, count: usize| {
        m.user_properties
            .extend((0..count).map(|i| (format!("k{i}"), String::new())));
    };
    assert_eq!(one(|m, _| many(m, 128)), Code::Ok);
    assert_eq!(one(|m, _| many(m, 129)), Code::MessagePropertiesTooLarge);
    assert_eq!(
        one(|m, _| _ = m.user_properties.insert("k".into(), "v".repeat(16 << 10))),
        Code::MessagePropertiesTooLarge
    );
    assert_eq!(
        one(|m, _| _ = m.user_properties.insert("k".into(), "v".repeat((16 << 10) - 1))),
        Code::Ok
    );
    let wrong = Digest {
        r#type: DigestType::Md5 as i32,
        checksum: "00".into(),
    };
    assert_eq!(one(|_, s| s.body_digest = Some(wrong)), Code::MessageCorrupted);
    let right = Digest {
        r#type: DigestType::Md5 as i32,
        checksum: "5D41402ABC4B2A76B9719D911017C592".into(),
    };
    assert_eq!(one(|_, s| s.body_digest = Some(right)), Code::Ok);
    assert_eq!(
        one(|m, _| m.system_properties = None),
        Code::Ok,
        "`with` puts them back"
    );
    let mut bare = message();
    bare.system_properties = None;
    assert_eq!(code(vec![bare]), Code::MessageCorrupted);
}

#[test]
fn times_are_bounded() {
    let at = |days: i64| prost_types::Timestamp {
        seconds: (NOW / 1000) as i64 + days * 86_400,
        nanos: 0,
    };
    assert_eq!(
        one(|_, s| s.delivery_timestamp = Some(at(41))),
        Code::IllegalDeliveryTime
    );
    assert_eq!(one(|_, s| s.delivery_timestamp = Some(at(40))), Code::NotImplemented);
    assert_eq!(one(|_, s| s.delivery_timestamp = Some(at(-1))), Code::NotImplemented);
    let recovery = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    assert_eq!(
        one(|_, s| s.orphaned_transaction_recovery_duration = recovery(3601)),
        Code::BadRequest
    );
    assert_eq!(
        one(|_, s| s.orphaned_transaction_recovery_duration = recovery(3600)),
        Code::Ok
    );
}

#[test]
fn types_that_are_not_there_yet() {
    assert_eq!(
        one(|_, s| s.message_type = WireType::Transaction as i32),
        Code::NotImplemented
    );
    assert_eq!(one(|_, s| s.message_type = WireType::Lite as i32), Code::NotImplemented);
    assert_eq!(one(|_, s| s.lite_topic = Some("l".into())), Code::NotImplemented);
    assert_eq!(one(|_, s| s.priority = Some(1)), Code::NotImplemented);
    let bad_delay = |m: &mut Message, s: &mut SystemProperties| {
        s.delivery_timestamp = Some(prost_types::Timestamp::default());
        m.body = bytes::Bytes::new();
    };
    assert_eq!(one(bad_delay), Code::MessageBodyEmpty, "validation comes first");
}

#[test]
fn batches() {
    let other_topic = with(|m, _| {
        m.topic = Some(Resource {
            name: "u".into(),
            ..Resource::default()
        })
    });
    assert_eq!(code(vec![message(), other_topic]), Code::MessageCorrupted);
    let group = |name: &str| with(|_, s| s.message_group = Some(name.into()));
    assert_eq!(code(vec![group("a"), group("a")]), Code::Ok);
    assert_eq!(code(vec![group("a"), group("b")]), Code::MessageCorrupted);
    assert_eq!(code(vec![message(), group("a")]), Code::MessageCorrupted);
    let delayed = with(|_, s| s.delivery_timestamp = Some(prost_types::Timestamp::default()));
    assert_eq!(code(vec![message(), delayed]), Code::MessageCorrupted);
    assert_eq!(code(vec![message(); limits::SEND_BATCH_MAX + 1]), Code::PayloadTooLarge);
}

#[test]
fn the_type_comes_from_the_properties() {
    let of = |change: fn(&mut SystemProperties)| {
        let mut system = SystemProperties::default();
        change(&mut system);
        message_type(&system)
    };
    assert_eq!(of(|s| s.message_type = WireType::Fifo as i32), MessageType::Normal);
    assert_eq!(of(|s| s.message_group = Some("g".into())), MessageType::Fifo);
    assert_eq!(of(|s| s.message_group = Some(String::new())), MessageType::Normal);
    assert_eq!(
        of(|s| (s.message_group, s.delivery_timestamp) = (Some("g".into()), Some(Default::default()))),
        MessageType::Delay
    );
}
