//! A wallet that books payments from a topic. A message may be delivered more than once, so booking must be idempotent:
//! the balance has to be the sum of all payments, each booked once.
//!
//! ```text
//! cargo run --release -p ledgermq-sim --example idempotent_consumer -- --seeds 1..20             remembers: passes
//! cargo run --release -p ledgermq-sim --example idempotent_consumer -- --seeds 1..20 -- buggy    forgets: a bug
//! ```
//! The right variant keeps the payments it has booked, and books and remembers in one transaction. The buggy one
//! remembers in memory: after a crash between booking and acknowledging it books the same payment again.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use ledgermq_client::{Message, Producer, Received, SimpleConsumer};
use ledgermq_sim::{
    run::Profile,
    simulation::{App, Breaks, Result, Simulation, View, program},
};

const TOPIC: &str = "payments";

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
        .app("payers", payers)
        .app("wallet", move |app| wallet(app, buggy))
        .breaks(Breaks::random(Profile::Quick))
        .for_seconds(20)
        .always(|world| {
            let (paid, balance) = sums(world);
            match balance > paid {
                true => Err(format!("the balance is {balance}, and only {paid} was ever paid")),
                false => Ok(()),
            }
        })
        .eventually("the balance is what was paid", |world| {
            let (paid, balance) = sums(world);
            paid == balance
        })
        .check(|world| match sums(world) {
            (paid, _) if paid < 50 => Err(format!("only {paid} was paid")),
            _ => Ok(()),
        })
}

/// What was paid, and what was booked.
fn sums(world: &View<'_>) -> (u64, u64) {
    let number = |app: &str, key: &str| world.store(app).map_or(0, |store| store.number(key));
    (number("payers", "paid"), number("wallet", "balance"))
}

/// Pays: writes the payment down, then sends it until the broker has it.
async fn payers(app: App) -> Result {
    let producer = Producer::start(app.client())?;
    let store = app.store();
    let mut draws = app.draws("payments");
    loop {
        // A payment that a crash interrupted comes first.
        for (payment, amount) in store.scan("payment/") {
            let mut message = Message::new(TOPIC, amount);
            message.message_id = Some(payment.clone());
            while let Err(error) = producer.send(message.clone()).await {
                app.trace(format!("will send {payment} again: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let mut sent = store.begin();
            sent.remove(&payment);
            sent.commit().await?;
        }
        tokio::time::sleep(Duration::from_millis(draws.between(20, 300))).await;
        if app.calm() {
            return Ok(());
        }
        let (number, amount) = (store.number("payments") + 1, draws.between(1, 9));
        let mut payment = store.begin();
        payment.put("payments", number.to_string());
        payment.put("paid", (store.number("paid") + amount).to_string());
        payment.put(&format!("payment/{number:06}"), amount.to_string());
        payment.commit().await?;
    }
}

async fn wallet(app: App, buggy: bool) -> Result {
    let subscriptions = [(TOPIC.to_owned(), "*".to_owned())].into();
    let consumer = SimpleConsumer::start(app.client(), "wallet", subscriptions)?;
    let (hidden, wait) = (Duration::from_secs(10), Duration::from_secs(5));
    let mut seen = BTreeSet::new();
    let mut draws = app.draws("customers");
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
            book(&app, &message, buggy.then_some(&mut seen)).await?;
            // The customer is told, which takes its time: a crash in it comes after the booking and before the acknowledgement.
            tokio::time::sleep(Duration::from_millis(draws.between(0, 200))).await;
            if let Err(error) = consumer.ack(&message).await {
                app.trace(format!("{} will come again: {error}", message.message_id));
            }
        }
    }
}

/// Books a payment once. With `seen`, a set in memory, it does so until the next crash only: the planted bug.
async fn book(app: &App, message: &Received, seen: Option<&mut BTreeSet<String>>) -> Result {
    let store = app.store();
    let booked = format!("booked/{}", message.message_id);
    let known = match seen {
        Some(seen) => !seen.insert(booked.clone()),
        None => store.get(&booked).is_some(),
    };
    if known {
        app.mark("booked_before");
        return Ok(());
    }
    let amount: u64 = std::str::from_utf8(&message.body)?.parse()?;
    let mut transaction = store.begin();
    transaction.put("balance", (store.number("balance") + amount).to_string());
    transaction.put(&booked, amount.to_string());
    transaction.commit().await?;
    app.trace(format!("books {amount} of {}", message.message_id));
    Ok(())
}
