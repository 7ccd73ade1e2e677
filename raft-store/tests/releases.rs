//! What replicas tell each other of the programs they run, and who is not let in for it.

use std::time::Duration;

use ledgermq_raft_store::{MembershipError, Release, ReplicaId, seeded};

mod harness;
use harness::{Group, address, release};

/// What a replica knows of the members' programs, by number.
fn known(group: &Group, at: u64) -> Vec<Option<Release>> {
    let members = group.handle(at).status().members;
    members.into_iter().map(|member| member.release).collect()
}

async fn comes_to_know(group: &Group, at: u64, expected: &[Option<Release>]) {
    for _ in 0..1_000 {
        if known(group, at) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("replica {at} knows {:?}", known(group, at));
}

#[tokio::test(start_paused = true)]
async fn every_replica_knows_what_the_connected_ones_run() {
    seeded(90, async {
        let mut group = Group::new(3, 90);
        group.replicas.get_mut(&2).expect("is one").release = release(2);
        group.birth().await;
        let all = [release(1), release(2), release(1)].map(Some);
        for id in 1..=3 {
            comes_to_know(&group, id, &all).await;
        }
        // Away, it may come back as anything.
        group.kill(3).await;
        for id in 1..=2 {
            comes_to_know(&group, id, &[all[0].clone(), all[1].clone(), None]).await;
        }
        group.replicas.get_mut(&3).expect("is one").release = release(3);
        group.start(3).await;
        for id in 1..=3 {
            comes_to_know(&group, id, &[all[0].clone(), all[1].clone(), Some(release(3))]).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_supports_less_than_the_state_demands_is_not_let_in() {
    seeded(91, async {
        let mut group = Group::new(1, 91);
        group.replicas.get_mut(&1).expect("is one").release = release(2);
        group.birth().await;
        group.propose("before").await.expect("acknowledged");
        group.replicas[&1].machine.demand(2);
        group.adopt(Group::new(2, 92), 2);
        group.start(2).await;
        let handle = group.handle(1).clone();
        let new = || (ReplicaId(2), address(2), "replica-2:8081".to_owned());
        match handle.add_replica(new()).await {
            Err(MembershipError::Refused { id, reason, .. }) => {
                assert_eq!(id, ReplicaId(2));
                for named in ["version 1.0", "supports format level 1", "at level 2"] {
                    assert!(reason.contains(named), "{named} is not in {reason:?}");
                }
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(handle.members().len(), 1);
        // The same folder under the newer program.
        group.kill(2).await;
        group.replicas.get_mut(&2).expect("is one").release = release(2);
        group.start(2).await;
        handle.add_replica(new()).await.expect("added");
        comes_to_know(&group, 1, &[Some(release(2)), Some(release(2))]).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_membership_stays_while_it_is_held() {
    seeded(93, async {
        let mut group = Group::new(1, 93);
        group.birth().await;
        let _leader = group.leader().await;
        let handle = group.handle(1).clone();
        let hold = handle.hold_membership().expect("no change is under way");
        assert!(handle.hold_membership().is_none());
        let refused = handle.remove_replica(ReplicaId(7), false).await;
        assert_eq!(refused, Err(MembershipError::UnderWay));
        drop(hold);
        let refused = handle.remove_replica(ReplicaId(7), false).await;
        assert_eq!(refused, Err(MembershipError::NotMember(ReplicaId(7))));
    })
    .await;
}
