//! Histories: what clients meant to do, how it ended and when, one event after another. The format of a line is drawn in
//! docs/history.md; the simulation writes it, and so do the outer tests with the official client.
//!
//! ```text
//!   clients ─▶ record() ─▶ events in order ─▶ checkers (pure, at the end)      ledgermq-sim check
//!                     └──▶ owed: what must still be consumed (while the run waits for it)
//! ```
//! Nothing is judged here: [`crate::checkers`] does that, on events of a simulation and of real processes alike.

mod owed;
#[cfg(test)]
pub(crate) mod story;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use self::owed::Owed;
use crate::trace::Trace;

pub use ledgermq_broker::state::topic::DEAD_LETTER_PREFIX;

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// It is about to begin.
    Intent,
    /// It took effect.
    Ok,
    /// It did not take effect, and never will.
    Failed,
    /// Nobody knows whether it took effect, or will.
    Unknown,
}

/// A send of one message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Send {
    /// How far it is.
    pub op: Op,
    /// The message's name in the history, carried in its body.
    pub key: String,
    /// Its topic; may be left out of an outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its message group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_group: Option<String>,
    /// Its broker group, when the sender was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_group: Option<String>,
    /// Its queue, when the sender was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<i64>,
    /// Its offset, when the sender was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Why it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A message in the hands of a consumer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receive {
    /// The consumer.
    pub consumer: String,
    /// Its consumer group.
    pub consumer_group: String,
    /// The topic that it asked; a dead-letter topic for dead letters.
    pub topic: String,
    /// The message's name.
    pub key: String,
    /// 1 at the first delivery.
    pub attempt: i64,
    /// Its message group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_group: Option<String>,
    /// Where it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_group: Option<String>,
    /// Its queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<i64>,
    /// Its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// When the call that got it began, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<f64>,
    /// For how long it is this consumer's, milliseconds; absent where the lease renews by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invisible_ms: Option<u64>,
}

/// What a consumer does with a message that it holds: an acknowledgement or a change of its invisible time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settle {
    /// How far it is.
    pub op: Op,
    /// The consumer.
    pub consumer: String,
    /// Its consumer group.
    pub consumer_group: String,
    /// The topic that it asked.
    pub topic: String,
    /// The message's name.
    pub key: String,
    /// The invisible time from now on, milliseconds; only for changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invisible_ms: Option<u64>,
    /// Why it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A message as it lies in a queue, read by somebody who consumes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Who read: the replica, or empty for a client.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reader: String,
    /// The broker group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub broker_group: String,
    /// The topic.
    pub topic: String,
    /// The queue.
    pub queue: i64,
    /// The offset.
    pub offset: i64,
    /// The message's name.
    pub key: String,
}

/// The bounds of a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// Who read: the replica, or empty for a client.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reader: String,
    /// The broker group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub broker_group: String,
    /// The topic.
    pub topic: String,
    /// The queue.
    pub queue: i64,
    /// The first offset still kept: what lies below was forgotten by the retention.
    pub first: i64,
    /// The offset that the next message gets.
    pub end: i64,
}

/// How far a consumer group is in one queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Who read.
    pub reader: String,
    /// The broker group.
    pub broker_group: String,
    /// The consumer group.
    pub consumer_group: String,
    /// The topic.
    pub topic: String,
    /// The queue.
    pub queue: i64,
    /// All below is done.
    pub done: i64,
    /// The first offset that was never handed out.
    pub next: i64,
    /// The queue's end.
    pub end: i64,
    /// Handed out or passed over, and not done.
    pub not_done: u64,
    /// The last entry that the reader had applied.
    pub index: u64,
}

/// The rules of a consumer group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub consumer_group: String,
    /// Whether messages of a message group are delivered one after another.
    #[serde(default)]
    pub fifo: bool,
    /// Deliveries of a message before it is a dead letter.
    pub max_attempts: i64,
    /// Topics that it must have consumed whole at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumes: Vec<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A consumer group exists.
    Group(Group),
    /// A send begins or ends.
    Send(Send),
    /// A message was received.
    Receive(Receive),
    /// An acknowledgement begins or ends.
    Ack(Settle),
    /// A change of the invisible time begins or ends.
    Change(Settle),
    /// A message was read in its queue, after everything.
    Stored(Stored),
    /// A queue's bounds were read.
    Bounds(Bounds),
    /// Retention was seen to have let go of the messages of a queue below an offset.
    Forgotten {
        /// The broker group.
        broker_group: String,
        /// The topic.
        topic: String,
        /// The queue.
        queue: i64,
        /// The first offset that is kept.
        first: i64,
    },
    /// A consumer group's progress was read.
    Progress(Progress),
    /// How far a broker group's log time is ahead of the clock of the history. Written down when it is news.
    LogTime {
        /// The broker group.
        broker_group: String,
        /// Milliseconds; negative when it is behind.
        ahead_ms: i64,
    },
    /// The format level of a broker group's state, from here on; without a word it is the latest.
    FormatLevel {
        /// The broker group.
        broker_group: String,
        /// The level (docs/formats.md).
        level: u32,
    },
    /// A message was received that nobody of the workload made.
    Stranger {
        /// Its message id.
        message_id: String,
    },
    /// Something was broken.
    Fault {
        /// What.
        fault: String,
    },
    /// All that was broken is mended.
    Healed {},
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in seconds of a clock that all writers of the history share.
    pub t: f64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// A message as the workload names it: its producer and a number, carried in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageName {
    /// Which producer.
    pub producer: u64,
    /// Its count, from 1.
    pub number: u64,
}

impl MessageName {
    /// A body that starts with the name and is at least `length` bytes long.
    pub fn body(self, length: usize) -> Vec<u8> {
        let mut body = format!("{self};").into_bytes();
        if body.len() < length {
            body.resize(length, b'.');
        }
        body
    }

    /// The name in a body, if it is one of ours.
    pub fn of_body(body: &[u8]) -> Option<MessageName> {
        let end = body.iter().position(|byte| *byte == b';')?;
        let (producer, number) = std::str::from_utf8(&body[..end])
            .ok()?
            .strip_prefix('p')?
            .split_once('-')?;
        Some(MessageName {
            producer: producer.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

impl fmt::Display for MessageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}-{}", self.producer, self.number)
    }
}

/// The history of a run while it is written; clones share it.
#[derive(Clone)]
pub struct History {
    trace: Trace,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    events: Vec<Event>,
    owed: Owed,
    /// What was told last of each broker group's log time.
    ahead_ms: BTreeMap<String, i64>,
    /// The same of their format levels.
    levels: BTreeMap<String, u32>,
}

impl History {
    /// An empty history, with the times of `trace`.
    pub fn new(trace: Trace) -> History {
        History {
            trace,
            inner: Arc::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened now.
    pub fn record(&self, what: What) {
        let mut inner = self.inner();
        inner.owed.take(&what);
        let t = micros(self.trace.now().as_secs_f64());
        inner.events.push(Event { t, what });
    }

    /// Everything is mended: from here on acknowledgements count as progress.
    pub fn healed(&self) {
        self.record(What::Healed {});
    }

    /// Sends acknowledged since everything was healed.
    pub fn acked_since_healed(&self) -> usize {
        self.inner().owed.acked_since_healed
    }

    /// Acknowledged messages that a consumer group must still consume: how many, and one of them.
    pub fn backlog(&self) -> Option<(usize, String)> {
        self.inner().owed.first()
    }

    /// Whether a consumer group must have consumed all of a topic at the end.
    pub fn consumes(&self, consumer_group: &str, topic: &str) -> bool {
        self.inner().owed.consumes(consumer_group, topic)
    }

    /// A replica says which offset of a queue is the first that it keeps. Written down when it is news.
    pub fn begins(&self, broker_group: &str, topic: &str, queue: i64, first: i64) {
        if self.inner().owed.begins(broker_group, topic, queue, first) {
            self.record(What::Forgotten {
                broker_group: broker_group.to_owned(),
                topic: topic.to_owned(),
                queue,
                first,
            });
        }
    }

    /// A leader says how far log time is ahead of the clock of the history. Written down when it is news.
    pub fn log_time(&self, broker_group: &str, ahead_ms: i64) {
        const NEWS_MS: u64 = 250;
        let mut inner = self.inner();
        let told = inner.ahead_ms.get(broker_group).copied();
        if told.is_some_and(|told| told.abs_diff(ahead_ms) < NEWS_MS) {
            return;
        }
        inner.ahead_ms.insert(broker_group.to_owned(), ahead_ms);
        drop(inner);
        self.record(What::LogTime {
            broker_group: broker_group.to_owned(),
            ahead_ms,
        });
    }

    /// A broker group's state has this format level from here on.
    pub fn format_level(&self, broker_group: &str, level: u32) {
        self.inner().levels.insert(broker_group.to_owned(), level);
        self.record(What::FormatLevel {
            broker_group: broker_group.to_owned(),
            level,
        });
    }

    /// A replica says which format level its state has. Written down when it is above what was told; nothing is where
    /// nobody told a level.
    pub fn format_level_seen(&self, broker_group: &str, level: u32) {
        let told = self.inner().levels.get(broker_group).copied();
        if told.is_some_and(|told| told < level) {
            self.format_level(broker_group, level);
        }
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.inner().events.clone()
    }

    /// All events as lines of JSON.
    pub fn lines(&self) -> String {
        let inner = self.inner();
        let mut text = String::new();
        for event in &inner.events {
            // Numbers and strings: nothing in it can fail.
            text.push_str(&serde_json::to_string(event).unwrap_or_default());
            text.push('\n');
        }
        text
    }
}

/// Seconds, rounded to microseconds.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

/// The events of a text of JSON lines. The last line is left out where it has no end and is no event: its writer died. The
/// error names the line, counted from 1.
pub fn parse(text: &str) -> Result<Vec<Event>, String> {
    let (whole, rest) = text.split_at(text.rfind('\n').map_or(0, |end| end + 1));
    let lines = whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let events =
        lines.map(|(number, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1)));
    let last = serde_json::from_str(rest).ok().map(Ok);
    events.chain(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_body() {
        let two = MessageName { producer: 1, number: 2 };
        assert_eq!(MessageName::of_body(&two.body(100)), Some(two));
        assert_eq!(MessageName::of_body(b"something else"), None);
    }

    #[test]
    fn lines_are_read_back_and_a_cut_one_is_left_out() {
        let trace = Trace::open(None, false).expect("no file");
        trace.set_now(std::time::Duration::from_micros(1_234_567));
        let history = History::new(trace);
        history.record(What::Send(Send {
            op: Op::Intent,
            key: "p1-1".into(),
            topic: Some("orders".into()),
            message_group: None,
            broker_group: None,
            queue: None,
            offset: None,
            error: None,
        }));
        history.healed();
        let lines = history.lines();
        assert_eq!(
            lines.lines().next(),
            Some(r#"{"t":1.234567,"kind":"send","op":"intent","key":"p1-1","topic":"orders"}"#)
        );
        assert_eq!(parse(&lines).as_deref(), Ok(&history.events()[..]));
        assert_eq!(parse(&lines[..lines.len() - 4]).map(|events| events.len()), Ok(1));
        assert_eq!(
            parse(lines.trim_end()).map(|events| events.len()),
            Ok(2),
            "whole, but for its end"
        );
        assert!(parse("{\"t\":1,\"kind\":\"dance\"}\n").is_err_and(|error| error.starts_with("line 1:")));
    }
}
