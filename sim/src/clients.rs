//! What clients do while the cluster is broken: producers send, consumers receive, acknowledge, give back and forget.
//! Every step goes into the history before and after it happens.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ledgermq_client::{Error, Message, Options, Producer, Receipt, Received, SimpleConsumer};

use crate::{
    history::{History, MessageName, Place},
    net::SimNet,
    seed::{Draws, Seed},
    trace::Trace,
    world,
};

/// The topic that everybody uses.
pub const TOPIC: &str = "orders";
/// The consumer group of all consumers.
pub const CONSUMER_GROUP: &str = "billing";

/// The protocol's shortest time for which a received message is hidden.
const INVISIBLE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_secs(5);

/// What a client host needs.
#[derive(Clone)]
pub struct Workload {
    /// The run's seed.
    pub seed: Seed,
    /// Access points of the brokers.
    pub endpoints: Vec<String>,
    /// What is told.
    pub history: History,
    /// The trace.
    pub trace: Trace,
    /// Producers stop once it is set.
    pub quiet: Arc<AtomicBool>,
}

impl Workload {
    fn options(&self, name: &str) -> Options {
        let seed = self.seed.derive(&format!("client {name}"));
        let client_id = format!("{name}@1@1");
        let mut options = Options::new(
            Arc::new(SimNet),
            self.endpoints.clone(),
            &client_id,
            Arc::new(world::unix_ms),
            seed,
        );
        options.placement = true;
        options
    }
}

const PRODUCERS: u64 = 5;
const CONSUMERS: u64 = 2;

/// Puts the clients' hosts on the stage; their names go to the end of `hosts`.
pub fn hosts(sim: &mut turmoil::Sim<'static>, hosts: &mut Vec<String>, workload: &Workload) {
    for number in 1..=PRODUCERS {
        let workload = workload.clone();
        hosts.push(format!("producer-{number}"));
        // One lane each. h2 forgets reset streams by the real clock, and that moves the order in which the calls of one
        // lost connection fail: with several lanes on a connection, two runs of a seed may differ (docs/simulation.md).
        sim.host(format!("producer-{number}"), move || producer(workload.clone(), number, 1));
    }
    for number in 1..=CONSUMERS {
        let workload = workload.clone();
        hosts.push(format!("consumer-{number}"));
        sim.host(format!("consumer-{number}"), move || consumer(workload.clone(), number));
    }
}

/// A producer host: `lanes` tasks that each send one request after the other.
pub async fn producer(workload: Workload, number: u64, lanes: u64) -> turmoil::Result {
    let name = format!("producer-{number}");
    let producer = Producer::start(workload.options(&name))?;
    let next = Rc::new(Cell::new(0));
    let mut tasks = Vec::new();
    for lane in 0..lanes {
        let draws = workload.seed.child(&name, lane).stream("workload");
        let (workload, producer, next, name) = (workload.clone(), producer.clone(), next.clone(), name.clone());
        tasks.push(tokio::task::spawn_local(async move {
            Lane {
                workload,
                producer,
                next,
                name,
                number,
                draws,
            }
            .run()
            .await;
        }));
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}

struct Lane {
    workload: Workload,
    producer: Producer,
    next: Rc<Cell<u64>>,
    name: String,
    number: u64,
    draws: Draws,
}

impl Lane {
    async fn run(mut self) {
        let pause_max = self.draws.pick(&[40, 150, 400]);
        loop {
            tokio::time::sleep(Duration::from_millis(self.draws.between(1, pause_max))).await;
            if self.workload.quiet.load(Ordering::Relaxed) {
                continue;
            }
            let count = if self.draws.percent(15) {
                self.draws.below(8) + 2
            } else {
                1
            };
            self.send(count).await;
        }
    }

    async fn send(&mut self, count: usize) {
        let mut names = Vec::new();
        let mut messages = Vec::new();
        for _ in 0..count {
            self.next.set(self.next.get() + 1);
            let message = MessageName {
                producer: self.number,
                number: self.next.get(),
            };
            let length = if self.draws.percent(3) {
                30_000
            } else {
                self.draws.below(1_000)
            };
            let mut wire = Message::new(TOPIC, message.body(length));
            wire.tag = self.draws.percent(50).then(|| "red".to_owned());
            self.workload.history.sending(message);
            names.push(message);
            messages.push(wire);
        }
        let (first, more) = (names[0], count - 1);
        self.workload
            .trace
            .event(&self.name, format!("send {first} and {more} more"));
        let sent = match messages.pop() {
            Some(only) if messages.is_empty() => self.producer.send(only).await.map(|receipt| vec![receipt]),
            Some(last) => {
                messages.push(last);
                self.producer.send_batch(messages).await
            }
            None => return,
        };
        match sent {
            Ok(receipts) => self.acked(&names, receipts),
            Err(error) => self.not_acked(&names, &error),
        }
    }

    fn acked(&self, names: &[MessageName], receipts: Vec<Receipt>) {
        for (name, receipt) in names.iter().zip(receipts) {
            let place = Place {
                topic: TOPIC.to_owned(),
                queue: receipt.queue_id.map_or(-1, i64::from),
                offset: i64::try_from(receipt.queue_offset).unwrap_or(-1),
            };
            self.workload
                .trace
                .event(&self.name, format!("acked {name} at {place}"));
            self.workload.history.acked(*name, place);
        }
    }

    fn not_acked(&self, names: &[MessageName], error: &Error) {
        let unknown = error.outcome_unknown();
        let outcome = if unknown { "unknown" } else { "failed" };
        self.workload
            .trace
            .event(&self.name, format!("{outcome} {}: {error}", names[0]));
        for name in names {
            if unknown {
                self.workload.history.unknown(*name);
            } else {
                self.workload.history.failed(*name);
            }
        }
    }
}

/// A consumer host.
pub async fn consumer(workload: Workload, number: u64) -> turmoil::Result {
    let name = format!("consumer-{number}");
    let subscriptions = BTreeMap::from([(TOPIC.to_owned(), "*".to_owned())]);
    let consumer = SimpleConsumer::start(workload.options(&name), CONSUMER_GROUP, subscriptions)?;
    let mut draws = workload.seed.child(&name, 0).stream("workload");
    loop {
        let called = workload.trace.now();
        let count = u32::try_from(draws.between(1, 32)).unwrap_or(1);
        let received = match consumer.receive(TOPIC, count, INVISIBLE, POLL).await {
            Ok(received) => received,
            Err(error) => {
                workload.trace.event(&name, format!("receive: {error}"));
                tokio::time::sleep(Duration::from_millis(draws.between(5, 200))).await;
                continue;
            }
        };
        for message in received {
            handle(&workload, &name, &consumer, message, called, &mut draws).await;
        }
    }
}

async fn handle(
    workload: &Workload,
    name: &str,
    consumer: &SimpleConsumer,
    mut message: Received,
    called: Duration,
    draws: &mut Draws,
) {
    let Some(key) = MessageName::of_body(&message.body) else {
        workload.history.stranger(&message.message_id);
        return;
    };
    let place = Place {
        topic: message.topic.clone(),
        queue: i64::from(message.queue_id),
        offset: message.queue_offset,
    };
    workload.trace.event(
        name,
        format!("received {key} at {place} attempt {}", message.delivery_attempt),
    );
    workload.history.received(CONSUMER_GROUP, key, place, called);
    // While faults go on, some messages are given back, some forgotten.
    let calm = workload.quiet.load(Ordering::Relaxed);
    if !calm && draws.percent(2) {
        workload.trace.event(name, format!("forgets {key}"));
        return;
    }
    if !calm && draws.percent(3) {
        let given_back = consumer.change_invisible(&mut message, Duration::ZERO).await;
        workload
            .trace
            .event(name, format!("gives back {key}: {}", said(&given_back)));
        return;
    }
    let acked = consumer.ack(&message).await;
    workload.trace.event(name, format!("consumed {key}: {}", said(&acked)));
    match acked {
        Ok(()) => workload.history.consumed(CONSUMER_GROUP, key, workload.trace.now()),
        Err(error) if error.outcome_unknown() => workload.history.maybe_consumed(CONSUMER_GROUP, key),
        Err(_) => {}
    }
}

fn said(result: &Result<(), Error>) -> String {
    result
        .as_ref()
        .err()
        .map_or_else(|| "ok".to_owned(), ToString::to_string)
}
