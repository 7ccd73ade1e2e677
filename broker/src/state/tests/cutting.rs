//! Rules of the retention cut and of carrying over.

use super::harness::{Node, message, places};
use crate::state::command::{Action, CarriedRecord, CarryOver};
use crate::state::identity::QueueOffset;
use crate::state::kv::Family;
use crate::state::kv::memory::MemoryKv;
use crate::state::outcome::{CutError, Outcome};
use crate::state::plan::{Filter, Reserved};
use ledgermq_raft_store::{LogIndex, Machine};
use std::sync::Arc;

fn node() -> Node {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    node.topic("t", 2);
    node.group("g", false, 3);
    node
}

/// Sends to queue 0 and answers the entry.
fn send(node: &mut Node, id: &str) -> LogIndex {
    node.send("t", 0, id, "", "");
    node.last()
}

fn bounds(node: &Node, topic: &str, queue_id: usize) -> (u64, u64) {
    let bounds = node.view.queue_bounds(topic).expect("bounds")[queue_id];
    (bounds.first.0, bounds.end.0)
}

/// A message of entry `.0` dead-lettered by entry `.1`.
fn dead_letter(node: &mut Node, id: &str) -> (LogIndex, LogIndex) {
    let sent = send(node, id);
    for _ in 0..3 {
        assert_eq!(node.receive("g", "t").leased.granted.len(), 1);
        node.now_ms += 10_000;
    }
    assert_eq!(node.receive("g", "t").leased.dead_lettered, 1);
    (sent, node.last())
}

#[test]
fn what_came_by_old_entries_is_forgotten() {
    let mut node = node();
    let entries: Vec<LogIndex> = (0..60).map(|n| send(&mut node, &n.to_string())).collect();
    node.send("t", 1, "other", "", "");
    for (upto, first) in [
        (entries[0], 1),
        (entries[9], 10),
        (entries[41], 42),
        (entries[41], 42),
        (entries[5], 42),
    ] {
        assert!(node.cut(upto).expect("cut") >= upto);
        assert_eq!(bounds(&node, "t", 0), (first, 60));
        assert_eq!(bounds(&node, "t", 1), (0, 1));
    }
    let digest = node.digest();
    node.view.flush().expect("flush");
    node.reopen(node.kv.clone());
    assert_eq!((node.digest(), bounds(&node, "t", 0)), (digest, (42, 60)));
    assert_eq!(
        places(&node.receive("g", "t").leased).len(),
        19,
        "a new consumer group starts at the first that is kept"
    );
    let last = node.last();
    assert_eq!(node.cut(last), Ok(last));
    assert_eq!((bounds(&node, "t", 0), bounds(&node, "t", 1)), ((60, 60), (1, 1)));
    node.reopen(node.kv.clone());
    assert_eq!((bounds(&node, "t", 0), bounds(&node, "t", 1)), ((60, 60), (1, 1)));
    assert_eq!(node.send("t", 0, "next", "", "").offset, QueueOffset(60));
    let left = node.kv.scan(Family::Runs, &[], &[], 10).expect("scan");
    assert_eq!(left.len(), 1);
}

#[test]
fn a_cut_is_of_entries_before_its_own() {
    let mut node = node();
    let entry = node.last().next();
    for upto in [entry, LogIndex(u64::MAX)] {
        let entry = node.last().next();
        assert_eq!(
            node.cut(upto.max(entry)),
            Err(CutError::Ahead {
                upto: upto.max(entry),
                entry
            })
        );
    }
    assert_eq!(node.view.cut(), LogIndex(0));
}

#[test]
fn consumers_behind_the_cut_go_on_behind_it() {
    let mut node = node();
    for n in 0..20 {
        send(&mut node, &n.to_string());
    }
    let plan = node.plan_upto("g", "t", "", &Filter::All, &Reserved::new(), 10);
    let command = node.lease_command("g", "t", "", &plan.ranges);
    let leased = node.lease(&command);
    let handles: Vec<_> = leased.granted.iter().map(|granted| node.handle("t", granted)).collect();
    let stale = node.plan_upto("g", "t", "", &Filter::All, &Reserved::new(), 10);
    let stale = node.lease_command("g", "t", "", &stale.ranges);
    // Into the middle of what is leased: the first seven leases end.
    let upto = LogIndex(3 + 6);
    assert_eq!(node.cut(upto), Ok(upto));
    let progress = node.view.progress("g", "t").expect("progress")[0];
    assert_eq!((progress.floor.0, progress.not_done, progress.lag()), (7, 3, 13));
    assert!(node.ack("g", "t", &handles[6]), "what is gone is done");
    assert!(node.change("g", "t", &handles[0], 1_000, false).is_none());
    assert!(node.ack("g", "t", &handles[7]));
    // Behind all that was planned: a stale plan gets what is left of it.
    let upto = LogIndex(3 + 14);
    assert_eq!(node.cut(upto), Ok(upto));
    let progress = node.view.progress("g", "t").expect("progress")[0];
    assert_eq!((progress.floor.0, progress.next.0, progress.lag()), (15, 15, 5));
    let leased = node.lease(&stale);
    assert_eq!(
        places(&leased),
        [(0, 15, 1), (0, 16, 1), (0, 17, 1), (0, 18, 1), (0, 19, 1)]
    );
    node.reopen(node.kv.clone());
    assert_eq!(node.view.progress("g", "t").expect("progress")[0].lag(), 5);
}

#[test]
fn a_message_group_is_not_held_back_by_what_is_gone() {
    let mut node = node();
    node.group("f", true, 3);
    for n in 0..4 {
        node.send("t", 0, &n.to_string(), "", "a");
    }
    let sent = node.last();
    let plan = node.plan_upto("f", "t", "", &Filter::All, &Reserved::new(), 2);
    let command = node.lease_command("f", "t", "", &plan.ranges);
    assert_eq!(node.lease(&command).granted.len(), 2);
    assert!(node.receive("f", "t").leased.granted.is_empty());
    let upto = LogIndex(sent.get() - 2);
    assert_eq!(node.cut(upto), Ok(upto));
    assert_eq!(places(&node.receive("f", "t").leased), [(0, 2, 1), (0, 3, 1)]);
}

#[test]
fn a_dead_letter_must_be_carried_over_first() {
    let mut node = node();
    let (sent, died) = dead_letter(&mut node, "x");
    assert_eq!(
        node.cut(LogIndex(sent.get() - 1)).expect("before it"),
        LogIndex(sent.get() - 1)
    );
    let refused = node.cut(sent).expect_err("in the way");
    let topic = "%DLQ%g".to_string();
    assert_eq!(
        refused,
        CutError::InTheWay {
            index: sent,
            topic,
            queue_id: 0,
            offset: QueueOffset(0)
        }
    );
    // A cut that lets go of the dead letter itself needs nothing.
    assert_eq!(node.view.cut_step(sent, died).expect("read"), died);
    assert_eq!(node.view.cut_step(sent, LogIndex(died.get() - 1)).expect("read"), sent);
    let before = node.view.to_carry_over(sent).expect("read");
    let command = node.carry_over(sent).expect("one");
    assert_eq!(node.propose(&command), Outcome::CarriedOver { moved: 1 });
    assert_eq!(
        node.propose(&command),
        Outcome::CarriedOver { moved: 0 },
        "it lies elsewhere already"
    );
    assert!(node.carry_over(sent).is_none());
    assert_eq!(node.cut(sent), Ok(sent));
    node.group("undertaker", false, 3);
    let received = node.receive("undertaker", "%DLQ%g");
    assert_eq!(places(&received.leased), [(0, 0, 1)]);
    let record = node.read(received.plan.records[0].location);
    assert_eq!((record.message_id.as_str(), record.topic.as_str()), ("x", "t"));
    assert_eq!(received.plan.records[0].location.length, before[0].location.length);
    // It goes with the entry by which it came, wherever it lies.
    assert_eq!(node.cut(died), Ok(died));
    assert_eq!(bounds(&node, "%DLQ%g", 0), (1, 1));
    assert!(node.kv.scan(Family::References, &[], &[], 1).expect("scan").is_empty());
}

#[test]
fn a_dead_letter_of_a_dead_letter_is_found_too() {
    let mut node = node();
    node.group("h", false, 1);
    let (sent, _) = dead_letter(&mut node, "x");
    let command = node.carry_over(sent).expect("one");
    node.propose(&command);
    let carried = node.last();
    assert_eq!(node.receive("h", "%DLQ%g").leased.granted.len(), 1);
    node.now_ms += 10_000;
    assert_eq!(node.receive("h", "%DLQ%g").leased.dead_lettered, 1);
    assert_eq!(node.cut(sent), Ok(sent));
    assert!(matches!(node.cut(carried), Err(CutError::InTheWay { index, .. }) if index == carried));
    let command = node.carry_over(carried).expect("one");
    assert_eq!(node.propose(&command), Outcome::CarriedOver { moved: 1 });
    assert_eq!(node.cut(carried), Ok(carried));
    assert_eq!(
        (bounds(&node, "%DLQ%g", 0), bounds(&node, "%DLQ%h", 0)),
        ((1, 1), (0, 1))
    );
}

#[test]
fn commands_of_one_entry_see_each_other() {
    let mut node = node();
    let first = send(&mut node, "x");
    let second = send(&mut node, "y");
    for _ in 0..3 {
        node.receive("g", "t");
        node.now_ms += 10_000;
    }
    // Both die and the cut comes, all in one entry: the cut must see the dead letters.
    let plan = node.plan("g", "t", "", &Filter::All, &Reserved::new());
    let lease = node.lease_command("g", "t", "", &plan.ranges);
    let cut = node.command(Action::Cut { upto: first });
    let outcomes = node.entry(&[lease, cut.clone()]);
    assert!(matches!(&outcomes[0], Outcome::Leased(Ok(leased)) if leased.dead_lettered == 2));
    assert!(matches!(&outcomes[1], Outcome::Cut(Err(CutError::InTheWay { .. }))));
    // Two carried over one by one into one run, and the cut behind them.
    let carry = node.carry_over(second).expect("two");
    let Action::CarryOver(carry) = carry.action else {
        panic!("a carry-over")
    };
    let one = |record: &CarriedRecord| {
        Action::CarryOver(CarryOver {
            records: vec![record.clone()],
        })
    };
    let commands = [
        node.command(one(&carry.records[0])),
        node.command(one(&carry.records[1])),
        node.command(Action::Cut { upto: second }),
        node.command(one(&carry.records[0])),
    ];
    let outcomes = node.entry(&commands);
    let moved = |moved| Outcome::CarriedOver { moved };
    assert_eq!(outcomes, [moved(1), moved(1), Outcome::Cut(Ok(second)), moved(0)]);
    node.group("undertaker", false, 3);
    let plan = node.plan("undertaker", "%DLQ%g", "", &Filter::All, &Reserved::new());
    let ids: Vec<String> = plan
        .records
        .iter()
        .map(|record| node.read(record.location).message_id)
        .collect();
    assert_eq!(ids, ["x", "y"]);
    let digest = node.digest();
    node.reopen(node.kv.clone());
    assert_eq!(node.digest(), digest);
}

#[test]
fn what_does_not_fit_is_not_carried_over() {
    let mut node = node();
    let (sent, _) = dead_letter(&mut node, "x");
    let command = node.carry_over(sent).expect("one");
    let Action::CarryOver(good) = command.action else {
        panic!("a carry-over")
    };
    let good = good.records[0].clone();
    let mut bad = vec![good.clone(); 5];
    bad[0].offset = QueueOffset(1);
    bad[1].queue_id = 9;
    bad[2].topic.0 += 1;
    bad[3].from = LogIndex(sent.get() + 1);
    bad[4].record = message("t", 0, "xy", "", "").record;
    let outcome = node.act(Action::CarryOver(CarryOver { records: bad }));
    assert_eq!(outcome, Outcome::CarriedOver { moved: 0 });
    // References of a topic that is gone hold nothing back.
    node.act(Action::DeleteTopic {
        name: "%DLQ%g".to_string(),
    });
    assert!(node.carry_over(sent).is_none());
    assert_eq!(node.cut(sent), Ok(sent));
    let outcome = node.act(Action::CarryOver(CarryOver { records: vec![good] }));
    assert_eq!(outcome, Outcome::CarriedOver { moved: 0 });
}

#[test]
fn a_cut_is_released_once_it_is_durable() {
    let kv = MemoryKv::new();
    let mut node = Node::new(Arc::new(kv.clone()));
    node.topic("t", 1);
    let mut released = node.machine.released();
    assert_eq!(*released.borrow_and_update(), LogIndex(0));
    let first = send(&mut node, "x");
    node.view.flush().expect("flush");
    assert!(!released.has_changed().expect("open"));
    let second = send(&mut node, "y");
    assert_eq!(node.cut(first), Ok(first));
    assert_eq!((node.view.cut(), node.view.released()), (first, LogIndex(0)));
    node.view.flush().expect("flush");
    assert_eq!(*released.borrow_and_update(), first);
    assert_eq!(node.cut(second), Ok(second));
    kv.crash();
    node.reopen(Arc::new(kv.clone()));
    assert_eq!(
        (node.view.cut(), node.view.released()),
        (second, first),
        "replayed, but not flushed"
    );
    node.view.flush().expect("flush");
    kv.crash();
    node.reopen(Arc::new(kv));
    assert_eq!(*node.machine.released().borrow(), second);
}

#[test]
fn a_digest_is_of_its_entry_whatever_comes_later() {
    let mut node = node();
    let due = node.view.digest_due();
    send(&mut node, "x");
    assert_eq!(node.act(Action::Digest), Outcome::Digesting);
    let (index, digest) = (node.last(), node.digest());
    send(&mut node, "y");
    assert_eq!((*due.borrow(), node.view.digest_of(index)), (index, None));
    node.view.make_digest().expect("read");
    assert_eq!(node.view.digest_of(index), Some(digest));
    assert_eq!(*node.view.digest_done().borrow(), index);
    node.view.make_digest().expect("nothing is due");
    assert_ne!(node.digest(), digest);
}
