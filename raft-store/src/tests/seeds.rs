//! Histories by their seeds.
//!
//! `LEDGERMQ_HISTORIES=100000` runs so many of each kind, `LEDGERMQ_HISTORIES=5000..9000` these, `LEDGERMQ_HISTORY=<seed>` one
//! alone.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::draws::Draws;
use crate::planted::{Bug, Planted};

/// What a history draws.
pub struct Choices(Draws);

impl Choices {
    /// The choices of this seed.
    pub fn new(seed: u64) -> Choices {
        Choices(Draws::new(seed))
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.draw() % bound
    }

    /// A number of `first..=last`.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// Whether something happens that happens once in `bound` times.
    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// Plays the history of a seed, and panics when a promise is broken.
pub type History = fn(u64, Planted);

fn wanted(count: u64) -> Range<u64> {
    let setting = |name| std::env::var(name).ok();
    if let Some(seed) = setting("LEDGERMQ_HISTORY").and_then(|seed| seed.parse().ok()) {
        return seed..seed + 1;
    }
    let Some(wanted) = setting("LEDGERMQ_HISTORIES") else {
        return 0..count;
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .expect("LEDGERMQ_HISTORIES is a count, or a range a..b")
    };
    match wanted.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => 0..number(&wanted),
    }
}

/// Plays the histories that are wanted, by default so many. The first that fails says how it is run alone.
pub fn play(test: &str, count: u64, history: History) {
    let (seeds, started) = (wanted(count), tokio::time::Instant::now());
    for seed in seeds.clone() {
        if let Err(panic) = catch_unwind(|| history(seed, Planted::default())) {
            eprintln!(
                "history {seed} failed; LEDGERMQ_HISTORY={seed} cargo test --release -p ledgermq-raft-store {test}"
            );
            resume_unwind(panic);
        }
    }
    eprintln!(
        "{test}: histories {seeds:?} in {:.1} s",
        started.elapsed().as_secs_f64()
    );
}

/// Plays histories with a bug in the code until one fails: its seed, and what it said. The same history must pass without
/// the bug.
pub fn find(bug: Bug, count: u64, history: History) -> Option<(u64, String)> {
    let fails = |seed, planted| catch_unwind(AssertUnwindSafe(|| history(seed, planted))).err();
    let found = (0..count).find_map(|seed| Some((seed, fails(seed, Planted::only(bug))?)));
    let (seed, panic) = found?;
    history(seed, Planted::default());
    let said = panic.downcast_ref::<String>().cloned();
    let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
    Some((seed, said.unwrap_or_default()))
}
