//! Brokers in this process over real sockets, and the calls that tests make.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ledgermq_broker::config::RawConfig;
use ledgermq_broker::kv::memory::MemoryKv;
use ledgermq_broker::{Broker, BrokerError, KvSource, Planted, Seams, Spawn, Tuning, open};
use ledgermq_proto::net::{ChannelOptions, TcpNet, channel};
use ledgermq_proto::rocketmq::messaging_service_client::MessagingServiceClient;
use ledgermq_proto::rocketmq::receive_message_response::Content;
use ledgermq_proto::rocketmq::{
    AckMessageEntry, AckMessageRequest, ChangeInvisibleDurationRequest, ChangeInvisibleDurationResponse, Code,
    Encoding, FilterExpression, FilterType, Message, MessageQueue, MessageType, QueryAssignmentRequest,
    QueryRouteRequest, QueryRouteResponse, ReceiveMessageRequest, Resource, SendMessageRequest, SendMessageResponse,
    SystemProperties,
};
use ledgermq_raft_store::ReplicaId;
use ledgermq_raft_store::disk::{Disk, RealDisk};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// A running broker.
pub struct Running {
    pub broker: Broker,
    stop: Option<oneshot::Sender<()>>,
    pub ended: JoinHandle<Result<(), BrokerError>>,
}

impl Running {
    /// Stops it in order.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.ended.await.expect("joined").expect("stopped in order");
    }
}

#[allow(clippy::disallowed_methods)] // a test's clock
fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_millis() as u64
}

/// Replicas of one broker group, bootstrapped and ready.
pub struct Cluster {
    pub replicas: BTreeMap<u64, Running>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub async fn start(count: u64) -> Self {
        Self::with(count, |_| {}).await
    }

    pub async fn with(count: u64, change: impl Fn(&mut RawConfig)) -> Self {
        Self::born(count, count, change).await
    }

    /// The first `born` of them are the broker group's members; the others are empty.
    pub async fn born(count: u64, born: u64, change: impl Fn(&mut RawConfig)) -> Self {
        Self::on(|_| Arc::new(RealDisk), count, born, change).await
    }

    /// The same, each log on a disk of its own.
    pub async fn on(
        disk: impl Fn(u64) -> Arc<dyn Disk>,
        count: u64,
        born: u64,
        change: impl Fn(&mut RawConfig),
    ) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut replicas = BTreeMap::new();
        for id in 1..=count {
            let mut raw = RawConfig {
                replica_id: id,
                listen: "127.0.0.1:0".into(),
                peer_listen: "127.0.0.1:0".into(),
                data_dir: dir.path().join(id.to_string()),
                name_servers: Vec::new(),
                segment_bytes: 16 << 20,
                // Tests don't depend on how full this machine is.
                disk_full_percent: 100,
                ..RawConfig::default()
            };
            change(&mut raw);
            let config = ledgermq_broker::config::Config::check(raw).expect("valid");
            let seams = Seams {
                tuning: Tuning::default(),
                net: Arc::new(TcpNet),
                disk: disk(id),
                kv: KvSource::Memory(MemoryKv::new()),
                wall_clock: Arc::new(unix_ms),
                seed: unix_ms() ^ id << 48,
                spawn: Spawn::Here,
                planted: Planted::default(),
            };
            let (broker, driver) = open(config, seams).await.expect("open");
            let (stop, stopped) = oneshot::channel::<()>();
            let ended = tokio::spawn(driver.run(async move {
                let _dropped = stopped.await;
            }));
            replicas.insert(
                id,
                Running {
                    broker,
                    stop: Some(stop),
                    ended,
                },
            );
        }
        let members = replicas.range(..=born).map(|(id, running): (&u64, &Running)| {
            let addresses = running.broker.addresses();
            (ReplicaId(*id), addresses.peer.clone(), addresses.client.clone())
        });
        let members = members.collect();
        replicas[&1]
            .broker
            .handle()
            .bootstrap(members)
            .await
            .expect("bootstrap");
        for (_, running) in replicas.range(..=born) {
            let mut ready = running.broker.ready();
            let ready = ready.wait_for(|ready| *ready);
            let ready = tokio::time::timeout(Duration::from_secs(10), ready).await;
            ready.expect("ready in time").expect("open");
        }
        Self { replicas, _dir: dir }
    }

    /// A client of one replica.
    pub fn client(&self, id: u64) -> Client {
        let address = &self.replicas[&id].broker.addresses().client;
        let channel = channel(Arc::new(TcpNet), address, ChannelOptions::default());
        Client {
            rpc: MessagingServiceClient::new(channel).max_decoding_message_size(64 << 20),
            language: "JAVA",
        }
    }

    pub fn leader(&self) -> u64 {
        let leads = self
            .replicas
            .iter()
            .find(|(_, running)| running.broker.role().borrow().serving);
        *leads.expect("a leader").0
    }

    pub async fn stop(self) {
        for (_, running) in self.replicas {
            running.stop().await;
        }
    }
}

/// A plain client of the public protocol.
#[derive(Clone)]
pub struct Client {
    pub rpc: MessagingServiceClient<Channel>,
    pub language: &'static str,
}

pub fn resource(name: &str) -> Resource {
    Resource {
        name: name.into(),
        ..Resource::default()
    }
}

pub fn message(topic: &str, id: &str, body: &str) -> Message {
    Message {
        topic: Some(resource(topic)),
        body: body.to_owned().into(),
        system_properties: Some(SystemProperties {
            message_id: id.into(),
            body_encoding: Encoding::Identity as i32,
            message_type: MessageType::Normal as i32,
            ..SystemProperties::default()
        }),
        ..Message::default()
    }
}

pub fn code(status: &Option<ledgermq_proto::rocketmq::Status>) -> Code {
    let status = status.as_ref().expect("a status");
    assert!(!status.message.is_empty());
    Code::try_from(status.code).expect("a known code")
}

impl Client {
    pub fn request<T>(&self, message: T, timeout: Duration) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request
            .metadata_mut()
            .insert("x-mq-client-id", "test@1".parse().expect("ASCII"));
        request
            .metadata_mut()
            .insert("x-mq-language", self.language.parse().expect("ASCII"));
        request
            .metadata_mut()
            .insert("x-mq-client-version", "5.0.7".parse().expect("ASCII"));
        request.set_timeout(timeout);
        request
    }

    pub async fn send_all(&mut self, messages: Vec<Message>) -> SendMessageResponse {
        let request = self.request(SendMessageRequest { messages }, Duration::from_secs(3));
        self.rpc.send_message(request).await.expect("sent").into_inner()
    }

    pub async fn send(&mut self, message: Message) -> Code {
        code(&self.send_all(vec![message]).await.status)
    }

    pub async fn route(&mut self, topic: &str) -> QueryRouteResponse {
        let query = QueryRouteRequest {
            topic: Some(resource(topic)),
            endpoints: None,
        };
        let request = self.request(query, Duration::from_secs(3));
        self.rpc.query_route(request).await.expect("routed").into_inner()
    }

    /// The queues that a consumer of the group is to take from; -1 is any.
    pub async fn assigned(&mut self, topic: &str, group: &str) -> Vec<i32> {
        let query = QueryAssignmentRequest {
            topic: Some(resource(topic)),
            group: Some(resource(group)),
            endpoints: None,
        };
        let request = self.request(query, Duration::from_secs(3));
        let answer = self.rpc.query_assignment(request).await.expect("assigned").into_inner();
        assert_eq!(code(&answer.status), Code::Ok);
        let queues = answer
            .assignments
            .into_iter()
            .filter_map(|assigned| assigned.message_queue);
        queues.map(|queue| queue.id).collect()
    }

    /// One receive; the status and the messages.
    pub async fn receive_with(&mut self, request: ReceiveMessageRequest, wait: Duration) -> (Code, Vec<Message>) {
        let request = self.request(request, wait + Duration::from_secs(3));
        let mut frames = self.rpc.receive_message(request).await.expect("received").into_inner();
        let mut status = None;
        let mut messages = Vec::new();
        let mut first = true;
        while let Some(frame) = frames.message().await.expect("a frame") {
            match frame.content.expect("content") {
                Content::Status(found) => {
                    assert!(first, "status comes first");
                    status = Some(found);
                }
                Content::Message(message) => messages.push(message),
                Content::DeliveryTimestamp(_) => {}
            }
            first = false;
        }
        (code(&status), messages)
    }

    pub fn receive_request(topic: &str, group: &str, batch: i32, invisible_s: i64) -> ReceiveMessageRequest {
        ReceiveMessageRequest {
            group: Some(resource(group)),
            message_queue: Some(MessageQueue {
                topic: Some(resource(topic)),
                ..MessageQueue::default()
            }),
            filter_expression: Some(FilterExpression {
                r#type: FilterType::Tag as i32,
                expression: "*".into(),
            }),
            batch_size: batch,
            invisible_duration: Some(prost_types::Duration {
                seconds: invisible_s,
                nanos: 0,
            }),
            long_polling_timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            ..ReceiveMessageRequest::default()
        }
    }

    pub async fn receive(&mut self, topic: &str, group: &str, batch: i32) -> Vec<Message> {
        let request = Self::receive_request(topic, group, batch, 30);
        let (code, messages) = self.receive_with(request, Duration::from_secs(5)).await;
        match code {
            Code::Ok => assert!(!messages.is_empty()),
            other => assert_eq!(other, Code::MessageNotFound),
        }
        messages
    }

    pub async fn ack(&mut self, topic: &str, group: &str, handle: &str) -> Code {
        let entry = AckMessageEntry {
            receipt_handle: handle.into(),
            ..AckMessageEntry::default()
        };
        let ack = AckMessageRequest {
            topic: Some(resource(topic)),
            group: Some(resource(group)),
            entries: vec![entry],
        };
        let request = self.request(ack, Duration::from_secs(3));
        code(&self.rpc.ack_message(request).await.expect("acked").into_inner().status)
    }

    pub async fn change(
        &mut self,
        topic: &str,
        group: &str,
        handle: &str,
        seconds: i64,
    ) -> ChangeInvisibleDurationResponse {
        let change = ChangeInvisibleDurationRequest {
            topic: Some(resource(topic)),
            group: Some(resource(group)),
            receipt_handle: handle.into(),
            invisible_duration: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..ChangeInvisibleDurationRequest::default()
        };
        let request = self.request(change, Duration::from_secs(3));
        self.rpc
            .change_invisible_duration(request)
            .await
            .expect("changed")
            .into_inner()
    }
}

pub fn system(message: &Message) -> &SystemProperties {
    message.system_properties.as_ref().expect("system properties")
}

pub fn handle(message: &Message) -> String {
    system(message).receipt_handle.clone().expect("a handle")
}
