//! `ledgermq bench produce --unary`: how many messages a second, how late, for how much processor time.
//!
//! A fixed number of senders, each with one call in flight, over several connections. After a warm-up everything that
//! is acknowledged within the measured time counts. Prints one JSON document.

use crate::admin::Target;
use crate::bench::cpu;
use crate::bench::report::{CpuSeconds, Latencies, ProduceReport};
use crate::clients;
use crate::duration;
use crate::failure::{Failure, Kind};
use crate::limits::{
    BENCH_BODY_BYTES_MAX, BENCH_CHANNELS, BENCH_CHANNELS_MAX, BENCH_IN_FLIGHT_MAX, BENCH_LATENCY_US_MAX, bounded,
};
use crate::output::json_line;
use bytes::Bytes;
use clap::{Args, Subcommand};
use hdrhistogram::Histogram;
use ledgermq_client::{Error, Message, Producer};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The flags.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Measure sends
    Produce(Produce),
}

#[derive(Args)]
struct Produce {
    /// One call of the public protocol for each message (streams are not there yet, so this is needed)
    #[arg(long, required = true)]
    unary: bool,
    /// Messages that wait for their acknowledgement at the same time
    #[arg(long, default_value_t = 512, value_parser = bounded::<BENCH_IN_FLIGHT_MAX>)]
    in_flight: usize,
    /// Bytes of a body
    #[arg(long, default_value_t = 1024, value_parser = bounded::<BENCH_BODY_BYTES_MAX>)]
    size: usize,
    /// How long to measure, after a warm-up of a fifth of it
    #[arg(long, default_value = "10s", value_parser = duration::parse_positive)]
    duration: Duration,
    /// Where the messages go
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Connections to each server
    #[arg(long, default_value_t = BENCH_CHANNELS, value_parser = bounded::<BENCH_CHANNELS_MAX>)]
    channels: usize,
    /// The server processes whose processor time is measured
    #[arg(long, value_delimiter = ',', value_name = "PID,…", conflicts_with = "dev_lines")]
    pids: Vec<u32>,
    /// Take these processes from what `ledgermq dev` printed into a file
    #[arg(long, value_name = "FILE")]
    dev_lines: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// What the senders have counted.
struct Counted {
    latency_us: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

/// The counts and the time in which they count.
struct Measure {
    begin: Instant,
    end: Instant,
    counted: Mutex<Counted>,
}

impl Measure {
    fn new(begin: Instant, end: Instant) -> Result<Measure, Failure> {
        let latency_us = Histogram::new_with_bounds(1, BENCH_LATENCY_US_MAX, 3)
            .map_err(|error| Failure::new(Kind::Internal, format!("histogram: {error}")))?;
        Ok(Measure {
            begin,
            end,
            counted: Mutex::new(Counted {
                latency_us,
                errors: 0,
                first_error: None,
            }),
        })
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, started: Instant, outcome: Result<(), Error>) {
        let now = Instant::now();
        if now < self.begin || now >= self.end {
            return;
        }
        let mut counted = self.counted();
        match outcome {
            Ok(()) => {
                let us = u64::try_from((now - started).as_micros()).unwrap_or(u64::MAX);
                counted.latency_us.saturating_record(us.max(1));
            }
            Err(error) => {
                counted.errors += 1;
                counted.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Verb::Produce(produce) = arguments.verb;
    assert!(produce.unary, "clap asks for it");
    let (servers, servers_from) = match &produce.dev_lines {
        Some(file) => (cpu::pids_in_dev_lines(file)?, "--dev-lines"),
        None if produce.pids.is_empty() => (BTreeSet::new(), "not given"),
        None => (produce.pids.iter().copied().collect(), "--pids"),
    };
    let producer = clients::producer(&produce.target, produce.channels, false)?;
    producer
        .prepare(&produce.topic)
        .await
        .map_err(|error| Failure::from_client("route", &error))?;

    let begin = Instant::now() + produce.duration / 5;
    let measure = Arc::new(Measure::new(begin, begin + produce.duration)?);
    let mut senders = JoinSet::new();
    for _ in 0..produce.in_flight {
        let message = Message::new(produce.topic.as_str(), Bytes::from(vec![b'x'; produce.size]));
        senders.spawn(send_until_end(producer.clone(), message, Arc::clone(&measure)));
    }
    let own = BTreeSet::from([std::process::id()]);
    sleep_until(measure.begin).await;
    let (client_before, servers_before) = (cpu::seconds(&own)?, cpu::seconds(&servers)?);
    sleep_until(measure.end).await;
    let (client_after, servers_after) = (cpu::seconds(&own)?, cpu::seconds(&servers)?);
    senders.join_all().await;
    producer.shutdown().await;

    let counted = measure.counted();
    let messages = counted.latency_us.len();
    if messages == 0 {
        let why = counted.first_error.as_deref().unwrap_or("nothing was answered");
        return Err(Failure::new(
            Kind::Unavailable,
            format!("no message was acknowledged: {why}"),
        ));
    }
    let millions = messages as f64 / 1e6;
    json_line(&ProduceReport {
        mode: "unary",
        topic: produce.topic,
        in_flight: produce.in_flight,
        channels: produce.channels,
        size: produce.size,
        seconds: produce.duration.as_secs_f64(),
        messages,
        messages_per_second: messages as f64 / produce.duration.as_secs_f64(),
        errors: counted.errors,
        first_error: counted.first_error.clone(),
        latency_us: Latencies::of(&counted.latency_us),
        cpu_seconds_per_million: CpuSeconds {
            client: (client_after - client_before) / millions,
            servers: (!servers.is_empty()).then_some((servers_after - servers_before) / millions),
            server_pids: servers.into_iter().collect(),
            server_pids_from: servers_from,
        },
    })
}

async fn send_until_end(producer: Producer, message: Message, measure: Arc<Measure>) {
    loop {
        let started = Instant::now();
        if started >= measure.end {
            return;
        }
        let outcome = producer.send(message.clone()).await;
        measure.count(started, outcome.map(drop));
    }
}
