//! Replicas that support different format levels in one broker group: when the level rises, and who is not let in.

#![allow(missing_docs)]

#[allow(dead_code)]
mod cluster;

use std::sync::Arc;
use std::time::Duration;

use cluster::{Cluster, message};
use ledgermq_broker::state::level::{FORMAT_LEVEL, VERSION};
use ledgermq_proto::admin as wire;
use ledgermq_proto::admin::admin_client::AdminClient;
use ledgermq_proto::net::{ChannelOptions, TcpNet, channel};
use ledgermq_proto::rocketmq::Code;
use tonic::transport::Channel;

fn admin_of(cluster: &Cluster, id: u64) -> AdminClient<Channel> {
    let address = &cluster.replicas[&id].broker.addresses().client;
    AdminClient::new(channel(Arc::new(TcpNet), address, ChannelOptions::default()))
}

async fn described(cluster: &Cluster) -> wire::BrokerGroup {
    let mut admin = admin_of(cluster, 1);
    let described = admin.describe_cluster(wire::DescribeClusterRequest {}).await;
    described.expect("described").into_inner().broker_groups.remove(0)
}

async fn reaches(cluster: &Cluster, id: u64, level: u32) {
    let mut watch = cluster.replicas[&id].broker.view().format_level_watch();
    let reached = tokio::time::timeout(Duration::from_secs(30), watch.wait_for(|now| *now == level)).await;
    drop(reached.expect("raised in time").expect("open"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_waits_for_the_member_that_supports_less() {
    let cluster = Cluster::with(3, |raw| {
        raw.format_level_max = if raw.replica_id == 3 { 1 } else { 0 };
    })
    .await;
    let mut client = cluster.client(2);
    assert_eq!(client.send(message("t", "m1", "before")).await, Code::Ok);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let group = described(&cluster).await;
    assert_eq!(group.format_level, 1);
    for replica in &group.replicas {
        let supported = if replica.id == 3 { 1 } else { FORMAT_LEVEL };
        assert_eq!(
            (replica.format_level_max, replica.version.as_str()),
            (Some(supported), VERSION),
            "replica {}",
            replica.id
        );
    }
    // Without it, the others go on.
    loop {
        let request = wire::RemoveReplicaRequest {
            broker_group: "broker-a".to_owned(),
            id: 3,
            force: false,
        };
        match admin_of(&cluster, 1).remove_replica(request).await {
            Ok(_) => break,
            Err(status) if status.code() == tonic::Code::Unavailable => {}
            Err(status) if status.code() == tonic::Code::NotFound => break,
            Err(status) => panic!("{status}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for id in 1..=2 {
        reaches(&cluster, id, FORMAT_LEVEL).await;
    }
    assert_eq!(client.send(message("t", "m2", "after")).await, Code::Ok);
    assert_eq!(described(&cluster).await.format_level, FORMAT_LEVEL);
    let level = cluster.replicas[&3].broker.view().format_level();
    assert_eq!(
        level, 1,
        "it is no member any more, and gets no command that it would stop at"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_supports_less_than_the_state_is_not_added() {
    let cluster = Cluster::born(2, 1, |raw| {
        raw.format_level_max = if raw.replica_id == 2 { 1 } else { 0 };
    })
    .await;
    reaches(&cluster, 1, FORMAT_LEVEL).await;
    let addresses = cluster.replicas[&2].broker.addresses();
    let request = wire::AddReplicaRequest {
        broker_group: "broker-a".to_owned(),
        replica: Some(wire::Member {
            id: 2,
            peer_address: addresses.peer.clone(),
            client_address: addresses.client.clone(),
        }),
    };
    let refused = admin_of(&cluster, 1).add_replica(request).await.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    for named in ["supports format level 1", VERSION, &format!("at level {FORMAT_LEVEL}")] {
        assert!(
            refused.message().contains(named),
            "{named} is not in {:?}",
            refused.message()
        );
    }
    assert_eq!(described(&cluster).await.replicas.len(), 1);
    cluster.stop().await;
}
