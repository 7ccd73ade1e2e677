//! A message is nobody else's before its time is over: within a consumer group no delivery comes before the lease of the
//! one before has ended, or before the time to which its consumer put it off, in log time.

use super::facts::{Facts, Handled, LOG_TIME_TOLERANCE};
use crate::history::{Op, Receive};

/// See the file's header. Leases that renew by themselves have no end that their consumer knows: they are passed over.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((group, topic, key), handled) in &facts.handled {
        for pair in handled.received.windows(2) {
            let ((held_at, held), (at, next)) = (&pair[0], &pair[1]);
            let same_call = held.consumer == next.consumer && held.called == next.called;
            let holds = !same_call && facts.holds(&pair[0]);
            let Some(free_at) = free_at(handled, *held_at, held, *at).filter(|_| holds) else {
                continue;
            };
            let of = next.broker_group.as_deref();
            let (least, _) = facts.ahead(of, (held.called.unwrap_or(*held_at), *at));
            let (_, most) = facts.ahead(of, (next.called.unwrap_or(*at), *at));
            if *at + (most - least) + LOG_TIME_TOLERANCE < free_at {
                wrong.push(format!(
                    "{key} of {topic} was handed to {group} at {held_at:.3} s and, before its time at {free_at:.3} s, again at {at:.3} s"
                ));
            }
        }
    }
    wrong
}

/// The earliest time at which a delivery may be free again, before the next delivery at `until`.
fn free_at(handled: &Handled<'_>, held_at: f64, held: &Receive, until: f64) -> Option<f64> {
    let seconds = |ms: u64| std::time::Duration::from_millis(ms).as_secs_f64();
    // The lease began when the call did, at the earliest.
    let mut free_at = held.called.unwrap_or(held_at) + seconds(held.invisible_ms?);
    let mut begun = None;
    for (at, change) in &handled.changes {
        let within = *at >= held_at && *at <= until && change.consumer == held.consumer;
        let Some(invisible_ms) = change.invisible_ms.filter(|_| within) else {
            continue;
        };
        match change.op {
            Op::Intent => {
                begun = Some(*at);
                // From now on it may take effect.
                free_at = free_at.min(*at + seconds(invisible_ms));
            }
            Op::Ok => free_at = begun.unwrap_or(*at) + seconds(invisible_ms),
            Op::Unknown | Op::Failed => {}
        }
    }
    Some(free_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::story::Story;

    fn found(story: &Story) -> usize {
        check(&Facts::of(story.events())).len()
    }

    #[test]
    fn a_delivery_before_its_time_is_seen() {
        let held = Story::new().receive("g", "t", "a", 0, 1);
        assert_eq!(found(&held.clone().after(10.0).receive("g", "t", "a", 0, 2)), 0);
        assert_eq!(found(&held.clone().after(5.0).receive("g", "t", "a", 0, 2)), 1);
        assert_eq!(found(&held.receive("h", "t", "a", 0, 1)), 0, "another consumer group");
    }

    #[test]
    fn an_old_format_level_gives_back_early() {
        let old = Story::new().format_level(1).receive("g", "t", "a", 0, 1);
        assert_eq!(found(&old.clone().receive("g", "t", "a", 0, 2)), 0);
        let risen = old.format_level(3).after(20.0).receive("g", "t", "a", 0, 2);
        assert_eq!(found(&risen.receive("g", "t", "a", 0, 3)), 1);
    }

    #[test]
    fn log_time_counts() {
        let held = Story::new().log_time(-8_000).receive("g", "t", "a", 0, 1);
        let put_right = held.clone().log_time(0).after(5.0).receive("g", "t", "a", 0, 2);
        assert_eq!(found(&put_right), 0);
        let before = Story::new().log_time(-8_000).log_time(0).receive("g", "t", "a", 0, 1);
        assert_eq!(found(&before.after(5.0).receive("g", "t", "a", 0, 2)), 1);
    }

    #[test]
    fn what_was_put_off_comes_back_then() {
        let held = Story::new().receive("g", "t", "a", 0, 1);
        let given_back = held.clone().change("g", "t", "a", 0);
        assert_eq!(found(&given_back.receive("g", "t", "a", 0, 2)), 0);
        let put_off = held.change("g", "t", "a", 60_000);
        assert_eq!(found(&put_off.clone().after(20.0).receive("g", "t", "a", 0, 2)), 1);
        assert_eq!(found(&put_off.after(60.0).receive("g", "t", "a", 0, 2)), 0);
    }
}
