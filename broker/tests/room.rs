//! Disks that fill up: whose matters, what is refused, and how it ends.

#![allow(missing_docs)]

#[allow(dead_code)] // each test program uses a part of it
mod cluster;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Client, Cluster, handle, message};
use ledgermq_proto::admin::admin_client::AdminClient;
use ledgermq_proto::admin::{ReportHealthRequest, ReportHealthResponse};
use ledgermq_proto::net::{ChannelOptions, TcpNet, channel};
use ledgermq_proto::rocketmq::Code;
use ledgermq_raft_store::disk::{Disk, FaultyDisk, Open};

/// Leaves a disk used to 95 percent, with room for what a test sends.
fn fill(disk: &FaultyDisk) {
    let dir = Path::new("/other");
    disk.create_dir_all(dir).expect("a folder");
    let ballast = disk.open(&dir.join("ballast"), Open::Create).expect("a file");
    ballast.write_at(0, &[1; 8 << 20]).expect("written");
    disk.capacity_bytes(Some(disk.used_bytes() * 100 / 95));
}

async fn health(cluster: &Cluster, id: u64) -> ReportHealthResponse {
    let address = &cluster.replicas[&id].broker.addresses().client;
    let mut admin = AdminClient::new(channel(Arc::new(TcpNet), address, ChannelOptions::default()));
    let report = admin.report_health(ReportHealthRequest {}).await;
    report.expect("a report").into_inner()
}

/// Asks a replica until its report is as wanted.
async fn until(cluster: &Cluster, id: u64, what: &str, wanted: impl Fn(&ReportHealthResponse) -> bool) {
    let mut report = health(cluster, id).await;
    for _ in 0..300 {
        if wanted(&report) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        report = health(cluster, id).await;
    }
    panic!("replica {id} never reported: {what}; last {report:?}");
}

async fn send(client: &mut Client, nth: u32) -> Code {
    client.send(message("t", &format!("m{nth}"), "x")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_is_needed_on_a_majority() {
    let disks: BTreeMap<u64, FaultyDisk> = (1..=3).map(|id| (id, FaultyDisk::new(id))).collect();
    let cluster = Cluster::on(
        |id| Arc::new(disks[&id].clone()),
        3,
        3,
        |raw| raw.disk_full_percent = 90,
    )
    .await;
    let first = cluster.leader();
    let mut others: Vec<u64> = (1..=3).filter(|id| *id != first).collect();
    let mut client = cluster.client(first);
    assert_eq!(send(&mut client, 1).await, Code::Ok);
    let report = health(&cluster, first).await;
    assert_eq!(report.disk.expect("room").full_percent, 90);

    // A full follower stops nobody.
    fill(&disks[&others[0]]);
    until(&cluster, others[0], "a full disk", |report| {
        report.disk.is_some_and(|disk| disk.full)
    })
    .await;
    assert_eq!(send(&mut client, 2).await, Code::Ok);
    disks[&others[0]].capacity_bytes(None);
    until(&cluster, others[0], "room", |report| {
        report.disk.is_some_and(|disk| !disk.full)
    })
    .await;

    // A full leader hands over, and follows.
    fill(&disks[&first]);
    until(&cluster, first, "another leader", |report| {
        !report.serving && report.leader.is_some_and(|leader| leader != first)
    })
    .await;
    assert_eq!(send(&mut client, 3).await, Code::Ok);
    assert_eq!(health(&cluster, first).await.sends_refused, "");

    // Without room on a majority sends are refused, and nothing else is.
    let second = health(&cluster, first).await.leader.expect("a leader");
    others = (1..=3).filter(|id| ![first, second].contains(id)).collect();
    fill(&disks[&others[0]]);
    until(&cluster, second, "sends refused", |report| {
        !report.sends_refused.is_empty()
    })
    .await;
    assert_eq!(send(&mut client, 4).await, Code::TooManyRequests);
    let refused = health(&cluster, second).await.sends_refused;
    assert!(
        refused.contains("1 of 3 voters are heard and have room on their disks, 2 must"),
        "{refused}"
    );
    let received = client.receive("t", "g", 10).await;
    assert!(!received.is_empty(), "receives go on");
    assert_eq!(client.ack("t", "g", &handle(&received[0])).await, Code::Ok);

    // Room again.
    disks[&first].capacity_bytes(None);
    until(&cluster, second, "sends taken", |report| {
        report.sends_refused.is_empty()
    })
    .await;
    assert_eq!(send(&mut client, 4).await, Code::Ok);
    cluster.stop().await;
}
