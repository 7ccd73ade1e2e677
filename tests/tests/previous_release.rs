//! The data folder of a replica of the previous release, kept in `tests/data/previous.tar.gz`, and what must be found in it
//! (`previous.json`): this release opens it, its state is the same, and nothing of it is lost. See tests/README.md.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ledgermq_broker::config::{Config, RawConfig};
use ledgermq_broker::{Broker, BrokerError, KvSource, OpenBrokerError, Planted, Seams, Spawn, Tuning, open};
use ledgermq_proto::net::{ChannelOptions, TcpNet, channel};
use ledgermq_proto::rocketmq::messaging_service_client::MessagingServiceClient;
use ledgermq_proto::rocketmq::receive_message_response::Content;
use ledgermq_proto::rocketmq::{
    AckMessageEntry, AckMessageRequest, Code, Encoding, FilterExpression, FilterType, Message, MessageQueue,
    MessageType, ReceiveMessageRequest, Resource, SendMessageRequest, SystemProperties,
};
use ledgermq_raft_store::LogIndex;
use ledgermq_raft_store::disk::RealDisk;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// What tests/previous/data.py wrote down.
#[derive(Deserialize)]
struct Expected {
    ended_ms: u64,
    client: String,
    digest: Digest,
    messages: Vec<Stored>,
    sent_last: Vec<Sent>,
    held: Vec<Held>,
    expired: Vec<Held>,
    lags: std::collections::BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Digest {
    index: u64,
    digest: String,
}

#[derive(Deserialize)]
struct Stored {
    topic: String,
    queue: i32,
    offset: i64,
    id: String,
    tag: String,
    message_group: String,
    times: usize,
}

#[derive(Deserialize)]
struct Sent {
    topic: String,
    id: String,
    offset: i64,
    times: usize,
}

#[derive(Deserialize)]
struct Held {
    topic: String,
    group: String,
    handle: String,
    id: String,
    attempt: i32,
}

fn body(id: &str, times: usize) -> Vec<u8> {
    format!("body of {id}. ").repeat(times).into_bytes()
}

/// The folder as it was left, and what is known of it.
struct Found {
    folder: tempfile::TempDir,
    expected: Expected,
    /// Unix milliseconds, as the replica is told.
    now_ms: Arc<AtomicU64>,
}

impl Found {
    fn unpacked() -> Found {
        // Tests run in the folder of their package.
        let data = Path::new("data");
        let folder = tempfile::tempdir().expect("a folder");
        let mut tar = Command::new("tar");
        tar.arg("-xzf")
            .arg(data.join("previous.tar.gz"))
            .arg("-C")
            .arg(folder.path());
        assert!(tar.status().expect("tar is installed").success());
        let text = std::fs::read_to_string(data.join("previous.json")).expect("it is part of the sources");
        let expected: Expected = serde_json::from_str(&text).expect("as data.py writes it");
        let now_ms = Arc::new(AtomicU64::new(expected.ended_ms));
        Found {
            folder,
            expected,
            now_ms,
        }
    }

    async fn opened(&self, format_level_max: u32) -> Result<Running, OpenBrokerError> {
        let raw = RawConfig {
            listen: "127.0.0.1:0".into(),
            data_dir: self.folder.path().join("data"),
            name_servers: Vec::new(),
            segment_bytes: 1 << 20,
            format_level_max,
            ..RawConfig::default()
        };
        let config = Config::check(raw).expect("valid");
        let now_ms = Arc::clone(&self.now_ms);
        let seams = Seams {
            net: Arc::new(TcpNet),
            disk: Arc::new(RealDisk),
            kv: KvSource::Rocks,
            wall_clock: Arc::new(move || now_ms.load(Ordering::Relaxed)),
            seed: self.expected.ended_ms + u64::from(format_level_max),
            spawn: Spawn::Here,
            planted: Planted::default(),
            tuning: Tuning::default(),
        };
        let (broker, driver) = open(config, seams).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(driver.run(async move {
            let _dropped = stopped.await;
        }));
        let mut ready = broker.ready();
        let ready = tokio::time::timeout(Duration::from_secs(60), ready.wait_for(|ready| *ready)).await;
        drop(ready.expect("ready in time").expect("open"));
        let options = ChannelOptions::default();
        let channel = channel(Arc::new(TcpNet), &broker.addresses().client, options);
        Ok(Running {
            rpc: MessagingServiceClient::new(channel).max_decoding_message_size(64 << 20),
            client: self.expected.client.clone(),
            broker,
            stop,
            ended,
        })
    }
}

/// The replica, and a client of it.
struct Running {
    rpc: MessagingServiceClient<Channel>,
    client: String,
    broker: Broker,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), BrokerError>>,
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource {
        name: name.into(),
        ..Resource::default()
    })
}

fn code(status: Option<ledgermq_proto::rocketmq::Status>) -> Code {
    Code::try_from(status.expect("a status").code).expect("a known code")
}

fn system(message: &Message) -> &SystemProperties {
    message.system_properties.as_ref().expect("system properties")
}

impl Running {
    async fn stopped(self) {
        let Running {
            rpc,
            broker,
            stop,
            ended,
            ..
        } = self;
        drop((rpc, broker, stop));
        ended.await.expect("joined").expect("stopped in order");
        // The last task that holds the store ends a moment later.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        for (name, value) in [
            ("x-mq-client-id", self.client.as_str()),
            ("x-mq-language", "JAVA"),
            ("x-mq-client-version", "5.0.7"),
        ] {
            request.metadata_mut().insert(name, value.parse().expect("ASCII"));
        }
        request.set_timeout(Duration::from_secs(20));
        request
    }

    /// The offset that a send is answered.
    async fn send(&mut self, sent: &Sent, message_group: &str) -> i64 {
        let message_type = if message_group.is_empty() {
            MessageType::Normal
        } else {
            MessageType::Fifo
        };
        let message = Message {
            topic: resource(&sent.topic),
            body: body(&sent.id, sent.times).into(),
            system_properties: Some(SystemProperties {
                message_id: sent.id.clone(),
                body_encoding: Encoding::Identity as i32,
                message_type: message_type as i32,
                message_group: Some(message_group.to_owned()).filter(|group| !group.is_empty()),
                ..SystemProperties::default()
            }),
            ..Message::default()
        };
        let messages = vec![message];
        let request = self.request(SendMessageRequest { messages });
        let response = self.rpc.send_message(request).await.expect("answered").into_inner();
        assert_eq!(code(response.status), Code::Ok);
        response.entries[0].offset
    }

    async fn receive(&mut self, topic: &str, group: &str, batch: i32) -> Vec<Message> {
        let request = self.request(ReceiveMessageRequest {
            group: resource(group),
            message_queue: Some(MessageQueue {
                topic: resource(topic),
                ..MessageQueue::default()
            }),
            filter_expression: Some(FilterExpression {
                r#type: FilterType::Tag as i32,
                expression: "*".into(),
            }),
            batch_size: batch,
            invisible_duration: Some(seconds(600)),
            long_polling_timeout: Some(seconds(5)),
            ..ReceiveMessageRequest::default()
        });
        let mut frames = self.rpc.receive_message(request).await.expect("answered").into_inner();
        let mut messages = Vec::new();
        while let Some(frame) = frames.message().await.expect("a frame") {
            if let Some(Content::Message(message)) = frame.content {
                messages.push(message);
            }
        }
        messages
    }

    async fn ack(&mut self, held: &Held) -> Code {
        let request = self.request(AckMessageRequest {
            topic: resource(&held.topic),
            group: resource(&held.group),
            entries: vec![AckMessageEntry {
                message_id: held.id.clone(),
                receipt_handle: held.handle.clone(),
                ..AckMessageEntry::default()
            }],
        });
        code(
            self.rpc
                .ack_message(request)
                .await
                .expect("answered")
                .into_inner()
                .status,
        )
    }

    /// How much a consumer group has not done, over all topics.
    fn lag(&self, group: &str) -> u64 {
        let lags = self.broker.view().lags().into_iter();
        lags.filter(|(name, ..)| name == group).map(|(.., lag)| lag).sum()
    }

    /// How many messages a topic got.
    fn count(&self, topic: &str) -> u64 {
        let bounds = self.broker.view().queue_bounds(topic).expect("it is there");
        bounds.iter().map(|queue| queue.end.get()).sum()
    }

    /// Every message of the expected is served, once, as it was sent.
    async fn serves_all(&mut self, expected: &Expected, group: &str) {
        let topics: BTreeSet<&str> = expected.messages.iter().map(|message| message.topic.as_str()).collect();
        for topic in topics {
            let mut of_topic: Vec<&Stored> = expected.messages.iter().filter(|it| it.topic == topic).collect();
            of_topic.sort_by_key(|stored| (stored.queue, stored.offset));
            let mut found = Vec::new();
            while found.len() < of_topic.len() {
                let more = self.receive(topic, group, 32).await;
                assert!(!more.is_empty(), "{} of {} in {topic}", found.len(), of_topic.len());
                found.extend(more);
            }
            found.sort_by_key(|message| (system(message).queue_id, system(message).queue_offset));
            for (message, stored) in found.iter().zip(of_topic) {
                let properties = system(message);
                assert_eq!(
                    (
                        properties.queue_id,
                        properties.queue_offset,
                        properties.message_id.as_str()
                    ),
                    (stored.queue, Some(stored.offset), stored.id.as_str())
                );
                assert_eq!(properties.tag.clone().unwrap_or_default(), stored.tag);
                assert_eq!(
                    properties.message_group.clone().unwrap_or_default(),
                    stored.message_group
                );
                assert!(message.body == body(&stored.id, stored.times), "body of {}", stored.id);
            }
        }
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// The message group of what was sent.
fn message_group<'a>(expected: &'a Expected, sent: &Sent) -> &'a str {
    let stored = expected
        .messages
        .iter()
        .find(|it| it.topic == sent.topic && it.id == sent.id);
    &stored.expect("it was stored").message_group
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_at_level_1_is_what_the_previous_release_made_of_it() {
    let found = Found::unpacked();
    let expected = &found.expected;
    let mut running = found.opened(1).await.expect("opens");
    let view = running.broker.view();
    view.make_digest().expect("read");
    let digest = view
        .digest_of(LogIndex(expected.digest.index))
        .expect("its entry is in the log");
    assert_eq!(format!("{digest:032x}"), expected.digest.digest);
    assert_eq!(view.format_level(), 1);
    for (group, lag) in &expected.lags {
        assert_eq!(running.lag(group), *lag, "lag of {group}");
    }
    // A repeat of a send is one, with its first place.
    assert!(expected.sent_last.len() > 10);
    for sent in &expected.sent_last {
        let count = running.count(&sent.topic);
        let offset = running.send(sent, message_group(expected, sent)).await;
        assert_eq!(
            (offset, running.count(&sent.topic)),
            (sent.offset, count),
            "{}",
            sent.id
        );
    }
    // Leases of hours are held, those of seconds are over, and their messages come again. Log time follows a leap of the clocks
    // that is longer than a minute.
    assert!(expected.held.len() > 20 && expected.expired.len() > 3);
    found.now_ms.fetch_add(70_000, Ordering::Relaxed);
    for held in &expected.held {
        let lag = running.lag(&held.group);
        assert_eq!(running.ack(held).await, Code::Ok, "{}", held.id);
        assert_eq!(running.lag(&held.group), lag - 1, "{}", held.id);
    }
    let (topic, group) = (&expected.expired[0].topic, &expected.expired[0].group);
    let again = running.receive(topic, group, expected.expired.len() as i32).await;
    let again: Vec<_> = again
        .iter()
        .map(|message| (system(message).message_id.clone(), system(message).delivery_attempt))
        .collect();
    let due: Vec<_> = expected
        .expired
        .iter()
        .map(|it| (it.id.clone(), Some(it.attempt + 1)))
        .collect();
    assert_eq!(again, due);
    running.serves_all(expected, "reader").await;
    running.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_over_to_this_release_and_not_back() {
    let found = Found::unpacked();
    let running = found.opened(0).await.expect("opens");
    let mut level = running.broker.view().format_level_watch();
    let raised = tokio::time::timeout(Duration::from_secs(60), level.wait_for(|level| *level > 1)).await;
    let level = *raised.expect("raised in time").expect("open");
    assert_eq!(level, ledgermq_broker::state::level::FORMAT_LEVEL);
    running.stopped().await;
    let mut running = found.opened(0).await.expect("opens again");
    assert_eq!(running.broker.view().format_level(), level);
    running.serves_all(&found.expected, "reader").await;
    running.stopped().await;
    let refused = found.opened(level - 1).await.err().expect("refused").to_string();
    assert!(refused.contains(&format!("format level {level}")), "{refused}");
}
