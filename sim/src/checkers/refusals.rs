//! Who holds a message is not refused: an acknowledgement or a change by the handle of a delivery does not fail for its handle
//! before the lease has ended, in log time.

use super::facts::{Facts, Handled, LOG_TIME_TOLERANCE};
use super::handles::is_forgotten;
use crate::history::{Op, Receive, Settle};

/// The shortest lease of those that renew by themselves, milliseconds.
const RENEWING_MS: u64 = 60_000;

/// See the file's header. Messages that somebody else got meanwhile, or that were changed before, are passed over.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((group, topic, key), handled) in &facts.handled {
        for (begun, refused, settle) in refused(&handled.acks).chain(refused(&handled.changes)) {
            let Some((held_at, held)) = held(handled, settle, begun, refused) else {
                continue;
            };
            let lasts = std::time::Duration::from_millis(held.invisible_ms.unwrap_or(RENEWING_MS));
            // The lease began when the call did, at the earliest.
            let called = held.called.unwrap_or(held_at);
            let of = held.broker_group.as_deref();
            let ((least, _), (_, most)) = (facts.ahead(of, (called, held_at)), facts.ahead(of, (begun, refused)));
            let over = refused + (most - least) + LOG_TIME_TOLERANCE > called + lasts.as_secs_f64();
            if !over && facts.holds(&(held_at, held)) && !is_forgotten(facts, held) {
                let consumer = &settle.consumer;
                wrong.push(format!(
                    "{key} of {topic} was handed to {consumer} of {group} at {held_at:.3} s, whose handle was refused at {refused:.3} s"
                ));
            }
        }
    }
    wrong
}

/// What failed for its handle: beginning, end, and the end's words.
fn refused<'a>(settles: &'a [(f64, &'a Settle)]) -> impl Iterator<Item = (f64, f64, &'a Settle)> {
    let failed = settles.iter().enumerate().filter(|(_, (_, settle))| {
        let names_it = settle.error.as_ref().is_some_and(|error| error.contains("handle"));
        settle.op == Op::Failed && names_it
    });
    failed.filter_map(|(place, (at, settle))| {
        let mut before = settles[..place].iter().rev();
        let (begun, intent) = before.find(|(_, before)| before.consumer == settle.consumer)?;
        (intent.op == Op::Intent).then_some((*begun, *at, *settle))
    })
}

/// The delivery by which the message was this consumer's alone, untouched, until it was refused.
fn held<'a>(handled: &Handled<'a>, settle: &Settle, begun: f64, refused: f64) -> Option<(f64, &'a Receive)> {
    let (held_at, held) = handled.received.iter().rev().find(|(at, _)| *at <= begun)?;
    // Answers of calls that overlap may be told in another order than they were served.
    let elsewhere = |(at, other): &(f64, &Receive)| {
        at >= held_at && other.called.is_none_or(|called| called <= refused) && !std::ptr::eq(*other, *held)
    };
    let touched = |(at, _): &(f64, &Settle)| at >= held_at && *at < refused && *at != begun;
    let touched = handled.acks.iter().chain(&handled.changes).any(touched);
    let alone = held.consumer == settle.consumer && !handled.received.iter().any(elsewhere) && !touched;
    alone.then_some((*held_at, *held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::story::Story;

    #[test]
    fn a_holder_that_is_refused_is_seen() {
        let found = |story: &Story| check(&Facts::of(story.events())).len();
        let held = Story::new().receive("g", "t", "a", 0, 1);
        assert_eq!(found(&held.clone().after(5.0).refused("g", "t", "a")), 1);
        assert_eq!(
            found(&held.clone().after(9.0).refused("g", "t", "a")),
            0,
            "its lease has ended"
        );
        assert_eq!(found(&held.clone().after(5.0).ack("g", "t", "a")), 0);
        let late = held.clone().log_time(6_000).after(2.0).refused("g", "t", "a");
        assert_eq!(found(&late), 0, "in log time it has ended");
        let changed = held.clone().change("g", "t", "a", 60_000);
        assert_eq!(found(&changed.refused("g", "t", "a")), 0, "by which handle?");
        let old = Story::new().format_level(1).receive("g", "t", "a", 0, 1);
        assert_eq!(found(&old.refused("g", "t", "a")), 0, "given back early");
        let forgotten = held.refused("g", "t", "a").bounds("r", "t", 1, 1);
        assert_eq!(found(&forgotten), 0, "forgotten");
    }
}
