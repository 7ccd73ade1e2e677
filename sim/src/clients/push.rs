//! Push consumers of a FIFO consumer group, as official clients are: Settings and heartbeats at each address, the
//! assignments of the topic, receives whose leases the broker renews, acknowledgements; some messages are refused, some
//! consumers die without a word. Built on the calls of the public protocol: our client has no push consumer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ledgermq_proto::{
    headers,
    net::{ChannelOptions, Net, channel},
    rocketmq::{
        self as wire, AckMessageEntry, AckMessageRequest, Address, AddressScheme, Assignment,
        ChangeInvisibleDurationRequest, ClientType, Code, Endpoints, FilterExpression, FilterType, HeartbeatRequest,
        MessageQueue, NotifyClientTerminationRequest, QueryAssignmentRequest, ReceiveMessageRequest, Resource,
        Settings, Subscription, SubscriptionEntry, TelemetryCommand, messaging_service_client::MessagingServiceClient,
        receive_message_response::Content, settings::PubSub, telemetry_command::Command,
    },
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, metadata::AsciiMetadataValue, transport::Channel};

use super::{
    Host, LANGUAGES, LEDGER, PAYMENTS,
    consumer::{Held, now},
};
use crate::{
    history::{MessageName, Op},
    net::SimNet,
    seed::Draws,
};

const CALL: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(10);
const REASSIGN: Duration = Duration::from_secs(5);
/// Receives between two questions for the assignments.
const RECEIVES_PER_ASSIGNMENT: u32 = 8;

type Stub = MessagingServiceClient<Channel>;

pub(super) async fn ledger(host: Host) -> turmoil::Result {
    host.wait_until_ready().await;
    loop {
        let life = Host::next(&host.lives);
        let mut draws = host.draws(life);
        let language = draws.pick(LANGUAGES);
        host.tell(&format!("life {life} as {language}"));
        let me = Push::new(&host, life, language)?;
        // What a consumer that died without a word still holds comes back when the brokers have missed it for two minutes:
        // longer than a run may take. So its heir says goodbye for it.
        if life > 1 {
            me.goodbye(&client_id(&host, life - 1)).await;
        }
        let was_calm = host.is_calm();
        // Work that takes longer than a lease that nobody renews.
        let works_long = life == 1 && draws.percent(50);
        let lasts = match works_long {
            true => Duration::from_millis(draws.between(70_000, 90_000)),
            false => Duration::from_millis(draws.between(5_000, 40_000)),
        };
        // Over one message, or over each: then it acknowledges while the door confirms what it delivered.
        me.works.set(match works_long.then(|| draws.percent(50)) {
            None => Work::Quick,
            Some(true) => Work::Once(Duration::from_millis(draws.between(41_000, 58_000))),
            Some(false) => Work::Each(Duration::from_millis(draws.between(500, 4_000))),
        });
        tokio::select! {
            biased;
            () = me.consume(&mut draws) => {}
            () = me.keep_sessions() => {}
            () = ends(&host, lasts, was_calm) => {}
        }
        host.breaks_off();
        host.tell("dies");
    }
}

/// A life ends in its time; when all turns calm everybody begins anew, once.
async fn ends(host: &Host, lasts: Duration, was_calm: bool) {
    let calm = async {
        while was_calm || !host.is_calm() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    if was_calm {
        std::future::pending::<()>().await;
    }
    tokio::select! {
        biased;
        () = calm => {}
        () = sleep(lasts) => {}
    }
}

fn client_id(host: &Host, life: u64) -> String {
    format!("{}@{life}@1", host.name)
}

struct Push<'a> {
    host: &'a Host,
    client_id: String,
    language: AsciiMetadataValue,
    net: Arc<dyn Net>,
    access_points: Vec<String>,
    stubs: std::cell::RefCell<BTreeMap<String, Stub>>,
    /// How it works.
    works: std::cell::Cell<Work>,
}

/// How long a consumer is at work before it acknowledges.
#[derive(Clone, Copy, Default)]
enum Work {
    /// Not at all.
    #[default]
    Quick,
    /// So long over the next message.
    Once(Duration),
    /// So long over each message.
    Each(Duration),
}

impl<'a> Push<'a> {
    fn new(host: &'a Host, life: u64, language: &str) -> turmoil::Result<Push<'a>> {
        Ok(Push {
            host,
            client_id: client_id(host, life),
            language: AsciiMetadataValue::try_from(language)?,
            net: Arc::new(SimNet),
            access_points: host.workload.endpoints.clone(),
            stubs: std::cell::RefCell::default(),
            works: std::cell::Cell::default(),
        })
    }

    fn stub(&self, authority: &str) -> Stub {
        let mut stubs = self.stubs.borrow_mut();
        let stub = stubs.entry(authority.to_owned()).or_insert_with(|| {
            MessagingServiceClient::new(channel(self.net.clone(), authority, ChannelOptions::default()))
        });
        stub.clone()
    }

    fn request<T>(&self, client_id: &str, message: T, deadline: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        // A client id that is no header value names nobody: the brokers refuse it.
        if let Ok(id) = AsciiMetadataValue::try_from(client_id) {
            metadata.insert(headers::CLIENT_ID, id);
        }
        metadata.insert(headers::LANGUAGE, self.language.clone());
        metadata.insert(headers::CLIENT_VERSION, AsciiMetadataValue::from_static("5.0.8"));
        metadata.insert(headers::PROTOCOL, AsciiMetadataValue::from_static("v2"));
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        request
    }

    /// Says that the client is gone, at one door after the other until one has understood.
    async fn goodbye(&self, client_id: &str) {
        loop {
            for door in &self.access_points {
                let question = NotifyClientTerminationRequest {
                    group: Some(resource(LEDGER)),
                };
                let request = self.request(client_id, question, Some(CALL));
                let mut stub = self.stub(door);
                let answer = timeout(CALL, stub.notify_client_termination(request)).await;
                if let Ok(Ok(answer)) = answer
                    && answer
                        .into_inner()
                        .status
                        .is_some_and(|status| status.code() == Code::Ok)
                {
                    self.host.tell(&format!("said goodbye for {client_id}"));
                    return;
                }
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// Telemetry and heartbeats at each access point.
    async fn keep_sessions(&self) {
        let sessions = self.access_points.iter().map(|door| async move {
            loop {
                tokio::select! {
                    biased;
                    () = self.telemetry(door) => {}
                    () = self.heartbeats(door) => {}
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
        futures::future::join_all(sessions).await;
    }

    async fn telemetry(&self, door: &str) {
        let (commands, stream) = mpsc::channel(1);
        let settings = TelemetryCommand {
            status: None,
            command: Some(Command::Settings(settings(&self.access_points))),
        };
        if commands.try_send(settings).is_err() {
            return;
        }
        let mut stub = self.stub(door);
        let request = self.request(&self.client_id, ReceiverStream::new(stream), None);
        let Ok(Ok(opened)) = timeout(CALL, stub.telemetry(request)).await else {
            return;
        };
        let mut replies = opened.into_inner();
        while let Ok(Some(_)) = replies.message().await {}
    }

    async fn heartbeats(&self, door: &str) {
        loop {
            let heartbeat = HeartbeatRequest {
                group: Some(resource(LEDGER)),
                client_type: ClientType::PushConsumer.into(),
            };
            let request = self.request(&self.client_id, heartbeat, Some(CALL));
            let mut stub = self.stub(door);
            if timeout(CALL, stub.heartbeat(request)).await.is_err() {
                return;
            }
            sleep(HEARTBEAT).await;
        }
    }

    async fn consume(&self, draws: &mut Draws) {
        let mut turn = 0;
        loop {
            let assignments = self.assignments(turn).await;
            turn += 1;
            if assignments.is_empty() {
                sleep(Duration::from_millis(draws.between(100, 600))).await;
                continue;
            }
            let until = tokio::time::Instant::now() + REASSIGN;
            for number in 0..RECEIVES_PER_ASSIGNMENT {
                let place = (number as usize + turn) % assignments.len();
                self.receive(&assignments[place], draws).await;
                if tokio::time::Instant::now() > until {
                    break;
                }
            }
        }
    }

    /// Queues with the address of each.
    async fn assignments(&self, turn: usize) -> Vec<(MessageQueue, String)> {
        let door = &self.access_points[turn % self.access_points.len()];
        let question = QueryAssignmentRequest {
            topic: Some(resource(PAYMENTS)),
            group: Some(resource(LEDGER)),
            endpoints: Some(endpoints(&self.access_points)),
        };
        let request = self.request(&self.client_id, question, Some(CALL));
        let mut stub = self.stub(door);
        let answer = timeout(CALL, stub.query_assignment(request)).await;
        let Ok(Ok(answer)) = answer else {
            return Vec::new();
        };
        let queue = |assignment: Assignment| {
            let queue = assignment.message_queue?;
            let endpoints = queue.broker.as_ref()?.endpoints.as_ref()?;
            let address = endpoints.addresses.first()?;
            let authority = format!("{}:{}", address.host, address.port);
            Some((queue, authority))
        };
        answer.into_inner().assignments.into_iter().filter_map(queue).collect()
    }

    async fn receive(&self, (queue, authority): &(MessageQueue, String), draws: &mut Draws) {
        let called = now();
        let question = ReceiveMessageRequest {
            group: Some(resource(LEDGER)),
            message_queue: Some(queue.clone()),
            filter_expression: Some(everything()),
            batch_size: i32::try_from(draws.between(1, 16)).unwrap_or(1),
            auto_renew: true,
            long_polling_timeout: POLL.try_into().ok(),
            attempt_id: Some(format!("{}-{}", self.client_id, draws.number())),
            ..Default::default()
        };
        let request = self.request(&self.client_id, question, Some(POLL + CALL));
        let mut stub = self.stub(authority);
        let messages = match timeout(POLL + CALL, gather(&mut stub, request)).await {
            Ok(Ok(messages)) => messages,
            Ok(Err(status)) => {
                self.host.tell(&format!("receive: {}", status.message()));
                sleep(Duration::from_millis(draws.between(50, 400))).await;
                return;
            }
            Err(_) => return,
        };
        let mut taken = Vec::with_capacity(messages.len());
        for message in messages {
            match held(&message) {
                Some(held) => {
                    self.host.received(LEDGER, &held, called, None);
                    taken.push(held);
                }
                None => self
                    .host
                    .stranger(&message.system_properties.unwrap_or_default().message_id),
            }
        }
        let mut refused: Vec<Option<String>> = Vec::new();
        for held in taken {
            match self.works.get() {
                Work::Quick => {}
                Work::Once(long) => {
                    self.works.set(Work::Quick);
                    self.host.tell(&format!("works long over {}", held.key));
                    sleep(long).await;
                }
                Work::Each(long) => sleep(long).await,
            }
            // In a message group what comes after a refused message waits for it: it is given back untouched.
            let behind = refused.contains(&held.message_group);
            if behind || (!self.host.is_calm() && draws.percent(4)) {
                refused.push(held.message_group.clone());
                self.refuse(authority, &held, Duration::from_secs(1)).await;
            } else if !self.ack(authority, &held, draws).await {
                refused.push(held.message_group.clone());
            }
        }
    }

    /// Tries until it is done or refused, as official clients do.
    async fn ack(&self, authority: &str, held: &Held, draws: &mut Draws) -> bool {
        self.host.settling(LEDGER, held, Op::Intent, None, None);
        let mut unknown = false;
        for door in std::iter::once(authority).chain(self.access_points.iter().map(String::as_str)) {
            let question = AckMessageRequest {
                group: Some(resource(LEDGER)),
                topic: Some(resource(PAYMENTS)),
                entries: vec![AckMessageEntry {
                    message_id: String::new(),
                    receipt_handle: held.handle.clone(),
                    lite_topic: None,
                }],
            };
            let request = self.request(&self.client_id, question, Some(CALL));
            let mut stub = self.stub(door);
            if let Ok(Ok(answer)) = timeout(CALL, stub.ack_message(request)).await {
                let entry = answer.into_inner().entries.into_iter().next();
                let code = entry.and_then(|entry| entry.status).map(|status| status.code());
                match code {
                    Some(Code::Ok) => {
                        self.host.settling(LEDGER, held, Op::Ok, None, None);
                        return true;
                    }
                    Some(Code::InvalidReceiptHandle) if !unknown => {
                        let error = Some("the handle is invalid".to_owned());
                        self.host.settling(LEDGER, held, Op::Failed, None, error);
                        return false;
                    }
                    Some(Code::InvalidReceiptHandle) => break,
                    _ => {}
                }
            }
            unknown = true;
            sleep(Duration::from_millis(draws.between(20, 300))).await;
        }
        self.host
            .settling(LEDGER, held, Op::Unknown, None, Some("no answer".to_owned()));
        false
    }

    async fn refuse(&self, authority: &str, held: &Held, later: Duration) {
        self.host.settling(LEDGER, held, Op::Intent, Some(later), None);
        let question = ChangeInvisibleDurationRequest {
            group: Some(resource(LEDGER)),
            topic: Some(resource(PAYMENTS)),
            receipt_handle: held.handle.clone(),
            invisible_duration: later.try_into().ok(),
            ..Default::default()
        };
        let request = self.request(&self.client_id, question, Some(CALL));
        let mut stub = self.stub(authority);
        let answer = timeout(CALL, stub.change_invisible_duration(request)).await;
        let code = match answer {
            Ok(Ok(answer)) => answer.into_inner().status.map(|status| status.code()),
            _ => None,
        };
        let op = match code {
            Some(Code::Ok) => Op::Ok,
            Some(Code::InvalidReceiptHandle) => Op::Failed,
            _ => Op::Unknown,
        };
        let error = (op == Op::Failed).then(|| "the handle is invalid".to_owned());
        self.host.settling(LEDGER, held, op, Some(later), error);
    }
}

async fn gather(stub: &mut Stub, request: Request<ReceiveMessageRequest>) -> Result<Vec<wire::Message>, Status> {
    let mut frames = stub.receive_message(request).await?.into_inner();
    let mut messages = Vec::new();
    loop {
        match frames.message().await {
            Ok(Some(frame)) => match frame.content {
                Some(Content::Message(message)) => messages.push(message),
                Some(Content::Status(status)) if !matches!(status.code(), Code::Ok | Code::MessageNotFound) => {
                    return Err(Status::unavailable(status.message));
                }
                _ => {}
            },
            Ok(None) => return Ok(messages),
            Err(status) if messages.is_empty() => return Err(status),
            // What has come is leased to this consumer.
            Err(_) => return Ok(messages),
        }
    }
}

fn held(message: &wire::Message) -> Option<Held> {
    let system = message.system_properties.as_ref()?;
    Some(Held {
        key: MessageName::of_body(&message.body)?,
        topic: PAYMENTS.to_owned(),
        queue: i64::from(system.queue_id),
        offset: system.queue_offset.unwrap_or(-1),
        attempt: i64::from(system.delivery_attempt.unwrap_or(1)),
        message_group: system.message_group.clone(),
        handle: system.receipt_handle.clone()?,
    })
}

fn resource(name: &str) -> Resource {
    Resource {
        resource_namespace: String::new(),
        name: name.to_owned(),
    }
}

fn everything() -> FilterExpression {
    FilterExpression {
        r#type: FilterType::Tag.into(),
        expression: "*".to_owned(),
    }
}

fn endpoints(access_points: &[String]) -> Endpoints {
    let address = |text: &String| {
        let (host, port) = text.rsplit_once(':')?;
        Some(Address {
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    };
    Endpoints {
        scheme: AddressScheme::DomainName.into(),
        addresses: access_points.iter().filter_map(address).collect(),
    }
}

fn settings(access_points: &[String]) -> Settings {
    let subscription = Subscription {
        group: Some(resource(LEDGER)),
        subscriptions: vec![SubscriptionEntry {
            topic: Some(resource(PAYMENTS)),
            expression: Some(everything()),
        }],
        fifo: Some(true),
        long_polling_timeout: POLL.try_into().ok(),
        ..Default::default()
    };
    Settings {
        client_type: Some(ClientType::PushConsumer.into()),
        access_point: Some(endpoints(access_points)),
        request_timeout: CALL.try_into().ok(),
        pub_sub: Some(PubSub::Subscription(subscription)),
        ..Default::default()
    }
}
