//! Whole brokers in one process, over loopback sockets: what clients see of one and of three replicas.

#![allow(missing_docs)]

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::{Client, Cluster, code, handle, message, resource, system};
use ledgermq_proto::admin;
use ledgermq_proto::admin::admin_client::AdminClient;
use ledgermq_proto::net::{ChannelOptions, TcpNet, channel};
use ledgermq_proto::rocketmq::{Code, RecallMessageRequest};
use std::sync::Arc;

fn admin_of(cluster: &Cluster, id: u64) -> AdminClient<tonic::transport::Channel> {
    let address = &cluster.replicas[&id].broker.addresses().client;
    AdminClient::new(channel(Arc::new(TcpNet), address, ChannelOptions::default()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_sends_receives_acks() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(1);
    let route = client.route("t").await;
    assert_eq!((code(&route.status), route.message_queues.len()), (Code::Ok, 8));
    assert_eq!(client.send(message("t", "m1", "hello")).await, Code::Ok);
    assert_eq!(
        client.send(message("t", "m1", "hello")).await,
        Code::Ok,
        "a retry is the same message"
    );
    let received = client.receive("t", "g", 10).await;
    assert_eq!(received.len(), 1, "one copy");
    let properties = system(&received[0]);
    assert_eq!(
        (properties.message_id.as_str(), properties.delivery_attempt),
        ("m1", Some(1))
    );
    let digest = properties.body_digest.as_ref().expect("a digest");
    assert_eq!(digest.checksum, "5D41402ABC4B2A76B9719D911017C592");
    assert_eq!(&received[0].body[..], b"hello");
    assert_eq!(client.ack("t", "g", &handle(&received[0])).await, Code::Ok);
    assert_eq!(
        client.ack("t", "g", &handle(&received[0])).await,
        Code::Ok,
        "acked already"
    );
    assert_eq!(client.ack("t", "g", "nonsense").await, Code::InvalidReceiptHandle);
    assert!(client.receive("t", "g", 10).await.is_empty());
    assert_eq!(client.send(message("a b", "m", "x")).await, Code::IllegalTopic);
    let recall = client.request(RecallMessageRequest::default(), Duration::from_secs(3));
    let recall = client.rpc.recall_message(recall).await.expect("answered").into_inner();
    assert_eq!(code(&recall.status), Code::NotImplemented);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nacked_messages_come_again_and_go_to_the_dead_letters() {
    let cluster = Cluster::start(1).await;
    let mut admin = admin_of(&cluster, 1);
    let group = admin::CreateConsumerGroupRequest {
        name: "g".into(),
        max_attempts: 2,
        ..Default::default()
    };
    admin.create_consumer_group(group).await.expect("made");
    let mut client = cluster.client(1);
    assert_eq!(client.send(message("t", "m1", "x")).await, Code::Ok);
    let mut last = String::new();
    for attempt in 1..=2 {
        let received = client.receive("t", "g", 1).await;
        assert_eq!(system(&received[0]).delivery_attempt, Some(attempt));
        last = handle(&received[0]);
        let changed = client.change("t", "g", &last, 0).await;
        assert_eq!(code(&changed.status), Code::Ok);
        assert_ne!(changed.receipt_handle, last);
    }
    let stale = client.change("t", "g", &last, 0).await;
    assert_eq!(
        (code(&stale.status), stale.receipt_handle),
        (Code::InvalidReceiptHandle, last)
    );
    assert!(client.receive("t", "g", 1).await.is_empty());
    let dead = client.receive("%DLQ%g", "readers", 1).await;
    assert_eq!(system(&dead[0]).message_id, "m1");
    assert_eq!(
        system(&dead[0])
            .dead_letter_queue
            .as_ref()
            .map(|dead| dead.topic.as_str()),
        Some("t")
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_poll_wakes_on_arrival_and_filters_by_tag() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(1);
    client.route("t").await;
    let mut waiting = client.clone();
    let poll = tokio::spawn(async move {
        let mut request = Client::receive_request("t", "g", 4, 30);
        request.filter_expression = Some(ledgermq_proto::rocketmq::FilterExpression {
            r#type: 1,
            expression: "red || blue".into(),
        });
        let since = tokio::time::Instant::now();
        (
            waiting.receive_with(request, Duration::from_secs(5)).await,
            since.elapsed(),
        )
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    for (id, tag) in [("m1", "green"), ("m2", "red")] {
        let mut message = message("t", id, id);
        message.system_properties.as_mut().expect("set").tag = Some(tag.into());
        assert_eq!(client.send(message).await, Code::Ok);
    }
    let ((code, messages), took) = poll.await.expect("joined");
    assert_eq!((code, messages.len()), (Code::Ok, 1));
    assert_eq!(system(&messages[0]).message_id, "m2");
    assert!(took < Duration::from_millis(1200), "{took:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_stored_whole_or_not_at_all_and_fifo_keeps_its_order() {
    let cluster = Cluster::start(1).await;
    let mut admin = admin_of(&cluster, 1);
    let group = admin::CreateConsumerGroupRequest {
        name: "ordered".into(),
        fifo: true,
        ..Default::default()
    };
    admin.create_consumer_group(group).await.expect("made");
    let mut client = cluster.client(1);
    let grouped = |id: &str| {
        let mut message = message("t", id, id);
        message.system_properties.as_mut().expect("set").message_group = Some("g1".into());
        message
    };
    let mut bad = grouped("b2");
    bad.body = bytes::Bytes::new();
    let refused = client.send_all(vec![grouped("b1"), bad]).await;
    assert_eq!(
        (code(&refused.status), refused.entries.len()),
        (Code::MessageBodyEmpty, 0)
    );
    let sent = client.send_all(vec![grouped("m0"), grouped("m1"), grouped("m2")]).await;
    assert_eq!((code(&sent.status), sent.entries.len()), (Code::Ok, 3));
    let offsets: Vec<i64> = sent.entries.iter().map(|entry| entry.offset).collect();
    assert_eq!(offsets, [0, 1, 2]);
    for first in 0..3 {
        let received = client.receive("t", "ordered", 1).await;
        assert_eq!(system(&received[0]).message_id, format!("m{first}"));
        assert_eq!(client.ack("t", "ordered", &handle(&received[0])).await, Code::Ok);
    }
    cluster.stop().await;
}

/// Where the state of a door lags, a client that was told of no order would consume side by side for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_door_knows_the_order_of_a_consumer_group_at_once() {
    let cluster = Cluster::start(3).await;
    assert_eq!(cluster.client(1).send(message("t", "m1", "x")).await, Code::Ok);
    let mut admin = admin_of(&cluster, cluster.leader());
    for round in 0..20 {
        let name = format!("ordered{round}");
        let group = admin::CreateConsumerGroupRequest {
            name: name.clone(),
            fifo: true,
            ..Default::default()
        };
        admin.create_consumer_group(group).await.expect("made");
        for id in 1..=3 {
            let queues = cluster.client(id).assigned("t", &name).await;
            assert!(!queues.contains(&-1), "replica {id}: {name} has no order: {queues:?}");
        }
    }
    assert_eq!(cluster.client(1).assigned("t", "nobody").await, [-1]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_and_garbage_are_answered_or_closed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(1);
    client.rpc = client.rpc.max_encoding_message_size(200 << 20);
    let mut large = message("t", "m1", "");
    large.body = vec![7; 20 << 20].into();
    assert_eq!(client.send(large.clone()).await, Code::PayloadTooLarge);
    large.body = vec![7; 5 << 20].into();
    assert_eq!(client.send(large).await, Code::MessageBodyTooLarge);
    let address = cluster.replicas[&1].broker.addresses().client.clone();
    #[allow(clippy::disallowed_methods)] // a raw client
    let mut garbage = tokio::net::TcpStream::connect(address).await.expect("connected");
    garbage.write_all(&[0xff; 100]).await.expect("written");
    let mut answer = Vec::new();
    let _reset_or_end = garbage.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    assert_eq!(client.send(message("t", "m2", "x")).await, Code::Ok);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_is_a_door_and_the_loss_of_the_leader_is_not_seen() {
    let mut cluster = Cluster::start(3).await;
    let mut sent = BTreeSet::new();
    for id in 1..=3 {
        let mut client = cluster.client(id);
        for i in 0..10 {
            let name = format!("m{id}-{i}");
            assert_eq!(client.send(message("t", &name, &name)).await, Code::Ok, "{name}");
            sent.insert(name);
        }
        let route = client.route("t").await;
        let endpoints = route.message_queues[0]
            .broker
            .clone()
            .and_then(|broker| broker.endpoints);
        assert_eq!(endpoints.map(|endpoints| endpoints.addresses.len()), Some(3));
    }
    let leader = cluster.leader();
    let follower = if leader == 1 { 2 } else { 1 };
    let mut admin = admin_of(&cluster, follower);
    let described = admin
        .describe_cluster(admin::DescribeClusterRequest {})
        .await
        .expect("described")
        .into_inner();
    assert_eq!(described.broker_groups[0].leader, Some(leader));
    assert!(
        described.broker_groups[0]
            .replicas
            .iter()
            .all(|replica| replica.healthy),
        "{described:?}"
    );

    // A poll parked at a door moves to the next leader.
    let mut waiting = cluster.client(follower);
    let poll = tokio::spawn(async move {
        let mut request = Client::receive_request("later", "g", 1, 30);
        request.long_polling_timeout = Some(prost_types::Duration { seconds: 15, nanos: 0 });
        waiting.receive_with(request, Duration::from_secs(15)).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut client = cluster.client(follower);
    let stopping = cluster.replicas.remove(&leader).expect("there");
    let stopping = tokio::spawn(stopping.stop());
    for i in 0..50 {
        let name = format!("n{i}");
        assert_eq!(client.send(message("t", &name, &name)).await, Code::Ok, "{name}");
        sent.insert(name);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stopping.await.expect("stopped");
    assert_eq!(client.send(message("later", "l1", "x")).await, Code::Ok);
    let (code, messages) = poll.await.expect("joined");
    assert_eq!((code, messages.len()), (Code::Ok, 1));

    let mut received: BTreeMap<String, u32> = BTreeMap::new();
    while received.len() < sent.len() {
        let batch = client.receive("t", "readers", 32).await;
        assert!(!batch.is_empty(), "{} of {}", received.len(), sent.len());
        for message in batch {
            *received.entry(system(&message).message_id.clone()).or_default() += 1;
            assert_eq!(client.ack("t", "readers", &handle(&message)).await, Code::Ok);
        }
    }
    assert_eq!(received.keys().cloned().collect::<BTreeSet<_>>(), sent);
    assert!(received.values().all(|copies| *copies == 1));
    assert_eq!(resource("t").name, "t");
    cluster.stop().await;
}
