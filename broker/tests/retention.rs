//! The retention with real segments: old messages are forgotten on every replica, and all of them hold the same.

#![allow(missing_docs)]

#[allow(dead_code)] // each test program uses a part of it
mod cluster;

use std::sync::Arc;
use std::time::Duration;

use cluster::{Cluster, message, system};
use ledgermq_proto::admin::admin_client::AdminClient;
use ledgermq_proto::admin::{ProposeDigestRequest, ReadDigestRequest};
use ledgermq_proto::net::{ChannelOptions, TcpNet, channel};
use ledgermq_proto::rocketmq::Code;
use ledgermq_raft_store::{MembershipError, ReplicaId};

const GROUP: &str = "broker-a";

async fn digests(cluster: &Cluster) -> Vec<String> {
    let admin = |id: &u64| {
        let address = &cluster.replicas[id].broker.addresses().client;
        AdminClient::new(channel(Arc::new(TcpNet), address, ChannelOptions::default()))
    };
    let propose = ProposeDigestRequest {
        broker_group: GROUP.to_owned(),
    };
    let proposed = admin(&1).propose_digest(propose).await.expect("proposed");
    let index = proposed.into_inner().index;
    let mut digests = Vec::new();
    for id in cluster.replicas.keys() {
        let digest = loop {
            let request = ReadDigestRequest {
                broker_group: GROUP.to_owned(),
                index,
            };
            let answer = admin(id).read_digest(request).await.expect("answered").into_inner();
            assert_eq!(answer.replica, *id);
            if let Some(digest) = answer.digest {
                break digest;
            }
        };
        digests.push(digest);
    }
    digests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_is_forgotten_everywhere() {
    let cluster = Cluster::with(3, |raw| {
        raw.segment_bytes = 1 << 20;
        raw.retention_bytes = 2 << 20;
        raw.default_queues = 1;
    })
    .await;
    let mut client = cluster.client(1);
    let body = "x".repeat(100_000);
    for n in 0..80 {
        assert_eq!(client.send(message("t", &n.to_string(), &body)).await, Code::Ok);
    }
    for running in cluster.replicas.values() {
        let view = running.broker.view();
        let forgotten = async {
            // Released: the cut is in the durable state as well.
            while view.released().get() == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), forgotten)
            .await
            .expect("cut in time");
        let bounds = view.queue_bounds("t").expect("the topic")[0];
        // About two segments and the newest stay.
        assert!(
            (40..70).contains(&bounds.first.get()) && bounds.end.get() == 80,
            "{bounds:?}"
        );
    }
    let first = cluster.replicas[&1].broker.view().queue_bounds("t").expect("the topic")[0].first;
    let received = client.receive("t", "g", 1).await;
    assert_eq!(
        system(&received[0]).message_id,
        first.to_string(),
        "consuming starts at the first that is kept"
    );
    let digests = digests(&cluster).await;
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    cluster.stop().await;
}

/// Makes a replica a voter, through replica 1, which leads.
async fn join(cluster: &Cluster, id: u64) {
    let (handle, id) = (cluster.replicas[&1].broker.handle(), ReplicaId(id));
    let addresses = cluster.replicas[&id.get()].broker.addresses();
    let new = (id, addresses.peer.clone(), addresses.client.clone());
    handle.add_replica(new).await.expect("added");
    let promoted = async {
        while let Err(error) = handle.promote_replica(id).await {
            assert!(matches!(error, MembershipError::Behind { .. }), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), promoted)
        .await
        .expect("promoted in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_from_a_snapshot_is_equal_whatever_memberships_it_keeps() {
    let cluster = Cluster::born(3, 1, |raw| {
        raw.segment_bytes = 1 << 20;
        raw.retention_bytes = 2 << 20;
        raw.default_queues = 1;
    })
    .await;
    // Replica 1 keeps the memberships of the past, as its log begins with them.
    join(&cluster, 2).await;
    let mut client = cluster.client(1);
    let body = "x".repeat(100_000);
    for n in 0..80 {
        assert_eq!(client.send(message("t", &n.to_string(), &body)).await, Code::Ok);
    }
    let mut applied = cluster.replicas[&1].broker.handle().applied();
    let log = cluster.replicas[&1].broker.handle().log().clone();
    let cut = async {
        while log.state().purged.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), cut)
        .await
        .expect("cut in time");
    // Replica 3 gets a snapshot, which knows one membership.
    join(&cluster, 3).await;
    let last = *applied.borrow_and_update();
    let mut follows = cluster.replicas[&3].broker.handle().applied();
    let reached = follows.wait_for(|applied| *applied >= last);
    let reached = tokio::time::timeout(Duration::from_secs(10), reached).await;
    drop(reached.expect("applied in time").expect("open"));
    let digests = digests(&cluster).await;
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    cluster.stop().await;
}
