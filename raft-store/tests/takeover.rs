//! Agreed takeover: a leader that is gone is replaced at once, one that is not stays.

use std::time::Duration;

use ledgermq_raft_store::seeded;
use tokio::time::Instant;

mod harness;
use harness::{Group, address};

/// What is certain in every run: far below the election timeout of 400 to 700 ms after a lease of 700 ms.
const AT_ONCE: Duration = Duration::from_millis(200);

fn takeovers(group: &Group) -> u64 {
    group.live().map(|(_, handle)| handle.status().takeovers).sum()
}

/// A group with a leader, some entries, and presence streams that have been up for a while.
async fn settled(seed: u64) -> (Group, u64, u64) {
    let mut group = Group::new(3, seed);
    group.birth().await;
    let leader = group.leader().await;
    for number in 0..5 {
        group.propose(&format!("{number}")).await.expect("acknowledged");
    }
    group.converged().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let term = group.handle(leader).status().term.get();
    (group, leader, term)
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_at_once_in_one_term() {
    for seed in 10..20 {
        seeded(seed, async {
            let (mut group, leader, term) = settled(seed).await;
            group.wires.unplug(&address(leader));
            let killed = Instant::now();
            let survivor = group
                .live()
                .map(|(id, _)| id)
                .find(|id| *id != leader)
                .expect("two survive");
            let mut role = group.handle(survivor).role();
            let elected = role
                .wait_for(|role| role.leader.is_some_and(|id| id.get() != leader))
                .await;
            let elected = elected.expect("runs").leader.expect("has one").get();
            assert!(killed.elapsed() < AT_ONCE, "seed {seed}: {:?}", killed.elapsed());
            group.kill(leader).await;
            assert_eq!(group.leader().await, elected);
            assert_eq!(group.handle(elected).status().term.get(), term + 1, "seed {seed}");
            assert_eq!(takeovers(&group), 1, "seed {seed}");
            group.propose("after").await.expect("acknowledged");
            assert_eq!(group.converged().await.len(), 6);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_leader_is_replaced_after_its_silence() {
    for seed in 20..25 {
        seeded(seed, async {
            let (group, leader, term) = settled(seed).await;
            group.wires.freeze(&address(leader), true);
            let frozen = Instant::now();
            let survivor = group
                .live()
                .map(|(id, _)| id)
                .find(|id| *id != leader)
                .expect("two survive");
            let mut role = group.handle(survivor).role();
            let elected = role
                .wait_for(|role| role.leader.is_some_and(|id| id.get() != leader))
                .await;
            let elected = elected.expect("runs").leader.expect("has one").get();
            let silence = Duration::from_millis(250);
            assert!(frozen.elapsed() > silence / 2, "seed {seed}: {:?}", frozen.elapsed());
            assert!(
                frozen.elapsed() < silence + AT_ONCE,
                "seed {seed}: {:?}",
                frozen.elapsed()
            );
            assert_eq!(group.handle(elected).status().term.get(), term + 1, "seed {seed}");
            group.wires.freeze(&address(leader), false);
            tokio::time::sleep(Duration::from_secs(3)).await;
            group.propose("after").await.expect("acknowledged");
            assert_eq!(group.converged().await.len(), 6);
            assert_eq!(
                group.leader().await,
                elected,
                "the old leader does not disturb the new one"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_false_alarm_leaves_the_term_alone() {
    for seed in 30..35 {
        seeded(seed, async {
            let (group, leader, term) = settled(seed).await;
            for round in 0..4 {
                let follower = (leader + round % 2) % 3 + 1;
                group.wires.hiccup(&address(follower));
                tokio::time::sleep(Duration::from_secs(1)).await;
                group.wires.freeze(&address(follower), true);
                tokio::time::sleep(Duration::from_millis(400)).await;
                group.wires.freeze(&address(follower), false);
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            assert_eq!(group.leader().await, leader, "seed {seed}");
            assert_eq!(takeovers(&group), 0, "seed {seed}");
            for (_, handle) in group.live() {
                assert_eq!(handle.status().term.get(), term, "seed {seed}");
            }
            group.propose("after").await.expect("acknowledged");
            assert_eq!(group.converged().await.len(), 6);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_lost_all_connections_for_a_moment_loses_nothing() {
    for seed in 40..45 {
        seeded(seed, async {
            let (group, leader, term) = settled(seed).await;
            group.wires.hiccup(&address(leader));
            tokio::time::sleep(Duration::from_secs(2)).await;
            let now = group.leader().await;
            let status = group.handle(now).status();
            assert!(status.term.get() <= term + 2, "seed {seed}: {status:?}");
            group.propose("after").await.expect("acknowledged");
            assert_eq!(group.converged().await.len(), 6);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_disk_fails_is_replaced_at_once() {
    for seed in 45..50 {
        seeded(seed, async {
            let (group, leader, term) = settled(seed).await;
            group.replicas[&leader].disk.fail_next_sync();
            let failed = Instant::now();
            let lost = group.handle(leader).propose("lost or not".into()).await;
            assert!(lost.is_err(), "seed {seed}: {lost:?}");
            let survivor = (1..=3).find(|id| *id != leader).expect("two survive");
            let mut role = group.handle(survivor).role();
            let elected = role.wait_for(|role| role.leader.is_some_and(|id| id.get() != leader));
            let elected = elected.await.expect("runs").leader.expect("has one").get();
            assert!(failed.elapsed() < AT_ONCE, "seed {seed}: {:?}", failed.elapsed());
            assert!(group.handle(leader).has_stopped());
            assert_eq!(group.leader().await, elected, "seed {seed}");
            assert_eq!(group.handle(elected).status().term.get(), term + 1, "seed {seed}");
            let next = group.handle(elected).propose("after".into()).await;
            next.expect("acknowledged by two good disks");
        })
        .await;
    }
}

/// From now on each sync of these replicas' disks takes so long.
fn stall(group: &Group, ids: impl IntoIterator<Item = u64>, delay: Duration) {
    for id in ids {
        let longer = delay + Duration::from_millis(1);
        group.replicas[&id].disk.sync_delay(delay..longer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_own_disk_stalls_hands_over() {
    for seed in 50..55 {
        seeded(seed, async {
            let (group, leader, term) = settled(seed).await;
            stall(&group, [leader], Duration::from_secs(4));
            let stalled = Instant::now();
            // Held by the old leader; its caller would ask again.
            let held = group.handle(leader).clone();
            let held = tokio::spawn(async move { held.propose("held".into()).await });
            let survivor = (1..=3).find(|id| *id != leader).expect("two have good disks");
            let mut role = group.handle(survivor).role();
            let elected = role.wait_for(|role| role.leader.is_some_and(|id| id.get() != leader));
            let elected = elected.await.expect("runs").leader.expect("has one").get();
            assert!(
                stalled.elapsed() < Duration::from_millis(500) + AT_ONCE,
                "seed {seed}: {:?}",
                stalled.elapsed()
            );
            assert_eq!(group.leader().await, elected, "the old one serves nobody");
            let next = group.handle(elected).propose("after".into()).await;
            next.expect("acknowledged by two good disks");
            assert!(
                stalled.elapsed() < Duration::from_secs(1),
                "seed {seed}: {:?}",
                stalled.elapsed()
            );
            // Once, although it is still stalling.
            tokio::time::sleep(Duration::from_secs(6)).await;
            stall(&group, [leader], Duration::ZERO);
            assert_eq!(group.leader().await, elected, "seed {seed}");
            assert_eq!(group.handle(elected).status().term.get(), term + 1, "seed {seed}");
            let _known_or_not = held.await.expect("no panic");
            assert!(group.converged().await.iter().any(|(_, _, command)| command == "held"));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_disks_stall_nobody_hands_over() {
    seeded(56, async {
        let (group, leader, term) = settled(56).await;
        stall(&group, 1..=3, Duration::from_secs(2));
        let held = group.handle(leader).propose("held".into()).await;
        held.expect("acknowledged in the end");
        stall(&group, 1..=3, Duration::ZERO);
        assert_eq!(group.leader().await, leader);
        assert_eq!(group.handle(leader).status().term.get(), term);
    })
    .await;
}
