//! For tools that look into a stopped replica's log: the inspection of raft-store, and what the commands in it mean.

use std::collections::BTreeMap;

use bytes::Bytes;
pub use ledgermq_raft_store::disk::{Disk, RealDisk};
pub use ledgermq_raft_store::inspect;
pub use ledgermq_raft_store::log::FrameKind;
pub use ledgermq_raft_store::{EntryId, LogIndex, ReplicaId};
use serde::Serialize;

use crate::limits::SHOWN_BODY_BYTES;
use crate::state::command::{Action, Command, NewMessage};
use crate::state::record::Record;

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
}

/// One command in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandLine {
    /// Where it lies in the body of its entry.
    pub slot: u32,
    /// Its kind; `kind N` for one that has no name here.
    pub kind: String,
    /// Unix milliseconds of its stamp.
    pub stamp_ms: u64,
    /// Its main fields.
    pub fields: BTreeMap<&'static str, Value>,
    /// The messages of a send.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<MessageLine>,
}

/// One message in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MessageLine {
    /// The queue that it was sent to.
    pub queue: u32,
    /// As the client chose it.
    pub message_id: String,
    /// Empty for none.
    pub tag: String,
    /// Empty for none.
    pub message_group: String,
    /// Length of its body.
    pub body_bytes: u64,
    /// The beginning of its body, when bodies are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// The commands in the body of an entry.
pub fn commands(body: &Bytes, with_bodies: bool) -> Result<Vec<CommandLine>, String> {
    let commands = ledgermq_raft_store::body::decode(body).map_err(|error| error.to_string())?;
    commands
        .into_iter()
        .map(|(slot, bytes)| command(slot, &bytes, with_bodies).map_err(|error| format!("command at {slot}: {error}")))
        .collect()
}

fn command(slot: u32, bytes: &Bytes, with_bodies: bool) -> Result<CommandLine, String> {
    let command = Command::decode(bytes).map_err(|error| error.to_string())?;
    let (name, fields) = describe(&command.action);
    let messages = match &command.action {
        Action::Send(send) => send.messages.iter().map(|message| line(message, with_bodies)).collect(),
        _ => Ok(Vec::new()),
    };
    // The second byte of a command is the number of its kind.
    let number = bytes.get(1).copied().unwrap_or_default();
    Ok(CommandLine {
        slot,
        kind: name.map_or_else(|| format!("kind {number}"), str::to_owned),
        stamp_ms: command.stamp_ms,
        fields: fields.into_iter().collect(),
        messages: messages?,
    })
}

fn line(message: &NewMessage, with_bodies: bool) -> Result<MessageLine, String> {
    let record = Record::decode(message.record.clone()).map_err(|error| error.to_string())?;
    let shown = &record.body[..record.body.len().min(SHOWN_BODY_BYTES)];
    Ok(MessageLine {
        queue: message.queue_id,
        message_id: record.message_id,
        tag: record.tag,
        message_group: record.message_group,
        body_bytes: record.body.len() as u64,
        body: with_bodies.then(|| {
            let more = if shown.len() < record.body.len() { "…" } else { "" };
            format!("{}{more}", String::from_utf8_lossy(shown))
        }),
    })
}

type Fields = Vec<(&'static str, Value)>;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn count(number: usize) -> Value {
    Value::Number(number as u64)
}

/// So many messages or spans of what a consumer group got of a topic.
fn consumed(topic: &str, consumer_group: &str, number: usize) -> Fields {
    vec![
        ("topic", text(topic)),
        ("consumer_group", text(consumer_group)),
        ("count", count(number)),
    ]
}

/// The name and the main fields of a command. One that is not listed is shown by its number.
fn describe(action: &Action) -> (Option<&'static str>, Fields) {
    match action {
        Action::Probe => (Some("probe"), Vec::new()),
        Action::CreateTopic(create) => (
            Some("create topic"),
            vec![
                ("topic", text(&create.name)),
                ("type", text(&format!("{:?}", create.kind).to_lowercase())),
                ("queues", Value::Number(create.queues.into())),
            ],
        ),
        Action::DeleteTopic { name } => (Some("delete topic"), vec![("topic", text(name))]),
        Action::CreateConsumerGroup(create) => (
            Some("create consumer group"),
            vec![
                ("consumer_group", text(&create.name)),
                ("fifo", Value::Flag(create.fifo)),
                ("attempts_max", Value::Number(create.max_attempts.into())),
            ],
        ),
        Action::Send(send) => (
            Some("send"),
            vec![
                ("topic", text(&send.topic)),
                ("client", text(&send.client_id)),
                ("count", count(send.messages.len())),
            ],
        ),
        Action::Lease(lease) => (
            Some("lease"),
            vec![
                ("topic", text(&lease.topic)),
                ("consumer_group", text(&lease.consumer_group)),
                ("client", text(&lease.client_id)),
                ("invisible_ms", Value::Number(lease.invisible_ms)),
                ("count", count(lease.ranges.len())),
            ],
        ),
        Action::Ack(ack) => (
            Some("ack"),
            consumed(&ack.topic, &ack.consumer_group, ack.handles.len()),
        ),
        Action::ChangeVisibility(change) => (
            Some("change visibility"),
            vec![
                ("topic", text(&change.topic)),
                ("consumer_group", text(&change.consumer_group)),
                ("queue", Value::Number(change.handle.queue_id.into())),
                ("offset", Value::Number(change.handle.offset.0)),
                ("invisible_ms", Value::Number(change.invisible_ms)),
            ],
        ),
        Action::GiveBack(back) => (
            Some("give back"),
            consumed(&back.topic, &back.consumer_group, back.handles.len()),
        ),
        Action::Renew(renew) => (
            Some("renew"),
            consumed(&renew.topic, &renew.consumer_group, renew.spans.len()),
        ),
        Action::ReleaseClient(release) => (
            Some("release client"),
            vec![
                ("consumer_group", text(&release.consumer_group)),
                ("client", text(&release.client_id)),
            ],
        ),
        Action::Cut { upto } => (Some("cut"), vec![("upto", Value::Number(upto.get()))]),
        Action::CarryOver(carry) => (Some("carry over"), vec![("count", count(carry.records.len()))]),
        Action::Digest => (Some("digest"), Vec::new()),
        Action::RaiseFormatLevel { to } => (Some("raise format level"), vec![("to", Value::Number((*to).into()))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::command::Send;
    use crate::state::identity::RequestId;
    use crate::state::record::{BodyEncoding, MessageType};

    fn send(body: &[u8]) -> Bytes {
        let record = Record {
            topic: "orders".to_owned(),
            message_id: "m-1".to_owned(),
            tag: "paid".to_owned(),
            keys: Vec::new(),
            message_group: String::new(),
            born_timestamp_ms: 5,
            born_host: String::new(),
            store_host: String::new(),
            body_encoding: BodyEncoding::Identity,
            message_type: MessageType::Normal,
            delivery_timestamp_ms: None,
            trace_context: String::new(),
            properties: Vec::new(),
            body: Bytes::copy_from_slice(body),
        };
        let message = NewMessage {
            queue_id: 3,
            record: record.encode(),
        };
        let command = Command {
            stamp_ms: 77,
            request_id: RequestId([1; 16]),
            action: Action::Send(Send {
                client_id: "client-1".to_owned(),
                topic: "orders".to_owned(),
                messages: vec![message],
            }),
        };
        command.encode()
    }

    #[test]
    fn a_send_tells_topic_count_and_queue_and_bodies_only_when_asked() {
        let body = ledgermq_raft_store::body::encode(&[send(&[b'x'; SHOWN_BODY_BYTES + 1])]);
        let lines = commands(&body, false).expect("decodes");
        assert_eq!(
            (lines[0].kind.as_str(), lines[0].slot, lines[0].stamp_ms),
            ("send", 8, 77)
        );
        assert_eq!(lines[0].fields["topic"], text("orders"));
        assert_eq!(lines[0].fields["count"], Value::Number(1));
        let message = &lines[0].messages[0];
        assert_eq!((message.queue, message.body_bytes), (3, SHOWN_BODY_BYTES as u64 + 1));
        assert_eq!(message.body, None);
        let shown = commands(&body, true).expect("decodes")[0].messages[0].body.clone();
        assert_eq!(shown.expect("asked for"), format!("{}…", "x".repeat(SHOWN_BODY_BYTES)));
    }

    #[test]
    fn what_is_no_command_names_its_place() {
        let body = ledgermq_raft_store::body::encode(&[Bytes::from_static(&[9, 9, 9])]);
        assert!(
            commands(&body, false)
                .expect_err("is none")
                .starts_with("command at 8: ")
        );
        assert!(commands(&Bytes::from_static(&[1]), false).is_err());
    }
}
