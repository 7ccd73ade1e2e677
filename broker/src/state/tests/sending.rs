//! Rules of sending, topics, and the windows.

use super::harness::{Node, message};
use crate::state::command::{Action, Command, CreateTopic};
use crate::state::identity::{QueueOffset, RequestId};
use crate::state::kv::memory::MemoryKv;
use crate::state::limits::WINDOW_MS;
use crate::state::machine::Settings;
use crate::state::outcome::{CreateTopicError, DeleteTopicError, Outcome, SendError};
use crate::state::record::MessageType;
use crate::state::topic::TopicKind;
use ledgermq_raft_store::{EntryId, Machine};
use std::sync::Arc;

fn node() -> Node {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    node.topic("t", 4);
    node
}

#[test]
fn offsets_are_dense_and_batches_whole() {
    let mut node = node();
    for n in 0..5u64 {
        let results = node
            .send_all(
                "t",
                vec![
                    message("t", 1, &format!("a{n}"), "", ""),
                    message("t", 2, &format!("b{n}"), "", ""),
                ],
            )
            .expect("sent");
        assert_eq!(results[0].offset, QueueOffset(n));
        assert_eq!(results[1].offset, QueueOffset(n));
    }
    let before = node.view.queue_bounds("t").expect("bounds");
    let bad = vec![message("t", 1, "x", "", ""), message("t", 4, "y", "", "")];
    assert_eq!(node.send_all("t", bad), Err(SendError::QueueNotFound { queue_id: 4 }));
    let mut bad = vec![message("t", 1, "x", "", ""), message("t", 1, "y", "", "")];
    bad[1].record = bad[1].record.slice(..20);
    assert_eq!(node.send_all("t", bad), Err(SendError::BadRecord));
    assert_eq!(node.view.queue_bounds("t").expect("bounds"), before);
    assert_eq!(
        node.send_all("none", vec![message("none", 0, "x", "", "")]),
        Err(SendError::TopicNotFound)
    );
    assert_eq!(node.send("t", 1, "x", "", "").offset, QueueOffset(5));
}

#[test]
fn a_topic_takes_its_kind() {
    let mut node = node();
    let create = CreateTopic {
        name: "plain".to_string(),
        kind: TopicKind::Normal,
        queues: 1,
    };
    node.act(Action::CreateTopic(create));
    assert_eq!(
        node.send_all("plain", vec![message("plain", 0, "x", "", "order")]),
        Err(SendError::MessageTypeConflict {
            kind: TopicKind::Normal,
            message_type: MessageType::Fifo
        })
    );
    node.send("plain", 0, "x", "", "");
}

#[test]
fn a_repeated_send_answers_the_first_place() {
    let mut node = node();
    let first = node.send("t", 1, "id", "", "");
    node.send("t", 1, "other", "", "");
    // Another queue, as a retry through another door may choose.
    let again = node.send("t", 3, "id", "", "");
    assert_eq!((again.queue_id, again.offset, again.duplicate), (1, first.offset, true));
    // Another body is another message.
    let mut changed = message("t", 1, "id", "", "");
    changed.record = crate::state::record::tests::record("t", "id", "", "", "changed").encode();
    assert!(!node.send_all("t", vec![changed]).expect("sent")[0].duplicate);
    // Twice in one batch, and partly known.
    let batch = vec![
        message("t", 0, "n", "", ""),
        message("t", 0, "n", "", ""),
        message("t", 0, "id", "", ""),
    ];
    let results = node.send_all("t", batch).expect("sent");
    assert_eq!(
        results.iter().map(|result| result.duplicate).collect::<Vec<_>>(),
        [false, true, true]
    );
    node.now_ms += WINDOW_MS;
    assert!(node.send("t", 1, "id", "", "").duplicate, "within the window");
    node.now_ms += 1;
    assert!(!node.send("t", 1, "id", "", "").duplicate, "after the window");
}

#[test]
fn a_full_window_refuses_and_forgets_nothing_early() {
    let settings = Settings {
        dedupe_ids: 4,
        ..Settings::default()
    };
    let mut node = Node::with(Arc::new(MemoryKv::new()), settings);
    node.topic("t", 1);
    for n in 0..4 {
        node.send("t", 0, &n.to_string(), "", "");
    }
    assert_eq!(
        node.send_all("t", vec![message("t", 0, "x", "", "")]),
        Err(SendError::DedupeWindowFull)
    );
    assert!(node.send("t", 0, "0", "", "").duplicate);
    node.now_ms += WINDOW_MS + 1;
    assert!(!node.send("t", 0, "x", "", "").duplicate);
}

#[test]
fn time_never_goes_back() {
    let mut node = node();
    node.now_ms += 5_000;
    node.send("t", 0, "a", "", "");
    let time = node.view.log_time_ms();
    node.now_ms -= 4_000;
    node.send("t", 0, "b", "", "");
    assert_eq!(node.view.log_time_ms(), time);
}

#[test]
fn topics_are_made_and_deleted_once_a_request() {
    let mut node = node();
    let create = CreateTopic {
        name: "u".to_string(),
        kind: TopicKind::Normal,
        queues: 2,
    };
    let command = node.command(Action::CreateTopic(create.clone()));
    let Outcome::TopicCreated(Ok(made)) = node.propose(&command) else {
        panic!("not made")
    };
    let Outcome::TopicCreated(Ok(again)) = node.propose(&command) else {
        panic!("a repeat answers the first")
    };
    assert_eq!(made, again);
    assert_eq!(
        node.act(Action::CreateTopic(create.clone())),
        Outcome::TopicCreated(Err(CreateTopicError::Exists(made.clone())))
    );
    let none = CreateTopic {
        name: "v".to_string(),
        queues: 0,
        ..create.clone()
    };
    assert!(matches!(
        node.act(Action::CreateTopic(none)),
        Outcome::TopicCreated(Err(CreateTopicError::Queues { .. }))
    ));
    node.send("u", 0, "id", "", "");
    let delete = node.command(Action::DeleteTopic { name: "u".to_string() });
    assert_eq!(node.propose(&delete), Outcome::TopicDeleted(Ok(())));
    assert_eq!(node.propose(&delete), Outcome::TopicDeleted(Ok(())));
    assert_eq!(
        node.act(Action::DeleteTopic { name: "u".to_string() }),
        Outcome::TopicDeleted(Err(DeleteTopicError::NotFound))
    );
    // Made again it is another topic, and nothing is left of the first.
    let Outcome::TopicCreated(Ok(other)) = node.act(Action::CreateTopic(create)) else {
        panic!("not made")
    };
    assert_ne!(made.id, other.id);
    let again = node.send("u", 0, "id", "", "");
    assert_eq!((again.offset, again.duplicate), (QueueOffset(0), false));
}

#[test]
fn an_unknown_command_stops_the_replica() {
    let mut node = node();
    let probe = Command {
        stamp_ms: 1,
        request_id: RequestId::default(),
        action: Action::Probe,
    };
    let mut bytes = probe.encode().to_vec();
    bytes[1] = 200;
    let index = node.log.len() as u64;
    let error = node
        .machine
        .apply(EntryId::new(1, index), &[(8, bytes.into())])
        .expect_err("unknown");
    assert!(error.reason.contains("unknown kind 200"), "{error}");
    let error = node
        .machine
        .apply(EntryId::new(1, index), &[(8, probe.encode())])
        .expect_err("stopped");
    assert!(error.reason.contains("stopped before"), "{error}");
}
