//! What is stored for one message.
//!
//! ```text
//! offset  size  field                        little endian
//!      0     1  version = 1
//!      1     1  message type: 1 normal, 2 FIFO, 3 delay, 4 transaction
//!      2     1  body encoding: 1 identity, 2 gzip
//!      3     1  0
//!      4     4  CRC32C of the body
//!      8     8  hash of the tag, 0 for none
//!     16     8  hash of the message group, 0 for none
//!     24     8  delivery time, unix ms, 0 for none
//!     32     4  F, length of the fields
//!     36     4  B, length of the body
//!     40     F  fields: texts (varint length, UTF-8) message id, topic, tag, message group; varint born ms;
//!               texts born host, store host, trace context; varint count, keys; varint count, (key, value) pairs
//!   40+F     B  body
//! ```
//!
//! The log checks the bytes of the whole entry; the CRC of the body is here because it is part of what makes two
//! sends the same. Apply reads the fixed part and the message id alone ([`RecordHead`]).

use super::codec::{DecodeError, Reader, Writer};
use super::identity::{tag_hash, text_hash};
use bytes::Bytes;
use std::fmt;

const VERSION: u8 = 1;
const FIXED_BYTES: usize = 40;
const WHAT: &str = "record";

/// One message as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name of the topic that it was sent to; stays when the message becomes a dead letter.
    pub topic: String,
    /// As the client chose it.
    pub message_id: String,
    /// Empty for none.
    pub tag: String,
    /// Search keys.
    pub keys: Vec<String>,
    /// Empty for none.
    pub message_group: String,
    /// Unix milliseconds, as the client told.
    pub born_timestamp_ms: u64,
    /// As the client told, else its address.
    pub born_host: String,
    /// Address of the door that took it.
    pub store_host: String,
    /// How the body is encoded.
    pub body_encoding: BodyEncoding,
    /// Derived from its properties (grpc.md B.3, 4).
    pub message_type: MessageType,
    /// When it may be delivered first, unix milliseconds; for delayed messages.
    pub delivery_timestamp_ms: Option<u64>,
    /// Opaque; empty for none.
    pub trace_context: String,
    /// The client's own properties, in the order of their keys.
    pub properties: Vec<(String, String)>,
    /// As transmitted.
    pub body: Bytes,
}

/// How a body is encoded (apache.rocketmq.v2 Encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoding {
    /// As it is.
    Identity,
    /// Compressed by the client.
    Gzip,
}

/// What kind of message it is (apache.rocketmq.v2 MessageType).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// Plain.
    Normal,
    /// With a message group.
    Fifo,
    /// With a delivery time.
    Delay,
    /// A half message.
    Transaction,
}

impl BodyEncoding {
    const fn number(self) -> u8 {
        match self {
            BodyEncoding::Identity => 1,
            BodyEncoding::Gzip => 2,
        }
    }

    fn of(number: u8) -> Result<BodyEncoding, DecodeError> {
        match number {
            1 => Ok(BodyEncoding::Identity),
            2 => Ok(BodyEncoding::Gzip),
            _ => Err(DecodeError::Bounds { what: "body encoding" }),
        }
    }
}

impl MessageType {
    const fn number(self) -> u8 {
        match self {
            MessageType::Normal => 1,
            MessageType::Fifo => 2,
            MessageType::Delay => 3,
            MessageType::Transaction => 4,
        }
    }

    fn of(number: u8) -> Result<MessageType, DecodeError> {
        match number {
            1 => Ok(MessageType::Normal),
            2 => Ok(MessageType::Fifo),
            3 => Ok(MessageType::Delay),
            4 => Ok(MessageType::Transaction),
            _ => Err(DecodeError::Bounds { what: "message type" }),
        }
    }
}

/// The part of a record that apply reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead<'a> {
    /// Derived from its properties.
    pub message_type: MessageType,
    /// CRC32C of the body, as its door told.
    pub body_crc: u32,
    /// Length of the body.
    pub body_length: u32,
    /// 0 for no tag.
    pub tag_hash: u64,
    /// 0 for no message group.
    pub message_group_hash: u64,
    /// As the client chose it.
    pub message_id: &'a str,
}

impl<'a> RecordHead<'a> {
    /// Reads the head of an encoded record, and checks that the lengths fit the bytes.
    pub fn read(bytes: &'a [u8]) -> Result<RecordHead<'a>, DecodeError> {
        let (fixed, mut fields, _) = parts(bytes)?;
        Ok(RecordHead {
            message_type: fixed.message_type,
            body_crc: fixed.body_crc,
            body_length: fixed.body_length,
            tag_hash: fixed.tag_hash,
            message_group_hash: fixed.message_group_hash,
            message_id: fields.text()?,
        })
    }
}

struct Fixed {
    message_type: MessageType,
    body_encoding: BodyEncoding,
    body_crc: u32,
    tag_hash: u64,
    message_group_hash: u64,
    delivery_timestamp_ms: u64,
    body_length: u32,
}

/// The fixed part, the fields, and where the body begins.
fn parts(bytes: &[u8]) -> Result<(Fixed, Reader<'_>, usize), DecodeError> {
    let mut reader = Reader::new(WHAT, bytes);
    reader.version(VERSION)?;
    let message_type = MessageType::of(reader.u8()?)?;
    let body_encoding = BodyEncoding::of(reader.u8()?)?;
    if reader.u8()? != 0 {
        return Err(DecodeError::Bounds { what: WHAT });
    }
    let body_crc = reader.u32()?;
    let tag_hash = reader.u64()?;
    let message_group_hash = reader.u64()?;
    let delivery_timestamp_ms = reader.u64()?;
    let fields_length = reader.u32()? as usize;
    let body_length = reader.u32()?;
    let fields = Reader::new(WHAT, reader.raw(fields_length)?);
    reader.raw(body_length as usize)?;
    reader.end()?;
    let fixed = Fixed {
        message_type,
        body_encoding,
        body_crc,
        tag_hash,
        message_group_hash,
        delivery_timestamp_ms,
        body_length,
    };
    Ok((fixed, fields, FIXED_BYTES + fields_length))
}

impl Record {
    /// The bytes that are stored.
    pub fn encode(&self) -> Bytes {
        let mut fields = Writer::with_capacity(160);
        for text in [&self.message_id, &self.topic, &self.tag, &self.message_group] {
            fields.text(text);
        }
        fields.varint(self.born_timestamp_ms);
        for text in [&self.born_host, &self.store_host, &self.trace_context] {
            fields.text(text);
        }
        fields.varint(self.keys.len() as u64);
        self.keys.iter().for_each(|key| fields.text(key));
        fields.varint(self.properties.len() as u64);
        for (key, value) in &self.properties {
            fields.text(key);
            fields.text(value);
        }
        let fields = fields.finish();
        let mut writer = Writer::with_capacity(FIXED_BYTES + fields.len() + self.body.len());
        writer.u8(VERSION);
        writer.u8(self.message_type.number());
        writer.u8(self.body_encoding.number());
        writer.u8(0);
        writer.u32(crc32c::crc32c(&self.body));
        writer.u64(tag_hash(&self.tag));
        writer.u64(if self.message_group.is_empty() {
            0
        } else {
            text_hash(&self.message_group)
        });
        writer.u64(self.delivery_timestamp_ms.unwrap_or(0));
        writer.u32(length(fields.len()));
        writer.u32(length(self.body.len()));
        writer.raw(&fields);
        writer.raw(&self.body);
        writer.finish()
    }

    /// The message in these bytes; its body is a slice of them.
    pub fn decode(bytes: Bytes) -> Result<Record, DecodeError> {
        let (fixed, mut fields, body_at) = parts(&bytes)?;
        let message_id = fields.text()?.to_string();
        let topic = fields.text()?.to_string();
        let tag = fields.text()?.to_string();
        let message_group = fields.text()?.to_string();
        let born_timestamp_ms = fields.varint()?;
        let born_host = fields.text()?.to_string();
        let store_host = fields.text()?.to_string();
        let trace_context = fields.text()?.to_string();
        let count = fields.count(1)?;
        let keys = (0..count)
            .map(|_| Ok(fields.text()?.to_string()))
            .collect::<Result<_, DecodeError>>()?;
        let count = fields.count(2)?;
        let pair = |_| Ok((fields.text()?.to_string(), fields.text()?.to_string()));
        let properties = (0..count).map(pair).collect::<Result<_, DecodeError>>()?;
        fields.end()?;
        Ok(Record {
            topic,
            message_id,
            tag,
            keys,
            message_group,
            born_timestamp_ms,
            born_host,
            store_host,
            body_encoding: fixed.body_encoding,
            message_type: fixed.message_type,
            delivery_timestamp_ms: (fixed.delivery_timestamp_ms != 0).then_some(fixed.delivery_timestamp_ms),
            trace_context,
            properties,
            body: bytes.slice(body_at..),
        })
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a message is far below 4 GiB")
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MessageType::Normal => "normal",
            MessageType::Fifo => "fifo",
            MessageType::Delay => "delay",
            MessageType::Transaction => "transaction",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A plain message.
    pub(crate) fn record(topic: &str, message_id: &str, tag: &str, message_group: &str, body: &str) -> Record {
        Record {
            topic: topic.to_string(),
            message_id: message_id.to_string(),
            tag: tag.to_string(),
            keys: Vec::new(),
            message_group: message_group.to_string(),
            born_timestamp_ms: 1,
            born_host: "10.0.0.1:5".to_string(),
            store_host: "10.0.0.2:8081".to_string(),
            body_encoding: BodyEncoding::Identity,
            message_type: if message_group.is_empty() {
                MessageType::Normal
            } else {
                MessageType::Fifo
            },
            delivery_timestamp_ms: None,
            trace_context: String::new(),
            properties: Vec::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            texts in proptest::array::uniform7(".{0,20}"),
            keys in proptest::collection::vec(".{0,8}", 0..4),
            properties in proptest::collection::vec((".{0,8}", ".{0,8}"), 0..4),
            born_timestamp_ms: u64,
            delivery in proptest::option::of(1u64..),
            number in 1u8..=4,
            body: Vec<u8>,
        ) {
            let [topic, message_id, tag, message_group, born_host, store_host, trace_context] = texts;
            let record = Record {
                topic, message_id, tag, keys, message_group, born_timestamp_ms, born_host, store_host,
                body_encoding: if number % 2 == 0 { BodyEncoding::Gzip } else { BodyEncoding::Identity },
                message_type: MessageType::of(number).expect("known"),
                delivery_timestamp_ms: delivery,
                trace_context, properties, body: body.into(),
            };
            let bytes = record.encode();
            let head = RecordHead::read(&bytes).expect("head");
            prop_assert_eq!(head.message_id, &record.message_id);
            prop_assert_eq!(head.tag_hash, tag_hash(&record.tag));
            prop_assert_eq!(Record::decode(bytes).expect("decode"), record);
        }

        #[test]
        fn corruption_never_panics(cut: usize, at: usize, byte: u8, any: Vec<u8>) {
            let bytes = record("topic", "id", "tag", "group", "body").encode();
            let mut changed = bytes.to_vec();
            let at = at % changed.len();
            changed[at] = byte;
            let _ = Record::decode(changed.into());
            prop_assert!(Record::decode(bytes.slice(..cut % bytes.len())).is_err());
            let _ = RecordHead::read(&any);
            let _ = Record::decode(any.into());
        }
    }
}
