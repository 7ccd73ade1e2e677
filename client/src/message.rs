//! A message to send, and what is known of it once it is stored.

use std::collections::BTreeMap;

use bytes::Bytes;
use ledgermq_proto::rocketmq::{self as wire, Encoding, MessageType, SystemProperties};

use crate::{calls::Calls, error::Error, limits};

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The topic that it is sent to.
    pub topic: String,
    /// Its content, at most [`limits::BODY_BYTES_MAX`], not empty.
    pub body: Bytes,
    /// Consumers filter by it.
    pub tag: Option<String>,
    /// Operators find it by these.
    pub keys: Vec<String>,
    /// Messages of one message group are received in the order of their sends.
    pub message_group: Option<String>,
    /// The user's own names and values.
    pub properties: BTreeMap<String, String>,
    /// Unix milliseconds before which nobody receives it.
    pub delivery_timestamp_ms: Option<u64>,
    /// None lets the client make one up. Sends of one client with the same id and body are stored once.
    pub message_id: Option<String>,
}

impl Message {
    /// A message with nothing but a body.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            body: body.into(),
            ..Self::default()
        }
    }

    /// What it takes of the bytes in flight.
    pub(crate) fn cost(&self) -> usize {
        self.body.len() + limits::MESSAGE_OVERHEAD_BYTES
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.body.len() > limits::BODY_BYTES_MAX {
            let message = format!(
                "body of {} bytes: the limit is {}",
                self.body.len(),
                limits::BODY_BYTES_MAX
            );
            return Err(Error::invalid(&self.topic, message));
        }
        Ok(())
    }

    /// The message on the wire. Its type follows from its properties; the server checks them.
    pub(crate) fn into_wire(self, calls: &Calls, queue_id: i32) -> wire::Message {
        let now_ms = (calls.options.wall_clock)();
        let message_type = match (&self.delivery_timestamp_ms, &self.message_group) {
            (Some(_), _) => MessageType::Delay,
            (None, Some(_)) => MessageType::Fifo,
            (None, None) => MessageType::Normal,
        };
        let system_properties = SystemProperties {
            tag: self.tag,
            keys: self.keys,
            message_id: self.message_id.unwrap_or_else(|| calls.identity.message_id(now_ms)),
            body_encoding: Encoding::Identity.into(),
            message_type: message_type.into(),
            born_timestamp: Some(timestamp(now_ms)),
            delivery_timestamp: self.delivery_timestamp_ms.map(timestamp),
            message_group: self.message_group,
            queue_id,
            ..Default::default()
        };
        wire::Message {
            topic: Some(calls.resource(&self.topic)),
            user_properties: self.properties,
            system_properties: Some(system_properties),
            body: self.body,
        }
    }
}

/// Where a message was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id.
    pub message_id: String,
    /// The broker group (broker name) that holds it.
    pub broker_group: String,
    /// Its message queue, when [`crate::Options::placement`] asked for it and the server said it.
    pub queue_id: Option<u32>,
    /// Its place in the message queue.
    pub queue_offset: u64,
}

fn timestamp(unix_ms: u64) -> prost_types::Timestamp {
    let nanos = (unix_ms % 1_000) * 1_000_000;
    prost_types::Timestamp {
        seconds: i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}
