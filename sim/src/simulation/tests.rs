//! What a user of the builder relies on: hosts, stores over crashes, checks, errors as values.

use std::time::Duration;

use ledgermq_client::{Message, Producer};
use ledgermq_proto::{
    headers,
    net::{ChannelOptions, channel},
    rocketmq::{
        ClientType, HeartbeatRequest, MessageQueue, ReceiveMessageRequest, Resource,
        messaging_service_client::MessagingServiceClient, receive_message_response::Content,
    },
};
use tokio::time::sleep;
use tonic::{Request, transport::Channel};

use super::*;
use crate::faults::{Fault, Target};

fn cluster(seed: u64) -> Simulation {
    Simulation::new(seed)
        .broker_group("broker-a", 1)
        .topic("orders", 2)
        .for_seconds(6)
}

#[test]
fn what_cannot_be_built_is_an_error_and_nothing_runs() {
    let idle = |_: App| async { Ok(()) };
    let second = Duration::from_secs(1);
    let leader = Target::Leader;
    let broken = |at, lasting, fault| cluster(1).breaks(Breaks::script().cluster(at, lasting, fault));
    let app_broken = |at, lasting| {
        let breaks = Breaks::script().app(at, lasting, "shop", AppFault::Kill);
        cluster(1).app("shop", idle).breaks(breaks)
    };
    let cases: Vec<(Simulation, &str)> = vec![
        (Simulation::new(1), "broker groups"),
        (Simulation::new(1).broker_group("broker-a", 0), "replicas"),
        (cluster(1).name_servers(99), "name servers"),
        (cluster(1).for_seconds(0), "seconds"),
        (cluster(1).app("Shop", idle), "Shop"),
        (cluster(1).app("replica-1", idle), "replica-1"),
        (cluster(1).app("shop", idle).app("shop", idle), "two"),
        (cluster(1).broker_group("broker a", 1), "broker group"),
        (cluster(1).broker_group("broker-a", 1), "two"),
        (cluster(1).topic("new orders", 1), "other than"),
        (cluster(1).topic("rmq_sys_x", 1), "system"),
        (cluster(1).topic("payments", 0), "1 to 4096 queues"),
        (cluster(1).topic("payments", 5_000), "queues, not 5000"),
        (cluster(1).fifo_topic("orders", 2), "topic \"orders\": there are two"),
        (
            broken(6 * second, second, Fault::Blackout),
            "after the end of the run, 6 s",
        ),
        (broken(second, Duration::MAX, Fault::Blackout), "for_ms"),
        (broken(second, second, Fault::Slow(leader, u64::MAX)), "the time"),
        (app_broken(6 * second, second), "after the end of the run, 6 s"),
        (app_broken(second, Duration::MAX), "at most"),
        (
            cluster(1).breaks(Breaks::script().app(Duration::ZERO, Duration::ZERO, "shop", AppFault::Kill)),
            "no such application",
        ),
        (
            broken(Duration::ZERO, Duration::ZERO, Fault::Kill(Target::Replica(5))),
            "no such replica",
        ),
    ];
    for (simulation, says) in cases {
        let error = simulation.run().expect_err(says);
        assert!(
            matches!(error, Error::Wrong(_)) && error.to_string().contains(says),
            "{error}"
        );
    }
}

#[test]
fn a_store_survives_a_crash_and_the_app_starts_again() {
    let breaks = Breaks::script()
        .app(
            Duration::from_secs(3),
            Duration::from_millis(500),
            "shop",
            AppFault::Kill,
        )
        .app(
            Duration::from_secs(5),
            Duration::from_millis(100),
            "shop",
            AppFault::PowerLoss,
        )
        .app(
            Duration::from_secs(4),
            Duration::from_millis(500),
            "shop",
            AppFault::CutOff,
        );
    let report = cluster(3)
        .app("shop", |app| async move {
            let store = app.store();
            let boots = store.number("boots");
            assert_eq!(boots, app.boot());
            store.put("boots", (boots + 1).to_string()).await?;
            let producer = Producer::start(app.client())?;
            while !app.calm() {
                // A host that is cut off gets errors; it goes on.
                if producer.send(Message::new("orders", "an order")).await.is_ok() {
                    let sent = store.number("sent") + 1;
                    store.put("sent", sent.to_string()).await?;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            store.put("done", "yes").await?;
            Ok(())
        })
        .breaks(breaks)
        .eventually("the shop is done", |world| {
            world.store("shop").is_some_and(|store| store.get("done").is_some())
        })
        .check(|world| {
            let store = world.store("shop").ok_or("no store")?;
            match (store.number("boots"), store.number("sent"), world.boots("shop")) {
                (3, 10.., 3) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .run()
        .expect("a pass");
    for mark in ["app_kill", "app_power_loss", "app_cut_off"] {
        assert_eq!(report.marks.get(mark), Some(&1), "{mark}");
    }
}

#[test]
fn every_way_to_be_wrong_is_a_violation_with_the_seed() {
    let stays = |_: App| async { std::future::pending().await };
    let says = |simulation: Simulation, what: &str| {
        let error = simulation.run_again("make sim SEED={seed}").run().expect_err(what);
        let Error::Violated { seed: 5, .. } = &error else {
            panic!("{error}");
        };
        let text = error.to_string();
        assert!(text.contains(what) && text.contains("make sim SEED=5"), "{text}");
    };
    says(
        cluster(5).app("shop", |_| async { Err("out of stock".into()) }),
        "shop: failed: out of stock",
    );
    says(
        cluster(5).app("shop", |app| async move {
            assert_eq!(app.boot(), 7, "boots");
            Ok(())
        }),
        "shop: panicked: assertion",
    );
    says(
        cluster(5).app("shop", |app| async move {
            app.violation("sold twice");
            Ok(())
        }),
        "shop: sold twice",
    );
    says(
        cluster(5).app("shop", stays).check(|_| Err("at the end".to_owned())),
        "at the end",
    );
    says(
        cluster(5).always(|world| match world.now() {
            now if now < Duration::from_secs(2) => Ok(()),
            now => Err(format!("too late: {now:?}")),
        }),
        "too late",
    );
    says(
        cluster(5).app("shop", stays).eventually("it is sold", |_| false),
        "not so: it is sold",
    );
}

/// A client of the bare protocol.
struct Bare {
    stub: MessagingServiceClient<Channel>,
    client_id: &'static str,
}

impl Bare {
    fn new(app: &App, client_id: &'static str) -> Bare {
        let channel = channel(app.net(), &app.endpoints()[0], ChannelOptions::default());
        let stub = MessagingServiceClient::new(channel);
        Bare { stub, client_id }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let client_id = self.client_id.parse().expect("ASCII");
        request.metadata_mut().insert(headers::CLIENT_ID, client_id);
        request
    }

    async fn heartbeat(&mut self) {
        let heartbeat = HeartbeatRequest {
            group: Some(resource("packers")),
            client_type: ClientType::PushConsumer.into(),
        };
        let request = self.request(heartbeat);
        self.stub.heartbeat(request).await.expect("alive");
    }

    /// How many messages come, in leases that renew by themselves.
    async fn receive(&mut self) -> usize {
        let question = ReceiveMessageRequest {
            group: Some(resource("packers")),
            message_queue: Some(MessageQueue {
                topic: Some(resource("orders")),
                ..Default::default()
            }),
            batch_size: 4,
            auto_renew: true,
            ..Default::default()
        };
        let request = self.request(question);
        let mut answer = self.stub.receive_message(request).await.expect("served").into_inner();
        let mut count = 0;
        while let Some(frame) = answer.message().await.expect("whole") {
            count += usize::from(matches!(frame.content, Some(Content::Message(_))));
        }
        count
    }
}

fn resource(name: &str) -> Resource {
    Resource {
        name: name.to_owned(),
        ..Default::default()
    }
}

/// A consumer dies without a word at 100 s, just after its lease was renewed up to 280 s. Nobody hears of it for two minutes,
/// then the brokers give back what it held.
#[test]
fn what_a_dead_consumer_holds_comes_back_after_two_minutes() {
    let holder = |app: App| async move {
        let producer = Producer::start(app.client())?;
        while producer.send(Message::new("orders", "an order")).await.is_err() {}
        let mut holder = Bare::new(&app, "holder@1@1");
        while holder.receive().await == 0 {}
        app.store().put("held", app.now().as_secs().to_string()).await?;
        while app.now() < Duration::from_secs(100) {
            holder.heartbeat().await;
            sleep(Duration::from_secs(10)).await;
        }
        drop(holder);
        std::future::pending().await
    };
    let heir = |app: App| async move {
        sleep(Duration::from_secs(50)).await;
        let mut heir = Bare::new(&app, "heir@1@1");
        while heir.receive().await == 0 {}
        app.store().put("got", app.now().as_secs().to_string()).await?;
        std::future::pending().await
    };
    Simulation::new(7)
        .broker_group("broker-a", 1)
        .topic("orders", 1)
        .for_seconds(260)
        .app("holder", holder)
        .app("heir", heir)
        .check(|world| {
            let told = |app: &str, what: &str| world.store(app).map_or(0, |store| store.number(what));
            match (told("holder", "held"), told("heir", "got")) {
                (0..30, 200..240) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .run()
        .expect("a pass");
}
