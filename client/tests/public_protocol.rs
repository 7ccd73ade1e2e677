//! Producer and simple consumer against a mock server: what is sent, what is retried, what ends.

mod mock;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use ledgermq_client::{Error, Message, Options, Producer, SimpleConsumer};
use ledgermq_proto::{net::TcpNet, rocketmq::Code};
use mock::{Fault, Mock};
use tokio::time::{Instant, sleep, timeout};

fn options(mock: &Mock) -> Options {
    let mut options = Options::new(
        Arc::new(TcpNet),
        vec![mock.address.to_string()],
        "test@1",
        Arc::new(|| 1_700_000_000_123),
        7,
    );
    options.attempt_timeout = Duration::from_millis(500);
    options
}

fn producer(mock: &Mock) -> Producer {
    Producer::start(options(mock)).expect("good options")
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), waiting)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_send_carries_what_the_protocol_asks() {
    let mock = Mock::start().await;
    let message = Message {
        tag: Some("t".to_owned()),
        keys: vec!["k".to_owned()],
        properties: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        ..Message::new("orders", "hello")
    };
    let receipt = producer(&mock).send(message).await.expect("stored");
    assert_eq!(
        (receipt.broker_group.as_str(), receipt.queue_id, receipt.queue_offset),
        ("broker-a", None, 0)
    );
    assert_eq!(receipt.message_id.len(), 34);

    let state = mock.state();
    let stored = &state.stored[0];
    let system = stored.system_properties.as_ref().expect("present");
    assert_eq!(system.message_id, receipt.message_id);
    assert_eq!(
        (system.tag.as_deref(), system.keys.as_slice()),
        (Some("t"), ["k".to_owned()].as_slice())
    );
    let born = system.born_timestamp.expect("present");
    assert_eq!((born.seconds, born.nanos), (1_700_000_000, 123_000_000));
    assert_eq!(stored.user_properties["a"], "b");
    let headers = &state.headers[0];
    assert_eq!(headers["x-mq-client-id"], "test@1");
    assert_eq!(
        (headers["x-mq-language"].as_str(), headers["x-mq-protocol"].as_str()),
        ("RUST", "v2")
    );
    assert!(!headers["x-mq-client-version"].is_empty());
    assert_eq!(headers["x-mq-request-id"].len(), 32);
}

#[tokio::test]
async fn a_batch_is_one_request_with_a_receipt_each() {
    let mock = Mock::start().await;
    let mut options = options(&mock);
    options.placement = true;
    let producer = Producer::start(options).expect("good options");
    let batch = ["a", "b", "c"].map(|body| Message::new("orders", body)).to_vec();
    let receipts = producer.send_batch(batch).await.expect("stored");
    assert_eq!(
        receipts.iter().map(|receipt| receipt.queue_offset).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(
        receipts
            .iter()
            .all(|receipt| receipt.queue_id == Some(3) && receipt.broker_group == "broker-z")
    );
    assert_eq!(mock.state().headers.len(), 1);

    let mixed = vec![Message::new("orders", "a"), Message::new("bills", "b")];
    assert!(matches!(producer.send_batch(mixed).await, Err(Error::Invalid { .. })));
    assert!(producer.send_batch(Vec::new()).await.expect("nothing to do").is_empty());
}

#[tokio::test]
async fn retries_keep_the_message_id_and_ask_the_route_again() {
    let mock = Mock::start().await;
    let producer = producer(&mock);
    producer.prepare("orders").await.expect("routed");
    let asked = mock.state().routes_asked;
    mock.fail([Fault::StoredUnanswered, Fault::Code(Code::HaNotAvailable)]);
    let receipt = producer.send(Message::new("orders", "x")).await.expect("the third try");
    assert_eq!(mock.state().tries, vec![receipt.message_id.clone(); 3]);
    eventually("the route is asked after an error", || {
        mock.state().routes_asked > asked
    })
    .await;
}

#[tokio::test]
async fn three_tries_are_all() {
    let mock = Mock::start().await;
    let producer = producer(&mock);
    mock.fail([Fault::Code(Code::InternalServerError); 3]);
    let error = producer
        .send(Message::new("orders", "x"))
        .await
        .expect_err("all failed");
    assert_eq!(
        (error.code(), error.topic(), error.outcome_unknown()),
        (Code::InternalServerError, "orders", true)
    );
    assert_eq!(mock.state().tries.len(), 3);
}

#[tokio::test]
async fn a_refusal_is_final_and_known() {
    let mock = Mock::start().await;
    let producer = producer(&mock);
    for code in [Code::IllegalMessageTag, Code::NotImplemented] {
        mock.fail([Fault::Code(code)]);
        let error = producer.send(Message::new("orders", "x")).await.expect_err("refused");
        assert_eq!((error.code(), error.outcome_unknown()), (code, false));
    }
    assert_eq!(mock.state().tries.len(), 2);
    let missing = producer.send(Message::new("missing", "x")).await.expect_err("no topic");
    assert_eq!(
        (missing.code(), missing.outcome_unknown()),
        (Code::TopicNotFound, false)
    );

    mock.fail([
        Fault::Grpc(tonic::Code::Unavailable),
        Fault::Code(Code::IllegalMessageTag),
    ]);
    let error = producer.send(Message::new("orders", "x")).await.expect_err("refused");
    assert!(error.outcome_unknown(), "the first try may have been stored");
}

#[tokio::test]
async fn only_too_many_requests_waits() {
    let mock = Mock::start().await;
    let producer = producer(&mock);
    producer.prepare("orders").await.expect("routed");
    mock.fail([Fault::Code(Code::TooManyRequests), Fault::Code(Code::TooManyRequests)]);
    let start = Instant::now();
    producer.send(Message::new("orders", "x")).await.expect("the third try");
    assert!(start.elapsed() >= Duration::from_millis(30), "10 ms, then 20 ms");

    mock.fail([Fault::Code(Code::TooManyRequests); 3]);
    let error = producer.send(Message::new("orders", "x")).await.expect_err("full");
    assert_eq!((error.code(), error.outcome_unknown()), (Code::TooManyRequests, false));
}

#[tokio::test]
async fn a_silent_server_costs_one_deadline() {
    let mock = Mock::start().await;
    let producer = producer(&mock);
    producer.prepare("orders").await.expect("routed");
    mock.fail([Fault::Silent]);
    let start = Instant::now();
    producer
        .send(Message::new("orders", "x"))
        .await
        .expect("the second try");
    assert!(
        (450..1_500).contains(&start.elapsed().as_millis()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_dead_door_is_passed_over() {
    let first = Mock::start().await;
    let second = first.door().await;
    let producer = Producer::start(options(&second)).expect("good options");
    first.stop_listening();
    let start = Instant::now();
    for _ in 0..20 {
        producer
            .send(Message::new("orders", "x"))
            .await
            .expect("the other door");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(second.state().stored.len(), 20);

    second.stop_listening();
    let nobody = Producer::start(options(&first)).expect("good options");
    let error = nobody
        .send(Message::new("orders", "x"))
        .await
        .expect_err("nobody listens");
    assert!(matches!(&error, Error::Unanswered { .. }), "{error}");
    assert!(!error.outcome_unknown(), "nothing was ever sent: {error}");
}

/// A replica that is cut off from its peers answers, after it waited for a leader in vain.
#[tokio::test]
async fn a_door_without_a_leader_is_passed_over() {
    let first = Mock::start().await;
    let second = first.door().await;
    let producer = producer(&first);
    producer.prepare("orders").await.expect("routed");
    first.fail([Fault::Code(Code::HaNotAvailable)]);
    for _ in 0..3 {
        producer.send(Message::new("orders", "x")).await.expect("stored");
    }
    let (cut_off, well) = (first.address, second.address);
    assert_eq!(first.state().doors, [cut_off, well, well, well]);
}

#[tokio::test]
async fn a_client_that_is_closed_over_a_try_does_not_know_its_outcome() {
    let mock = Mock::start().await;
    let producer = Arc::new(producer(&mock));
    producer.prepare("orders").await.expect("routed");
    mock.fail([Fault::Silent]);
    let sending = {
        let producer = producer.clone();
        tokio::spawn(async move { producer.send(Message::new("orders", "x")).await })
    };
    eventually("it is on its way", || !mock.state().tries.is_empty()).await;
    producer.shutdown().await;
    let error = sending.await.expect("no panic").expect_err("closed");
    assert!(error.outcome_unknown(), "{error}");
    assert_eq!(mock.state().tries.len(), 1, "no other try");
    let closed = producer.send(Message::new("orders", "x")).await.expect_err("closed");
    assert!(matches!(&closed, Error::Closed { .. }), "{closed}");
    assert!(!closed.outcome_unknown(), "{closed}");
}

#[tokio::test]
async fn bytes_in_flight_are_bounded() {
    let mock = Mock::start().await;
    let mut options = options(&mock);
    options.in_flight_bytes_max = ledgermq_client::limits::BODY_BYTES_MAX + 1024;
    options.attempts_max = 2;
    let producer = Producer::start(options).expect("good options");
    producer.prepare("orders").await.expect("routed");
    mock.fail([Fault::Silent]);
    let body = vec![0; 3 * 1024 * 1024];
    let sends = [
        producer.send(Message::new("orders", body.clone())),
        producer.send(Message::new("orders", body)),
    ];
    let look = async {
        sleep(Duration::from_millis(250)).await;
        assert_eq!(mock.state().tries.len(), 1, "the second waits for room");
    };
    let (sent, ()) = futures::future::join(join_all(sends), look).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    assert_eq!(mock.state().tries.len(), 3);

    let large = Message::new("orders", vec![0; ledgermq_client::limits::BODY_BYTES_MAX + 1]);
    assert!(matches!(producer.send(large).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn sessions_are_kept_and_end() {
    let mock = Mock::start().await;
    let producer = producer(&mock);
    producer.send(Message::new("orders", "x")).await.expect("stored");
    producer.send(Message::new("bills", "x")).await.expect("stored");
    eventually("heartbeat and both topics in the settings", || {
        let state = mock.state();
        let publishing = state
            .settings
            .last()
            .and_then(|settings| match settings.pub_sub.clone()? {
                ledgermq_proto::rocketmq::settings::PubSub::Publishing(publishing) => Some(publishing.topics.len()),
                ledgermq_proto::rocketmq::settings::PubSub::Subscription(_) => None,
            });
        state.heartbeats >= 1 && publishing == Some(2)
    })
    .await;
    producer.shutdown().await;
    assert_eq!(mock.state().farewells, 1);
    let after = producer.send(Message::new("orders", "x")).await.expect_err("closed");
    assert!(matches!(after, Error::Closed { .. }), "{after}");
}

#[tokio::test]
async fn messages_are_received_changed_and_acknowledged() {
    let mock = Mock::start().await;
    let producer = producer(&mock);
    for body in ["a", "b", "c"] {
        producer.send(Message::new("orders", body)).await.expect("stored");
    }
    let subscriptions = BTreeMap::from([("orders".to_owned(), "*".to_owned())]);
    let consumer = SimpleConsumer::start(options(&mock), "readers", subscriptions).expect("good options");
    let (invisible, wait) = (Duration::from_secs(15), Duration::from_secs(5));
    let mut received = consumer.receive("orders", 2, invisible, wait).await.expect("answered");
    received.extend(consumer.receive("orders", 2, invisible, wait).await.expect("answered"));
    let bodies: Vec<&[u8]> = received.iter().map(|message| message.body.as_ref()).collect();
    assert_eq!(bodies, [b"a", b"b", b"c"]);
    assert!(
        consumer
            .receive("orders", 2, invisible, wait)
            .await
            .expect("answered")
            .is_empty()
    );

    consumer.ack(&received[0]).await.expect("acknowledged");
    consumer
        .change_invisible(&mut received[1], Duration::ZERO)
        .await
        .expect("given back");
    assert_eq!(received[1].receipt_handle, "handle-changed-1");
    received[2].receipt_handle = "stale".to_owned();
    let refused = consumer.ack(&received[2]).await.expect_err("stale");
    assert_eq!(refused.code(), Code::InvalidReceiptHandle);
    assert_eq!(mock.state().acked, ["handle-0", "stale"]);
    let unknown = consumer
        .receive("bills", 1, invisible, wait)
        .await
        .expect_err("not subscribed");
    assert!(matches!(unknown, Error::Invalid { .. }));
    consumer.shutdown().await;
    assert_eq!(mock.state().farewells, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sends_at_once() {
    const SENDS: usize = 5_000;
    let mock = Mock::start().await;
    let mut options = options(&mock);
    options.channels_per_address = 2;
    options.attempt_timeout = Duration::from_secs(3);
    let producer = Producer::start(options).expect("good options");
    let start = Instant::now();
    let senders = (0..64).map(|sender| {
        let producer = producer.clone();
        tokio::spawn(async move {
            for number in (sender..SENDS).step_by(64) {
                producer
                    .send(Message::new("orders", number.to_string()))
                    .await
                    .expect("stored");
            }
        })
    });
    for sender in join_all(senders).await {
        sender.expect("no panic");
    }
    println!("{SENDS} sends in {:?}", start.elapsed());
    let state = mock.state();
    let ids: std::collections::BTreeSet<&String> = state.tries.iter().collect();
    assert_eq!((state.stored.len(), ids.len()), (SENDS, SENDS));
}

#[tokio::test]
async fn wrong_options_are_refused() {
    let mock = Mock::start().await;
    let wrong: [fn(&mut Options); 5] = [
        |options| options.endpoints.clear(),
        |options| options.client_id = "a b".to_owned(),
        |options| options.channels_per_address = 0,
        |options| options.attempts_max = 0,
        |options| options.in_flight_bytes_max = 1,
    ];
    for change in wrong {
        let mut options = options(&mock);
        change(&mut options);
        assert!(matches!(Producer::start(options), Err(Error::Invalid { .. })));
    }
}
