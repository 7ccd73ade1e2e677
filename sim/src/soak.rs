//! What a soak adds up: seeds, failures, counts and marks of many runs.

use std::collections::BTreeMap;

use crate::{
    children::Ended,
    ledger::{self, Found, Line},
    limits,
    run::Profile,
};

/// Sums over all seeds of a soak.
#[derive(Debug, Default)]
pub struct Totals {
    /// Seeds run, whatever their end.
    pub seeds: u64,
    /// Seeds that found a violation, crashed or hung.
    pub failures: u64,
    /// Simulated seconds.
    pub simulated_seconds: f64,
    /// Events in all traces.
    pub events: u64,
    /// Counts of the workload.
    pub counts: BTreeMap<String, u64>,
    /// Counts of faults and rare branches.
    pub marks: BTreeMap<String, u64>,
    profiles: BTreeMap<Profile, OfProfile>,
}

#[derive(Debug, Default)]
struct OfProfile {
    first_seed: Option<u64>,
    last_seed: u64,
    seeds: u64,
    simulated_seconds: f64,
    found: Vec<Found>,
}

impl Totals {
    /// Adds one seed.
    pub fn add(&mut self, profile: Profile, seed: u64, ended: &Ended) {
        let of_profile = self.profiles.entry(profile).or_default();
        of_profile.first_seed = Some(of_profile.first_seed.map_or(seed, |first| first.min(seed)));
        of_profile.last_seed = of_profile.last_seed.max(seed);
        of_profile.seeds += 1;
        self.seeds += 1;
        if let Ended::Reported(report) = ended {
            of_profile.simulated_seconds += report.simulated_seconds;
            self.simulated_seconds += report.simulated_seconds;
            self.events += report.events;
            for (sums, parts) in [(&mut self.counts, &report.counts), (&mut self.marks, &report.marks)] {
                for (name, count) in parts {
                    *sums.entry(name.clone()).or_default() += count;
                }
            }
        }
        if let Some(what) = ended.violation() {
            self.failures += 1;
            if of_profile.found.len() < limits::FOUND_MAX {
                of_profile.found.push(Found {
                    seed,
                    what: what.to_owned(),
                    fate: ledger::OPEN.to_owned(),
                });
                of_profile.found.sort_by_key(|found| found.seed);
            }
        }
    }

    /// Those of `marks` that no seed reached.
    pub fn never_hit<'a>(&self, marks: &[&'a str]) -> Vec<&'a str> {
        let reached = |mark: &str| self.marks.get(mark).is_some_and(|count| *count > 0);
        marks.iter().copied().filter(|mark| !reached(mark)).collect()
    }

    /// The failures, by profile and seed: profile, seed and what was found.
    pub fn found(&self) -> impl Iterator<Item = (Profile, &Found)> {
        self.profiles
            .iter()
            .flat_map(|(profile, of_profile)| of_profile.found.iter().map(|found| (*profile, found)))
    }

    /// What goes into the ledger.
    pub fn lines(&self, date: &str, commit: &str, options: impl Fn(Profile) -> String) -> Vec<Line> {
        let line = |(profile, of_profile): (&Profile, &OfProfile)| Line {
            date: date.to_owned(),
            commit: commit.to_owned(),
            profile: *profile,
            options: options(*profile),
            first_seed: of_profile.first_seed.unwrap_or_default(),
            last_seed: of_profile.last_seed,
            seeds: of_profile.seeds,
            simulated_seconds: of_profile.simulated_seconds.round() as u64,
            violations: of_profile.found.clone(),
        };
        self.profiles.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    fn reported(marks: &[(&str, u64)], violations: &[&str]) -> Ended {
        Ended::Reported(Box::new(Report {
            marks: marks.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            violations: violations.iter().map(|what| (*what).to_owned()).collect(),
            simulated_seconds: 20.4,
            ..Report::default()
        }))
    }

    #[test]
    fn sums_failures_and_marks_that_were_never_hit() {
        let mut totals = Totals::default();
        totals.add(Profile::Quick, 8, &reported(&[("kill", 2), ("hold", 0)], &[]));
        totals.add(Profile::Quick, 7, &reported(&[("kill", 3)], &["lost", "twice"]));
        totals.add(Profile::Log, 7, &Ended::Hung);
        assert_eq!((totals.seeds, totals.failures), (3, 2));
        assert_eq!(totals.marks["kill"], 5);
        assert_eq!(totals.never_hit(&["kill", "hold", "split"]), ["hold", "split"]);
        let found: Vec<(Profile, u64, &str)> = totals
            .found()
            .map(|(profile, found)| (profile, found.seed, found.what.as_str()))
            .collect();
        assert_eq!(found, [(Profile::Log, 7, "hangs"), (Profile::Quick, 7, "lost")]);
        let lines = totals.lines("2026-11-24", "9c3779d", |profile| profile.name().to_owned());
        assert_eq!((lines[1].first_seed, lines[1].last_seed, lines[1].seeds), (7, 8, 2));
        assert_eq!((lines[1].simulated_seconds, lines[1].options.as_str()), (41, "quick"));
    }
}
