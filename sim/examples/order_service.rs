//! An order service with an outbox: it takes orders, keeps them in its database, and tells billing through a topic. An
//! order that was accepted must reach billing, whatever crashes; none may reach it that was not accepted.
//!
//! ```text
//! cargo run --release -p ledgermq-sim --example order_service -- --seeds 1..20             the outbox: passes
//! cargo run --release -p ledgermq-sim --example order_service -- --seeds 1..20 -- buggy    sends beside it: a bug
//! ```
//! The right variant writes the order and the message to be sent in one transaction, and a relay sends from there until
//! the broker has acknowledged, with a message id that stays the same. The buggy one commits the order and then sends:
//! when it crashes in between, or the send fails, billing never hears of the order.

use std::{process::ExitCode, time::Duration};

use ledgermq_client::{Message, Producer, SimpleConsumer};
use ledgermq_sim::simulation::{App, Breaks, Profile, Result, Simulation, program};

const TOPIC: &str = "orders";

fn main() -> ExitCode {
    program(|seed, arguments| {
        let buggy = arguments.iter().any(|argument| argument == "buggy");
        simulation(seed, buggy)
    })
}

fn simulation(seed: u64, buggy: bool) -> Simulation {
    Simulation::new(seed)
        .broker_group("broker-a", 3)
        .topic(TOPIC, 4)
        .app("order-service", move |app| order_service(app, buggy))
        .app("billing", billing)
        .breaks(Breaks::random(Profile::Quick))
        .for_seconds(20)
        .eventually("every accepted order is billed", |world| {
            let (Some(orders), Some(bills)) = (world.store("order-service"), world.store("billing")) else {
                return false;
            };
            let billed = |order: &str| bills.get(order).is_some();
            orders.scan("order/").iter().all(|(order, _)| billed(order))
        })
        .check(|world| {
            let (orders, bills) = world
                .store("order-service")
                .zip(world.store("billing"))
                .ok_or("a store is missing")?;
            let accepted = orders.scan("order/").len();
            if accepted < 20 {
                return Err(format!("only {accepted} orders were accepted"));
            }
            match bills
                .scan("order/")
                .into_iter()
                .find(|(order, _)| orders.get(order).is_none())
            {
                Some((order, _)) => Err(format!("{order} is billed and was never accepted")),
                None => Ok(()),
            }
        })
}

/// Customers order now and then; the relay runs beside.
async fn order_service(app: App, buggy: bool) -> Result {
    let producer = Producer::start(app.client())?;
    let relay = relay(app.clone(), producer.clone());
    let sales = async {
        let mut draws = app.draws("customers");
        while !app.calm() {
            tokio::time::sleep(Duration::from_millis(draws.between(20, 300))).await;
            accept(&app, &producer, buggy).await?;
        }
        // What was accepted is still to be sent.
        std::future::pending::<Result>().await
    };
    tokio::select! {
        biased;
        ended = relay => ended,
        ended = sales => ended,
    }
}

async fn accept(app: &App, producer: &Producer, buggy: bool) -> Result {
    let store = app.store();
    let number = store.number("last-order") + 1;
    let order = format!("order/{number:06}");
    let mut transaction = store.begin();
    transaction.put("last-order", number.to_string());
    transaction.put(&order, "a chair");
    if !buggy {
        transaction.put(&format!("outbox/{number:06}"), &order);
    }
    transaction.commit().await?;
    app.trace(format!("accepts {order}"));
    if buggy {
        // The bug: a crash before this line, or an error in it, loses the message, and nobody comes back to it.
        if let Err(error) = producer.send(message(&order)).await {
            app.trace(format!("cannot send {order}: {error}"));
        }
    }
    Ok(())
}

/// Sends what is in the outbox until the broker has it.
async fn relay(app: App, producer: Producer) -> Result {
    let store = app.store();
    loop {
        for (key, order) in store.scan("outbox/") {
            let order = String::from_utf8(order)?;
            match producer.send(message(&order)).await {
                Ok(_) => {
                    let mut transaction = store.begin();
                    transaction.remove(&key);
                    transaction.commit().await?;
                }
                // Unknown or failed: it stays, and is sent again under the same id.
                Err(error) => app.trace(format!("will send {order} again: {error}")),
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn message(order: &str) -> Message {
    let mut message = Message::new(TOPIC, order.to_owned());
    message.message_id = Some(order.to_owned());
    message
}

/// Writes down each order once; it may be told of one more than once.
async fn billing(app: App) -> Result {
    let subscriptions = [(TOPIC.to_owned(), "*".to_owned())].into();
    let consumer = SimpleConsumer::start(app.client(), "billing", subscriptions)?;
    let (hidden, wait) = (Duration::from_secs(10), Duration::from_secs(5));
    loop {
        let received = match consumer.receive(TOPIC, 16, hidden, wait).await {
            Ok(received) => received,
            Err(error) => {
                app.trace(format!("cannot receive: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        for message in received {
            let order = std::str::from_utf8(&message.body)?;
            app.store().put(order, "billed").await?;
            // An acknowledgement that fails means that the message comes again.
            if let Err(error) = consumer.ack(&message).await {
                app.trace(format!("{order} will come again: {error}"));
            }
        }
    }
}
