//! What each format level writes, kept byte by byte in `broker/tests/data/level-N.txt`: the commands of one history, every
//! pair that it leaves in the store, and the digest. A change of any of these bytes is a change of format: it needs a new
//! level, and the old files stay. That level 1 is what the first release makes is shown on its own data folder, by
//! tests/tests/previous_release.rs.
//!
//! ```text
//! commands HEX HEX …       one line an entry, in the order of the log; nothing behind the word for a blank one
//! pair FAMILY KEY VALUE    sorted; all but those of the replica alone
//! digest HEX
//! ```

use super::harness::{Node, message};
use crate::state::command::{
    Action, Command, CreateConsumerGroup, CreateTopic, GiveBack, Lease, NewMessage, ReleaseClient, Renew,
};
use crate::state::identity::QueueOffset;
use crate::state::kv::Family;
use crate::state::kv::memory::MemoryKv;
use crate::state::level::GIVE_BACK;
use crate::state::limits;
use crate::state::outcome::Outcome;
use crate::state::plan::{Filter, Reserved};
use crate::state::record::tests::record;
use crate::state::record::{BodyEncoding, MessageType, Record};
use crate::state::topic::{ConsumeFrom, TopicKind};
use bytes::Bytes;
use ledgermq_raft_store::LogIndex;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

fn unhex(text: &str) -> Bytes {
    let digits = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    digits
        .map(|digits| u8::from_str_radix(digits, 16).expect("hexadecimal"))
        .collect()
}

/// Creates what the history needs, in every variant.
fn create(node: &mut Node) {
    node.act(Action::Probe);
    for (name, kind) in [
        ("mixed", TopicKind::Mixed),
        ("normal", TopicKind::Normal),
        ("fifo", TopicKind::Fifo),
        ("delay", TopicKind::Delay),
        ("transaction", TopicKind::Transaction),
    ] {
        let (name, queues) = (name.to_string(), 3);
        node.act(Action::CreateTopic(CreateTopic { name, kind, queues }));
    }
    node.topic("gone", 1);
    node.send("gone", 0, "gone", "", "");
    let name = "gone".to_string();
    node.act(Action::DeleteTopic { name });
    node.group("plain", false, 2);
    node.group("ordered", true, 16);
    node.group("tagged", false, 16);
    node.act(Action::CreateConsumerGroup(CreateConsumerGroup {
        name: "latest".to_string(),
        fifo: false,
        max_attempts: 300,
        from: ConsumeFrom::Latest,
    }));
}

/// A record with all that a record can have.
fn full(topic: &str, message_type: MessageType, delivery_timestamp_ms: Option<u64>) -> NewMessage {
    let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
    let record = Record {
        keys: vec!["key-1".to_string(), "key-2".to_string()],
        body_encoding: BodyEncoding::Gzip,
        message_type,
        delivery_timestamp_ms,
        trace_context: "00-trace".to_string(),
        properties: vec![pair("colour", "grün"), pair("empty", "")],
        ..record(topic, &format!("{message_type}"), "tag", "", "compressed")
    };
    NewMessage {
        queue_id: 2,
        record: record.encode(),
    }
}

fn send(node: &mut Node) {
    for n in 0..12 {
        let tag = ["", "paid", "open"][n % 3];
        node.send("mixed", n as u32 % 3, &format!("m-{n}"), tag, "");
    }
    // A duplicate, and a batch.
    node.send("mixed", 0, "m-0", "", "");
    let batch = (0..5).map(|n| message("normal", n % 2, &format!("b-{n}"), "", ""));
    let batch = batch.collect();
    node.send_all("normal", batch).expect("sent");
    for n in 0..6 {
        node.send("fifo", 0, &format!("f-{n}"), "", ["one", "two"][n % 2]);
    }
    let delayed = full("delay", MessageType::Delay, Some(1_700_000_000_000));
    node.send_all("delay", vec![delayed]).expect("sent");
    let half = full("transaction", MessageType::Transaction, None);
    node.send_all("transaction", vec![half]).expect("sent");
    node.send_all("mixed", vec![full("mixed", MessageType::Normal, None)])
        .expect("sent");
}

/// Several commands in one entry, two of them receives that make leases.
fn together(node: &mut Node) {
    let plan = node.plan_upto("plain", "normal", "", &Filter::All, &Reserved::new(), 2);
    let first = node.lease_command("plain", "normal", "attempt-1", &plan.ranges);
    let second = node.lease_command("tagged", "normal", "", &plan.ranges);
    let probe = node.command(Action::Probe);
    let outcomes = node.entry(&[first, probe, second]);
    assert!(matches!(
        &outcomes[..],
        [Outcome::Leased(Ok(_)), Outcome::Probed, Outcome::Leased(Ok(_))]
    ));
}

fn consume(node: &mut Node) {
    let first = node.receive("plain", "mixed").leased.granted;
    assert_eq!(first.len(), 13);
    let handle = node.handle("mixed", &first[0]);
    assert!(node.ack("plain", "mixed", &handle));
    let handle = node.handle("mixed", &first[4]);
    assert!(node.ack("plain", "mixed", &handle));
    let handle = node.handle("mixed", &first[5]);
    let handle = node.change("plain", "mixed", &handle, 60_000, true).expect("changed");
    node.change("plain", "mixed", &handle, 120_000, false).expect("changed");
    node.receive_as("tagged", "mixed", "attempt-2", &Filter::tags(["paid"]));
    node.receive("latest", "mixed");
    // Messages of one group behind another, which are passed over.
    let plan = node.plan_upto("ordered", "fifo", "", &Filter::All, &Reserved::new(), 1);
    let command = node.lease_command("ordered", "fifo", "", &plan.ranges);
    node.lease(&command);
    node.receive("ordered", "fifo");
    // Two attempts each, then the dead letters.
    for _ in 0..2 {
        node.now_ms += 11_000;
        node.receive("plain", "mixed");
    }
    assert!(node.view.topics().iter().any(|topic| topic.name.starts_with("%DLQ%")));
}

/// A lease that renews by itself, twice; and one whose client goes away.
fn renew(node: &mut Node) {
    for name in ["stays", "leaves"] {
        node.send("normal", 2, name, "", "");
        let plan = node.plan("tagged", "normal", "", &Filter::All, &Reserved::new());
        let lease = Lease {
            consumer_group: "tagged".to_string(),
            topic: "normal".to_string(),
            invisible_ms: limits::RENEW_FIRST_MS,
            auto_renew: true,
            client_id: format!("client that {name}"),
            attempt_id: String::new(),
            ranges: plan.ranges,
        };
        let Outcome::Leased(Ok(leased)) = node.act(Action::Lease(lease)) else {
            panic!("leased")
        };
        let granted = leased.granted[0];
        let all = (QueueOffset(0), QueueOffset(u64::MAX - 1));
        let due = node
            .view
            .unconfirmed(("tagged", "normal"), granted.queue_id, all, granted.lease);
        for _ in 0..2 {
            node.act(Action::Renew(Renew {
                consumer_group: "tagged".to_string(),
                topic: "normal".to_string(),
                spans: due.clone(),
            }));
        }
    }
    node.act(Action::ReleaseClient(ReleaseClient {
        consumer_group: "tagged".to_string(),
        client_id: "client that leaves".to_string(),
    }));
}

/// Everything that a state can be told.
fn history(node: &mut Node) {
    create(node);
    send(node);
    together(node);
    consume(node);
    renew(node);
    node.act(Action::Digest);
    // Forgets some of it; dead letters are stored again first.
    let upto = LogIndex(node.last().get() / 2);
    let carried = node.carry_over(upto).expect("dead letters lie in the way");
    node.propose(&carried);
    node.cut(upto).expect("cut");
    let last = node.last();
    node.cut(LogIndex(last.get() + 9)).expect_err("ahead of itself");
    // A dead letter that lies where it was sent, and what is remembered of the last entries.
    node.send("normal", 1, "late", "", "");
    for _ in 0..3 {
        node.receive("plain", "normal");
        node.now_ms += limits::WINDOW_MS / 2;
    }
    let batch = (0..6).map(|n| message("normal", n % 2, &format!("e-{n}"), "paid", ""));
    let batch = batch.collect();
    node.send_all("normal", batch).expect("sent");
    together(node);
}

/// An attempt whose answer got lost, and one whose receiver went away.
fn repeat(node: &mut Node) {
    for (attempt, times) in [("attempt", 2), ("another", 1)] {
        let mut granted = Vec::new();
        for _ in 0..times {
            granted = node
                .receive_as("tagged", "normal", attempt, &Filter::All)
                .leased
                .granted;
        }
        let handles = granted.iter().map(|granted| node.handle("normal", granted)).collect();
        node.act(Action::GiveBack(GiveBack {
            consumer_group: "tagged".to_string(),
            topic: "normal".to_string(),
            handles,
        }));
        node.send("normal", 0, attempt, "", "");
    }
}

fn written(node: &Node) -> String {
    let mut text = String::new();
    for entry in &node.log {
        text.push_str("commands");
        entry
            .iter()
            .for_each(|command| text.push_str(&format!(" {}", hex(command))));
        text.push('\n');
    }
    for family in Family::shared() {
        for (key, value) in node.kv.scan(family, &[], &[], usize::MAX).expect("memory") {
            text.push_str(&format!("pair {} {} {}\n", family as u8, hex(&key), hex(&value)));
        }
    }
    text.push_str(&format!("digest {:032x}\n", node.digest()));
    text
}

fn same(node: &Node, file: &str, kept: &str) {
    let written = written(node);
    for (number, (now, then)) in written.lines().zip(kept.lines()).enumerate() {
        assert_eq!(now, then, "line {} of {file}; all of it is now:\n{written}", number + 1);
    }
    assert_eq!(written, kept, "{file} has other lines");
}

/// What the file says, applied; and each command written again.
fn replayed(kept: &str) -> Node {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    for line in kept.lines().filter_map(|line| line.strip_prefix("commands")).skip(1) {
        let mut commands = Vec::new();
        for text in line.split_whitespace() {
            let command = Command::decode(&unhex(text)).expect("a command of an older level is read for ever");
            assert_eq!(hex(&command.encode()), text);
            commands.push(command);
        }
        node.entry(&commands);
    }
    node
}

/// The kinds of commands and of pairs in a file.
fn kinds(kept: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let commands = kept.lines().filter_map(|line| line.strip_prefix("commands "));
    let commands = commands.flat_map(|line| line.split(' ').map(|command| command[2..4].to_string()));
    let pairs = kept.lines().filter_map(|line| line.strip_prefix("pair "));
    let pairs = pairs.map(|line| line.split(' ').next().unwrap_or_default().to_string());
    (commands.collect(), pairs.collect())
}

fn kept(file: &str) -> String {
    // Tests run in the folder of their package.
    std::fs::read_to_string(format!("tests/data/{file}")).expect("it is part of the sources")
}

/// The history at this level; its commands are the kinds 1 to `kinds_max`.
fn check(level: u32, kinds_max: u8) {
    let file = format!("level-{level}.txt");
    let kept = kept(&file);
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    if level > 1 {
        node.act(Action::RaiseFormatLevel { to: level });
    }
    history(&mut node);
    if level >= GIVE_BACK {
        repeat(&mut node);
    }
    same(&node, &file, &kept);
    same(&replayed(&kept), &file, &kept);
    let (commands, pairs) = kinds(&kept);
    let all: BTreeSet<String> = (1..=kinds_max).map(|kind| format!("{kind:02x}")).collect();
    assert_eq!(commands, all, "every kind of command is in the history");
    let all: BTreeSet<String> = Family::shared().map(|family| (family as u8).to_string()).collect();
    assert_eq!(pairs, all, "every family of pairs is in the history");
}

#[test]
fn level_1_is_as_the_first_release_wrote_it() {
    check(1, 13);
}

#[test]
fn level_2_is_as_it_was_written_first() {
    check(2, 14);
}

#[test]
fn level_3_is_as_it_was_written_first() {
    check(3, 15);
}
