//! Rules of FIFO consumer groups.

use super::harness::{Node, places};
use crate::state::kv::memory::MemoryKv;
use crate::state::limits;
use crate::state::plan::{Filter, Reserved};
use std::sync::Arc;

fn node(message_groups: &[&str]) -> Node {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    node.topic("t", 1);
    node.group("g", true, 3);
    for (n, message_group) in message_groups.iter().enumerate() {
        node.send("t", 0, &n.to_string(), "", message_group);
    }
    node
}

fn receive_one(node: &mut Node) -> crate::state::outcome::Leased {
    let plan = node.plan_upto("g", "t", "", &Filter::All, &Reserved::new(), 1);
    let command = node.lease_command("g", "t", "", &plan.ranges);
    node.lease(&command)
}

#[test]
fn a_message_group_waits_for_its_first_and_others_do_not() {
    let mut node = node(&["a", "a", "b", "a", "b", "c"]);
    let first = receive_one(&mut node);
    assert_eq!(places(&first), [(0, 0, 1)]);
    let second = node.receive("g", "t").leased;
    assert_eq!(places(&second), [(0, 2, 1), (0, 4, 1), (0, 5, 1)]);
    assert!(node.receive("g", "t").leased.granted.is_empty());
    let handle = node.handle("t", &first.granted[0]);
    assert!(node.ack("g", "t", &handle));
    assert_eq!(places(&node.receive("g", "t").leased), [(0, 1, 1), (0, 3, 1)]);
}

#[test]
fn messages_without_a_message_group_are_one() {
    let mut node = node(&["", "", ""]);
    let first = receive_one(&mut node);
    assert!(node.receive("g", "t").leased.granted.is_empty());
    let handle = node.handle("t", &first.granted[0]);
    assert!(node.ack("g", "t", &handle));
    assert_eq!(places(&node.receive("g", "t").leased), [(0, 1, 1), (0, 2, 1)]);
}

#[test]
fn what_was_not_acknowledged_comes_again_in_order() {
    let mut node = node(&["a", "b", "a", "b", "a"]);
    let received = node.receive("g", "t").leased;
    assert_eq!(received.granted.len(), 5);
    let handle = node.handle("t", &received.granted[2]);
    assert!(node.ack("g", "t", &handle), "the second of a");
    node.now_ms += 10_000;
    let again = node.receive("g", "t").leased;
    let of = |parity: u64| {
        places(&again)
            .into_iter()
            .filter(|place| place.1 % 2 == parity)
            .collect::<Vec<_>>()
    };
    assert_eq!(of(0), [(0, 0, 2), (0, 4, 2)]);
    assert_eq!(of(1), [(0, 1, 2), (0, 3, 2)]);
}

#[test]
fn a_refused_message_holds_back_the_rest_of_its_message_group() {
    let mut node = node(&["a", "a", "b"]);
    let received = node.receive("g", "t").leased;
    let handle = node.handle("t", &received.granted[0]);
    node.change("g", "t", &handle, 60_000, false).expect("changed");
    node.now_ms += 10_000;
    assert_eq!(places(&node.receive("g", "t").leased), [(0, 2, 2)]);
    node.now_ms += 50_000;
    assert_eq!(places(&node.receive("g", "t").leased)[..2], [(0, 2, 3), (0, 0, 2)]);
}

#[test]
fn dead_letters_free_their_message_group() {
    let mut node = node(&["a", "a"]);
    for attempt in 1..=3 {
        assert_eq!(places(&receive_one(&mut node)), [(0, 0, attempt)]);
        node.now_ms += 10_000;
    }
    let received = node.receive("g", "t").leased;
    assert_eq!((received.dead_lettered, places(&received)), (1, vec![(0, 1, 1)]));
}

#[test]
fn a_repeated_attempt_is_not_blocked_by_itself() {
    let mut node = node(&["a", "a", "b"]);
    let first = node.receive_as("g", "t", "attempt", &Filter::All).leased;
    assert!(
        node.receive_as("g", "t", "other", &Filter::All)
            .leased
            .granted
            .is_empty()
    );
    let again = node.receive_as("g", "t", "attempt", &Filter::All).leased;
    let sorted = |leased| {
        let mut places = places(leased);
        places.sort_unstable();
        places
    };
    assert_eq!(sorted(&first), sorted(&again));
}

#[test]
fn passed_over_messages_are_bounded() {
    let mut node = node(&["a"]);
    assert_eq!(receive_one(&mut node).granted.len(), 1);
    let count = limits::PASSED_PER_QUEUE as u32 + 50;
    let batch = (0..count)
        .map(|n| super::harness::message("t", 0, &format!("more {n}"), "", "a"))
        .collect();
    node.send_all("t", batch).expect("sent");
    node.send("t", 0, "far", "", "b");
    for _ in 0..5 {
        assert!(node.receive("g", "t").leased.granted.is_empty());
    }
    let progress = node.view.progress("g", "t").expect("progress")[0];
    assert_eq!(
        (progress.next.0, progress.not_done),
        (1 + limits::PASSED_PER_QUEUE, 1 + limits::PASSED_PER_QUEUE)
    );
}

#[test]
fn a_stale_plan_breaks_no_order() {
    let mut node = node(&["a", "a", "a"]);
    let one = node.plan_upto("g", "t", "", &Filter::All, &Reserved::new(), 1);
    let two = node.plan_upto("g", "t", "", &Filter::All, &Reserved::new(), 2);
    let one = node.lease_command("g", "t", "", &one.ranges);
    let two = node.lease_command("g", "t", "", &two.ranges);
    assert_eq!(places(&node.lease(&one)), [(0, 0, 1)]);
    assert!(
        node.lease(&two).granted.is_empty(),
        "the first of the message group is out"
    );
    let mut reserved = Reserved::new();
    reserved.add(&[crate::state::command::PlannedRange {
        queue_id: 0,
        first: crate::state::identity::QueueOffset(0),
        last: crate::state::identity::QueueOffset(0),
        kind: crate::state::command::RangeKind::Lease,
    }]);
    let plan = node.plan("g", "t", "", &Filter::All, &reserved);
    assert!(
        plan.ranges.is_empty() && plan.hindered,
        "it is looked at once that receive ends"
    );
}
