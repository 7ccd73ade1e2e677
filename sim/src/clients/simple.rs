//! Simple consumers: they receive, acknowledge, give back, forget, fall asleep over a message, and die to come back as
//! somebody else.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;
use ledgermq_client::{Error, Received, SimpleConsumer};
use tokio::time::{sleep, timeout};

use super::{
    BILLING, EVENTS, Host, LANGUAGES, LEDGER, ORDERS, PAYMENTS, RETRY, UNDERTAKER, VISITORS,
    consumer::{Held, now},
};
use crate::{
    history::{DEAD_LETTER_PREFIX, MessageName, Op},
    seed::Draws,
};

/// The protocol's shortest time for which a received message is hidden.
const INVISIBLE: Duration = Duration::from_secs(10);
/// Acknowledgements at a time, once all is calm.
const AT_ONCE: usize = 8;
const POLL: Duration = Duration::from_secs(5);

/// What a consumer is like while faults go on; later it acknowledges everything.
#[derive(Clone)]
struct Manners {
    consumer_group: &'static str,
    topics: Vec<String>,
    /// Messages of 100 that are given back.
    give_back: u64,
    /// Messages of 100 that are forgotten.
    forget: u64,
    /// Messages of 1,000 over which it falls asleep.
    sleep: u64,
    /// Lives of at most this many milliseconds.
    life_ms_max: u64,
    /// Says goodbye at the end of a life.
    polite: bool,
    /// Stays away between its lives, and for good once all is calm.
    visits: bool,
}

impl Manners {
    fn new(consumer_group: &'static str, topics: Vec<String>) -> Manners {
        Manners {
            consumer_group,
            topics,
            give_back: 3,
            forget: 2,
            sleep: 5,
            life_ms_max: 60_000,
            polite: false,
            visits: false,
        }
    }
}

pub(super) async fn billing(host: Host) -> turmoil::Result {
    let mut topics = vec![ORDERS.to_owned()];
    if host.mix.events {
        topics.push(EVENTS.to_owned());
    }
    live(host, Manners::new(BILLING, topics)).await
}

/// In order, beside the push consumers of the same consumer group.
pub(super) async fn auditor(host: Host) -> turmoil::Result {
    live(host, Manners::new(LEDGER, vec![PAYMENTS.to_owned()])).await
}

pub(super) async fn retry(host: Host) -> turmoil::Result {
    let manners = Manners {
        give_back: 15,
        forget: 3,
        ..Manners::new(RETRY, vec![ORDERS.to_owned()])
    };
    live(host, manners).await
}

pub(super) async fn undertaker(host: Host) -> turmoil::Result {
    let manners = Manners {
        give_back: 0,
        forget: 0,
        ..Manners::new(UNDERTAKER, vec![format!("{DEAD_LETTER_PREFIX}{RETRY}")])
    };
    live(host, manners).await
}

pub(super) async fn visitor(host: Host) -> turmoil::Result {
    let manners = Manners {
        life_ms_max: 6_000,
        polite: true,
        visits: true,
        ..Manners::new(VISITORS, vec![ORDERS.to_owned()])
    };
    live(host, manners).await
}

/// One life after the other.
async fn live(host: Host, manners: Manners) -> turmoil::Result {
    host.wait_until_ready().await;
    loop {
        let life = Host::next(&host.lives);
        let mut draws = host.draws(life);
        if manners.visits {
            sleep(Duration::from_millis(draws.between(1_000, 8_000))).await;
            if host.is_calm() {
                std::future::pending::<()>().await;
            }
        }
        let language = draws.pick(LANGUAGES);
        host.tell(&format!("life {life} as {language}"));
        let subscriptions: BTreeMap<String, String> = manners
            .topics
            .iter()
            .map(|topic| (topic.clone(), "*".to_owned()))
            .collect();
        let consumer = SimpleConsumer::start(host.options(life, language), manners.consumer_group, subscriptions)?;
        let lasts = Duration::from_millis(draws.between(1_000, manners.life_ms_max));
        let mut living = Life {
            host: &host,
            manners: &manners,
            consumer: &consumer,
            draws: &mut draws,
        };
        // Its end comes in the middle of whatever it does; nobody ends a life once all is calm.
        let ended = timeout(lasts, living.consume()).await;
        host.breaks_off();
        if ended.is_err() && host.is_calm() && !manners.visits {
            living.consume().await;
        }
        host.tell("dies");
        if manners.polite || draws.percent(30) {
            consumer.shutdown().await;
        }
    }
}

struct Life<'a> {
    host: &'a Host,
    manners: &'a Manners,
    consumer: &'a SimpleConsumer,
    draws: &'a mut Draws,
}

impl Life<'_> {
    async fn consume(&mut self) {
        let mut turn = 1;
        loop {
            let topic = &self.manners.topics[turn % self.manners.topics.len()];
            let called = now();
            let count = u32::try_from(self.draws.between(1, 32)).unwrap_or(1);
            let received = match self.consumer.receive(topic, count, INVISIBLE, POLL).await {
                Ok(received) => received,
                Err(error) => {
                    self.host.tell(&format!("receive: {error}"));
                    sleep(Duration::from_millis(self.draws.between(100, 700))).await;
                    turn += 1;
                    continue;
                }
            };
            // Once all is calm, one topic is emptied after the other: a call for one that gets nothing more takes long.
            if received.is_empty() || !self.host.is_calm() {
                turn += 1;
            }
            // All are in its hands before it looks at the first.
            let mut taken = Vec::with_capacity(received.len());
            for message in received {
                match held(topic, &message) {
                    Some(held) => {
                        self.host
                            .received(self.manners.consumer_group, &held, called, Some(INVISIBLE));
                        taken.push((held, message));
                    }
                    None => self.host.stranger(&message.message_id),
                }
            }
            // With what has piled up a single consumer would be busy for too long, one message after another.
            if self.host.is_calm() && self.manners.consumer_group != LEDGER {
                let acks = taken.iter().map(|(held, message)| self.ack(held, message));
                futures::stream::iter(acks)
                    .for_each_concurrent(AT_ONCE, |ack| ack)
                    .await;
                continue;
            }
            for (held, message) in taken {
                self.handle(held, message).await;
            }
        }
    }

    async fn handle(&mut self, held: Held, mut message: Received) {
        let calm = self.host.is_calm();
        if !calm && self.draws.percent(self.manners.forget) {
            self.host.tell(&format!("forgets {}", held.key));
            return;
        }
        if !calm && self.draws.percent(self.manners.give_back) {
            let later = Duration::from_millis(self.draws.pick(&[0, 0, 200, 1_500, 6_000]));
            self.give_back(&held, &mut message, later).await;
            return;
        }
        if !calm && self.draws.between(0, 999) < self.manners.sleep {
            let longer = Duration::from_millis(self.draws.between(500, 20_000));
            self.host.tell(&format!("falls asleep over {}", held.key));
            sleep(longer).await;
        }
        self.ack(&held, &message).await;
    }

    async fn ack(&self, held: &Held, message: &Received) {
        self.settle(held, Op::Intent, None, None);
        let acked = self.consumer.ack(message).await;
        let (op, error) = outcome(acked);
        self.settle(held, op, None, error);
    }

    async fn give_back(&mut self, held: &Held, message: &mut Received, later: Duration) {
        self.settle(held, Op::Intent, Some(later), None);
        let changed = self.consumer.change_invisible(message, later).await;
        let (op, error) = outcome(changed);
        self.settle(held, op, Some(later), error);
    }

    fn settle(&self, held: &Held, op: Op, later: Option<Duration>, error: Option<String>) {
        self.host.settling(self.manners.consumer_group, held, op, later, error);
    }
}

fn held(topic: &str, message: &Received) -> Option<Held> {
    Some(Held {
        key: MessageName::of_body(&message.body)?,
        topic: topic.to_owned(),
        queue: i64::from(message.queue_id),
        offset: message.queue_offset,
        attempt: i64::from(message.delivery_attempt),
        message_group: message.message_group.clone(),
        handle: message.receipt_handle.clone(),
    })
}

fn outcome(result: Result<(), Error>) -> (Op, Option<String>) {
    match result {
        Ok(()) => (Op::Ok, None),
        Err(error) if error.outcome_unknown() => (Op::Unknown, Some(error.to_string())),
        Err(error) => (Op::Failed, Some(error.to_string())),
    }
}
