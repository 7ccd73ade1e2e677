//! Round trip of every command, and bytes that are none.

use super::*;
use proptest::prelude::*;

fn handle() -> impl Strategy<Value = ReceiptHandle> {
    (".{0,9}", any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(
        |(broker_group, topic, queue_id, offset, lease)| ReceiptHandle {
            broker_group,
            topic: TopicId(topic),
            queue_id,
            offset: QueueOffset(offset),
            lease: LeaseId(lease),
        },
    )
}

fn range() -> impl Strategy<Value = PlannedRange> {
    let kind = prop_oneof![Just(RangeKind::Lease), Just(RangeKind::Skip), Just(RangeKind::Pass)];
    (any::<u32>(), any::<u32>(), any::<u32>(), kind).prop_map(|(queue_id, first, more, kind)| PlannedRange {
        queue_id,
        first: QueueOffset(first.into()),
        last: QueueOffset(u64::from(first) + u64::from(more)),
        kind,
    })
}

fn carried() -> impl Strategy<Value = CarriedRecord> {
    let record = proptest::collection::vec(any::<u8>(), 0..40);
    (any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>(), record).prop_map(
        |(topic, queue_id, offset, from, record)| CarriedRecord {
            topic: TopicId(topic),
            queue_id,
            offset: QueueOffset(offset),
            from: LogIndex(from),
            record: record.into(),
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let text = || ".{0,12}";
    let record = proptest::collection::vec(any::<u8>(), 0..40);
    let message = (any::<u32>(), record).prop_map(|(queue_id, record)| NewMessage {
        queue_id,
        record: record.into(),
    });
    let span = (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(queue_id, first, lease)| RenewSpan {
        queue_id,
        first: QueueOffset(first),
        lease: LeaseId(lease),
    });
    let kind = (1u8..=5).prop_map(|number| topic_kind(number).expect("known"));
    let from = (1u8..=2).prop_map(|number| consume_from(number).expect("known"));
    prop_oneof![
        Just(Action::Probe),
        (text(), kind, any::<u32>()).prop_map(|(name, kind, queues)| Action::CreateTopic(CreateTopic {
            name,
            kind,
            queues
        })),
        text().prop_map(|name| Action::DeleteTopic { name }),
        (text(), any::<bool>(), any::<u32>(), from).prop_map(|(name, fifo, max_attempts, from)| {
            Action::CreateConsumerGroup(CreateConsumerGroup {
                name,
                fifo,
                max_attempts,
                from,
            })
        }),
        (text(), text(), proptest::collection::vec(message, 0..5)).prop_map(|(client_id, topic, messages)| {
            Action::Send(Send {
                client_id,
                topic,
                messages,
            })
        }),
        (
            text(),
            text(),
            any::<u64>(),
            any::<bool>(),
            text(),
            text(),
            proptest::collection::vec(range(), 0..5)
        )
            .prop_map(
                |(consumer_group, topic, invisible_ms, auto_renew, client_id, attempt_id, ranges)| {
                    Action::Lease(Lease {
                        consumer_group,
                        topic,
                        invisible_ms,
                        auto_renew,
                        client_id,
                        attempt_id,
                        ranges,
                    })
                }
            ),
        (text(), text(), proptest::collection::vec(handle(), 0..5)).prop_map(|(consumer_group, topic, handles)| {
            Action::Ack(Ack {
                consumer_group,
                topic,
                handles,
            })
        }),
        (text(), text(), handle(), any::<u64>(), any::<bool>()).prop_map(
            |(consumer_group, topic, handle, invisible_ms, suspend)| {
                Action::ChangeVisibility(ChangeVisibility {
                    consumer_group,
                    topic,
                    handle,
                    invisible_ms,
                    suspend,
                })
            }
        ),
        (text(), text(), proptest::collection::vec(span, 0..5)).prop_map(|(consumer_group, topic, spans)| {
            Action::Renew(Renew {
                consumer_group,
                topic,
                spans,
            })
        }),
        (text(), text(), proptest::collection::vec(handle(), 0..5)).prop_map(|(consumer_group, topic, handles)| {
            Action::GiveBack(GiveBack {
                consumer_group,
                topic,
                handles,
            })
        }),
        (text(), text()).prop_map(|(consumer_group, client_id)| {
            Action::ReleaseClient(ReleaseClient {
                consumer_group,
                client_id,
            })
        }),
        any::<u64>().prop_map(|upto| Action::Cut { upto: LogIndex(upto) }),
        proptest::collection::vec(carried(), 0..5).prop_map(|records| Action::CarryOver(CarryOver { records })),
        Just(Action::Digest),
        any::<u32>().prop_map(|to| Action::RaiseFormatLevel { to }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    (any::<u64>(), any::<[u8; 16]>(), action()).prop_map(|(stamp_ms, request_id, action)| Command {
        stamp_ms,
        request_id: RequestId(request_id),
        action,
    })
}

proptest! {
    #[test]
    fn round_trip(command in command()) {
        let bytes = command.encode();
        prop_assert_eq!(Command::decode(&bytes).expect("decode"), command.clone());
        if let Action::Send(send) = &command.action {
            for (place, message) in send.record_places(bytes.len()).into_iter().zip(&send.messages) {
                let place = place as usize;
                prop_assert_eq!(&bytes[place..place + message.record.len()], &message.record[..]);
            }
        }
        if let Action::CarryOver(carry) = &command.action {
            for (place, carried) in carry.record_places(bytes.len()).into_iter().zip(&carry.records) {
                let place = place as usize;
                prop_assert_eq!(&bytes[place..place + carried.record.len()], &carried.record[..]);
            }
        }
    }

    #[test]
    fn corruption_never_panics(command in command(), cut: usize, at: usize, byte: u8, any: Vec<u8>) {
        let bytes = command.encode();
        prop_assert!(Command::decode(&bytes.slice(..cut % bytes.len())).is_err());
        let mut changed = bytes.to_vec();
        let at = at % changed.len();
        changed[at] = byte;
        let _ = Command::decode(&changed.into());
        let _ = Command::decode(&any.into());
    }
}

#[test]
fn unknown_kinds_and_versions_are_named() {
    let command = Command {
        stamp_ms: 1,
        request_id: RequestId([7; 16]),
        action: Action::Probe,
    };
    let mut bytes = command.encode().to_vec();
    bytes[1] = 99;
    assert_eq!(
        Command::decode(&bytes.clone().into()),
        Err(DecodeError::Kind {
            what: "command",
            kind: 99
        })
    );
    bytes[0] = 2;
    assert_eq!(
        Command::decode(&bytes.into()),
        Err(DecodeError::Version {
            what: "command",
            version: 2,
            known: 1
        })
    );
}

#[test]
fn bytes_do_not_change() {
    let record = crate::state::record::tests::record("t", "id", "tag", "group", "body").encode();
    let messages = vec![NewMessage { queue_id: 3, record }];
    let send = Send {
        client_id: "c".to_string(),
        topic: "t".to_string(),
        messages,
    };
    let command = Command {
        stamp_ms: 0x0102,
        request_id: RequestId([9; 16]),
        action: Action::Send(send),
    };
    let hex: String = command.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let written = [
        "0105020100000000000009090909090909090909090909090909016301740103000000580000000102010050c93f26fa",
        "5d2237edab3ab0b25de2d4cc48dee400000000000000002c000000040000000269640174037461670567726f7570010a",
        "31302e302e302e313a350d31302e302e302e323a38303831000000626f6479",
    ];
    assert_eq!(hex, written.concat());
}
