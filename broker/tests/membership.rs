//! A broker group grows through any door, and clients' routes follow its voters.

#![allow(missing_docs)]

#[allow(dead_code)]
mod cluster;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Cluster, code, message};
use ledgermq_proto::admin as wire;
use ledgermq_proto::admin::admin_client::AdminClient;
use ledgermq_proto::net::{ChannelOptions, TcpNet, channel};
use ledgermq_proto::rocketmq::Code;
use tonic::transport::Channel;

fn admin_of(cluster: &Cluster, id: u64) -> AdminClient<Channel> {
    let address = &cluster.replicas[&id].broker.addresses().client;
    AdminClient::new(channel(Arc::new(TcpNet), address, ChannelOptions::default()))
}

fn member(cluster: &Cluster, id: u64) -> Option<wire::Member> {
    let addresses = cluster.replicas[&id].broker.addresses();
    Some(wire::Member {
        id,
        peer_address: addresses.peer.clone(),
        client_address: addresses.client.clone(),
    })
}

/// The ports in the route of a topic, as a Java client gets it from one replica.
async fn doors(cluster: &Cluster, id: u64) -> BTreeSet<u16> {
    let route = cluster.client(id).route("t").await;
    assert_eq!(code(&route.status), Code::Ok);
    let brokers = route.message_queues.into_iter().filter_map(|queue| queue.broker);
    let addresses = brokers
        .filter_map(|broker| broker.endpoints)
        .flat_map(|it| it.addresses);
    addresses
        .map(|address| u16::try_from(address.port).expect("a port"))
        .collect()
}

fn port(cluster: &Cluster, id: u64) -> u16 {
    let client = &cluster.replicas[&id].broker.addresses().client;
    client.rsplit_once(':').expect("host:port").1.parse().expect("a port")
}

async fn promoted(admin: &mut AdminClient<Channel>, id: u64) {
    let broker_group = "broker-a".to_owned();
    loop {
        let request = wire::PromoteReplicaRequest {
            broker_group: broker_group.clone(),
            id,
        };
        match admin.promote_replica(request).await {
            Ok(_) => return,
            Err(status) if status.code() == tonic::Code::Unavailable => {}
            Err(status) => panic!("{status}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_becomes_three_and_routes_follow() {
    let cluster = Cluster::born(3, 1, |_| {}).await;
    let mut client = cluster.client(1);
    assert_eq!(client.send(message("t", "m1", "before")).await, Code::Ok);
    assert_eq!(doors(&cluster, 1).await, BTreeSet::from([port(&cluster, 1)]));
    let mut voters = BTreeSet::from([port(&cluster, 1)]);
    for id in [2, 3] {
        // Through the newest voter's door: it brings the call to the leader.
        let mut admin = admin_of(&cluster, id - 1);
        let request = wire::AddReplicaRequest {
            broker_group: "broker-a".to_owned(),
            replica: member(&cluster, id),
        };
        admin.add_replica(request).await.expect("added");
        let described = admin.describe_cluster(wire::DescribeClusterRequest {}).await;
        let group = described.expect("described").into_inner().broker_groups.remove(0);
        let learner = group.replicas.iter().find(|it| it.id == id).expect("listed");
        assert_eq!((learner.voter, learner.role.as_str()), (false, "learner"));
        assert_ne!(learner.incarnation, 0);
        assert_eq!(doors(&cluster, 1).await, voters, "a learner is no door");
        promoted(&mut admin, id).await;
        voters.insert(port(&cluster, id));
        let mut ready = cluster.replicas[&id].broker.ready();
        let ready = tokio::time::timeout(Duration::from_secs(10), ready.wait_for(|ready| *ready)).await;
        drop(ready.expect("ready in time").expect("open"));
        let told = async {
            while doors(&cluster, 1).await != voters || doors(&cluster, id).await != voters {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told)
            .await
            .expect("routes follow");
    }
    assert_eq!(cluster.client(3).send(message("t", "m2", "after")).await, Code::Ok);

    // The leader goes: it hands over, and its door says so in the end.
    let mut admin = admin_of(&cluster, 2);
    let leaving = cluster.leader();
    let request = wire::RemoveReplicaRequest {
        broker_group: "broker-a".to_owned(),
        id: leaving,
        force: false,
    };
    let answer = admin
        .remove_replica(request.clone())
        .await
        .expect("removed")
        .into_inner();
    assert_eq!(answer.warning, "");
    let gone = admin.remove_replica(request).await.expect_err("is no member");
    assert_eq!(gone.code(), tonic::Code::NotFound);
    let stays = if leaving == 2 { 3 } else { 2 };
    assert!(!doors(&cluster, stays).await.contains(&port(&cluster, leaving)));
    let mut ready = cluster.replicas[&leaving].broker.ready();
    let unready = tokio::time::timeout(Duration::from_secs(10), ready.wait_for(|ready| !*ready)).await;
    drop(unready.expect("learns it in time").expect("open"));
    assert!(cluster.replicas[&leaving].broker.status().removed);
    assert_eq!(
        cluster.client(stays).send(message("t", "m3", "without")).await,
        Code::Ok
    );
    cluster.stop().await;
}
