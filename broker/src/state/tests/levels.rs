//! Rules of the format level: how it rises, what a replica that supports less does, and what each level reads.

use super::harness::{BROKER_GROUP, Node};
use crate::state::command::Action;
use crate::state::effects::NoEffects;
use crate::state::kv::memory::MemoryKv;
use crate::state::kv::{Batch, Change, Family, Kv, KvView};
use crate::state::level::{FORMAT_LEVEL, PACKED_RECENT, VERSION};
use crate::state::machine::{OpenError, Settings, StateMachine};
use crate::state::outcome::Outcome;
use bytes::Bytes;
use ledgermq_raft_store::{Applied, EntryId, Machine};
use std::sync::Arc;

fn settings(format_level_max: u32) -> Settings {
    Settings {
        format_level_max,
        ..Settings::default()
    }
}

fn raise(node: &mut Node, to: u32) -> u32 {
    match node.act(Action::RaiseFormatLevel { to }) {
        Outcome::FormatLevel { level } => level,
        outcome => panic!("{outcome:?}"),
    }
}

/// The versions of the pairs that remember what was sent.
fn recent_versions(node: &Node) -> Vec<u8> {
    let pairs = node.kv.scan(Family::Recent, &[], &[], 100).expect("scan");
    pairs.iter().map(|(_, value)| value[0]).collect()
}

#[test]
fn it_begins_at_one_rises_by_command_and_never_falls() {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    let watch = node.view.format_level_watch();
    assert_eq!(node.view.format_level(), 1);
    for (to, level) in [(1, 1), (2, 2), (1, 2), (0, 2), (2, 2)] {
        assert_eq!(raise(&mut node, to), level, "to {to}");
        assert_eq!((node.view.format_level(), *watch.borrow()), (level, level));
    }
    node.reopen(node.kv.clone());
    assert_eq!(node.view.format_level(), 2);
    node.reopen(Arc::new(MemoryKv::new()));
    assert_eq!(node.view.format_level(), 2, "replayed");
}

#[test]
fn what_an_older_level_wrote_is_read() {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    node.topic("t", 2);
    let first = node.send("t", 0, "a", "", "");
    assert_eq!(raise(&mut node, PACKED_RECENT), PACKED_RECENT);
    let second = node.send("t", 1, "b", "", "");
    assert_eq!(recent_versions(&node), [1, 1, 2]);
    for _ in 0..2 {
        for (queue_id, id, sent) in [(0, "a", first), (1, "b", second)] {
            let again = node.send("t", queue_id, id, "", "");
            assert!(again.duplicate && again.offset == sent.offset);
        }
        node.reopen(node.kv.clone());
    }
}

#[test]
fn an_entry_that_demands_more_stops_the_replica_and_names_what_it_demands() {
    for (max, to) in [(1, 2), (FORMAT_LEVEL, FORMAT_LEVEL + 1)] {
        let mut node = Node::with(Arc::new(MemoryKv::new()), settings(max));
        let command = node.command(Action::RaiseFormatLevel { to }).encode();
        let error = node
            .machine
            .apply(EntryId::new(1, 1), &[(8, command)])
            .expect_err("stops");
        for named in [
            format!("to {to}"),
            format!("supports {max}"),
            VERSION.to_string(),
            "entry".to_string(),
        ] {
            assert!(error.reason.contains(&named), "{named} is not in {:?}", error.reason);
        }
        let later = node
            .machine
            .apply_blank(EntryId::new(1, 1))
            .expect_err("nothing follows");
        assert!(later.reason.contains(&error.reason));
        assert_eq!(node.view.format_level(), 1);
    }
}

#[test]
fn an_unknown_command_stops_the_replica_with_its_name() {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    let mut command = node.command(Action::Probe).encode().to_vec();
    command[1] = 200;
    let error = node
        .machine
        .apply(EntryId::new(1, 1), &[(8, Bytes::from(command))])
        .expect_err("stops");
    for named in ["kind 200", "command 0", VERSION] {
        assert!(error.reason.contains(named), "{named} is not in {:?}", error.reason);
    }
}

#[test]
fn a_state_of_a_later_level_is_not_opened() {
    let kv = Arc::new(MemoryKv::new());
    let mut node = Node::new(kv.clone());
    assert_eq!(raise(&mut node, 2), 2);
    // What a later level wrote is not looked at.
    let unread = Change::Put(Family::Recent, vec![1; 8], vec![u8::MAX]);
    let with_unread = Arc::new(MemoryKv::new());
    for family in Family::ALL {
        let pairs = kv.scan(family, &[], &[], usize::MAX).expect("scan").into_iter();
        let changes = pairs.map(|(key, value)| Change::Put(family, key, value)).collect();
        with_unread.write(Batch { changes }).expect("write");
    }
    let changes = vec![unread];
    with_unread.write(Batch { changes }).expect("write");
    let opened = StateMachine::open(with_unread, BROKER_GROUP, settings(1), Arc::new(NoEffects));
    let refused = opened.map(|_| ()).expect_err("refused");
    assert_eq!(refused, OpenError::FormatLevel { found: 2, max: 1 });

    let open = |max| StateMachine::open(kv.clone(), BROKER_GROUP, settings(max), Arc::new(NoEffects));
    let refused = open(1).map(|_| ()).expect_err("refused");
    assert_eq!(refused, OpenError::FormatLevel { found: 2, max: 1 });
    assert!(refused.to_string().contains("level 2") && refused.to_string().contains(VERSION));
    let (machine, view) = open(2).expect("opens");
    assert_eq!((view.format_level(), *machine.level().borrow()), (2, 2));
}

#[test]
fn an_export_carries_its_level_and_is_refused_by_who_supports_less() {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    node.topic("t", 2);
    node.send("t", 0, "a", "", "");
    assert_eq!(raise(&mut node, 2), 2);
    let label: Applied = node.machine.applied().expect("applied");
    let export = node.machine.view().expect("view");
    let part = export.read(&[], 1 << 20).expect("part").bytes;
    let install = |kv: &MemoryKv, max: u32| {
        let opened = StateMachine::open(Arc::new(kv.clone()), BROKER_GROUP, settings(max), Arc::new(NoEffects));
        let (mut machine, view) = opened.expect("open");
        machine.install_begin().expect("begin");
        machine.install_part(part.clone())?;
        machine.install_finish(label.clone())?;
        Ok::<_, ledgermq_raft_store::MachineError>((machine, view))
    };
    let kv = MemoryKv::new();
    let refused = install(&kv, 1).map(|_| ()).expect_err("refused");
    assert!(refused.reason.contains("level 2") && refused.reason.contains("supports 1"));
    let (machine, view) = install(&kv, 2).expect("a newer release goes on");
    assert_eq!((view.format_level(), *machine.level().borrow()), (2, 2));
    assert_eq!(view.digest().expect("digest"), node.view.digest().expect("digest"));
}
