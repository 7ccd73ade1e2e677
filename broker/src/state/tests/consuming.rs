//! Rules of receiving, acknowledging and putting off.

use super::harness::{Node, message, places};
use crate::state::command::{Action, CreateConsumerGroup, GiveBack, Lease, ReleaseClient, Renew, RenewSpan};
use crate::state::handle::ReceiptHandle;
use crate::state::identity::{LeaseId, QueueOffset, client_hash};
use crate::state::kv::memory::MemoryKv;
use crate::state::level::GIVE_BACK;
use crate::state::limits;
use crate::state::outcome::{ConsumeError, LeaseError, Outcome};
use crate::state::plan::{Filter, Reserved};
use crate::state::topic::ConsumeFrom;
use std::sync::Arc;

fn node(messages: u32) -> Node {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    node.topic("t", 1);
    node.group("g", false, 3);
    for n in 0..messages {
        node.send("t", 0, &n.to_string(), if n % 2 == 0 { "even" } else { "odd" }, "");
    }
    node
}

/// All messages of "t" in one self-renewing lease of "consumer".
fn leased_for_long(node: &mut Node) -> Vec<ReceiptHandle> {
    let plan = node.plan("g", "t", "", &Filter::All, &Reserved::new());
    let command = node.lease_command("g", "t", "", &plan.ranges);
    let Action::Lease(lease) = command.action else {
        panic!("a lease")
    };
    let Outcome::Leased(Ok(leased)) = node.act(Action::Lease(Lease {
        auto_renew: true,
        invisible_ms: limits::RENEW_FIRST_MS,
        ..lease
    })) else {
        panic!("leased")
    };
    leased.granted.iter().map(|granted| node.handle("t", granted)).collect()
}

#[test]
fn what_is_received_is_invisible_until_its_time_and_done_when_acknowledged() {
    let mut node = node(3);
    let received = node.receive("g", "t");
    assert_eq!(places(&received.leased), [(0, 0, 1), (0, 1, 1), (0, 2, 1)]);
    for planned in &received.plan.records {
        assert_eq!(node.read(planned.location).message_id, planned.offset.to_string());
    }
    let again = node.receive("g", "t");
    assert!(again.leased.granted.is_empty());
    assert_eq!(again.plan.next_visible_at_ms, Some(node.now_ms + 10_000));
    let handles: Vec<_> = received
        .leased
        .granted
        .iter()
        .map(|granted| node.handle("t", granted))
        .collect();
    assert!(node.ack("g", "t", &handles[1]));
    assert!(node.ack("g", "t", &handles[1]), "twice is fine");
    node.now_ms += 9_999;
    assert!(node.ack("g", "t", &handles[0]));
    node.now_ms += 1;
    assert!(!node.ack("g", "t", &handles[2]), "its time is over");
    let received = node.receive("g", "t");
    assert_eq!(places(&received.leased), [(0, 2, 2)]);
    assert!(!node.ack("g", "t", &handles[2]), "an older lease");
    let handle = node.handle("t", &received.leased.granted[0]);
    assert!(node.ack("g", "t", &handle));
    let progress = node.view.progress("g", "t").expect("progress")[0];
    assert_eq!(
        (progress.floor, progress.next, progress.lag()),
        (QueueOffset(3), QueueOffset(3), 0)
    );
    assert!(node.ack("g", "t", &handles[2]), "done is done, whoever asks");
}

#[test]
fn a_handle_that_was_never_given_is_invalid() {
    let mut node = node(1);
    let granted = node.receive("g", "t").leased.granted[0];
    let handle = node.handle("t", &granted);
    let mut others = vec![handle.clone(); 5];
    others[0].lease = LeaseId(1);
    others[1].offset = QueueOffset(1);
    others[2].queue_id = 7;
    others[3].broker_group = "broker-b".to_string();
    others[4].topic.0 += 1;
    for other in others {
        assert!(!node.ack("g", "t", &other), "{other:?}");
    }
    assert!(node.ack("g", "t", &handle));
}

#[test]
fn a_message_goes_to_the_dead_letters_after_its_attempts() {
    let mut node = node(2);
    for attempt in 1..=3 {
        let received = node.receive("g", "t");
        assert_eq!(places(&received.leased), [(0, 0, attempt), (0, 1, attempt)]);
        node.now_ms += 10_000;
    }
    let received = node.receive("g", "t");
    assert_eq!((received.leased.granted.len(), received.leased.dead_lettered), (0, 2));
    assert_eq!(node.view.progress("g", "t").expect("progress")[0].lag(), 0);
    node.group("undertaker", false, 3);
    let dead = node.receive("undertaker", "%DLQ%g");
    assert_eq!(places(&dead.leased), [(0, 0, 1), (0, 1, 1)]);
    let record = node.read(dead.plan.records[1].location);
    assert_eq!((record.topic.as_str(), record.message_id.as_str()), ("t", "1"));
    // Its consumer group may consume its own dead letters; they come back to the end.
    for _ in 0..3 {
        assert_eq!(node.receive("g", "%DLQ%g").leased.granted.len(), 2);
        node.now_ms += 10_000;
    }
    assert_eq!(node.receive("g", "%DLQ%g").leased.dead_lettered, 2);
    assert_eq!(places(&node.receive("g", "%DLQ%g").leased), [(0, 2, 1), (0, 3, 1)]);
}

#[test]
fn putting_off_gives_a_new_handle() {
    let mut node = node(1);
    let granted = node.receive("g", "t").leased.granted[0];
    let handle = node.handle("t", &granted);
    let newer = node.change("g", "t", &handle, 30_000, false).expect("changed");
    assert_ne!(newer, handle);
    assert!(!node.ack("g", "t", &handle) && node.change("g", "t", &handle, 1, false).is_none());
    node.now_ms += 20_000;
    assert!(node.receive("g", "t").leased.granted.is_empty());
    let newer = node.change("g", "t", &newer, 0, true).expect("changed");
    assert!(!node.ack("g", "t", &newer), "visible at once means not held");
    let received = node.receive("g", "t");
    assert_eq!(places(&received.leased), [(0, 0, 1)], "a suspension does not count");
    let handle = node.handle("t", &received.leased.granted[0]);
    node.change("g", "t", &handle, 0, false).expect("changed");
    assert_eq!(places(&node.receive("g", "t").leased), [(0, 0, 2)]);
}

#[test]
fn the_same_attempt_gets_the_same_messages() {
    let mut node = node(40);
    let first = node.receive_as("g", "t", "attempt", &Filter::All);
    node.now_ms += 5_000;
    let again = node.receive_as("g", "t", "attempt", &Filter::All);
    assert_eq!(places(&first.leased), places(&again.leased));
    assert_eq!(first.leased.granted[0].lease, again.leased.granted[0].lease);
    assert_eq!(
        again.leased.granted[0].visible_at_ms,
        node.now_ms + 10_000,
        "the time begins anew"
    );
    let handle = node.handle("t", &first.leased.granted[7]);
    assert!(node.ack("g", "t", &handle));
    assert_eq!(
        node.receive_as("g", "t", "attempt", &Filter::All).leased.granted.len(),
        31
    );
    assert_eq!(node.receive_as("g", "t", "other", &Filter::All).leased.granted.len(), 8);
}

/// A door asks again when an answer gets lost, and the leader of the lost answer gives its messages back, perhaps after the
/// second answer has arrived.
#[test]
fn a_lost_answer_is_not_given_back_from_under_the_next() {
    let mut node = node(3);
    node.act(Action::RaiseFormatLevel { to: GIVE_BACK });
    let gives_back = |node: &mut Node, attempt: &str, tries: usize| {
        let received = (0..tries).map(|_| node.receive_as("g", "t", attempt, &Filter::All).leased);
        let leased: Vec<_> = received.collect();
        let handles = leased[0]
            .granted
            .iter()
            .map(|granted| node.handle("t", granted))
            .collect();
        let (consumer_group, topic) = ("g".to_string(), "t".to_string());
        let back = GiveBack {
            consumer_group,
            topic,
            handles,
        };
        (leased, node.act(Action::GiveBack(back)))
    };
    let (once, given) = gives_back(&mut node, "once", 1);
    assert_eq!((places(&once[0]).len(), given), (3, Outcome::GivenBack { count: 3 }));
    assert!(
        node.receive_as("g", "t", "once", &Filter::All)
            .leased
            .granted
            .is_empty(),
        "not yet visible"
    );
    node.now_ms += 1_000;
    let (twice, given) = gives_back(&mut node, "twice", 2);
    assert_eq!(
        places(&twice[0]),
        [(0, 0, 1), (0, 1, 1), (0, 2, 1)],
        "what did not arrive is not counted"
    );
    assert_eq!(places(&twice[0]), places(&twice[1]), "the same messages again");
    assert_eq!(
        given,
        Outcome::GivenBack { count: 0 },
        "the other answer may have arrived"
    );
    node.now_ms += 5_000;
    assert!(
        node.receive_as("g", "t", "other", &Filter::All)
            .leased
            .granted
            .is_empty()
    );
    for granted in &twice[1].granted {
        let handle = node.handle("t", granted);
        assert!(node.ack("g", "t", &handle));
    }
}

#[test]
fn a_repeated_request_answers_its_first_outcome() {
    let mut node = node(4);
    let plan = node.plan_upto("g", "t", "", &Filter::All, &Reserved::new(), 2);
    let command = node.lease_command("g", "t", "", &plan.ranges);
    let first = node.lease(&command);
    assert_eq!(first, node.lease(&command));
    let handle = node.handle("t", &first.granted[0]);
    let change = node.command(Action::ChangeVisibility(crate::state::command::ChangeVisibility {
        consumer_group: "g".to_string(),
        topic: "t".to_string(),
        handle,
        invisible_ms: 60_000,
        suspend: false,
    }));
    let changed = node.propose(&change);
    assert!(matches!(changed, Outcome::VisibilityChanged(Ok(_))));
    assert_eq!(changed, node.propose(&change));
    node.now_ms += limits::WINDOW_MS + 1;
    node.act(Action::Probe);
    assert!(
        matches!(node.propose(&change), Outcome::VisibilityChanged(Err(_))),
        "forgotten after the window"
    );
}

#[test]
fn a_filter_leaves_out_and_is_done_with() {
    let mut node = node(6);
    let received = node.receive_as("g", "t", "", &Filter::tags(["odd"]));
    assert_eq!(places(&received.leased), [(0, 1, 1), (0, 3, 1), (0, 5, 1)]);
    let progress = node.view.progress("g", "t").expect("progress")[0];
    assert_eq!((progress.next, progress.not_done), (QueueOffset(6), 3));
    let none = node.receive_as("g", "t", "", &Filter::tags(["even"]));
    assert!(none.leased.granted.is_empty());
}

#[test]
fn receives_applied_in_another_order_lose_nothing() {
    let mut node = node(64);
    let mut reserved = Reserved::new();
    let one = node.plan("g", "t", "", &Filter::All, &reserved);
    reserved.add(&one.ranges);
    let two = node.plan("g", "t", "", &Filter::All, &reserved);
    reserved.add(&two.ranges);
    assert!(node.plan("g", "t", "", &Filter::All, &reserved).ranges.is_empty());
    let two = node.lease_command("g", "t", "", &two.ranges);
    let one = node.lease_command("g", "t", "", &one.ranges);
    assert_eq!(places(&node.lease(&two))[0], (0, 32, 1));
    assert_eq!(places(&node.lease(&one))[0], (0, 0, 1));
    assert_eq!(node.view.progress("g", "t").expect("progress")[0].not_done, 64);
    // A plan that comes twice takes nothing from its first holder.
    let again = node.command(one.action.clone());
    assert!(node.lease(&again).granted.is_empty());
}

#[test]
fn the_latest_starts_at_the_end_of_its_first_receive() {
    let mut node = node(3);
    let create = CreateConsumerGroup {
        name: "late".to_string(),
        fifo: false,
        max_attempts: 17,
        from: ConsumeFrom::Latest,
    };
    node.act(Action::CreateConsumerGroup(create));
    let received = node.receive("late", "t");
    assert!(received.plan.first_contact && received.leased.granted.is_empty());
    node.send("t", 0, "new", "", "");
    let received = node.receive("late", "t");
    assert_eq!(
        (received.plan.first_contact, places(&received.leased)),
        (false, vec![(0, 3, 1)])
    );
}

#[test]
fn who_is_not_there_gets_nothing() {
    let mut node = node(1);
    let command = node.lease_command("nobody", "t", "", &[]);
    let none = |error| Outcome::Leased(Err(LeaseError::Consume(error)));
    assert_eq!(node.propose(&command), none(ConsumeError::ConsumerGroupNotFound));
    let command = node.lease_command("g", "nowhere", "", &[]);
    assert_eq!(node.propose(&command), none(ConsumeError::TopicNotFound));
}

#[test]
fn a_lease_renews_for_three_hours() {
    let mut node = node(1);
    let started_ms = node.now_ms;
    let handle = leased_for_long(&mut node).swap_remove(0);
    let mut renewals = 0;
    loop {
        let until = node
            .plan("g", "t", "", &Filter::All, &Reserved::new())
            .next_visible_at_ms
            .expect("held");
        assert!(
            node.view
                .auto_renew_due(until - limits::RENEW_AHEAD_MS - 1, |_| true)
                .is_empty()
        );
        node.now_ms = until - 5_000;
        assert!(
            node.view.auto_renew_due(node.now_ms, |_| false).is_empty(),
            "its client is dead"
        );
        let due: Vec<RenewSpan> = node
            .view
            .auto_renew_due(node.now_ms, |_| true)
            .iter()
            .map(|due| due.span)
            .collect();
        let confirmed = if renewals == 0 {
            assert!(due.is_empty(), "nobody has confirmed that it arrived");
            let all = (QueueOffset(0), QueueOffset(u64::MAX - 1));
            assert!(node.view.unconfirmed(("g", "t"), 99, all, handle.lease).is_empty());
            assert!(
                node.view
                    .unconfirmed(("g", "t"), handle.queue_id, all, LeaseId(1))
                    .is_empty()
            );
            node.view.unconfirmed(("g", "t"), handle.queue_id, all, handle.lease)
        } else {
            due
        };
        assert_eq!(confirmed.len(), 1);
        let renew = Renew {
            consumer_group: "g".to_string(),
            topic: "t".to_string(),
            spans: confirmed,
        };
        match node.act(Action::Renew(renew)) {
            Outcome::Renewed {
                extended: 1,
                returned: 0,
            } => renewals += 1,
            Outcome::Renewed {
                extended: 0,
                returned: 1,
            } => break,
            outcome => panic!("{outcome:?}"),
        }
    }
    // 1, 3, 5, 10, 30, 60 minutes, 60 again, and the rest.
    assert_eq!(renewals, 8);
    assert_eq!(node.now_ms, started_ms + limits::RENEW_TOTAL_MS - 5_000);
    assert!(!node.ack("g", "t", &handle), "given back");
    assert_eq!(
        node.plan("g", "t", "", &Filter::All, &Reserved::new())
            .next_visible_at_ms,
        Some(node.now_ms + 10_000)
    );
}

#[test]
fn a_client_that_went_away_frees_its_messages_after_a_second() {
    let mut node = node(4);
    leased_for_long(&mut node);
    let release = |client: &str| {
        Action::ReleaseClient(ReleaseClient {
            consumer_group: "g".to_string(),
            client_id: client.to_string(),
        })
    };
    assert_eq!(node.act(release("other")), Outcome::ClientReleased { spans: 0 });
    assert_eq!(node.act(release("consumer")), Outcome::ClientReleased { spans: 1 });
    node.now_ms += 999;
    assert!(node.receive("g", "t").leased.granted.is_empty());
    node.now_ms += 1;
    assert_eq!(node.receive("g", "t").leased.granted.len(), 4);
}

#[test]
fn what_a_dead_client_holds_is_named_message_by_message() {
    let mut node = node(4);
    let handles = leased_for_long(&mut node);
    let now_ms = node.now_ms;
    assert!(node.view.abandoned(now_ms, |_| true).is_empty());
    let holder = client_hash("consumer");
    let abandoned = node.view.abandoned(now_ms, |client| client != holder);
    let named: Vec<_> = abandoned.iter().map(|it| (it.queue_id, it.offset, it.lease)).collect();
    let held: Vec<_> = handles.iter().map(|it| (it.queue_id, it.offset, it.lease)).collect();
    assert_eq!((named, abandoned.len()), (held, 4));
    let soon = now_ms + limits::RENEW_FIRST_MS - limits::RELEASE_MS;
    assert!(
        node.view.abandoned(soon, |_| false).is_empty(),
        "it comes back by itself"
    );
}

#[test]
fn what_is_acknowledged_in_the_middle_leaves_pieces_to_confirm() {
    let mut node = node(4);
    let handle = leased_for_long(&mut node).swap_remove(1);
    let all = (QueueOffset(0), QueueOffset(3));
    let unconfirmed = |node: &Node| {
        let spans = node.view.unconfirmed(("g", "t"), 0, all, handle.lease);
        spans.iter().map(|span| span.first.0).collect::<Vec<_>>()
    };
    let read_before = node.view.unconfirmed(("g", "t"), 0, all, handle.lease);
    assert_eq!(unconfirmed(&node), [0]);
    assert!(node.ack("g", "t", &handle));
    let renew = |spans| {
        Action::Renew(Renew {
            consumer_group: "g".to_string(),
            topic: "t".to_string(),
            spans,
        })
    };
    node.act(renew(read_before));
    assert_eq!(unconfirmed(&node), [2], "the command named the first piece alone");
    let rest = node.view.unconfirmed(("g", "t"), 0, all, handle.lease);
    node.act(renew(rest));
    assert_eq!(unconfirmed(&node), [0; 0]);
}

#[test]
fn a_plan_is_bounded_and_finds_messages_in_any_of_many_queues() {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    node.topic("wide", limits::QUEUES_PER_TOPIC);
    node.group("g", false, 3);
    node.send("wide", 4_000, "x", "", "");
    assert_eq!(places(&node.receive("g", "wide").leased), [(4_000, 0, 1)]);
    for page in 0..3 {
        let batch = (0..3_000)
            .map(|n| message("wide", 7, &format!("{page} {n}"), "no", ""))
            .collect();
        node.send_all("wide", batch).expect("sent");
    }
    node.send("wide", 7, "y", "yes", "");
    let mut receives = 0;
    loop {
        let received = node.receive_as("g", "wide", "", &Filter::tags(["yes"]));
        receives += 1;
        if !received.leased.granted.is_empty() {
            assert_eq!(places(&received.leased), [(7, 9_000, 1)]);
            break;
        }
        assert!(received.plan.more && !received.plan.ranges.is_empty());
    }
    assert_eq!(receives, 3, "4,096 are looked at in one plan");
}
