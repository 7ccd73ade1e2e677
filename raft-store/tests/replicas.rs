//! Three replicas in one process: birth, writes, death of the leader, restart.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use ledgermq_raft_store::{BootstrapError, ProposeError, ReadError, ReplicaId, seeded};

use tokio::time::Instant;

mod harness;
use harness::{Group, address};

fn texts(applied: &[(ledgermq_raft_store::EntryId, u32, Bytes)]) -> Vec<String> {
    applied
        .iter()
        .map(|(_, _, bytes)| String::from_utf8_lossy(bytes).into_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn writes_survive_the_death_of_the_leader_and_of_all() {
    seeded(1, async {
        let mut group = Group::new(3, 1);
        group.birth().await;
        let leader = group.leader().await;
        let mut acknowledged = BTreeSet::new();
        for number in 0..20 {
            let command = format!("before {number}");
            group.propose(&command).await.expect("acknowledged");
            acknowledged.insert(command);
        }
        let term = group.handle(leader).status().term;
        group.kill(leader).await;
        let next = group.leader().await;
        assert_ne!(next, leader);
        let status = group.handle(next).status();
        assert_eq!(status.term.get(), term.get() + 1, "one election was enough");
        for number in 0..20 {
            let command = format!("after {number}");
            group.propose(&command).await.expect("acknowledged");
            acknowledged.insert(command);
        }
        group.start(leader).await;
        let applied = group.converged().await;
        assert_eq!(texts(&applied).into_iter().collect::<BTreeSet<_>>(), acknowledged);

        let handle = group.handle(leader);
        let (id, slot, bytes) = applied.last().expect("some").clone();
        let body = handle.read(id.index).expect("is applied");
        assert_eq!(body.slice(slot as usize..slot as usize + bytes.len()), bytes);
        assert!(matches!(handle.read(id.index.plus(9)), Err(ReadError::NotApplied(_))));

        for id in 1..=3 {
            group.kill(id).await;
        }
        let killed = Instant::now();
        for id in 1..=3 {
            group.start(id).await;
        }
        group.leader().await;
        assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
        // Who follows the members is told those that the replica found in its folder: no membership changes any more.
        for (id, handle) in group.live() {
            let mut members = handle.members_watch();
            let all = members.wait_for(|members| members.len() == 3);
            let all = tokio::time::timeout(Duration::from_secs(5), all).await;
            assert!(all.is_ok(), "replica {id} told no members");
        }
        group.propose("the last").await.expect("acknowledged");
        acknowledged.insert("the last".to_owned());
        let applied = group.converged().await;
        assert_eq!(texts(&applied).into_iter().collect::<BTreeSet<_>>(), acknowledged);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn commands_are_coalesced() {
    seeded(2, async {
        let mut group = Group::new(3, 2);
        group.birth().await;
        let leader = group.handle(group.leader().await).clone();
        let proposals = (0..500).map(|number| {
            let leader = leader.clone();
            async move { leader.propose(Bytes::from(format!("{number}"))).await }
        });
        let results = futures::future::join_all(proposals).await;
        let ids: BTreeSet<_> = results
            .into_iter()
            .map(|result| result.expect("acknowledged").id)
            .collect();
        assert!(ids.len() < 50, "500 commands took {} entries", ids.len());
        assert_eq!(group.converged().await.len(), 500);
        let too_large = Bytes::from(vec![0; (64 << 20) + 1]);
        assert!(matches!(
            leader.propose(too_large).await,
            Err(ProposeError::TooLarge { .. })
        ));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn leadership_moves_on_request() {
    seeded(3, async {
        let mut group = Group::new(3, 3);
        group.birth().await;
        let leader = group.leader().await;
        let to = leader % 3 + 1;
        group
            .handle(leader)
            .transfer_leader(ReplicaId(to))
            .await
            .expect("moves");
        assert_eq!(group.leader().await, to);
        group.propose("after the transfer").await.expect("acknowledged");
        assert!(matches!(
            group.handle(leader).propose(Bytes::from("no")).await,
            Err(ProposeError::NotLeader { .. })
        ));
        let barrier = group.handle(to).read_barrier().await.expect("confirmed");
        assert!(
            group
                .handle(to)
                .status()
                .applied
                .is_some_and(|applied| applied.index >= barrier)
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn birth_happens_once() {
    seeded(4, async {
        let mut group = Group::new(3, 4);
        let cluster_id = group.birth().await;
        let leader = group.leader().await;
        group.propose("born").await.expect("acknowledged");
        group.converged().await;
        let members: Vec<_> = (1..=3).map(|id| (ReplicaId(id), address(id), address(id))).collect();
        for id in 1..=3 {
            let again = group.handle(id).bootstrap(members.clone()).await;
            assert_eq!(again, Err(BootstrapError::AlreadyBootstrapped));
            let status = group.handle(id).status();
            assert_eq!(status.cluster_id.as_deref(), Some(cluster_id.as_str()));
            assert_eq!(status.members.len(), 3);
            assert!(
                status
                    .members
                    .iter()
                    .all(|member| member.voter && member.heard_ms_ago.is_some_and(|ms| ms < 400))
            );
        }
        // A wiped folder with the old number is somebody else.
        let wiped = leader % 3 + 1;
        group.kill(wiped).await;
        group.replicas.get_mut(&wiped).expect("is one").disk = ledgermq_raft_store::disk::FaultyDisk::new(99);
        group.start(wiped).await;
        group.propose("without the wiped one").await.expect("acknowledged");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(group.handle(wiped).status().applied, None);
        assert_eq!(group.leader().await, leader);
    })
    .await;
}

/// Found by `ledgermq doctor`: nobody was told of the membership that a restarted replica read from its log.
#[tokio::test(start_paused = true)]
async fn a_restarted_replica_tells_its_members() {
    seeded(6, async {
        let mut group = Group::new(3, 6);
        group.birth().await;
        group.leader().await;
        for id in 1..=3 {
            group.kill(id).await;
            group.start(id).await;
            let mut members = group.handle(id).members_watch();
            let told = members.wait_for(|members| members.len() == 3);
            let told = tokio::time::timeout(Duration::from_secs(10), told).await;
            drop(told.expect("told in time").expect("runs"));
            group.leader().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_stops_the_leader_and_another_takes_over() {
    seeded(5, async {
        let mut group = Group::new(3, 5);
        group.birth().await;
        let leader = group.leader().await;
        group.propose("before").await.expect("acknowledged");
        group.replicas[&leader].disk.fail_next_sync();
        let doomed = group.handle(leader).clone();
        // Committed by the other two, or not at all: the leader can't tell.
        let answer = doomed.propose(Bytes::from("doubtful")).await;
        assert!(
            matches!(answer, Err(ProposeError::Unknown(_) | ProposeError::Stopped(_))),
            "{answer:?}"
        );
        let mut role = group.handle(leader % 3 + 1).role();
        // The answer holds a lock on the role, so it is dropped at once.
        drop(
            role.wait_for(|role| role.leader.is_some_and(|id| id.get() != leader))
                .await
                .expect("runs"),
        );
        assert!(doomed.status().poisoned.is_some());
        assert!(matches!(
            doomed.propose(Bytes::from("no")).await,
            Err(ProposeError::Stopped(_))
        ));
        drop(doomed);
        group.kill(leader).await;
        group.propose("after").await.expect("acknowledged");
        group.start(leader).await;
        let applied = texts(&group.converged().await);
        assert!(
            applied.contains(&"before".to_owned()) && applied.contains(&"after".to_owned()),
            "{applied:?}"
        );
    })
    .await;
}

/// What can be seen from outside, with its time, through two deaths.
fn trace(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .expect("builds");
    runtime.block_on(seeded(seed, async move {
        let start = Instant::now();
        let mut seen = Vec::new();
        let mut group = Group::new(3, seed);
        group.birth().await;
        for round in 0..2 {
            for number in 0..10 {
                let proposed = group.propose(&format!("{round} {number}")).await;
                seen.push(format!("{:?} {proposed:?}", start.elapsed()));
            }
            let leader = group.leader().await;
            group.kill(leader).await;
            let next = group.leader().await;
            seen.push(format!(
                "{:?} {next} {:?}",
                start.elapsed(),
                group.handle(next).status()
            ));
            group.start(leader).await;
            group.converged().await;
        }
        seen.push(format!("{:?} {:?}", start.elapsed(), group.converged().await));
        seen
    }))
}

#[test]
fn the_same_seed_twice_is_the_same_run() {
    for seed in 50..53 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_again_knows_its_members() {
    seeded(6, async {
        let mut group = Group::new(3, 6);
        group.birth().await;
        group.leader().await;
        for id in 1..=3 {
            group.kill(id).await;
        }
        for id in 1..=3 {
            group.start(id).await;
        }
        group.leader().await;
        for (id, handle) in group.live() {
            let mut watch = handle.members_watch();
            let told = watch.wait_for(|members| !members.is_empty());
            let told = tokio::time::timeout(Duration::from_secs(5), told).await;
            let members = told
                .unwrap_or_else(|_| panic!("replica {id} tells no members"))
                .expect("lives");
            assert_eq!(*members, handle.members());
        }
    })
    .await;
}
