//! A handle ends with its lease: an acknowledgement that begins well after the end of the lease does not succeed, unless
//! the message was done already: acknowledged, dead, or forgotten by retention.

use super::facts::{Facts, Handled, LOG_TIME_TOLERANCE};
use crate::history::{Op, Receive, Settle};

/// See the file's header. Leases that renew by themselves, and such that were changed, are passed over.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((group, topic, key), handled) in &facts.handled {
        // The first that may have taken effect: those behind it find the message done.
        let Some((begun, answered, consumer)) = first_ack(handled) else {
            continue;
        };
        let Some((held_at, held, ended)) = lease_end(handled, consumer, begun) else {
            continue;
        };
        let of = held.broker_group.as_deref();
        let (_, most) = facts.ahead(of, (held.called.unwrap_or(held_at), held_at));
        let (least, _) = facts.ahead(of, (begun, answered));
        let may_be_dead = facts
            .groups
            .get(group)
            .is_none_or(|group| held.attempt >= group.max_attempts);
        if begun + (least - most) > ended + LOG_TIME_TOLERANCE && !may_be_dead && !is_forgotten(facts, held) {
            wrong.push(format!(
                "{key} of {topic} was acknowledged for {group} by {consumer} at {begun:.3} s, whose lease had ended at {ended:.3} s"
            ));
        }
    }
    wrong
}

/// Beginning and end of the acknowledgement that succeeded before any other had begun, and whose it is.
fn first_ack<'a>(handled: &'a Handled<'_>) -> Option<(f64, f64, &'a str)> {
    let begins = handled.acks.iter().filter(|(_, ack)| ack.op == Op::Intent);
    let (begun, first) = begins.min_by(|(one, _), (other, _)| one.total_cmp(other))?;
    let ended = handled
        .acks
        .iter()
        .find(|(at, ack)| *at >= *begun && ack.op != Op::Intent)?;
    // One that begins before the answer may have taken effect first: then this one found the message done.
    let in_between = |(at, ack): &&(f64, &Settle)| ack.op == Op::Intent && *at <= ended.0;
    let alone = handled.acks.iter().filter(in_between).count() == 1;
    (alone && ended.1.op == Op::Ok && ended.1.consumer == first.consumer).then_some((*begun, ended.0, &first.consumer))
}

/// Retention took it, be it later; or nobody knows.
pub(super) fn is_forgotten(facts: &Facts<'_>, held: &Receive) -> bool {
    let (Some(broker_group), Some(queue), Some(offset)) = (&held.broker_group, held.queue, held.offset) else {
        return true;
    };
    let queue = (broker_group.as_str(), held.topic.as_str(), queue);
    facts.first.get(&queue).is_some_and(|first| offset < *first)
}

/// The delivery by which a consumer held the message at `at`, its time, and when its lease ended, if that is known.
fn lease_end<'a>(handled: &Handled<'a>, consumer: &str, at: f64) -> Option<(f64, &'a Receive, f64)> {
    let mut held = handled.received.iter().rev();
    let (held_at, held) = held.find(|(t, held)| *t <= at && held.consumer == consumer)?;
    let changed = handled.changes.iter().any(|(t, _)| t >= held_at && *t <= at);
    let seconds = std::time::Duration::from_millis(held.invisible_ms?).as_secs_f64();
    (!changed).then_some((*held_at, held, held_at + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{
        What,
        story::{Story, group},
    };

    #[test]
    fn an_acknowledgement_after_the_lease_is_seen() {
        let found = |story: &Story| check(&Facts::of(story.events())).len();
        let held = Story::new().with(group("g", &["t"])).receive("g", "t", "a", 0, 1);
        assert_eq!(found(&held.clone().after(9.0).ack("g", "t", "a")), 0);
        assert_eq!(found(&held.clone().after(15.0).ack("g", "t", "a")), 1);
        let done = held.clone().ack("g", "t", "a");
        assert_eq!(found(&done.after(15.0).ack("g", "t", "a")), 0, "done already");
        let forgotten = held.clone().after(15.0).ack("g", "t", "a").bounds("r", "t", 1, 1);
        assert_eq!(found(&forgotten), 0, "forgotten");
        // Seed 62635: another consumer, who has the message now, is done with it while this one waits for its answer.
        let late = held.clone().after(15.0).ack("g", "t", "a");
        let [.., begun, answered] = late.events() else {
            panic!("an intent and its outcome");
        };
        let What::Ack(intent) = &begun.what else {
            panic!("{begun:?}");
        };
        let other = Settle {
            consumer: "consumer-2".to_owned(),
            ..intent.clone()
        };
        let crossed = held.clone().after(15.0).add(begun.what.clone()).add(What::Ack(other));
        assert_eq!(
            found(&crossed.add(answered.what.clone())),
            0,
            "it may have found it done"
        );
        let put_off = held.change("g", "t", "a", 60_000);
        assert_eq!(found(&put_off.after(15.0).ack("g", "t", "a")), 0);
    }
}
