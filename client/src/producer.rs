//! Sends messages: each call is one RPC, tried at another door when it fails, always with the same message ids.

use std::sync::Arc;

use ledgermq_proto::{
    headers,
    rocketmq::{Code, SendMessageRequest, SendMessageResponse},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tonic::Response;

use crate::{
    client::Client,
    door::Stub,
    error::{Error, answered},
    limits,
    message::{Message, Receipt},
    options::Options,
    session::Role,
};

/// A cheap handle; its clones share connections, routes and bounds. The last one dropped ends the client's tasks.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    client: Arc<Client>,
    room: Semaphore,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.client.close();
    }
}

impl Producer {
    /// Checks the options. Nothing is connected before the first send. Must be called inside a tokio runtime.
    pub fn start(options: Options) -> Result<Self, Error> {
        let room = Semaphore::new(options.in_flight_bytes_max);
        let client = Client::start(options, Role::Producer)?;
        Ok(Self {
            shared: Arc::new(Shared { client, room }),
        })
    }

    /// Asks the route of a topic, so that the first send does not wait for it.
    pub async fn prepare(&self, topic: &str) -> Result<(), Error> {
        self.shared.client.route(topic).await.map(drop)
    }

    /// Sends one message and waits until it is stored. Takes at most [`Options::attempts_max`] times
    /// [`Options::attempt_timeout`], the same again when there is no room for it at first, and the route's time.
    /// Dropping the future leaves the outcome open.
    pub async fn send(&self, message: Message) -> Result<Receipt, Error> {
        let topic = message.topic.clone();
        let mut receipts = self.send_request(&topic, vec![message]).await?;
        receipts.pop().ok_or_else(|| Error::protocol(&topic, "no entry"))
    }

    /// Sends messages of one topic in one request: stored whole or not at all. All without a message group, or all with
    /// the same one. Receipts are in the order of the messages.
    pub async fn send_batch(&self, messages: Vec<Message>) -> Result<Vec<Receipt>, Error> {
        let Some(first) = messages.first() else {
            return Ok(Vec::new());
        };
        let topic = first.topic.clone();
        if messages.len() > limits::BATCH_MESSAGES_MAX {
            let message = format!(
                "{} messages: the limit is {}",
                messages.len(),
                limits::BATCH_MESSAGES_MAX
            );
            return Err(Error::invalid(&topic, message));
        }
        if messages
            .iter()
            .any(|message| message.topic != first.topic || message.message_group != first.message_group)
        {
            return Err(Error::invalid(&topic, "a batch has one topic and one message group"));
        }
        self.send_request(&topic, messages).await
    }

    /// Tells the servers that this producer ends, and ends it; also for its clones.
    pub async fn shutdown(&self) {
        self.shared.room.close();
        self.shared.client.shutdown().await;
    }

    async fn send_request(&self, topic: &str, messages: Vec<Message>) -> Result<Vec<Receipt>, Error> {
        for message in &messages {
            message.check()?;
        }
        let Client { calls, .. } = &*self.shared.client;
        let _room = self.room(topic, messages.iter().map(Message::cost).sum()).await?;
        let (known, route) = self.shared.client.route(topic).await?;
        let message_group = messages.first().and_then(|message| message.message_group.as_deref());
        let queue = route.writable(message_group, known.turn());
        let queue = queue.ok_or_else(|| Error::invalid(topic, "the topic has no writable queue"))?;

        let messages = messages
            .into_iter()
            .map(|message| message.into_wire(calls, queue.wire.id))
            .collect();
        let request = SendMessageRequest { messages };
        let deadline = calls.options.attempt_timeout;
        let reply = calls.attempt(topic, &queue.doors, deadline, |mut stub: Stub| {
            let request = calls.request(request.clone(), deadline);
            async move { stub.send_message(request).await }
        });
        receipts(topic, &queue.broker_name, request.messages.len(), reply.await?)
    }

    async fn room(&self, topic: &str, cost: usize) -> Result<SemaphorePermit<'_>, Error> {
        let closed = || Error::Closed {
            topic: topic.to_owned(),
        };
        let options = &self.shared.client.calls.options;
        let cost = cost.min(options.in_flight_bytes_max);
        let cost = u32::try_from(cost).map_err(|_| Error::invalid(topic, "too many bytes"))?;
        if let Ok(room) = self.shared.room.try_acquire_many(cost) {
            return Ok(room);
        }
        let longest = options.attempt_timeout.saturating_mul(options.attempts_max);
        match timeout(longest, self.shared.room.acquire_many(cost)).await {
            Ok(room) => room.map_err(|_| closed()),
            Err(_) => Err(Error::Refused {
                code: Code::TooManyRequests,
                message: format!("{} bytes are in flight", options.in_flight_bytes_max),
                topic: topic.to_owned(),
                unknown: false,
            }),
        }
    }
}

/// One receipt for each message, or the first refusal among them.
fn receipts(
    topic: &str,
    broker_name: &str,
    count: usize,
    reply: Response<SendMessageResponse>,
) -> Result<Vec<Receipt>, Error> {
    let metadata = reply.metadata();
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    let broker_group = text(headers::BROKER_GROUP).unwrap_or(broker_name).to_owned();
    let placed: Vec<Option<u32>> = text(headers::QUEUE_IDS)
        .into_iter()
        .flat_map(|ids| ids.split(','))
        .map(|id| id.trim().parse().ok())
        .collect();

    let entries = reply.into_inner().entries;
    if entries.len() != count {
        return Err(Error::protocol(
            topic,
            format!("{} entries for {count} messages", entries.len()),
        ));
    }
    let receipts = entries.into_iter().enumerate().map(|(number, entry)| {
        let (code, message) = answered(topic, entry.status)?;
        if code != Code::Ok {
            return Err(Error::Refused {
                code,
                message,
                topic: topic.to_owned(),
                unknown: count > 1,
            });
        }
        Ok(Receipt {
            message_id: entry.message_id,
            broker_group: broker_group.clone(),
            queue_id: placed.get(number).copied().flatten(),
            queue_offset: u64::try_from(entry.offset)
                .map_err(|_| Error::protocol(topic, format!("queue offset {}", entry.offset)))?,
        })
    });
    receipts.collect()
}
