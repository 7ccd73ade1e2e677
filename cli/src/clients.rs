//! Producers and consumers as the commands use them: real TCP, the machine's clock, a name of their own.

use crate::admin::Target;
use crate::clock::{fresh_seed, wall_clock};
use crate::failure::Failure;
use ledgermq_client::{Options, Producer, SimpleConsumer};
use ledgermq_proto::net::TcpNet;
use std::collections::BTreeMap;
use std::sync::Arc;

fn options(target: &Target) -> Options {
    let (seed, pid) = (fresh_seed(), std::process::id());
    let client_id = format!("ledgermq@{pid}@{seed:016x}");
    let endpoints = target.endpoints.addresses().to_vec();
    let options = Options::new(Arc::new(TcpNet), endpoints, &client_id, wall_clock(), seed);
    Options {
        process_id: pid,
        ..options
    }
}

/// A producer with this many connections to each server; `placement` asks where each message was put.
pub fn producer(target: &Target, channels: usize, placement: bool) -> Result<Producer, Failure> {
    let options = Options {
        channels_per_address: channels,
        placement,
        ..options(target)
    };
    Producer::start(options).map_err(|error| Failure::from_client("producer", &error))
}

/// A consumer of one topic; `tags` is `*` or `a||b`.
pub fn simple_consumer(
    target: &Target,
    consumer_group: &str,
    topic: &str,
    tags: &str,
) -> Result<SimpleConsumer, Failure> {
    let subscriptions = BTreeMap::from([(topic.to_owned(), tags.to_owned())]);
    SimpleConsumer::start(options(target), consumer_group, subscriptions)
        .map_err(|error| Failure::from_client("consumer", &error))
}
