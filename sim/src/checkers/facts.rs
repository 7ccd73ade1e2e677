//! A history sorted by what the checkers ask: sends by message, deliveries and acknowledgements by consumer group and
//! message, what lies in the queues at the end.

use std::collections::BTreeMap;

use ledgermq_broker::state::level::GIVE_BACK;

use crate::history::{Bounds, Event, Group, Op, Progress, Receive, Settle, Stored, What};

/// What is known of log time may be wrong by this much, seconds.
pub const LOG_TIME_TOLERANCE: f64 = 1.5;

/// What a leader that saw the old format level goes on to propose is applied within this time after the level rose,
/// seconds.
const OLD_PROPOSALS: f64 = 10.0;

/// Where a message lies: broker group, queue, offset. The broker group is empty and the queue -1 where nobody said.
pub type Place<'a> = (&'a str, i64, i64);

/// A queue: broker group, topic, queue.
pub type Queue<'a> = (&'a str, &'a str, i64);

/// One message and what became of its send.
#[derive(Clone, Debug, Default)]
pub struct Sent<'a> {
    /// When it was about to be sent; `None` if the history holds an outcome alone.
    pub intent: Option<f64>,
    /// Its topic.
    pub topic: &'a str,
    /// Its message group.
    pub message_group: Option<&'a str>,
    /// When it was acknowledged, and where it lies.
    pub acked: Option<(f64, Place<'a>)>,
    /// It was refused for good.
    pub failed: bool,
}

/// What one consumer group did with one message of one topic.
#[derive(Clone, Debug, Default)]
pub struct Handled<'a> {
    /// Deliveries in order of time.
    pub received: Vec<(f64, &'a Receive)>,
    /// Beginnings and outcomes of acknowledgements, in order of time.
    pub acks: Vec<(f64, &'a Settle)>,
    /// The same of changes of the invisible time.
    pub changes: Vec<(f64, &'a Settle)>,
}

impl Handled<'_> {
    /// When its first acknowledgement was known to have succeeded.
    pub fn acked(&self) -> Option<f64> {
        self.acks.iter().find(|(_, ack)| ack.op == Op::Ok).map(|(at, _)| *at)
    }

    /// The earliest time at which an acknowledgement may have taken effect: the beginning of one that did not fail.
    pub fn acked_from(&self) -> Option<f64> {
        let mut begun: BTreeMap<&str, f64> = BTreeMap::new();
        let mut earliest: Option<f64> = None;
        for (at, ack) in &self.acks {
            match ack.op {
                Op::Intent => {
                    // A consumer that died over the one before: it may have taken effect.
                    if let Some(open) = begun.insert(&ack.consumer, *at) {
                        earliest = Some(earliest.map_or(open, |known: f64| known.min(open)));
                    }
                }
                Op::Failed => {
                    begun.remove(ack.consumer.as_str());
                }
                Op::Ok | Op::Unknown => {
                    let from = begun.remove(ack.consumer.as_str()).unwrap_or(*at);
                    earliest = Some(earliest.map_or(from, |known: f64| known.min(from)));
                }
            }
        }
        // Those that never ended.
        begun
            .into_values()
            .chain(earliest)
            .fold(None, |known, at| Some(known.map_or(at, |known: f64| known.min(at))))
    }
}

/// The sorted history.
#[derive(Debug, Default)]
pub struct Facts<'a> {
    /// By message.
    pub sends: BTreeMap<&'a str, Sent<'a>>,
    /// By consumer group, topic and message.
    pub handled: BTreeMap<(&'a str, &'a str, &'a str), Handled<'a>>,
    /// Consumer groups by name.
    pub groups: BTreeMap<&'a str, &'a Group>,
    /// What was read from the queues, by reader.
    pub stored: BTreeMap<&'a str, Vec<&'a Stored>>,
    /// Bounds of the queues, by reader; the last ones.
    pub bounds: BTreeMap<&'a str, BTreeMap<Queue<'a>, &'a Bounds>>,
    /// The furthest beginning of each queue that anybody saw.
    pub first: BTreeMap<Queue<'a>, i64>,
    /// By broker group, in order of time: from when on log time is ahead, and by how many seconds.
    pub ahead: BTreeMap<&'a str, Vec<(f64, f64)>>,
    /// By broker group: until when answers whose delivery failed were given back from under those that repeated them.
    /// For a broker group that is not there, never.
    pub gives_back_early: BTreeMap<&'a str, f64>,
    /// Progress of consumer groups.
    pub progress: Vec<&'a Progress>,
    /// Messages of strangers.
    pub strangers: Vec<&'a str>,
}

impl<'a> Facts<'a> {
    /// Sorts a history, whose events are in order of time.
    pub fn of(events: &'a [Event]) -> Facts<'a> {
        let mut facts = Facts::default();
        for event in events {
            facts.take(event);
        }
        facts
    }

    fn take(&mut self, event: &'a Event) {
        let t = event.t;
        match &event.what {
            What::Group(group) => {
                self.groups.insert(&group.consumer_group, group);
            }
            What::Send(send) => {
                let sent = self.sends.entry(&send.key).or_default();
                if let Some(topic) = &send.topic {
                    sent.topic = topic;
                }
                match send.op {
                    Op::Intent => {
                        sent.intent = Some(t);
                        sent.message_group = send.message_group.as_deref();
                    }
                    Op::Ok => {
                        let group = send.broker_group.as_deref().unwrap_or_default();
                        let place = (group, send.queue.unwrap_or(-1), send.offset.unwrap_or(-1));
                        sent.acked = Some((t, place));
                    }
                    Op::Failed => sent.failed = true,
                    Op::Unknown => {}
                }
            }
            What::Receive(receive) => {
                let of = self.of_message(&receive.consumer_group, &receive.topic, &receive.key);
                of.received.push((t, receive));
            }
            What::Ack(ack) => {
                self.of_message(&ack.consumer_group, &ack.topic, &ack.key)
                    .acks
                    .push((t, ack));
            }
            What::Change(change) => {
                let of = self.of_message(&change.consumer_group, &change.topic, &change.key);
                of.changes.push((t, change));
            }
            What::Stored(stored) => self.stored.entry(&stored.reader).or_default().push(stored),
            What::Bounds(bounds) => {
                let queue: Queue<'a> = (&bounds.broker_group, &bounds.topic, bounds.queue);
                let first = self.first.entry(queue).or_default();
                *first = bounds.first.max(*first);
                self.bounds.entry(&bounds.reader).or_default().insert(queue, bounds);
            }
            What::Forgotten {
                broker_group,
                topic,
                queue,
                first,
            } => {
                let known = self.first.entry((broker_group, topic, *queue)).or_default();
                *known = (*first).max(*known);
            }
            What::LogTime { broker_group, ahead_ms } => {
                let ahead = (*ahead_ms as f64) / 1_000.0;
                self.ahead.entry(broker_group).or_default().push((t, ahead));
            }
            What::FormatLevel { broker_group, level } => {
                let until = match *level < GIVE_BACK {
                    true => f64::INFINITY,
                    false => t + OLD_PROPOSALS,
                };
                self.gives_back_early.insert(broker_group, until);
            }
            What::Progress(progress) => self.progress.push(progress),
            What::Stranger { message_id } => self.strangers.push(message_id),
            What::Fault { .. } | What::Healed {} => {}
        }
    }

    fn of_message(&mut self, group: &'a str, topic: &'a str, key: &'a str) -> &mut Handled<'a> {
        self.handled.entry((group, topic, key)).or_default()
    }

    /// What each reader found in its queues: nothing, where it told their bounds alone.
    pub fn read(&self) -> BTreeMap<&'a str, &[&'a Stored]> {
        let mut read: BTreeMap<&'a str, &[&'a Stored]> = self.bounds.keys().map(|reader| (*reader, &[][..])).collect();
        read.extend(self.stored.iter().map(|(reader, stored)| (*reader, stored.as_slice())));
        read
    }

    /// Whether the retention has forgotten this place.
    pub fn is_forgotten(&self, topic: &str, (broker_group, queue, offset): Place<'_>) -> bool {
        let first = self.first.get(&(broker_group, topic, queue));
        first.is_some_and(|first| offset < *first)
    }

    /// Whether a delivery makes its consumer the message's holder. Below format level 3 it may have been given back at once:
    /// docs/decisions/0017.
    pub fn holds(&self, (at, receive): &(f64, &Receive)) -> bool {
        let group = receive.broker_group.as_deref().unwrap_or_default();
        let until = self.gives_back_early.get(group);
        until.is_none_or(|until| receive.called.unwrap_or(*at) >= *until)
    }

    /// By how many seconds log time was ahead between two times, at least and at most. The first word after them counts
    /// as well: it may be late. Before the first word log time is taken for right, and so is that of an unknown broker group.
    pub fn ahead(&self, broker_group: Option<&str>, (from, to): (f64, f64)) -> (f64, f64) {
        let told = broker_group.and_then(|group| self.ahead.get(group));
        let told = told.map_or(&[][..], Vec::as_slice);
        let before = told.partition_point(|(at, _)| *at < from);
        let end = (told.partition_point(|(at, _)| *at <= to) + 1).min(told.len());
        let first = before.checked_sub(1).map_or(0.0, |last| told[last].1);
        let later = told[before.min(end)..end].iter();
        later.fold((first, first), |(least, most), (_, ahead)| {
            (ahead.min(least), ahead.max(most))
        })
    }

    /// Every place at which each message of a topic was seen, by topic and message: told to its sender, delivered, or
    /// read in the queue.
    pub fn places(&self) -> BTreeMap<(&'a str, &'a str), Vec<Place<'a>>> {
        let mut places: BTreeMap<(&str, &str), Vec<Place<'_>>> = BTreeMap::new();
        let mut note = |topic: &'a str, key: &'a str, place: Place<'a>| {
            let known = places.entry((topic, key)).or_default();
            if place.1 >= 0 && place.2 >= 0 && !known.contains(&place) {
                known.push(place);
            }
        };
        for (key, sent) in &self.sends {
            if let Some((_, place)) = sent.acked {
                note(sent.topic, key, place);
            }
        }
        for ((_, topic, key), handled) in &self.handled {
            for (_, receive) in &handled.received {
                let group = receive.broker_group.as_deref().unwrap_or_default();
                let place = (group, receive.queue.unwrap_or(-1), receive.offset.unwrap_or(-1));
                note(topic, key, place);
            }
        }
        for stored in self.stored.values().flatten() {
            let place = (stored.broker_group.as_str(), stored.queue, stored.offset);
            note(&stored.topic, &stored.key, place);
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::story::Story;

    #[test]
    fn who_holds_a_message_is_known_once_the_level_has_risen() {
        let story = Story::new().format_level(1).receive("g", "t", "a", 0, 1);
        let story = story.format_level(GIVE_BACK).receive("g", "t", "a", 0, 2);
        let story = story.after(OLD_PROPOSALS).receive("g", "t", "a", 0, 3);
        let facts = Facts::of(story.events());
        let received = &facts.handled[&("g", "t", "a")].received;
        let held: Vec<bool> = received.iter().map(|received| facts.holds(received)).collect();
        assert_eq!(held, [false, false, true]);
    }

    #[test]
    fn log_time_is_what_was_said_last_and_next() {
        let story = Story::new().log_time(0).log_time(-2_000).after(10.0).log_time(3_000);
        let facts = Facts::of(story.events());
        let ahead = |from, to| facts.ahead(Some("broker-a"), (from, to));
        assert_eq!(ahead(5.0, 6.0), (-2.0, 3.0));
        assert_eq!(ahead(13.5, 14.0), (3.0, 3.0));
        assert_eq!(ahead(0.5, 0.6), (0.0, 0.0));
        assert_eq!(facts.ahead(Some("broker-b"), (5.0, 6.0)), (0.0, 0.0));
        assert_eq!(facts.ahead(None, (5.0, 6.0)), (0.0, 0.0));
    }
}
