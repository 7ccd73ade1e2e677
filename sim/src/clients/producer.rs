//! Producers: one request after the other, single messages and batches. A send that nobody answered is sent again with the
//! same message ids, as official clients do, through the door that its route names next.

use std::time::Duration;

use ledgermq_client::{Error, Message, Producer, Receipt};
use tokio::time::{Instant, sleep, timeout};

use super::{EVENTS, Host, LANGUAGES, ORDERS, PAYMENTS};
use crate::{
    history::{MessageName, Op, Send, What},
    seed::Draws,
};

/// A message is sent again within this time: well within the window in which a second try is told from a new message.
const AGAIN_WITHIN: Duration = Duration::from_secs(12);
/// Sends of one message that the workload begins.
const TRIES_MAX: u32 = 4;

struct Sender {
    host: Host,
    producer: Producer,
    draws: Draws,
}

/// Normal messages.
pub(super) async fn producer(host: Host) -> turmoil::Result {
    let mut sender = Sender::start(host).await?;
    let pause = sender.host.mix.pause_ms_max;
    loop {
        sleep(Duration::from_millis(sender.draws.between(1, pause))).await;
        if sender.host.is_calm() {
            continue;
        }
        let to_events = sender.host.mix.events && sender.draws.percent(30);
        let topic = if to_events { EVENTS } else { ORDERS };
        let count = sender.count();
        sender.send(topic, None, count).await;
        sender.rest().await;
    }
}

/// Messages in message groups.
pub(super) async fn in_order(host: Host) -> turmoil::Result {
    let mut sender = Sender::start(host).await?;
    let pause = sender.host.mix.pause_ms_max;
    loop {
        sleep(Duration::from_millis(sender.draws.between(1, pause))).await;
        if sender.host.is_calm() {
            continue;
        }
        // A message group has one sender: its order is the order of its sends.
        let group = sender.draws.between(1, sender.host.mix.message_groups);
        let group = format!("{}-{group}", sender.host.name);
        let to_events = sender.host.mix.events && sender.draws.percent(20);
        let topic = if to_events { EVENTS } else { PAYMENTS };
        let count = sender.count();
        sender.send(topic, Some(&group), count).await;
        sender.rest().await;
    }
}

impl Sender {
    async fn start(host: Host) -> turmoil::Result<Sender> {
        host.wait_until_ready().await;
        let life = Host::next(&host.lives);
        let mut draws = host.draws(life);
        let language = draws.pick(LANGUAGES);
        let producer = Producer::start(host.options(life, language))?;
        host.tell(&format!("life {life} as {language}"));
        Ok(Sender { host, producer, draws })
    }

    /// Mostly one message, sometimes a batch.
    fn count(&mut self) -> usize {
        if self.draws.percent(12) {
            self.draws.below(7) + 2
        } else {
            1
        }
    }

    /// Now and then nothing is sent for a while.
    async fn rest(&mut self) {
        if self.draws.percent(1) {
            sleep(Duration::from_millis(self.draws.between(500, 4_000))).await;
        }
    }

    fn messages(&mut self, topic: &str, group: Option<&str>, count: usize) -> Vec<(MessageName, Message)> {
        let mut messages = Vec::with_capacity(count);
        for _ in 0..count {
            let name = MessageName {
                producer: self.host.number,
                number: Host::next(&self.host.named),
            };
            let length = if self.draws.percent(3) {
                30_000
            } else {
                self.draws.below(800)
            };
            let mut message = Message::new(topic, name.body(length));
            message.tag = self.draws.percent(50).then(|| "red".to_owned());
            message.message_group = group.map(str::to_owned);
            message.message_id = Some(format!("01{:012X}0000{:016X}", name.producer, name.number));
            messages.push((name, message));
        }
        messages
    }

    async fn send(&mut self, topic: &str, group: Option<&str>, count: usize) {
        let messages = self.messages(topic, group, count);
        for (name, _) in &messages {
            self.record(Op::Intent, *name, Some(topic), group, None, None);
        }
        let (first, more) = (messages[0].0, count - 1);
        self.host.tell(&format!("send {first} and {more} more to {topic}"));
        let begun = Instant::now();
        let mut unknown = false;
        let mut tries = 0;
        let ended = loop {
            tries += 1;
            let wire: Vec<Message> = messages.iter().map(|(_, message)| message.clone()).collect();
            match self.attempt(wire).await {
                Ok(receipts) => break Ok(receipts),
                Err((may_be_stored, reason)) => {
                    unknown |= may_be_stored;
                    self.host.tell(&format!("{first}: {reason}"));
                    let again = may_be_stored && tries < TRIES_MAX && self.draws.percent(85);
                    if !again || begun.elapsed() > AGAIN_WITHIN {
                        break Err(reason);
                    }
                    sleep(Duration::from_millis(self.draws.between(1, 400))).await;
                }
            }
        };
        match ended {
            Ok(receipts) => {
                for ((name, _), receipt) in messages.iter().zip(receipts) {
                    self.host.tell(&format!("acked {name} at {receipt:?}"));
                    self.record(Op::Ok, *name, None, None, Some(receipt), None);
                }
            }
            Err(reason) => {
                let op = if unknown { Op::Unknown } else { Op::Failed };
                for (name, _) in &messages {
                    self.host.tell(&format!("{op:?} {name}"));
                    self.record(op, *name, None, None, None, Some(&reason));
                }
            }
        }
    }

    /// One call of the client; the error says whether the messages may be stored.
    async fn attempt(&mut self, mut messages: Vec<Message>) -> Result<Vec<Receipt>, (bool, String)> {
        let producer = self.producer.clone();
        let call = async move {
            match messages.pop() {
                Some(only) if messages.is_empty() => producer.send(only).await.map(|receipt| vec![receipt]),
                Some(last) => {
                    messages.push(last);
                    producer.send_batch(messages).await
                }
                None => Ok(Vec::new()),
            }
        };
        // Some users have less patience than the client.
        let patience = if self.draws.percent(4) {
            self.draws.between(5, 500)
        } else {
            60_000
        };
        match timeout(Duration::from_millis(patience), call).await {
            Ok(Ok(receipts)) => Ok(receipts),
            Ok(Err(error)) => Err((error.outcome_unknown(), said(&error))),
            Err(_) => Err((true, format!("given up after {patience} ms"))),
        }
    }

    fn record(
        &self,
        op: Op,
        name: MessageName,
        topic: Option<&str>,
        group: Option<&str>,
        receipt: Option<Receipt>,
        error: Option<&str>,
    ) {
        let receipt = receipt.as_ref();
        self.host.workload.history.record(What::Send(Send {
            op,
            key: name.to_string(),
            topic: topic.map(str::to_owned),
            message_group: group.map(str::to_owned),
            broker_group: receipt.map(|receipt| receipt.broker_group.clone()),
            queue: receipt.map(|receipt| receipt.queue_id.map_or(-1, i64::from)),
            offset: receipt.map(|receipt| i64::try_from(receipt.queue_offset).unwrap_or(-1)),
            error: error.map(str::to_owned),
        }));
    }
}

fn said(error: &Error) -> String {
    error.to_string()
}
