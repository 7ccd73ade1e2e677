//! What simple and push consumers have in common: what they write into the history.

use std::{sync::PoisonError, time::Duration};

use ledgermq_broker::state::handle::ReceiptHandle;

use super::Host;
use crate::{
    history::{MessageName, Op, Receive, Settle, What},
    world,
};

/// A message in a consumer's hands, however it got there.
pub(super) struct Held {
    pub key: MessageName,
    pub topic: String,
    pub queue: i64,
    pub offset: i64,
    pub attempt: i64,
    pub message_group: Option<String>,
    pub handle: String,
}

impl Host {
    /// Writes down a delivery, by a call that began at `called` (seconds).
    pub(super) fn received(&self, consumer_group: &str, held: &Held, called: f64, invisible: Option<Duration>) {
        let (key, topic, queue, offset, attempt) = (held.key, &held.topic, held.queue, held.offset, held.attempt);
        self.tell(&format!("received {key} at {topic}/{queue}@{offset} attempt {attempt}"));
        let handle: Option<ReceiptHandle> = held.handle.parse().ok();
        self.workload.history.record(What::Receive(Receive {
            consumer: self.name.clone(),
            consumer_group: consumer_group.to_owned(),
            topic: topic.clone(),
            key: key.to_string(),
            attempt,
            message_group: held.message_group.clone(),
            broker_group: handle.map(|handle| handle.broker_group),
            queue: Some(queue),
            offset: Some(offset),
            called: Some(called),
            invisible_ms: invisible.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }));
    }

    /// A body that no producer of the workload made.
    pub(super) fn stranger(&self, message_id: &str) {
        self.workload.history.record(What::Stranger {
            message_id: message_id.to_owned(),
        });
    }

    /// Writes down how far an acknowledgement is, or a change of the invisible time.
    pub(super) fn settling(
        &self,
        consumer_group: &str,
        held: &Held,
        op: Op,
        invisible: Option<Duration>,
        error: Option<String>,
    ) {
        let does = if invisible.is_some() { "gives back" } else { "acks" };
        let (key, topic) = (held.key, &held.topic);
        let reason = error.as_deref().unwrap_or_default();
        self.tell(&format!("{does} {key} of {topic}: {op:?} {reason}"));
        let settle = Settle {
            op,
            consumer: self.name.clone(),
            consumer_group: consumer_group.to_owned(),
            topic: topic.clone(),
            key: key.to_string(),
            invisible_ms: invisible.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            error,
        };
        let unknown = Settle {
            op: Op::Unknown,
            error: Some("its consumer's life ended".to_owned()),
            ..settle.clone()
        };
        let what = |settle| match invisible {
            Some(_) => What::Change(settle),
            None => What::Ack(settle),
        };
        let unknown = what(unknown);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| *other != unknown);
        if op == Op::Intent {
            open.push(unknown);
        }
        drop(open);
        self.workload.history.record(what(settle));
    }

    /// Whatever a consumer was doing broke off: what it was about to be told stays unknown.
    pub(super) fn breaks_off(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for unknown in open {
            self.workload.history.record(unknown);
        }
    }
}

/// The time of a call that begins now.
pub(super) fn now() -> f64 {
    (world::seconds() * 1e6).round() / 1e6
}
