//! The producer of docs/simulation.md, as it might look today: a seed finds that it sends an order twice.

use std::{process::ExitCode, time::Duration};

use ledgermq_client::{Message, Producer};
use ledgermq_sim::simulation::{App, Breaks, Profile, Result, Simulation, program};

async fn shop(app: App) -> Result {
    let producer = Producer::start(app.client())?;
    while !app.calm() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let number = app.store().number("orders") + 1;
        match producer.send(Message::new("orders", format!("order {number}"))).await {
            Ok(_) => app.store().put("orders", number.to_string()).await?,
            Err(error) => app.trace(format!("order {number}: {error}")),
        }
    }
    app.store().put("closed", "yes").await?;
    Ok(())
}

async fn billing(app: App) -> Result {
    let subscriptions = [("orders".to_owned(), "*".to_owned())].into();
    let consumer = ledgermq_client::SimpleConsumer::start(app.client(), "billing", subscriptions)?;
    loop {
        let (hidden, wait) = (Duration::from_secs(10), Duration::from_secs(5));
        let Ok(received) = consumer.receive("orders", 16, hidden, wait).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        for message in received {
            // One row for each message id: a message that comes again is the same message.
            let row = format!("bill/{}/{}", String::from_utf8_lossy(&message.body), message.message_id);
            app.store().put(&row, "").await?;
            let _ = consumer.ack(&message).await;
        }
    }
}

fn main() -> ExitCode {
    program(|seed, _| {
        Simulation::new(seed)
            .broker_group("broker-a", 3)
            .topic("orders", 4)
            .app("shop", shop)
            .app("billing", billing)
            .breaks(Breaks::random(Profile::Quick))
            .for_seconds(20)
            .eventually("the shop is closed and every order is billed", |world| {
                let (Some(shop), Some(bills)) = (world.store("shop"), world.store("billing")) else {
                    return false;
                };
                let billed = |number| !bills.scan(&format!("bill/order {number}/")).is_empty();
                shop.get("closed").is_some() && (1..=shop.number("orders")).all(billed)
            })
            .always(|world| {
                let bills = world
                    .store("billing")
                    .map(|store| store.scan("bill/"))
                    .unwrap_or_default();
                let orders: Vec<&str> = bills.iter().filter_map(|(row, _)| row.split('/').nth(1)).collect();
                match orders.windows(2).find(|pair| pair[0] == pair[1]) {
                    Some(pair) => Err(format!("{} is billed twice", pair[0])),
                    None => Ok(()),
                }
            })
    })
}
