//! The load generator: a fixed number of unary SendMessage calls in flight, one message each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use ledgermq_proto::rocketmq::{
    Code, Encoding, Message, MessageType, Resource, SendMessageRequest, SystemProperties,
    messaging_service_client::MessagingServiceClient,
};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Request, metadata::MetadataValue, transport::Channel};

/// Calls before the measurement starts, so that connections and buffers are warm.
const WARM_UP: Duration = Duration::from_secs(1);

pub struct Settings {
    pub in_flight: usize,
    /// Bytes of a body.
    pub size: usize,
    pub seconds: usize,
    pub connections: usize,
    pub topic: String,
}

/// Loads the addresses (host:port, joined by `;`) and gives the figures as one JSON object. `server` is the process whose
/// CPU time is told apart.
pub async fn run(addresses: &str, settings: &Settings, server: Option<u32>) -> anyhow::Result<serde_json::Value> {
    let addresses: Vec<&str> = addresses.split(';').collect();
    let mut clients = Vec::new();
    for number in 0..settings.connections {
        let address = addresses[number % addresses.len()];
        let channel = Channel::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .connect()
            .await?;
        clients.push(MessagingServiceClient::new(channel));
    }

    let sequence = Arc::new(AtomicU64::new(0));
    let body = Bytes::from(vec![b'x'; settings.size]);
    let started = Instant::now() + WARM_UP;
    let ended = started + Duration::from_secs(settings.seconds as u64);
    let mut workers = JoinSet::new();
    for number in 0..settings.in_flight {
        let client = clients[number % clients.len()].clone();
        let worker = worker(
            client,
            settings.topic.clone(),
            body.clone(),
            sequence.clone(),
            started,
            ended,
        );
        workers.spawn(worker);
    }
    tokio::time::sleep_until(started).await;
    let cpu_before = (
        cpu_seconds("self")?,
        server.map(|pid| cpu_seconds(&pid.to_string())).transpose()?,
    );
    tokio::time::sleep_until(ended).await;
    let cpu_after = (
        cpu_seconds("self")?,
        server.map(|pid| cpu_seconds(&pid.to_string())).transpose()?,
    );

    let mut latencies = Vec::new();
    let mut failed = 0_u64;
    while let Some(done) = workers.join_next().await {
        let (measured, errors) = done.context("a worker ended early")?;
        latencies.extend(measured);
        failed += errors;
    }
    latencies.sort_unstable();
    let million = latencies.len().max(1) as f64 / 1e6;
    let server_cpu = cpu_after
        .1
        .zip(cpu_before.1)
        .map(|(after, before)| (after - before) / million);
    Ok(serde_json::json!({
        "messages_per_s": latencies.len() as f64 / settings.seconds as f64,
        "failed": failed,
        "in_flight": settings.in_flight,
        "size": settings.size,
        "connections": settings.connections,
        "latency_us": {
            "p50": percentile(&latencies, 0.5),
            "p99": percentile(&latencies, 0.99),
            "p999": percentile(&latencies, 0.999),
            "max": latencies.last(),
        },
        "cpu_seconds_per_million": { "client": (cpu_after.0 - cpu_before.0) / million, "server": server_cpu },
    }))
}

/// Latencies in microseconds of the calls that began and ended inside the measurement, and how many failed.
async fn worker(
    mut client: MessagingServiceClient<Channel>,
    topic: String,
    body: Bytes,
    sequence: Arc<AtomicU64>,
    started: Instant,
    ended: Instant,
) -> (Vec<u32>, u64) {
    let (mut latencies, mut failed) = (Vec::new(), 0);
    let client_id = MetadataValue::from_static("empty-handler@load");
    loop {
        let began = Instant::now();
        if began >= ended {
            return (latencies, failed);
        }
        let number = sequence.fetch_add(1, Ordering::Relaxed);
        let mut request = Request::new(send_request(&topic, &body, number));
        request.metadata_mut().insert("x-mq-client-id", client_id.clone());
        request
            .metadata_mut()
            .insert("x-mq-language", MetadataValue::from_static("JAVA"));
        request.set_timeout(Duration::from_secs(10));
        let answer = client.send_message(request).await;
        let good = answer.is_ok_and(|reply| {
            reply
                .get_ref()
                .status
                .as_ref()
                .is_some_and(|s| s.code == Code::Ok as i32)
        });
        let now = Instant::now();
        match good {
            true if began >= started && now <= ended => {
                latencies.push(u32::try_from((now - began).as_micros()).unwrap_or(u32::MAX));
            }
            true => {}
            false => failed += 1,
        }
    }
}

fn send_request(topic: &str, body: &Bytes, number: u64) -> SendMessageRequest {
    let system_properties = SystemProperties {
        message_id: format!("01{:032X}", u128::from(std::process::id()) << 64 | u128::from(number)),
        message_type: MessageType::Normal as i32,
        body_encoding: Encoding::Identity as i32,
        born_host: "127.0.0.1".to_owned(),
        ..SystemProperties::default()
    };
    let message = Message {
        topic: Some(Resource {
            resource_namespace: String::new(),
            name: topic.to_owned(),
        }),
        system_properties: Some(system_properties),
        body: body.clone(),
        ..Message::default()
    };
    SendMessageRequest {
        messages: vec![message],
    }
}

fn percentile(sorted: &[u32], share: f64) -> Option<u32> {
    let place = (share * sorted.len() as f64) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied()
}

/// User and system time of a process so far, from /proc (Linux; the kernel counts in hundredths of a second).
fn cpu_seconds(process: &str) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit(')').next().context("/proc stat has no name")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks =
        |place: usize| -> anyhow::Result<f64> { Ok(fields.get(place).context("/proc stat is short")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
