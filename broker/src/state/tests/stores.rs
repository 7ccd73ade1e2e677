//! Both stores end in the same state from the same commands, and both come back from a crash to it.

use super::harness::{Node, message};
use crate::state::kv::Kv;
use crate::state::kv::memory::MemoryKv;
use crate::state::kv::rocks::{RocksKv, RocksSettings};
use ledgermq_raft_store::{LogIndex, Machine};
use std::path::Path;
use std::sync::Arc;

fn rocks(path: &Path) -> Arc<dyn Kv> {
    Arc::new(
        RocksKv::open(
            path,
            RocksSettings {
                compact: false,
                ..RocksSettings::default()
            },
        )
        .expect("open"),
    )
}

/// Some of everything, with a flush on the way.
fn work(node: &mut Node) {
    node.topic("t", 4);
    node.group("g", false, 2);
    node.group("f", true, 2);
    for round in 0..60u32 {
        let batch = (0..5).map(|n| {
            let id = format!("{round} {n}");
            message(
                "t",
                (round + n) % 4,
                &id,
                ["a", "b"][(n % 2) as usize],
                ["", "x", "y"][(round % 3) as usize],
            )
        });
        node.send_all("t", batch.collect()).expect("sent");
        for group in ["g", "f"] {
            let leased = node.receive(group, "t").leased;
            for granted in leased.granted.iter().step_by(2) {
                let handle = node.handle("t", granted);
                node.ack(group, "t", &handle);
            }
            if let Some(granted) = leased.granted.get(1) {
                let handle = node.handle("t", granted);
                node.change(group, "t", &handle, 3_000, round % 2 == 0);
            }
        }
        node.now_ms += 2_500;
        if round == 30 {
            node.view.flush().expect("flush");
        }
        if round % 12 == 9 {
            let upto = LogIndex(node.last().get() - 60);
            while let Some(command) = node.carry_over(upto) {
                node.propose(&command);
            }
            assert_eq!(node.cut(upto), Ok(upto));
        }
    }
}

#[test]
fn rocksdb_and_memory_agree_and_replay_to_the_same_state() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("kv");
    let memory = MemoryKv::new();
    let mut in_memory = Node::new(Arc::new(memory.clone()));
    let mut on_disk = Node::new(rocks(&path));
    work(&mut in_memory);
    work(&mut on_disk);
    let digest = in_memory.digest();
    assert_eq!(on_disk.digest(), digest);
    assert!(in_memory.view.topic("%DLQ%g").is_some() && in_memory.view.topic("%DLQ%f").is_some());

    // Each takes the other's state over.
    let disk = on_disk.kv.clone();
    let half = LogIndex(on_disk.last().get() / 2);
    on_disk.install_into(Arc::new(MemoryKv::new()), 4_000, half);
    assert_eq!(on_disk.digest(), digest);
    in_memory.install_into(rocks(&folder.path().join("copy")), 4_000, half);
    assert_eq!(in_memory.digest(), digest);
    in_memory.reopen(Arc::new(memory.clone()));
    on_disk.reopen(disk);

    memory.crash();
    in_memory.reopen(Arc::new(memory));
    assert_eq!(in_memory.digest(), digest);

    // Every handle must be gone before the folder can be opened again.
    let empty: Arc<dyn Kv> = Arc::new(MemoryKv::new());
    let (log, settings) = (on_disk.log.clone(), on_disk.settings);
    drop(on_disk);
    let mut reopened = Node::with(empty, settings);
    let (machine, view) = crate::state::machine::StateMachine::open(
        rocks(&path),
        super::harness::BROKER_GROUP,
        settings,
        Arc::new(crate::state::effects::NoEffects),
    )
    .expect("open");
    let applied = machine.applied().expect("flushed once").id.index.0;
    assert!(applied > 100 && applied + 1 < log.len() as u64, "{applied}");
    drop((machine, view));
    reopened.log = log;
    reopened.reopen(rocks(&path));
    assert_eq!(reopened.digest(), digest);
}
