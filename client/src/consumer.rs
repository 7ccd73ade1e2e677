//! Receives messages on demand: a received message is hidden from others until it is acknowledged or its time is over.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use ledgermq_proto::rocketmq::{
    self as wire, AckMessageEntry, AckMessageRequest, ChangeInvisibleDurationRequest, Code, ReceiveMessageRequest,
    ReceiveMessageResponse, receive_message_response::Content,
};
use tonic::{Request, Response, Status};

use crate::{
    calls::Reply,
    client::Client,
    door::{Doors, Stub},
    error::{Error, answered},
    limits,
    options::Options,
    session::{Role, tag_filter},
};

/// The protocol's shortest long poll (grpc.md B.5).
const POLL_MIN: Duration = Duration::from_secs(5);

/// A cheap handle; its clones share connections and routes. The last one dropped ends the client's tasks.
#[derive(Clone)]
pub struct SimpleConsumer {
    shared: Arc<Shared>,
}

struct Shared {
    client: Arc<Client>,
    consumer_group: String,
    subscriptions: BTreeMap<String, String>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.client.close();
    }
}

/// A received message.
#[derive(Clone)]
pub struct Received {
    /// The message's id.
    pub message_id: String,
    /// The topic that it was sent to.
    pub topic: String,
    /// Its message queue.
    pub queue_id: i32,
    /// Its place in the message queue.
    pub queue_offset: i64,
    /// 1 at the first delivery.
    pub delivery_attempt: i32,
    /// The sender's tag.
    pub tag: Option<String>,
    /// The sender's keys.
    pub keys: Vec<String>,
    /// The sender's message group.
    pub message_group: Option<String>,
    /// The sender's names and values.
    pub properties: BTreeMap<String, String>,
    /// The content.
    pub body: Bytes,
    /// Names this delivery; a change of its time renews it.
    pub receipt_handle: String,
    doors: Arc<Doors>,
}

impl SimpleConsumer {
    /// Checks the options. `subscriptions` holds the tags wanted of each topic: `*`, or `a || b`. Nothing is connected
    /// before the first receive. Must be called inside a tokio runtime.
    pub fn start(
        options: Options,
        consumer_group: &str,
        subscriptions: BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        if subscriptions.is_empty() {
            return Err(Error::invalid("", "a consumer needs a subscription"));
        }
        let consumer_group = consumer_group.to_owned();
        let role = Role::SimpleConsumer {
            consumer_group: consumer_group.clone(),
            subscriptions: subscriptions.clone(),
        };
        let client = Client::start(options, role)?;
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                consumer_group,
                subscriptions,
            }),
        })
    }

    /// Waits up to `wait` for messages of a subscribed topic and takes at most `count` (1 to
    /// [`limits::RECEIVE_MESSAGES_MAX`]). They are hidden from others for `invisible`, 10 seconds to 12 hours. None in
    /// time is an empty answer, not an error. The protocol knows no wait below 5 seconds, nor one above 20: `wait` is
    /// brought into these bounds. Each call asks the next message queue of the route, so the next broker group.
    pub async fn receive(
        &self,
        topic: &str,
        count: u32,
        invisible: Duration,
        wait: Duration,
    ) -> Result<Vec<Received>, Error> {
        let Client { calls, .. } = &*self.shared.client;
        let Some(expression) = self.shared.subscriptions.get(topic) else {
            return Err(Error::invalid(topic, "not subscribed"));
        };
        let wait = wait.clamp(POLL_MIN, limits::LONG_POLL_MAX);
        let (known, route) = self.shared.client.route(topic).await?;
        let queue = route.readable(known.turn());
        let queue = queue.ok_or_else(|| Error::invalid(topic, "the topic has no readable queue"))?;
        let request = ReceiveMessageRequest {
            group: Some(calls.resource(&self.shared.consumer_group)),
            message_queue: Some(queue.wire.clone()),
            filter_expression: Some(tag_filter(expression)),
            batch_size: i32::try_from(count.clamp(1, limits::RECEIVE_MESSAGES_MAX)).unwrap_or(1),
            invisible_duration: Some(duration(topic, invisible)?),
            auto_renew: false,
            long_polling_timeout: Some(duration(topic, wait)?),
            attempt_id: Some(calls.identity.request_id()),
        };
        let deadline = wait + calls.options.attempt_timeout;
        let received = calls.attempt(topic, &queue.doors, deadline, |stub: Stub| {
            gather(stub, calls.request(request.clone(), deadline))
        });
        let messages = match received.await {
            Ok(received) => received.into_inner().messages,
            Err(Error::Refused {
                code: Code::MessageNotFound,
                ..
            }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        messages
            .into_iter()
            .map(|message| Received::new(topic, message, &queue.doors))
            .collect()
    }

    /// The message is done. Refused with INVALID_RECEIPT_HANDLE when its time was over.
    pub async fn ack(&self, message: &Received) -> Result<(), Error> {
        let Client { calls, .. } = &*self.shared.client;
        let request = AckMessageRequest {
            group: Some(calls.resource(&self.shared.consumer_group)),
            topic: Some(calls.resource(&message.topic)),
            entries: vec![AckMessageEntry {
                message_id: message.message_id.clone(),
                receipt_handle: message.receipt_handle.clone(),
                lite_topic: None,
            }],
        };
        let deadline = calls.options.attempt_timeout;
        let reply = calls.attempt(&message.topic, &message.doors, deadline, |mut stub: Stub| {
            let request = calls.request(request.clone(), deadline);
            async move { stub.ack_message(request).await }
        });
        for entry in reply.await?.into_inner().entries {
            let (code, text) = answered(&message.topic, entry.status)?;
            if code != Code::Ok {
                return Err(Error::Refused {
                    code,
                    message: text,
                    topic: message.topic.clone(),
                    unknown: false,
                });
            }
        }
        Ok(())
    }

    /// Hides the message from others for `invisible` from now on; 0 gives it back at once. Its receipt handle is renewed.
    pub async fn change_invisible(&self, message: &mut Received, invisible: Duration) -> Result<(), Error> {
        let Client { calls, .. } = &*self.shared.client;
        let request = ChangeInvisibleDurationRequest {
            group: Some(calls.resource(&self.shared.consumer_group)),
            topic: Some(calls.resource(&message.topic)),
            receipt_handle: message.receipt_handle.clone(),
            invisible_duration: Some(duration(&message.topic, invisible)?),
            message_id: message.message_id.clone(),
            lite_topic: None,
            suspend: None,
        };
        let deadline = calls.options.attempt_timeout;
        let reply = calls.attempt(&message.topic, &message.doors, deadline, |mut stub: Stub| {
            let request = calls.request(request.clone(), deadline);
            async move { stub.change_invisible_duration(request).await }
        });
        message.receipt_handle = reply.await?.into_inner().receipt_handle;
        Ok(())
    }

    /// Tells the servers that this consumer ends, and ends it; also for its clones.
    pub async fn shutdown(&self) {
        self.shared.client.shutdown().await;
    }
}

impl Received {
    fn new(topic: &str, message: wire::Message, doors: &Arc<Doors>) -> Result<Self, Error> {
        let system = message
            .system_properties
            .ok_or_else(|| Error::protocol(topic, "a message without system properties"))?;
        let receipt_handle = system
            .receipt_handle
            .ok_or_else(|| Error::protocol(topic, "a message without a receipt handle"))?;
        Ok(Self {
            message_id: system.message_id,
            topic: message.topic.map_or_else(|| topic.to_owned(), |resource| resource.name),
            queue_id: system.queue_id,
            queue_offset: system.queue_offset.unwrap_or(-1),
            delivery_attempt: system.delivery_attempt.unwrap_or(1),
            tag: system.tag,
            keys: system.keys,
            message_group: system.message_group,
            properties: message.user_properties,
            body: message.body,
            receipt_handle,
            doors: doors.clone(),
        })
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Received")
            .field("message_id", &self.message_id)
            .field("topic", &self.topic)
            .field("queue_id", &self.queue_id)
            .field("queue_offset", &self.queue_offset)
            .field("delivery_attempt", &self.delivery_attempt)
            .finish_non_exhaustive()
    }
}

/// All frames of one receive.
#[derive(Default)]
struct Gathered {
    status: Option<wire::Status>,
    messages: Vec<wire::Message>,
}

impl Reply for Gathered {
    /// Messages count more than a status that followed or failed to come: they are leased to this client.
    fn take_status(&mut self) -> Option<wire::Status> {
        if self.messages.is_empty() {
            return self.status.take();
        }
        Some(wire::Status {
            code: Code::Ok.into(),
            message: String::new(),
        })
    }
}

async fn gather(mut stub: Stub, request: Request<ReceiveMessageRequest>) -> Result<Response<Gathered>, Status> {
    let mut frames = stub.receive_message(request).await?.into_inner();
    let mut gathered = Gathered::default();
    let mut bytes = 0;
    while bytes < limits::RECEIVE_BYTES_MAX {
        match frames.message().await {
            Ok(Some(ReceiveMessageResponse {
                content: Some(Content::Status(status)),
            })) => {
                gathered.status = Some(status);
            }
            Ok(Some(ReceiveMessageResponse {
                content: Some(Content::Message(message)),
            })) => {
                bytes += message.body.len() + limits::MESSAGE_OVERHEAD_BYTES;
                gathered.messages.push(message);
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(status) if gathered.messages.is_empty() => return Err(status),
            Err(_) => break,
        }
    }
    Ok(Response::new(gathered))
}

fn duration(topic: &str, value: Duration) -> Result<prost_types::Duration, Error> {
    value
        .try_into()
        .map_err(|_| Error::invalid(topic, format!("{value:?} is too long")))
}
