//! One SendMessage request (grpc.md B.0 and B.3): what may be stored, and of which type each message is.

use ledgermq_proto::rocketmq::{
    Code, DigestType, Encoding, Message, MessageType as WireType, SendMessageRequest, SystemProperties,
};
use md5::{Digest as _, Md5};

use super::names;
use crate::limits;
use crate::refusal::Refusal;
use crate::state::record::MessageType;

/// Checks a request; the topic's name on success. Delayed, transactional, lite and priority messages pass all checks
/// and are then refused as not implemented.
pub fn send(request: &SendMessageRequest, now_ms: u64) -> Result<&str, Refusal> {
    let corrupted = |message: String| Err(Refusal::new(Code::MessageCorrupted, message));
    let Some(first) = request.messages.first() else {
        return corrupted("no message to send".into());
    };
    let topic = names::topic(first.topic.as_ref())?;
    let count = request.messages.len();
    if count > limits::SEND_BATCH_MAX {
        let limit = limits::SEND_BATCH_MAX;
        return Err(Refusal::new(
            Code::PayloadTooLarge,
            format!("{count} messages, at most {limit} are allowed"),
        ));
    }
    let mut not_there = None;
    for message in &request.messages {
        if message.topic != first.topic {
            return corrupted("the messages of one request have different topics".into());
        }
        let system = system_properties(message)?;
        check(message, system, now_ms)?;
        not_there = not_there.or(missing(system));
        let plain = message_type(system) == MessageType::Normal;
        let same_group = system.message_group == system_properties(first)?.message_group;
        if count > 1 && !(same_group && (plain || message_type(system) == MessageType::Fifo)) {
            return corrupted("a batch holds normal messages, or FIFO messages of one message group".into());
        }
    }
    match not_there {
        Some(what) => Err(Refusal::not_implemented(what)),
        None => Ok(topic),
    }
}

/// A message's system properties; every message has them.
pub fn system_properties(message: &Message) -> Result<&SystemProperties, Refusal> {
    message
        .system_properties
        .as_ref()
        .ok_or_else(|| Refusal::new(Code::MessageCorrupted, "a message has no system properties"))
}

/// The type that counts, derived from the properties (grpc.md B.3, 4).
pub fn message_type(system: &SystemProperties) -> MessageType {
    if system.message_type == WireType::Transaction as i32 {
        MessageType::Transaction
    } else if system.delivery_timestamp.is_some() {
        MessageType::Delay
    } else if system.message_group.as_deref().is_some_and(|group| !group.is_empty()) {
        MessageType::Fifo
    } else {
        MessageType::Normal
    }
}

fn missing(system: &SystemProperties) -> Option<&'static str> {
    if system.lite_topic.as_deref().is_some_and(|lite| !lite.is_empty()) || is(system, WireType::Lite) {
        return Some("a message of type LITE");
    }
    if system.priority.is_some() || is(system, WireType::Priority) {
        return Some("a message of type PRIORITY");
    }
    match message_type(system) {
        MessageType::Delay => Some("a message of type DELAY"),
        MessageType::Transaction => Some("a message of type TRANSACTION"),
        _ if is(system, WireType::Delay) => Some("a message of type DELAY without a delivery timestamp"),
        MessageType::Normal | MessageType::Fifo => None,
    }
}

fn is(system: &SystemProperties, message_type: WireType) -> bool {
    system.message_type == message_type as i32
}

fn check(message: &Message, system: &SystemProperties, now_ms: u64) -> Result<(), Refusal> {
    body(message, system)?;
    properties(message, system)?;
    if system.message_id.trim().is_empty() {
        return Err(Refusal::new(Code::IllegalMessageId, "the message id is blank"));
    }
    if let Some(group) = system.message_group.as_deref().filter(|group| !group.is_empty()) {
        names::message_group(group)?;
    }
    let free = [
        ("message_id", system.message_id.as_str(), Code::IllegalMessageId),
        ("born_host", &system.born_host, Code::MessagePropertiesTooLarge),
        (
            "trace_context",
            system.trace_context.as_deref().unwrap_or_default(),
            Code::MessagePropertiesTooLarge,
        ),
    ];
    for (field, value, code) in free {
        if value.len() > limits::SYSTEM_PROPERTY_BYTES_MAX {
            let (length, limit) = (value.len(), limits::SYSTEM_PROPERTY_BYTES_MAX);
            return Err(Refusal::new(
                code,
                format!("{field} has {length} bytes, at most {limit} are allowed"),
            ));
        }
    }
    if let Some(at) = &system.delivery_timestamp {
        let at_ms = at
            .seconds
            .saturating_mul(1000)
            .saturating_add(i64::from(at.nanos) / 1_000_000);
        let limit = now_ms.saturating_add(limits::DELAY_MS_MAX);
        if at_ms > 0 && at_ms.unsigned_abs() > limit {
            return Err(Refusal::new(
                Code::IllegalDeliveryTime,
                "the delivery time is more than 40 days ahead",
            ));
        }
    }
    if let Some(recovery) = &system.orphaned_transaction_recovery_duration {
        let limit = limits::TRANSACTION_RECOVERY_S_MAX;
        if recovery.seconds > limit || recovery.seconds == limit && recovery.nanos > 0 {
            let seconds = recovery.seconds;
            let text = format!("orphaned_transaction_recovery_duration is {seconds} s, at most {limit} s are allowed");
            return Err(Refusal::new(Code::BadRequest, text));
        }
    }
    Ok(())
}

fn body(message: &Message, system: &SystemProperties) -> Result<(), Refusal> {
    let length = message.body.len();
    if length == 0 {
        return Err(Refusal::new(Code::MessageBodyEmpty, "the message body is empty"));
    }
    if length > limits::BODY_BYTES_MAX {
        let limit = limits::BODY_BYTES_MAX;
        let text = format!("the message body has {length} bytes, at most {limit} are allowed");
        return Err(Refusal::new(Code::MessageBodyTooLarge, text));
    }
    if Encoding::try_from(system.body_encoding).is_err() {
        return Err(Refusal::new(
            Code::BadRequest,
            format!("unknown body encoding {}", system.body_encoding),
        ));
    }
    if let Some(digest) = system.body_digest.as_ref().filter(|digest| !digest.checksum.is_empty())
        && digest.r#type == DigestType::Md5 as i32
        && !digest.checksum.eq_ignore_ascii_case(&md5_upper(&message.body))
    {
        return Err(Refusal::new(
            Code::MessageCorrupted,
            "the body does not match its digest",
        ));
    }
    Ok(())
}

fn properties(message: &Message, system: &SystemProperties) -> Result<(), Refusal> {
    let too_large = |text: String| Err(Refusal::new(Code::MessagePropertiesTooLarge, text));
    let mut bytes = 0;
    if let Some(tag) = system.tag.as_deref().filter(|tag| !tag.is_empty()) {
        names::tag(tag)?;
        bytes += tag.len();
    }
    for key in system.keys.iter().filter(|key| !key.is_empty()) {
        names::key(key)?;
        bytes += key.len();
    }
    let (count, limit) = (message.user_properties.len(), limits::USER_PROPERTIES_MAX);
    if count > limit {
        return too_large(format!("{count} user properties, at most {limit} are allowed"));
    }
    for (key, value) in &message.user_properties {
        names::property(key, value)?;
        bytes += key.len() + value.len();
    }
    let limit = limits::USER_PROPERTIES_BYTES_MAX;
    if bytes > limit {
        return too_large(format!(
            "user properties, tag and keys have {bytes} bytes, at most {limit} are allowed"
        ));
    }
    Ok(())
}

/// The digest that clients check: upper-case hexadecimal MD5 of the body as transmitted (grpc.md C.1).
pub fn md5_upper(body: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digest = Md5::digest(body);
    let mut text = String::with_capacity(32);
    for byte in digest {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests;
