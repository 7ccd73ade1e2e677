//! A state copied to another replica: the whole of it, whatever is written meanwhile, and never half of it.

use super::harness::{BROKER_GROUP, Node};
use crate::state::effects::NoEffects;
use crate::state::identity::QueueOffset;
use crate::state::kv::Kv;
use crate::state::kv::memory::MemoryKv;
use crate::state::machine::{Settings, StateMachine};
use crate::state::outcome::Outcome;
use bytes::Bytes;
use ledgermq_raft_store::{Applied, EntryId, Export, Machine};
use std::sync::Arc;

fn node() -> Node {
    let mut node = Node::new(Arc::new(MemoryKv::new()));
    node.topic("t", 4);
    node.group("g", false, 3);
    for n in 0..40 {
        node.send("t", n % 4, &n.to_string(), "", "");
    }
    node.receive("g", "t");
    let members = b"members".to_vec().into();
    node.log.push(Vec::new());
    let id = EntryId::new(1, node.log.len() as u64 - 1);
    node.machine.apply_membership(id, members).expect("apply");
    node
}

/// All parts of an export.
fn parts(export: &dyn Export, bytes_max: usize) -> Vec<Bytes> {
    let (mut parts, mut from) = (Vec::new(), Bytes::new());
    loop {
        let part = export.read(&from, bytes_max).expect("part");
        parts.push(part.bytes);
        match part.next {
            Some(next) => from = next,
            None => return parts,
        }
    }
}

fn install(machine: &mut StateMachine, label: Applied, parts: &[Bytes]) {
    machine.install_begin().expect("begin");
    for part in parts {
        machine.install_part(part.clone()).expect("part");
    }
    machine.install_finish(label).expect("finish");
}

#[test]
fn a_view_is_the_state_of_its_moment() {
    let mut node = node();
    let applied = node.machine.applied().expect("applied");
    assert_eq!(&applied.membership[..], b"members");
    let export = node.machine.view().expect("view");
    assert_eq!(export.id(), applied.id);
    let digest = node.digest();
    node.send("t", 0, "later", "", "");
    let parts = parts(&*export, 100);
    assert!(parts.len() > 10, "{} parts", parts.len());
    let mut other = Node::new(Arc::new(MemoryKv::new()));
    other.topic("gone", 1);
    install(&mut other.machine, applied.clone(), &parts);
    assert!(other.machine.is_whole());
    assert_eq!(other.machine.applied(), Some(applied.clone()));
    assert_eq!(other.view.digest().expect("digest"), (Some(applied.id), digest));
    assert!(other.view.topic("gone").is_none());
    // It goes on from there like the other.
    other.log = node.log.clone();
    other.reopen(other.kv.clone());
    assert_eq!(other.digest(), node.digest());
}

#[test]
fn what_lies_between_label_and_export_changes_nothing() {
    let mut node = node();
    let applied = node.machine.applied().expect("applied");
    let parts = parts(&*node.machine.view().expect("view"), 1 << 20);
    let mut other = Node::new(Arc::new(MemoryKv::new()));
    let label = Applied {
        id: EntryId::new(1, 5),
        ..applied.clone()
    };
    install(&mut other.machine, label.clone(), &parts);
    assert_eq!(other.machine.applied(), Some(label));
    assert_eq!(
        other.machine.view().expect("view").id(),
        applied.id,
        "a copy of the copy is of the same entry"
    );
    other.reopen(other.kv.clone());
    for index in 6..=applied.id.index.0 {
        let outcomes = other
            .machine
            .apply(EntryId::new(1, index), &[(8, b"covered".to_vec().into())]);
        assert_eq!(outcomes.expect("apply"), [Outcome::Probed]);
    }
    assert_eq!(
        other.view.digest().expect("digest"),
        node.view.digest().expect("digest")
    );
    other.log = node.log.clone();
    for node in [&mut node, &mut other] {
        assert_eq!(node.send("t", 1, "next", "", "").offset, QueueOffset(10));
    }
    assert_eq!(other.digest(), node.digest());
}

#[test]
fn a_crash_in_an_installation_leaves_an_empty_state_that_says_so() {
    let mut node = node();
    let applied = node.machine.applied().expect("applied");
    let parts = parts(&*node.machine.view().expect("view"), 100);
    for (done, flush) in [
        (0, false),
        (1, true),
        (parts.len() / 2, true),
        (parts.len(), true),
        (7, false),
    ] {
        let kv = MemoryKv::new();
        let mut other = Node::new(Arc::new(kv.clone()));
        other.topic("gone", 1);
        other.view.flush().expect("flush");
        other.machine.install_begin().expect("begin");
        for part in &parts[..done] {
            other.machine.install_part(part.clone()).expect("part");
        }
        assert!(!other.machine.is_whole() && other.view.topic("gone").is_none());
        if flush {
            assert_eq!(other.view.flush().expect("flush"), None);
        }
        kv.crash();
        let open = || {
            StateMachine::open(
                Arc::new(kv.clone()),
                BROKER_GROUP,
                Settings::default(),
                Arc::new(NoEffects),
            )
        };
        let (mut machine, view) = open().expect("open");
        assert!(!machine.is_whole() && machine.applied().is_none() && view.topics().is_empty());
        assert!(machine.view().is_err() && machine.apply_blank(EntryId::new(1, 1)).is_err());
        assert!(
            machine.install_part(parts[0].clone()).is_err(),
            "from the beginning only"
        );
        install(&mut machine, applied.clone(), &parts);
        kv.crash();
        let (machine, view) = open().expect("open");
        assert!(machine.is_whole());
        assert_eq!(machine.applied(), Some(applied.clone()));
        assert_eq!(view.digest().expect("digest"), node.view.digest().expect("digest"));
    }
}

#[test]
fn an_export_that_is_not_whole_is_refused() {
    let mut node = node();
    let applied = node.machine.applied().expect("applied");
    let parts = parts(&*node.machine.view().expect("view"), 100);
    let kv: Arc<dyn Kv> = Arc::new(MemoryKv::new());
    let mut other = Node::new(kv);
    assert!(other.machine.install_finish(applied.clone()).is_err(), "never begun");
    other.machine.install_begin().expect("begin");
    for part in &parts[..parts.len() - 1] {
        other.machine.install_part(part.clone()).expect("part");
    }
    assert!(
        other.machine.install_finish(applied.clone()).is_err(),
        "the last part is missing"
    );
    assert!(!other.machine.is_whole());
    install(&mut other.machine, applied, &parts);
    assert_eq!(
        other.view.digest().expect("digest"),
        node.view.digest().expect("digest")
    );
}
