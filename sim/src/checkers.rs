//! The checkers: each a property in one sentence, one file, and a test that it sees its violation. They are pure: over
//! the events of a history ([`of_clients`], for simulations and for real processes alike), or over what was seen of the
//! replicas and their disks ([`witness`](crate::witness) feeds those while a run goes on).
//!
//! docs/simulation.md lists them all.

pub mod attempts;
pub mod committed_entries;
pub mod complete;
pub mod dense;
pub mod digests;
pub mod done;
pub mod durable_quorum;
pub mod facts;
pub mod fifo;
pub mod handles;
pub mod health;
pub mod intact;
pub mod kept;
pub mod leases;
pub mod living;
pub mod marks;
pub mod one_leader;
pub mod phantoms;
pub mod places;
pub mod present;
pub mod progress;
pub mod refusals;
pub mod replicas_equal;
pub mod routes;
pub mod votes;

use crate::history::Event;
use facts::Facts;

/// A checker of histories.
pub type OfClients = fn(&Facts<'_>) -> Vec<String>;

/// All checkers of histories with their names.
pub const OF_CLIENTS: &[(&str, OfClients)] = &[
    ("phantoms", phantoms::check),
    ("places", places::check),
    ("dense", dense::check),
    ("present", present::check),
    ("replicas_equal", replicas_equal::check),
    ("fifo", fifo::check),
    ("leases", leases::check),
    ("done", done::check),
    ("handles", handles::check),
    ("refusals", refusals::check),
    ("attempts", attempts::check),
    ("complete", complete::check),
    ("progress", progress::check),
];

/// Violations that one checker tells at most; the rest is counted.
const TOLD_MAX: usize = 5;

/// Everything that is wrong with a history, each with the name of the checker that saw it. Empty when all holds.
pub fn of_clients(events: &[Event]) -> Vec<String> {
    let facts = Facts::of(events);
    let mut wrong = Vec::new();
    for (name, check) in OF_CLIENTS {
        let found = check(&facts);
        let more = found.len().saturating_sub(TOLD_MAX);
        wrong.extend(found.into_iter().take(TOLD_MAX).map(|what| format!("{name}: {what}")));
        if more > 0 {
            wrong.push(format!("{name}: and {more} more"));
        }
    }
    wrong
}

/// A history in which nothing was sent and acknowledged shows nothing.
pub fn did_nothing(events: &[Event]) -> Option<String> {
    let facts = Facts::of(events);
    let acked = facts.sends.values().any(|sent| sent.acked.is_some());
    (!acked).then(|| "a run that did nothing: no send was acknowledged".to_owned())
}

/// What is in a history, for the report of a run.
pub fn counts(events: &[Event]) -> Vec<(&'static str, u64)> {
    let facts = Facts::of(events);
    let count = |number: usize| number as u64;
    let sends = || facts.sends.values();
    let places = facts.places();
    let open = |sent: &&facts::Sent<'_>| sent.acked.is_none() && !sent.failed;
    let unknown: Vec<&str> = facts
        .sends
        .iter()
        .filter(|(_, sent)| open(sent))
        .map(|(key, _)| *key)
        .collect();
    let stored: std::collections::BTreeSet<&str> = places
        .iter()
        .filter(|(_, known)| !known.is_empty())
        .map(|((_, key), _)| *key)
        .collect();
    let handled = || facts.handled.values();
    let dead = |topic: &str| topic.starts_with(crate::history::DEAD_LETTER_PREFIX);
    vec![
        ("sent", count(facts.sends.len())),
        ("acked", count(sends().filter(|sent| sent.acked.is_some()).count())),
        ("unknown", count(unknown.len())),
        (
            "unknown_stored",
            count(unknown.iter().filter(|key| stored.contains(**key)).count()),
        ),
        ("failed", count(sends().filter(|sent| sent.failed).count())),
        (
            "received",
            count(handled().filter(|of| !of.received.is_empty()).count()),
        ),
        (
            "redeliveries",
            count(handled().map(|of| of.received.len().saturating_sub(1)).sum()),
        ),
        ("consumed", count(handled().filter(|of| of.acked().is_some()).count())),
        (
            "given_back",
            count(handled().filter(|of| !of.changes.is_empty()).count()),
        ),
        (
            "dead_letters",
            count(facts.handled.keys().filter(|(_, topic, _)| dead(topic)).count()),
        ),
    ]
}
