//! Small histories for tests: each event comes a second after the one before, in topics of one queue of `broker-a`.

use super::{Bounds, Event, Group, Op, Progress, Receive, Send, Settle, Stored, What};

/// A consumer group with default rules that must consume these topics.
pub fn group(name: &str, consumes: &[&str]) -> Group {
    Group {
        consumer_group: name.to_owned(),
        fifo: false,
        max_attempts: 17,
        consumes: consumes.iter().map(|topic| (*topic).to_owned()).collect(),
    }
}

/// The same, in order of message groups.
pub fn fifo(name: &str, consumes: &[&str]) -> Group {
    Group {
        fifo: true,
        ..group(name, consumes)
    }
}

/// A history in the making.
#[derive(Clone, Default)]
pub struct Story {
    events: Vec<Event>,
    now: f64,
    message_group: Option<String>,
}

impl Story {
    pub fn new() -> Story {
        Story::default()
    }

    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub fn add(mut self, what: What) -> Story {
        self.now += 1.0;
        self.events.push(Event { t: self.now, what });
        self
    }

    /// Time goes by.
    pub fn after(mut self, seconds: f64) -> Story {
        self.now += seconds;
        self
    }

    pub fn with(self, group: Group) -> Story {
        self.add(What::Group(group))
    }

    /// Messages from here on are of this message group.
    pub fn of_group(mut self, message_group: &str) -> Story {
        self.message_group = Some(message_group.to_owned());
        self
    }

    pub fn send(self, op: Op, key: &str, topic: &str, offset: Option<i64>) -> Story {
        let send = Send {
            op,
            key: key.to_owned(),
            topic: Some(topic.to_owned()),
            message_group: self.message_group.clone(),
            broker_group: offset.map(|_| "broker-a".to_owned()),
            queue: offset.map(|_| 0),
            offset,
            error: None,
        };
        self.add(What::Send(send))
    }

    /// A send with its acknowledgement.
    pub fn acked(self, key: &str, topic: &str, offset: i64) -> Story {
        self.send(Op::Intent, key, topic, None)
            .send(Op::Ok, key, topic, Some(offset))
    }

    /// A delivery by a call that began when it ended.
    pub fn receive(self, consumer_group: &str, topic: &str, key: &str, offset: i64, attempt: i64) -> Story {
        let receive = Receive {
            consumer: "consumer-1".to_owned(),
            consumer_group: consumer_group.to_owned(),
            topic: topic.to_owned(),
            key: key.to_owned(),
            attempt,
            message_group: self.message_group.clone(),
            broker_group: Some("broker-a".to_owned()),
            queue: Some(0),
            offset: Some(offset),
            called: Some(self.now + 1.0),
            invisible_ms: Some(10_000),
        };
        self.add(What::Receive(receive))
    }

    /// From now on log time is so far ahead.
    pub fn log_time(self, ahead_ms: i64) -> Story {
        self.add(What::LogTime {
            broker_group: "broker-a".to_owned(),
            ahead_ms,
        })
    }

    /// From now on the state has this format level.
    pub fn format_level(self, level: u32) -> Story {
        self.add(What::FormatLevel {
            broker_group: "broker-a".to_owned(),
            level,
        })
    }

    fn settle(&self, op: Op, consumer_group: &str, topic: &str, key: &str) -> Settle {
        Settle {
            op,
            consumer: "consumer-1".to_owned(),
            consumer_group: consumer_group.to_owned(),
            topic: topic.to_owned(),
            key: key.to_owned(),
            invisible_ms: None,
            error: None,
        }
    }

    /// An acknowledgement that succeeds.
    pub fn ack(self, consumer_group: &str, topic: &str, key: &str) -> Story {
        let intent = self.settle(Op::Intent, consumer_group, topic, key);
        let done = Settle {
            op: Op::Ok,
            ..intent.clone()
        };
        self.add(What::Ack(intent)).add(What::Ack(done))
    }

    /// An acknowledgement whose handle is refused.
    pub fn refused(self, consumer_group: &str, topic: &str, key: &str) -> Story {
        let intent = self.settle(Op::Intent, consumer_group, topic, key);
        let refused = Settle {
            op: Op::Failed,
            error: Some("the receipt handle is invalid".to_owned()),
            ..intent.clone()
        };
        self.add(What::Ack(intent)).add(What::Ack(refused))
    }

    /// A change of the invisible time that succeeds.
    pub fn change(self, consumer_group: &str, topic: &str, key: &str, invisible_ms: u64) -> Story {
        let intent = Settle {
            invisible_ms: Some(invisible_ms),
            ..self.settle(Op::Intent, consumer_group, topic, key)
        };
        let done = Settle {
            op: Op::Ok,
            ..intent.clone()
        };
        self.add(What::Change(intent)).add(What::Change(done))
    }

    pub fn stored(self, reader: &str, topic: &str, key: &str, offset: i64) -> Story {
        self.add(What::Stored(Stored {
            reader: reader.to_owned(),
            broker_group: "broker-a".to_owned(),
            topic: topic.to_owned(),
            queue: 0,
            offset,
            key: key.to_owned(),
        }))
    }

    pub fn bounds(self, reader: &str, topic: &str, first: i64, end: i64) -> Story {
        self.add(What::Bounds(Bounds {
            reader: reader.to_owned(),
            broker_group: "broker-a".to_owned(),
            topic: topic.to_owned(),
            queue: 0,
            first,
            end,
        }))
    }

    pub fn progress(self, consumer_group: &str, topic: &str, (done, next, end): (i64, i64, i64), index: u64) -> Story {
        self.add(What::Progress(Progress {
            reader: "replica-1".to_owned(),
            broker_group: "broker-a".to_owned(),
            consumer_group: consumer_group.to_owned(),
            topic: topic.to_owned(),
            queue: 0,
            done,
            next,
            end,
            not_done: u64::try_from(next - done).unwrap_or(0),
            index,
        }))
    }
}
