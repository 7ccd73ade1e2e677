//! Attempts count every delivery, over failovers too: they grow from one delivery of a message to the next, never pass the
//! consumer group's bound, and a dead letter was handed out that often.

use super::facts::{Facts, Handled};
use crate::history::DEAD_LETTER_PREFIX;

/// Log time may run ahead of the clock of the history by this much, milliseconds.
const TOLERANCE_MS: u64 = 1_500;

/// See the file's header. A delivery that renews by itself may be given back uncounted when its consumer left.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((group, topic, key), handled) in &facts.handled {
        let most = facts.groups.get(group).map_or(i64::MAX, |rules| rules.max_attempts);
        let name = format!("{key} of {topic} by {group}");
        of_message(facts, handled, (&name, most), &mut wrong);
        dead_letter(facts, (topic, key), handled, &mut wrong);
    }
    wrong
}

fn of_message(facts: &Facts<'_>, handled: &Handled<'_>, (name, most): (&str, i64), wrong: &mut Vec<String>) {
    for (at, receive) in &handled.received {
        if receive.attempt < 1 || receive.attempt > most {
            let attempt = receive.attempt;
            wrong.push(format!("{name}: attempt {attempt} of {most} at {at:.3} s"));
        }
    }
    for pair in handled.received.windows(2) {
        let ((_, before), (at, next)) = (&pair[0], &pair[1]);
        let same_call = before.consumer == next.consumer && before.called == next.called;
        // Calls that overlap may be told in another order than they were served.
        let overlap = next.called.is_some_and(|called| called <= pair[0].0);
        let counted = before.invisible_ms.is_some() && facts.holds(&pair[0]);
        let least = before.attempt + i64::from(counted && !same_call);
        if !overlap && next.attempt < least {
            let attempt = next.attempt;
            wrong.push(format!(
                "{name}: attempt {attempt} at {at:.3} s follows attempt {}",
                before.attempt
            ));
        }
    }
}

/// A dead letter was delivered as often as its consumer group allows; deliveries that got lost count as well.
fn dead_letter(facts: &Facts<'_>, (topic, key): (&str, &str), handled: &Handled<'_>, wrong: &mut Vec<String>) {
    let Some(died_in) = topic.strip_prefix(DEAD_LETTER_PREFIX) else {
        return;
    };
    let (Some(sent), Some(rules)) = (facts.sends.get(key), facts.groups.get(died_in)) else {
        return;
    };
    let first_seen = handled.received.first().map_or(f64::MAX, |(at, _)| *at);
    let Some(its) = facts.handled.get(&(died_in, sent.topic, key)) else {
        return;
    };
    if let Some((at, _)) = its.received.iter().find(|(at, receive)| {
        let called = receive.called.unwrap_or(*at);
        called > first_seen
    }) {
        wrong.push(format!(
            "{key} was a dead letter of {died_in} at {first_seen:.3} s and is delivered there at {at:.3} s"
        ));
    }
    if its.received.iter().any(|received| !facts.holds(received)) {
        return;
    }
    let observed = its.received.len() as i64;
    let last = its
        .received
        .iter()
        .map(|(_, receive)| receive.attempt)
        .max()
        .unwrap_or(0);
    if observed.max(last) > rules.max_attempts {
        wrong.push(format!(
            "{key} was handed to {died_in} {observed} times, up to attempt {last}"
        ));
    }
    // An acknowledgement that comes too late is answered with OK as well; one within its lease ended the message.
    let held = |at: f64| {
        let mut lasting = its.received.iter().filter(|(received, _)| *received <= at);
        lasting.next_back().is_some_and(|(received, receive)| {
            let lasts_ms = receive.invisible_ms.unwrap_or_default().saturating_sub(TOLERANCE_MS);
            at < receive.called.unwrap_or(*received) + std::time::Duration::from_millis(lasts_ms).as_secs_f64()
        })
    };
    if its.changes.is_empty() && its.acked().is_some_and(held) {
        wrong.push(format!("{key} was acknowledged by {died_in} and is its dead letter"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::story::{Story, group};

    fn found(story: &Story) -> usize {
        check(&Facts::of(story.events())).len()
    }

    fn first() -> Story {
        Story::new()
            .with(crate::history::Group {
                max_attempts: 2,
                ..group("g", &[])
            })
            .acked("a", "t", 0)
            .receive("g", "t", "a", 0, 1)
    }

    #[test]
    fn attempts_grow_up_to_their_bound() {
        let second = first().after(10.0).receive("g", "t", "a", 0, 2);
        assert_eq!(found(&second), 0);
        assert_eq!(found(&first().after(10.0).receive("g", "t", "a", 0, 1)), 1);
        assert_eq!(found(&second.clone().after(10.0).receive("g", "t", "a", 0, 3)), 1);
        let dead = second.receive("u", "%DLQ%g", "a", 0, 1);
        assert_eq!(found(&dead), 0);
        assert_eq!(found(&dead.after(10.0).receive("g", "t", "a", 0, 2)), 3, "alive again");
    }

    #[test]
    fn at_an_old_format_level_a_delivery_may_go_uncounted() {
        let old = first().format_level(1).receive("g", "t", "b", 1, 1);
        let twice = old.after(10.0).receive("g", "t", "b", 1, 1);
        assert_eq!(found(&twice), 0);
        assert_eq!(
            found(&twice.receive("g", "t", "b", 1, 3)),
            1,
            "the bound holds all the same"
        );
    }

    #[test]
    fn an_acknowledged_message_does_not_die() {
        let consumed = first().ack("g", "t", "a").after(20.0);
        assert_eq!(found(&consumed.receive("u", "%DLQ%g", "a", 0, 1)), 1);
    }
}
