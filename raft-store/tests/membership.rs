//! Replicas that come and go: growth and shrinking under proposals and deaths, refusals, replacement, changed addresses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ledgermq_raft_store::disk::FaultyDisk;
use ledgermq_raft_store::{Handle, MembershipError, ProposeError, ReplicaId, seeded};
use tokio::task::JoinHandle;

mod harness;
use harness::{Group, Memory, address};

type Replica = (ReplicaId, String, String);

fn replica(id: u64) -> Replica {
    (ReplicaId(id), address(id), format!("replica-{id}:8081"))
}

/// Starts an empty replica that belongs to nobody yet.
async fn arrives(group: &mut Group, id: u64) {
    group.adopt(Group::new(id, 1_000 + id), id);
    group.start(id).await;
}

/// Asks whoever leads, again and again while the answer says that asking again helps.
async fn ask<T, A>(group: &Group, change: impl Fn(Handle<Memory>) -> A) -> Result<T, MembershipError>
where
    A: Future<Output = Result<T, MembershipError>>,
{
    let mut last = MembershipError::NotLeader { leader: None };
    for _ in 0..400 {
        let leader = group.leader().await;
        match change(group.handle(leader).clone()).await {
            Err(
                error @ (MembershipError::NotLeader { .. }
                | MembershipError::UnderWay
                | MembershipError::Unknown(_)
                | MembershipError::NoMajority { .. }
                | MembershipError::Behind { .. }),
            ) => last = error,
            other => return other,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(last)
}

async fn add(group: &Group, id: u64) {
    let added = ask(group, |leader| async move { leader.add_replica(replica(id)).await }).await;
    added.expect("added");
}

async fn promote(group: &Group, id: u64) {
    let promoted = ask(
        group,
        |leader| async move { leader.promote_replica(ReplicaId(id)).await },
    )
    .await;
    promoted.expect("promoted");
}

async fn remove(group: &Group, id: u64) -> Result<Option<String>, MembershipError> {
    let removed = ask(group, |leader| async move {
        leader.remove_replica(ReplicaId(id), false).await
    });
    match removed.await {
        // Asked again after an answer that was lost.
        Err(MembershipError::NotMember(_)) => Ok(None),
        other => other,
    }
}

async fn voters(group: &Group) -> BTreeSet<u64> {
    let members = group.handle(group.leader().await).members();
    let voters = members.into_iter().filter(|member| member.voter);
    voters.map(|member| member.id.get()).collect()
}

/// Proposes one command after the other until told to stop, and answers those that were acknowledged.
fn proposing(handles: Vec<Handle<Memory>>, name: String) -> (Arc<AtomicBool>, JoinHandle<BTreeSet<String>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let task = tokio::spawn(async move {
        let mut acknowledged = BTreeSet::new();
        for number in 0.. {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let command = format!("{name} {number}");
            for handle in &handles {
                match handle.propose(Bytes::from(command.clone())).await {
                    Ok(_) => {
                        acknowledged.insert(command);
                        break;
                    }
                    Err(ProposeError::NotLeader { .. } | ProposeError::Stopped(_) | ProposeError::Unknown(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        acknowledged
    });
    (stop, task)
}

fn handles(group: &Group) -> Vec<Handle<Memory>> {
    group.live().map(|(_, handle)| handle.clone()).collect()
}

/// Kills the leader in the middle of whatever is going on, and starts it again.
async fn a_leader_dies(group: &mut Group) {
    let leader = group.leader().await;
    group.kill(leader).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    group.start(leader).await;
}

#[tokio::test(start_paused = true)]
async fn grows_and_shrinks_under_proposals_and_deaths() {
    for seed in 60..64 {
        seeded(seed, async {
            let mut group = Group::new(1, seed);
            group.birth().await;
            let mut acknowledged = BTreeSet::new();
            for id in 2..=5 {
                arrives(&mut group, id).await;
            }
            for (step, id) in (2..=5).enumerate() {
                let (stop, proposer) = proposing(handles(&group), format!("grow {id}"));
                add(&group, id).await;
                if step > 1 {
                    a_leader_dies(&mut group).await;
                }
                promote(&group, id).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
                stop.store(true, Ordering::Relaxed);
                acknowledged.extend(proposer.await.expect("ends"));
                assert_eq!(voters(&group).await, (1..=id).collect(), "seed {seed}");
            }
            for round in 0..2 {
                let (stop, proposer) = proposing(handles(&group), format!("shrink {round}"));
                // The leader of the moment goes: it hands over first.
                let leaving = group.leader().await;
                remove(&group, leaving).await.expect("removed");
                if round == 0 {
                    a_leader_dies(&mut group).await;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
                stop.store(true, Ordering::Relaxed);
                acknowledged.extend(proposer.await.expect("ends"));
                assert!(!voters(&group).await.contains(&leaving), "seed {seed}");
                // It learns that it is no member, and leaves the others alone.
                let gone = group.handle(leaving).clone();
                let term = group.handle(group.leader().await).status().term;
                tokio::time::sleep(Duration::from_secs(5)).await;
                assert!(gone.status().removed, "seed {seed}: {:?}", gone.status());
                let now = group.handle(group.leader().await).status();
                assert_eq!(now.term, term, "seed {seed}: a removed replica disturbs nobody");
                drop(gone);
                group.kill(leaving).await;
            }
            assert_eq!(voters(&group).await.len(), 3, "seed {seed}");
            group.propose("the last").await.expect("acknowledged");
            let applied = group.converged().await;
            let texts: BTreeSet<String> = applied
                .iter()
                .map(|(_, _, bytes)| String::from_utf8_lossy(bytes).into_owned())
                .collect();
            assert!(acknowledged.len() > 50, "{}", acknowledged.len());
            assert!(acknowledged.is_subset(&texts), "seed {seed}: acknowledged and lost");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_learner_is_not_promoted_before_it_caught_up() {
    seeded(70, async {
        let mut group = Group::new(3, 70);
        group.birth().await;
        let leader = group.leader().await;
        for number in 0..200 {
            group.propose(&format!("{number}")).await.expect("acknowledged");
        }
        arrives(&mut group, 4).await;
        let handle = group.handle(leader).clone();
        handle.add_replica(replica(4)).await.expect("added");
        group.wires.freeze(&address(4), true);
        tokio::time::sleep(Duration::from_secs(1)).await;
        for number in 0..100 {
            group.propose(&format!("more {number}")).await.expect("acknowledged");
        }
        let refused = handle.promote_replica(ReplicaId(4)).await;
        assert!(matches!(refused, Err(MembershipError::Behind { .. })), "{refused:?}");
        assert_eq!(voters(&group).await, BTreeSet::from([1, 2, 3]));
        assert!(!handle.status().members[3].caught_up);
        group.wires.freeze(&address(4), false);
        promote(&group, 4).await;
        assert_eq!(voters(&group).await, BTreeSet::from([1, 2, 3, 4]));
        assert!(handle.status().members[3].caught_up);
        handle.promote_replica(ReplicaId(4)).await.expect("is one already");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn never_below_a_living_majority() {
    seeded(71, async {
        let mut group = Group::new(3, 71);
        group.birth().await;
        let leader = group.leader().await;
        let (dead, living) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        group.kill(dead).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let handle = group.handle(leader).clone();
        let refused = handle.remove_replica(ReplicaId(living), false).await;
        assert_eq!(
            refused,
            Err(MembershipError::WouldLoseMajority {
                id: ReplicaId(living),
                heard: 1,
                voters: 2
            })
        );
        group.propose("nothing happened").await.expect("acknowledged");
        // The dead one may go; of the two that are left, both are needed.
        assert_eq!(remove(&group, dead).await, Ok(None));
        assert_eq!(voters(&group).await, BTreeSet::from([leader, living]));
        group.propose("two").await.expect("acknowledged");
        assert_eq!(
            handle.remove_replica(ReplicaId(9), true).await,
            Err(MembershipError::NotMember(ReplicaId(9)))
        );
        assert_eq!(remove(&group, living).await, Ok(None));
        assert_eq!(
            handle.remove_replica(ReplicaId(leader), true).await,
            Err(MembershipError::LastVoter(ReplicaId(leader)))
        );
        group.propose("one").await.expect("acknowledged");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn force_warns_and_waits_for_the_majority() {
    seeded(72, async {
        let mut group = Group::new(3, 72);
        group.birth().await;
        let leader = group.leader().await;
        let (dead, living) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        group.kill(dead).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let handle = group.handle(leader).clone();
        let warned = handle.remove_replica(ReplicaId(living), true).await.expect("forced");
        assert!(warned.is_some_and(|warning| warning.contains("1 of the 2")));
        group.start(dead).await;
        assert_eq!(remove(&group, living).await, Ok(None));
        assert_eq!(voters(&group).await, BTreeSet::from([leader, dead]));
        group.propose("after").await.expect("acknowledged");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_wiped_replica_is_replaced_though_leaders_die() {
    for seed in 80..84 {
        seeded(seed, async {
            let mut group = Group::new(3, seed);
            group.birth().await;
            for number in 0..50 {
                group.propose(&format!("{number}")).await.expect("acknowledged");
            }
            let leader = group.leader().await;
            let lost = leader % 3 + 1;
            group.kill(lost).await;
            group.replicas.get_mut(&lost).expect("is one").disk = FaultyDisk::new(seed + 7);
            group.start(lost).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            // Its number belongs to the folder that is lost.
            let handle = group.handle(leader).clone();
            let wiped = handle.add_replica(replica(lost)).await;
            assert!(matches!(wiped, Err(MembershipError::Wiped { .. })), "{wiped:?}");
            let itself = handle.replace_replica(ReplicaId(lost), replica(lost)).await;
            assert!(matches!(itself, Err(MembershipError::Invalid(_))), "{itself:?}");
            drop(handle);
            group.kill(lost).await;
            arrives(&mut group, 4).await;
            // One attempt breaks off with the death of its leader, early or late.
            let handle = group.handle(leader).clone();
            let attempt = tokio::spawn(async move { handle.replace_replica(ReplicaId(lost), replica(4)).await });
            tokio::time::sleep(Duration::from_millis((seed - 80) * 15)).await;
            group.kill(leader).await;
            group.start(leader).await;
            let _broken_off = attempt.await.expect("ends");
            let replaced = ask(&group, |leader| async move {
                leader.replace_replica(ReplicaId(lost), replica(4)).await
            });
            replaced.await.expect("replaced");
            let expected: BTreeSet<u64> = (1..=4).filter(|id| *id != lost).collect();
            assert_eq!(voters(&group).await, expected, "seed {seed}");
            assert_eq!(group.handle(group.leader().await).members().len(), 3);
            let again = ask(&group, |leader| async move {
                leader.replace_replica(ReplicaId(lost), replica(4)).await
            });
            again.await.expect("is done already");
            group.propose("after").await.expect("acknowledged");
            assert_eq!(group.converged().await.len(), 51, "seed {seed}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_replica_is_replaced() {
    seeded(73, async {
        let mut group = Group::new(1, 73);
        group.birth().await;
        group.propose("before").await.expect("acknowledged");
        arrives(&mut group, 2).await;
        let replaced = ask(&group, |leader| async move {
            leader.replace_replica(ReplicaId(1), replica(2)).await
        });
        replaced.await.expect("replaced");
        assert_eq!(voters(&group).await, BTreeSet::from([2]));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(group.handle(1).status().removed);
        group.kill(1).await;
        group.propose("after").await.expect("acknowledged");
        assert_eq!(group.converged().await.len(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn addresses_change() {
    seeded(74, async {
        let mut group = Group::new(3, 74);
        group.birth().await;
        for (round, id) in [1, 2, 3].into_iter().enumerate() {
            let leader = group.leader().await;
            let moves = if round == 0 { leader } else { id };
            group.kill(moves).await;
            let new = format!("elsewhere-{moves}:{}", 9100 + round);
            group.moved.insert(moves, new.clone());
            group.start(moves).await;
            let mut watch = group.handle(moves % 3 + 1).members_watch();
            let to = (ReplicaId(moves), new.clone(), format!("elsewhere-{moves}:8081"));
            let moved = ask(&group, |leader| {
                let to = to.clone();
                async move { leader.set_replica_address(to).await }
            });
            moved.await.expect("set");
            group.propose(&format!("round {round}")).await.expect("acknowledged");
            assert_eq!(group.converged().await.len(), round + 1);
            let told = watch.wait_for(|members| members.iter().any(|member| member.peer_address == new));
            drop(told.await.expect("runs"));
            let members = group.handle(moves).members();
            assert!(members.iter().any(|member| member.peer_address == new));
        }
        let leader = group.leader().await;
        let (other, handle) = (leader % 3 + 1, group.handle(leader).clone());
        let nobody = (ReplicaId(other), "nobody:1".to_owned(), "nobody:2".to_owned());
        let refused = handle.set_replica_address(nobody).await;
        assert!(
            matches!(refused, Err(MembershipError::Unreachable { .. })),
            "{refused:?}"
        );
        let taken = (ReplicaId(other), group.at(leader), "free:2".to_owned());
        let refused = handle.set_replica_address(taken).await;
        assert!(matches!(refused, Err(MembershipError::Invalid(_))), "{refused:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn strangers_are_refused_and_one_change_is_made_at_a_time() {
    seeded(75, async {
        let mut group = Group::new(3, 75);
        group.birth().await;
        let leader = group.leader().await;
        let handle = group.handle(leader).clone();
        let follower = group.handle(leader % 3 + 1).clone();
        let asked = follower.add_replica(replica(4)).await;
        assert_eq!(
            asked,
            Err(MembershipError::NotLeader {
                leader: Some(ReplicaId(leader))
            })
        );
        let away = handle.add_replica(replica(4)).await;
        assert!(matches!(away, Err(MembershipError::Unreachable { .. })), "{away:?}");
        arrives(&mut group, 4).await;
        let other_number = (ReplicaId(5), address(4), "replica-5:8081".to_owned());
        let refused = handle.add_replica(other_number).await;
        assert!(matches!(refused, Err(MembershipError::Refused { .. })), "{refused:?}");
        let (first, second) = tokio::join!(handle.add_replica(replica(4)), handle.promote_replica(ReplicaId(4)));
        assert_eq!((first, second), (Ok(()), Err(MembershipError::UnderWay)));
        let elsewhere = (ReplicaId(4), address(4), "elsewhere:1".to_owned());
        let refused = handle.add_replica(elsewhere).await;
        assert!(matches!(refused, Err(MembershipError::Member { .. })), "{refused:?}");
        handle.add_replica(replica(4)).await.expect("is one already");
        // Removed, its folder is not empty any more.
        assert_eq!(handle.remove_replica(ReplicaId(4), false).await, Ok(None));
        let refused = handle.add_replica(replica(4)).await;
        assert!(matches!(refused, Err(MembershipError::Refused { .. })), "{refused:?}");
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(group.handle(4).status().removed);
    })
    .await;
}

/// A leader dies between the two halves of a change: the next one ends it, and nobody asks again.
#[tokio::test(start_paused = true)]
async fn the_next_leader_ends_a_joint_membership() {
    seeded(71, async {
        let mut group = Group::new(3, 71);
        group.birth().await;
        arrives(&mut group, 4).await;
        add(&group, 4).await;
        let leader = group.leader().await;
        for id in 1..=4 {
            let delay = Duration::from_millis(20)..Duration::from_millis(21);
            group.replicas[&id].disk.sync_delay(delay);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let promoting = {
            let leader = group.handle(leader).clone();
            tokio::spawn(async move { leader.promote_replica(ReplicaId(4)).await })
        };
        let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
        let joint = |group: &Group, id: &u64| group.handle(*id).status().membership.joint;
        for _ in 0..1_000 {
            if others.iter().all(|id| joint(&group, id)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(others.iter().all(|id| joint(&group, id)), "half done on both");
        group.kill(leader).await;
        promoting.abort();
        for _ in 0..500 {
            let leads = group.leader().await;
            if !joint(&group, &leads) {
                assert_eq!(voters(&group).await, BTreeSet::from([1, 2, 3, 4]));
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the membership is still joint");
    })
    .await;
}
