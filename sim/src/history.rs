//! What clients did and were told, and whether it fits together.
//!
//! Checked as events come in:
//! * a message that was received had been sent (nothing that was never sent);
//! * a message has one place: what its sender was told, and every delivery of it, name the same queue and offset;
//! * a place has one message;
//! * no consumer group is handed a message by a receive call that began after its acknowledgement had succeeded.
//!
//! Checked at the end ([`History::judge`]): every acknowledged message was received, and each queue is dense from 0.
//! A send whose outcome is unknown may have stored its message or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::board::Board;

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

/// Where a message is: topic, broker group, queue and offset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The queue.
    pub queue: i64,
    /// The offset in the queue.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.queue, self.offset)
    }
}

/// Handle to the history; clones share it.
#[derive(Clone)]
pub struct History {
    board: Board,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    sent: BTreeSet<MessageName>,
    acked: BTreeMap<MessageName, String>,
    unknown: BTreeSet<MessageName>,
    failed: BTreeSet<MessageName>,
    message_places: BTreeMap<MessageName, Place>,
    place_messages: BTreeMap<Place, MessageName>,
    /// For each consumer group: deliveries of a message, and when it was acknowledged.
    delivered: BTreeMap<(String, MessageName), u64>,
    consumed: BTreeMap<(String, MessageName), Duration>,
    /// Acknowledgements of deliveries that got no certain answer.
    maybe_consumed: BTreeSet<(String, MessageName)>,
    redeliveries: u64,
    acked_when_healed: Option<usize>,
}

impl History {
    /// An empty history that reports to `board`.
    pub fn new(board: Board) -> History {
        History {
            board,
            inner: Arc::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A send begins.
    pub fn sending(&self, message: MessageName) {
        self.inner().sent.insert(message);
    }

    /// A send was acknowledged.
    pub fn acked(&self, message: MessageName, place: Place) {
        let wrong = {
            let mut inner = self.inner();
            inner.acked.insert(message, place.topic.clone());
            inner.place(message, place)
        };
        self.report(wrong);
    }

    /// The outcome of a send is unknown.
    pub fn unknown(&self, message: MessageName) {
        self.inner().unknown.insert(message);
    }

    /// A send was refused for good: nothing may be stored.
    pub fn failed(&self, message: MessageName) {
        let stored = {
            let mut inner = self.inner();
            inner.failed.insert(message);
            inner.message_places.contains_key(&message)
        };
        if stored {
            self.report(Some(format!("{message} failed, and is stored")));
        }
    }

    /// A consumer of `consumer_group` was handed a message by a receive call that began at `called`.
    pub fn received(&self, consumer_group: &str, message: MessageName, place: Place, called: Duration) {
        let mut wrong = Vec::new();
        {
            let mut inner = self.inner();
            if !inner.sent.contains(&message) {
                wrong.push(format!("{message} at {place} was received and never sent"));
            }
            if inner.failed.contains(&message) {
                wrong.push(format!("{message} at {place} was received, and its send had failed"));
            }
            let key = (consumer_group.to_owned(), message);
            if let Some(at) = inner.consumed.get(&key)
                && *at < called
            {
                wrong.push(format!(
                    "{message} at {place} was delivered to {consumer_group} by a call made at {:.3} s, acknowledged at {:.3} s",
                    called.as_secs_f64(),
                    at.as_secs_f64()
                ));
            }
            let deliveries = inner.delivered.entry(key).or_default();
            *deliveries += 1;
            if *deliveries > 1 {
                inner.redeliveries += 1;
            }
            wrong.extend(inner.place(message, place));
        }
        self.report(wrong);
    }

    /// A message was received that no producer of the workload made.
    pub fn stranger(&self, message_id: &str) {
        self.report(Some(format!("a message that nobody sent was received: {message_id}")));
    }

    /// An acknowledgement of `message` succeeded at `at`.
    pub fn consumed(&self, consumer_group: &str, message: MessageName, at: Duration) {
        self.inner()
            .consumed
            .entry((consumer_group.to_owned(), message))
            .or_insert(at);
    }

    /// An acknowledgement of `message` got no certain answer: it may be delivered again, or never.
    pub fn maybe_consumed(&self, consumer_group: &str, message: MessageName) {
        self.inner().maybe_consumed.insert((consumer_group.to_owned(), message));
    }

    fn report(&self, wrong: impl IntoIterator<Item = String>) {
        for wrong in wrong {
            self.board.violation(wrong);
        }
    }

    /// From here on acknowledgements count as progress.
    pub fn healed(&self) {
        let mut inner = self.inner();
        inner.acked_when_healed = Some(inner.acked.len());
    }

    /// Sends acknowledged since everything was healed.
    pub fn acked_since_healed(&self) -> usize {
        let inner = self.inner();
        inner.acked_when_healed.map_or(0, |before| inner.acked.len() - before)
    }

    /// Acknowledged messages of the topic that the consumer group has not consumed yet: how many, and the first.
    pub fn backlog(&self, consumer_group: &str, topic: &str) -> Option<(usize, MessageName)> {
        let inner = self.inner();
        let consumed = |message: &MessageName| {
            let key = (consumer_group.to_owned(), *message);
            inner.consumed.contains_key(&key) || inner.maybe_consumed.contains(&key)
        };
        let mut missing = inner
            .acked
            .iter()
            .filter(|(name, at)| *at == topic && !consumed(name) && !self.is_forgotten(&inner, name))
            .map(|(name, _)| *name);
        missing.next().map(|first| (1 + missing.count(), first))
    }

    /// Whether retention let go of an acknowledged message.
    fn is_forgotten(&self, inner: &Inner, message: &MessageName) -> bool {
        let place = inner.message_places.get(message);
        place.is_some_and(|place| place.offset < self.board.queue_start(&place.topic, place.queue))
    }

    /// Checks over the whole history, after everything was consumed.
    pub fn judge(&self) -> Vec<String> {
        let inner = self.inner();
        let mut wrong = Vec::new();
        let mut next: BTreeMap<(&str, i64), i64> = BTreeMap::new();
        for (place, message) in &inner.place_messages {
            let next = next.entry((&place.topic, place.queue)).or_default();
            // What retention let go of may never have been seen.
            let gap_ends = self.board.queue_start(&place.topic, place.queue);
            if place.offset != *next && (place.offset < *next || *next >= gap_ends) {
                wrong.push(format!("{place} ({message}) follows offset {} of its queue", *next - 1));
            }
            *next = place.offset + 1;
        }
        if inner.acked.is_empty() {
            wrong.push("a run that did nothing: no send was acknowledged".to_owned());
        }
        wrong
    }

    /// Counts for the report.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let inner = self.inner();
        let stored = inner
            .unknown
            .iter()
            .filter(|message| inner.message_places.contains_key(message))
            .count();
        vec![
            ("sent", inner.sent.len() as u64),
            ("acked", inner.acked.len() as u64),
            ("unknown", inner.unknown.len() as u64),
            ("unknown_stored", stored as u64),
            ("failed", inner.failed.len() as u64),
            ("received", inner.delivered.len() as u64),
            ("redeliveries", inner.redeliveries),
            ("consumed", inner.consumed.len() as u64),
            ("maybe_consumed", inner.maybe_consumed.len() as u64),
        ]
    }
}

impl Inner {
    /// Notes that `message` is at `place`; answers what contradicts it.
    fn place(&mut self, message: MessageName, place: Place) -> Option<String> {
        if let Some(known) = self.message_places.get(&message)
            && *known != place
        {
            return Some(format!("{message} is at {known} and at {place}"));
        }
        if let Some(known) = self.place_messages.get(&place)
            && *known != message
        {
            return Some(format!("{place} holds {known} and {message}"));
        }
        self.message_places.insert(message, place.clone());
        self.place_messages.insert(place, message);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;

    fn history() -> History {
        History::new(Board::new(3, Trace::open(None, false).expect("no file")))
    }

    fn place(offset: i64) -> Place {
        Place {
            topic: "orders".to_owned(),
            queue: 0,
            offset,
        }
    }

    const ONE: MessageName = MessageName { producer: 1, number: 1 };
    const TWO: MessageName = MessageName { producer: 1, number: 2 };
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_clean_history_passes() {
        let history = history();
        history.sending(ONE);
        history.acked(ONE, place(0));
        assert_eq!(history.backlog("g", "orders"), Some((1, ONE)));
        history.received("g", ONE, place(0), SECOND);
        history.consumed("g", ONE, SECOND * 2);
        // A call that began before the acknowledgement may still deliver.
        history.received("g", ONE, place(0), SECOND);
        assert_eq!(history.backlog("g", "orders"), None);
        assert_eq!(history.judge(), Vec::<String>::new());
        assert_eq!(history.board.violations(), Vec::<String>::new());
    }

    #[test]
    fn each_contradiction_is_seen() {
        let seen = |act: &dyn Fn(&History)| {
            let history = history();
            history.sending(ONE);
            history.acked(ONE, place(0));
            act(&history);
            history.board.violations().len() + history.judge().len()
        };
        assert_eq!(seen(&|_| ()), 0);
        assert_eq!(seen(&|history| history.received("g", ONE, place(1), SECOND)), 1);
        assert_eq!(seen(&|history| history.received("g", TWO, place(1), SECOND)), 1);
        let after = |history: &History| {
            history.consumed("g", ONE, SECOND);
            history.received("g", ONE, place(0), SECOND * 2);
        };
        assert_eq!(seen(&after), 1);
        let gap = |history: &History| {
            history.sending(TWO);
            history.acked(TWO, place(2));
        };
        assert_eq!(seen(&gap), 1);
        let same_place = |history: &History| {
            history.sending(TWO);
            history.acked(TWO, place(0));
        };
        assert_eq!(seen(&same_place), 1);
    }

    #[test]
    fn a_name_survives_its_body() {
        assert_eq!(MessageName::of_body(&TWO.body(100)), Some(TWO));
        assert_eq!(MessageName::of_body(b"something else"), None);
    }
}
