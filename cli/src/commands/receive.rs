//! `ledgermq receive`: receives messages, prints a JSON line for each, then acknowledges it.
//!
//! Printed first, acknowledged second: a reader that dies in between gets the message again, none is lost.

use crate::admin::Target;
use crate::clients;
use crate::duration;
use crate::failure::Failure;
use crate::limits::{ACKS_IN_FLIGHT, RECEIVE_INVISIBLE, RECEIVE_MESSAGES};
use crate::output::json_line;
use clap::Args;
use futures::stream::{self, StreamExt};
use ledgermq_client::{Error, Received, SimpleConsumer};
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The flags.
#[derive(Args)]
pub struct Arguments {
    /// The topic
    #[arg(long)]
    topic: String,
    /// The consumer group
    #[arg(long)]
    consumer_group: String,
    /// Only messages with one of these tags: 'A||B'
    #[arg(long, default_value = "*")]
    tag: String,
    /// End after this many messages [default: no end but the timeout]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How long to wait for the next message; then the command ends with exit code 0
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    target: Target,
}

/// One received message, as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    message_id: &'a str,
    topic: &'a str,
    queue_id: i32,
    queue_offset: i64,
    delivery_attempt: i32,
    tag: Option<&'a str>,
    keys: &'a [String],
    message_group: Option<&'a str>,
    /// As text: bytes that are no UTF-8 are replaced.
    body: Cow<'a, str>,
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        target,
        consumer_group,
        topic,
        tag,
        ..
    } = &arguments;
    let consumer = clients::simple_consumer(target, consumer_group, topic, tag)?;
    let outcome = receive_all(&arguments, &consumer).await;
    consumer.shutdown().await;
    outcome
}

async fn receive_all(arguments: &Arguments, consumer: &SimpleConsumer) -> Result<(), Failure> {
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut deadline = Instant::now() + arguments.timeout;
    while left > 0 {
        let batch = u32::try_from(left).unwrap_or(u32::MAX).min(RECEIVE_MESSAGES);
        let wait = deadline.saturating_duration_since(Instant::now());
        let receive = consumer.receive(&arguments.topic, batch, RECEIVE_INVISIBLE, wait);
        // The protocol knows no wait below 5 s, so a shorter one is cut here. A message that was handed out in that very
        // moment comes again, when its lease ends.
        let Ok(messages) = timeout_at(deadline, receive).await else {
            return Ok(());
        };
        let messages = messages.map_err(|error| Failure::from_client("receive", &error))?;
        for message in &messages {
            print(message)?;
        }
        let acknowledgements: Vec<Result<(), Error>> = stream::iter(&messages)
            .map(|message| consumer.ack(message))
            .buffered(ACKS_IN_FLIGHT)
            .collect()
            .await;
        for acknowledged in acknowledgements {
            acknowledged.map_err(|error| Failure::from_client("acknowledge", &error))?;
        }
        left = left.saturating_sub(messages.len() as u64);
        if !messages.is_empty() {
            deadline = Instant::now() + arguments.timeout;
        }
    }
    Ok(())
}

fn print(message: &Received) -> Result<(), Failure> {
    json_line(&Line {
        message_id: &message.message_id,
        topic: &message.topic,
        queue_id: message.queue_id,
        queue_offset: message.queue_offset,
        delivery_attempt: message.delivery_attempt,
        tag: message.tag.as_deref(),
        keys: &message.keys,
        message_group: message.message_group.as_deref(),
        body: String::from_utf8_lossy(&message.body),
    })
}
