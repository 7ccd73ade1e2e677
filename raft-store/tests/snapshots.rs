//! Replicas whose log was cut: a follower that was away too long gets a snapshot, whatever interrupts it, and a restart
//! behind the cut goes on.

use std::time::Duration;

use bytes::Bytes;
use ledgermq_raft_store::{EntryId, LogIndex, ReadError, seeded};
use tokio::time::sleep;

mod harness;
use harness::{Group, address};

type Applied = Vec<(EntryId, u32, Bytes)>;

async fn write(group: &Group, count: usize, bytes: usize) {
    for number in 0..count {
        let command = format!("{number:04}{}", "x".repeat(bytes));
        group.propose(&command).await.expect("acknowledged");
    }
}

async fn applied(group: &Group, id: u64) -> LogIndex {
    group.handle(id).status().applied.expect("something is applied").index
}

/// Lets all that run go of the entries up to `upto` and waits until their logs have.
async fn release(group: &Group, upto: LogIndex) {
    for (id, _) in group.live() {
        group.replicas[&id].machine.release(upto);
    }
    for (id, handle) in group.live() {
        for _ in 0..2_000 {
            if handle.log().state().purged.is_some_and(|purged| purged.index >= upto) {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        let purged = handle.log().state().purged;
        assert_eq!(purged.map(|purged| purged.index), Some(upto), "replica {id}");
    }
}

/// One replica is away while the others write and forget; answers it and where the cut is.
async fn left_behind(group: &mut Group, bytes: usize) -> (u64, LogIndex) {
    group.birth().await;
    let leader = group.leader().await;
    write(group, 5, bytes).await;
    let away = group.replicas.keys().copied().find(|id| *id != leader).expect("three");
    group.kill(away).await;
    write(group, 30, bytes).await;
    // Not heard any more, so nothing is kept for it.
    sleep(Duration::from_secs(1)).await;
    let cut = LogIndex(applied(group, leader).await.get() - 8);
    release(group, cut).await;
    write(group, 3, bytes).await;
    (away, cut)
}

async fn ends_equal(group: &Group, away: u64, cut: LogIndex) -> Applied {
    let all = group.converged().await;
    assert_eq!(all.len(), 38, "all commands, each once");
    let handle = group.handle(away);
    assert_eq!(handle.log().state().purged.map(|purged| purged.index), Some(cut));
    for (id, slot, bytes) in &all {
        if id.index <= cut {
            assert!(matches!(handle.read(id.index), Err(ReadError::Purged(_))));
        } else {
            let body = handle.read(id.index).expect("is there");
            assert_eq!(&body.slice(*slot as usize..*slot as usize + bytes.len()), bytes);
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_follower_behind_the_cut_gets_a_snapshot_and_bodies_by_the_log() {
    seeded(1, async {
        let mut group = Group::new(3, 1);
        let (away, cut) = left_behind(&mut group, 100).await;
        group.start(away).await;
        let all = ends_equal(&group, away, cut).await;
        // It can be restarted, and so can all.
        for id in 1..=3 {
            group.kill(id).await;
        }
        for id in 1..=3 {
            group.start(id).await;
        }
        group.leader().await;
        assert_eq!(group.converged().await, all);
        write(&group, 1, 10).await;
        assert_eq!(group.converged().await.len(), all.len() + 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_transfer_survives_broken_connections() {
    for seed in 1..20 {
        seeded(seed, async {
            let mut group = Group::new(3, seed);
            // 38 x 64 KiB: about ten parts.
            let (away, cut) = left_behind(&mut group, 64 << 10).await;
            group.start(away).await;
            for round in 0..4 {
                sleep(Duration::from_millis(10 + (seed * 7 + round * 13) % 60)).await;
                group.wires.hiccup(&address(away));
            }
            ends_equal(&group, away, cut).await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_installation_survives_crashes_of_its_replica() {
    for seed in 1..40 {
        seeded(seed, async {
            let mut group = Group::new(3, seed);
            let (away, cut) = left_behind(&mut group, 64 << 10).await;
            for round in 0..4 {
                group.replicas[&away]
                    .disk
                    .sync_delay(Duration::ZERO..Duration::from_millis(3));
                group.start(away).await;
                sleep(Duration::from_millis(1 + (seed * 11 + round * 17) % 80)).await;
                group.kill(away).await;
            }
            group.start(away).await;
            ends_equal(&group, away, cut).await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_dies_while_it_sends() {
    for seed in 1..20 {
        seeded(seed, async {
            let mut group = Group::new(3, seed);
            let (away, cut) = left_behind(&mut group, 64 << 10).await;
            let leader = group.leader().await;
            group.start(away).await;
            sleep(Duration::from_millis(5 + (seed * 11) % 60)).await;
            group.kill(leader).await;
            sleep(Duration::from_millis(700)).await;
            group.start(leader).await;
            group.leader().await;
            ends_equal(&group, away, cut).await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_living_laggard_is_waited_for() {
    seeded(3, async {
        let mut group = Group::new(3, 3);
        group.birth().await;
        let leader = group.leader().await;
        write(&group, 10, 100).await;
        let slow = group.replicas.keys().copied().find(|id| *id != leader).expect("three");
        let before = group.converged().await.last().expect("some").0.index;
        // Its disk hangs: it is heard, and gets no further.
        group.replicas[&slow]
            .disk
            .sync_delay(Duration::from_secs(5)..Duration::from_secs(6));
        write(&group, 10, 100).await;
        let upto = applied(&group, leader).await;
        group.replicas[&leader].machine.release(upto);
        sleep(Duration::from_secs(2)).await;
        let purged = group.handle(leader).log().state().purged.map(|purged| purged.index);
        assert!(
            purged.is_none_or(|purged| purged <= before.plus(2)),
            "{purged:?} of {upto}"
        );
        group.replicas[&slow]
            .disk
            .sync_delay(Duration::ZERO..Duration::from_millis(1));
        sleep(Duration::from_secs(20)).await;
        let purged = group.handle(leader).log().state().purged.map(|purged| purged.index);
        assert_eq!(purged, Some(upto));
        group.converged().await;
    })
    .await;
}
