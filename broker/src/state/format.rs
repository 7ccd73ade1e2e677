//! The bytes of a command.
//!
//! ```text
//! offset  size  field                        little endian; text = varint length, UTF-8
//!      0     1  version = 1
//!      1     1  kind
//!      2     8  stamp, unix ms
//!     10    16  request id
//!     26     …  by kind
//!
//!  1 Probe                nothing
//!  2 CreateTopic          text name, u8 kind (1 normal, 2 FIFO, 3 delay, 4 transaction, 5 mixed), varint queues
//!  3 DeleteTopic          text name
//!  4 CreateConsumerGroup  text name, u8 fifo, varint attempts, u8 from (1 earliest, 2 latest)
//!  5 Send                 text client, text topic, varint count, count × (u32 queue, u32 length, record)
//!  6 Lease                text consumer group, text topic, varint invisible ms, u8 auto-renew, text client,
//!                         text attempt, varint count, count × (u8 kind (1 lease, 2 skip, 3 pass), varint queue,
//!                         varint first, varint last - first)
//!  7 Ack                  text consumer group, text topic, varint count, count × handle
//!  8 ChangeVisibility     text consumer group, text topic, handle, varint invisible ms, u8 suspend
//!  9 Renew                text consumer group, text topic, varint count, count × (varint queue, varint first,
//!                         u64 lease)
//! 10 ReleaseClient        text consumer group, text client
//! 11 Cut                  varint upto
//! 12 CarryOver            varint count, count × (u64 topic id, u32 queue, u64 offset, u64 from entry, u32 length,
//!                         record)
//! 13 Digest               nothing
//! 14 RaiseFormatLevel     varint to                           from level 2 on
//! 15 GiveBack             text consumer group, text topic, varint count, count × handle; from level 3 on
//!
//! handle = text broker group, u64 topic id, varint queue, varint offset, u64 lease
//! ```
//!
//! The records of a Send or CarryOver come last, so that the place of each in the command follows from the lengths
//! alone.

use super::codec::{DecodeError, Reader, Writer};
use super::command::{
    Ack, Action, CarriedRecord, CarryOver, ChangeVisibility, Command, CreateConsumerGroup, CreateTopic, GiveBack,
    Lease, NewMessage, PlannedRange, RangeKind, ReleaseClient, Renew, RenewSpan, Send,
};
use super::handle::ReceiptHandle;
use super::identity::{LeaseId, QueueOffset, RequestId, TopicId};
use super::topic::{ConsumeFrom, TopicKind};
use bytes::Bytes;
use ledgermq_raft_store::types::LogIndex;

const VERSION: u8 = 1;
const WHAT: &str = "command";
/// Queue and length before each record of a Send.
const MESSAGE_HEAD_BYTES: usize = 8;
/// What names a record and its length before each record of a CarryOver.
const CARRIED_HEAD_BYTES: usize = 32;

impl Action {
    const fn number(&self) -> u8 {
        match self {
            Action::Probe => 1,
            Action::CreateTopic(_) => 2,
            Action::DeleteTopic { .. } => 3,
            Action::CreateConsumerGroup(_) => 4,
            Action::Send(_) => 5,
            Action::Lease(_) => 6,
            Action::Ack(_) => 7,
            Action::ChangeVisibility(_) => 8,
            Action::Renew(_) => 9,
            Action::ReleaseClient(_) => 10,
            Action::Cut { .. } => 11,
            Action::CarryOver(_) => 12,
            Action::Digest => 13,
            Action::RaiseFormatLevel { .. } => 14,
            Action::GiveBack(_) => 15,
        }
    }
}

impl Command {
    /// The bytes to propose.
    pub fn encode(&self) -> Bytes {
        let messages = match &self.action {
            Action::Send(send) => send.messages.iter().map(|m| m.record.len() + MESSAGE_HEAD_BYTES).sum(),
            Action::CarryOver(carry) => carry.records.iter().map(|r| r.record.len() + CARRIED_HEAD_BYTES).sum(),
            _ => 0,
        };
        let mut writer = Writer::with_capacity(128 + messages);
        writer.u8(VERSION);
        writer.u8(self.action.number());
        writer.u64(self.stamp_ms);
        writer.raw(&self.request_id.0);
        write_action(&mut writer, &self.action);
        writer.finish()
    }

    /// The command in these bytes; the records of a send are slices of them.
    pub fn decode(bytes: &Bytes) -> Result<Command, DecodeError> {
        let mut reader = Reader::new(WHAT, bytes);
        reader.version(VERSION)?;
        let kind = reader.u8()?;
        let stamp_ms = reader.u64()?;
        let request_id = RequestId(reader.id16()?);
        let action = read_action(kind, &mut reader, bytes)?;
        reader.end()?;
        Ok(Command {
            stamp_ms,
            request_id,
            action,
        })
    }
}

impl Send {
    /// Where each record begins in the encoded command of `command_length` bytes.
    pub fn record_places(&self, command_length: usize) -> Vec<u32> {
        let lengths = self.messages.iter().map(|message| message.record.len());
        places(lengths, MESSAGE_HEAD_BYTES, command_length)
    }
}

impl CarryOver {
    /// Where each record begins in the encoded command of `command_length` bytes.
    pub fn record_places(&self, command_length: usize) -> Vec<u32> {
        let lengths = self.records.iter().map(|carried| carried.record.len());
        places(lengths, CARRIED_HEAD_BYTES, command_length)
    }
}

/// Places of the records that end a command, each behind a head.
fn places(lengths: impl Iterator<Item = usize> + Clone, head_bytes: usize, command_length: usize) -> Vec<u32> {
    let tail: usize = lengths.clone().map(|length| head_bytes + length).sum();
    let mut at = command_length
        .checked_sub(tail)
        .expect("the records are in the command");
    let place = |length| {
        let place = at + head_bytes;
        at = place + length;
        u32::try_from(place).expect("a command is below 4 GiB")
    };
    lengths.map(place).collect()
}

fn write_action(writer: &mut Writer, action: &Action) {
    match action {
        Action::Probe => {}
        Action::CreateTopic(create) => {
            writer.text(&create.name);
            writer.u8(topic_kind_number(create.kind));
            writer.varint(create.queues.into());
        }
        Action::DeleteTopic { name } => writer.text(name),
        Action::CreateConsumerGroup(create) => {
            writer.text(&create.name);
            writer.u8(create.fifo.into());
            writer.varint(create.max_attempts.into());
            writer.u8(consume_from_number(create.from));
        }
        Action::Send(send) => {
            writer.text(&send.client_id);
            writer.text(&send.topic);
            writer.varint(send.messages.len() as u64);
            for message in &send.messages {
                writer.u32(message.queue_id);
                writer.u32(u32::try_from(message.record.len()).expect("a record is below 4 GiB"));
                writer.raw(&message.record);
            }
        }
        Action::Lease(lease) => write_lease(writer, lease),
        Action::Ack(Ack {
            consumer_group,
            topic,
            handles,
        })
        | Action::GiveBack(GiveBack {
            consumer_group,
            topic,
            handles,
        }) => {
            writer.text(consumer_group);
            writer.text(topic);
            writer.varint(handles.len() as u64);
            handles.iter().for_each(|handle| write_handle(writer, handle));
        }
        Action::ChangeVisibility(change) => {
            writer.text(&change.consumer_group);
            writer.text(&change.topic);
            write_handle(writer, &change.handle);
            writer.varint(change.invisible_ms);
            writer.u8(change.suspend.into());
        }
        Action::Renew(renew) => {
            writer.text(&renew.consumer_group);
            writer.text(&renew.topic);
            writer.varint(renew.spans.len() as u64);
            for span in &renew.spans {
                writer.varint(span.queue_id.into());
                writer.varint(span.first.0);
                writer.u64(span.lease.0);
            }
        }
        Action::ReleaseClient(release) => {
            writer.text(&release.consumer_group);
            writer.text(&release.client_id);
        }
        Action::Cut { upto } => writer.varint(upto.get()),
        Action::CarryOver(carry) => {
            writer.varint(carry.records.len() as u64);
            for carried in &carry.records {
                writer.u64(carried.topic.0);
                writer.u32(carried.queue_id);
                writer.u64(carried.offset.0);
                writer.u64(carried.from.get());
                writer.u32(u32::try_from(carried.record.len()).expect("a record is below 4 GiB"));
                writer.raw(&carried.record);
            }
        }
        Action::Digest => {}
        Action::RaiseFormatLevel { to } => writer.varint((*to).into()),
    }
}

fn write_lease(writer: &mut Writer, lease: &Lease) {
    writer.text(&lease.consumer_group);
    writer.text(&lease.topic);
    writer.varint(lease.invisible_ms);
    writer.u8(lease.auto_renew.into());
    writer.text(&lease.client_id);
    writer.text(&lease.attempt_id);
    writer.varint(lease.ranges.len() as u64);
    for range in &lease.ranges {
        writer.u8(match range.kind {
            RangeKind::Lease => 1,
            RangeKind::Skip => 2,
            RangeKind::Pass => 3,
        });
        writer.varint(range.queue_id.into());
        writer.varint(range.first.0);
        writer.varint(range.last.since(range.first));
    }
}

fn write_handle(writer: &mut Writer, handle: &ReceiptHandle) {
    writer.text(&handle.broker_group);
    writer.u64(handle.topic.0);
    writer.varint(handle.queue_id.into());
    writer.varint(handle.offset.0);
    writer.u64(handle.lease.0);
}

fn read_action(kind: u8, reader: &mut Reader<'_>, bytes: &Bytes) -> Result<Action, DecodeError> {
    Ok(match kind {
        1 => Action::Probe,
        2 => Action::CreateTopic(CreateTopic {
            name: reader.text()?.to_string(),
            kind: topic_kind(reader.u8()?)?,
            queues: reader.varint_u32()?,
        }),
        3 => Action::DeleteTopic {
            name: reader.text()?.to_string(),
        },
        4 => Action::CreateConsumerGroup(CreateConsumerGroup {
            name: reader.text()?.to_string(),
            fifo: reader.flag()?,
            max_attempts: reader.varint_u32()?,
            from: consume_from(reader.u8()?)?,
        }),
        5 => Action::Send(read_send(reader, bytes)?),
        6 => Action::Lease(read_lease(reader)?),
        7 => Action::Ack(Ack {
            consumer_group: reader.text()?.to_string(),
            topic: reader.text()?.to_string(),
            handles: read_list(reader, 19, read_handle)?,
        }),
        15 => Action::GiveBack(GiveBack {
            consumer_group: reader.text()?.to_string(),
            topic: reader.text()?.to_string(),
            handles: read_list(reader, 19, read_handle)?,
        }),
        8 => Action::ChangeVisibility(ChangeVisibility {
            consumer_group: reader.text()?.to_string(),
            topic: reader.text()?.to_string(),
            handle: read_handle(reader)?,
            invisible_ms: reader.varint()?,
            suspend: reader.flag()?,
        }),
        9 => Action::Renew(Renew {
            consumer_group: reader.text()?.to_string(),
            topic: reader.text()?.to_string(),
            spans: read_list(reader, 10, |reader| {
                Ok(RenewSpan {
                    queue_id: reader.varint_u32()?,
                    first: QueueOffset(reader.varint()?),
                    lease: LeaseId(reader.u64()?),
                })
            })?,
        }),
        10 => Action::ReleaseClient(ReleaseClient {
            consumer_group: reader.text()?.to_string(),
            client_id: reader.text()?.to_string(),
        }),
        11 => Action::Cut {
            upto: LogIndex(reader.varint()?),
        },
        12 => Action::CarryOver(CarryOver {
            records: read_list(reader, CARRIED_HEAD_BYTES, |reader| {
                Ok(CarriedRecord {
                    topic: TopicId(reader.u64()?),
                    queue_id: reader.u32()?,
                    offset: QueueOffset(reader.u64()?),
                    from: LogIndex(reader.u64()?),
                    record: read_record(reader, bytes)?,
                })
            })?,
        }),
        13 => Action::Digest,
        14 => Action::RaiseFormatLevel {
            to: reader.varint_u32()?,
        },
        kind => return Err(DecodeError::Kind { what: WHAT, kind }),
    })
}

/// A length and the record behind it, as a slice of `bytes`.
fn read_record(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<Bytes, DecodeError> {
    let length = reader.u32()? as usize;
    let at = bytes.len() - reader.left();
    reader.raw(length)?;
    Ok(bytes.slice(at..at + length))
}

fn read_list<'a, T>(
    reader: &mut Reader<'a>,
    least: usize,
    mut each: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(least)?;
    (0..count).map(|_| each(reader)).collect()
}

fn read_send(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<Send, DecodeError> {
    let client_id = reader.text()?.to_string();
    let topic = reader.text()?.to_string();
    let messages = read_list(reader, MESSAGE_HEAD_BYTES, |reader| {
        Ok(NewMessage {
            queue_id: reader.u32()?,
            record: read_record(reader, bytes)?,
        })
    })?;
    Ok(Send {
        client_id,
        topic,
        messages,
    })
}

fn read_lease(reader: &mut Reader<'_>) -> Result<Lease, DecodeError> {
    Ok(Lease {
        consumer_group: reader.text()?.to_string(),
        topic: reader.text()?.to_string(),
        invisible_ms: reader.varint()?,
        auto_renew: reader.flag()?,
        client_id: reader.text()?.to_string(),
        attempt_id: reader.text()?.to_string(),
        ranges: read_list(reader, 4, |reader| {
            let kind = match reader.u8()? {
                1 => RangeKind::Lease,
                2 => RangeKind::Skip,
                3 => RangeKind::Pass,
                _ => return Err(DecodeError::Bounds { what: "range kind" }),
            };
            let queue_id = reader.varint_u32()?;
            let first = reader.varint()?;
            let last = first
                .checked_add(reader.varint()?)
                .ok_or(DecodeError::Bounds { what: "range" })?;
            Ok(PlannedRange {
                queue_id,
                first: QueueOffset(first),
                last: QueueOffset(last),
                kind,
            })
        })?,
    })
}

fn read_handle(reader: &mut Reader<'_>) -> Result<ReceiptHandle, DecodeError> {
    Ok(ReceiptHandle {
        broker_group: reader.text()?.to_string(),
        topic: TopicId(reader.u64()?),
        queue_id: reader.varint_u32()?,
        offset: QueueOffset(reader.varint()?),
        lease: LeaseId(reader.u64()?),
    })
}

/// The stored number of a kind of topic.
pub(crate) fn topic_kind_number(kind: TopicKind) -> u8 {
    match kind {
        TopicKind::Normal => 1,
        TopicKind::Fifo => 2,
        TopicKind::Delay => 3,
        TopicKind::Transaction => 4,
        TopicKind::Mixed => 5,
    }
}

/// The kind of topic of a stored number.
pub(crate) fn topic_kind(number: u8) -> Result<TopicKind, DecodeError> {
    match number {
        1 => Ok(TopicKind::Normal),
        2 => Ok(TopicKind::Fifo),
        3 => Ok(TopicKind::Delay),
        4 => Ok(TopicKind::Transaction),
        5 => Ok(TopicKind::Mixed),
        _ => Err(DecodeError::Bounds { what: "topic kind" }),
    }
}

/// The stored number of a starting place.
pub(crate) fn consume_from_number(from: ConsumeFrom) -> u8 {
    match from {
        ConsumeFrom::Earliest => 1,
        ConsumeFrom::Latest => 2,
    }
}

/// The starting place of a stored number.
pub(crate) fn consume_from(number: u8) -> Result<ConsumeFrom, DecodeError> {
    match number {
        1 => Ok(ConsumeFrom::Earliest),
        2 => Ok(ConsumeFrom::Latest),
        _ => Err(DecodeError::Bounds { what: "starting place" }),
    }
}

#[cfg(test)]
mod tests;
