//! Leases that ended after another replica had taken the lead: what clients saw of them.

use crate::{checkers::facts::Facts, history::Event};

/// How often a message was handed out again to a consumer group, although nobody had acknowledged it or put it off since the
/// delivery before, with an election (simulated seconds, in order) in between.
pub fn over_elections(events: &[Event], elections: &[f64]) -> usize {
    let facts = Facts::of(events);
    let mut count = 0;
    for handled in facts.handled.values() {
        let settled = |from: f64, upto: f64| {
            let settles = handled.acks.iter().chain(&handled.changes);
            settles.into_iter().any(|(at, _)| (from..=upto).contains(at))
        };
        for pair in handled.received.windows(2) {
            let (from, upto) = (pair[0].0, pair[1].0);
            let elected = elections.iter().any(|at| (from..upto).contains(at));
            count += usize::from(elected && !settled(from, upto));
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Receive, What};

    fn received(t: f64) -> Event {
        Event {
            t,
            what: What::Receive(Receive {
                consumer: "c".to_owned(),
                consumer_group: "billing".to_owned(),
                topic: "orders".to_owned(),
                key: "p1-1".to_owned(),
                attempt: 1,
                message_group: None,
                broker_group: None,
                queue: None,
                offset: None,
                called: None,
                invisible_ms: None,
            }),
        }
    }

    #[test]
    fn only_an_election_in_between_counts() {
        let events = [received(1.0), received(12.0), received(23.0)];
        assert_eq!(over_elections(&events, &[5.0]), 1);
        assert_eq!(over_elections(&events, &[5.0, 15.0, 16.0]), 2);
        assert_eq!(over_elections(&events, &[0.5, 30.0]), 0);
    }
}
