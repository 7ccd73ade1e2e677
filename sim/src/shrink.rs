//! Makes a failing run small: fewer clients, the fewest faults, then the shortest, then the earliest end, that still fail
//! the same way.
//!
//! ```text
//!   plan ─▶ fewer clients ─▶ ddmin over the faults ─▶ shorter faults ─▶ earlier end ─▶ ddmin again, if anything changed
//! ```
//! Nothing here runs anything: [`Trial`] answers whether a candidate fails. So the search is tested without a simulation.

use crate::faults::Planned;

/// What a candidate keeps of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The faults that are left.
    pub faults: Vec<Planned>,
    /// Simulated seconds until everything heals.
    pub seconds: u64,
    /// Whether it has few clients.
    pub few_clients: bool,
}

/// Tries candidates.
pub trait Trial {
    /// Why trying may end for good.
    type Error;

    /// The first of `candidates` (in their order) that still fails, `None` when all of them pass or the budget of tries
    /// is used up. Candidates may be tried at the same time.
    fn first_failing(&mut self, candidates: &[Candidate]) -> Result<Option<usize>, Self::Error>;
}

/// The smallest run found that still fails; `start` must fail.
pub fn shrink<T: Trial>(start: Candidate, trial: &mut T) -> Result<Candidate, T::Error> {
    let mut best = start;
    let few = Candidate {
        few_clients: true,
        ..best.clone()
    };
    if !best.few_clients && trial.first_failing(std::slice::from_ref(&few))?.is_some() {
        best = few;
    }
    best = fewer_faults(best, trial)?;
    loop {
        let before = best.clone();
        best = shorter_faults(best, trial)?;
        best = earlier_end(best, trial)?;
        if best == before {
            return Ok(best);
        }
        let faults = best.faults.len();
        best = fewer_faults(best, trial)?;
        if best.faults.len() == faults {
            return Ok(best);
        }
    }
}

/// ddmin (Zeller and Hildebrandt, 2002): takes out ever smaller parts until no single fault can be missed.
fn fewer_faults<T: Trial>(start: Candidate, trial: &mut T) -> Result<Candidate, T::Error> {
    let (seconds, few_clients) = (start.seconds, start.few_clients);
    let with = |faults: Vec<Planned>| Candidate {
        faults,
        seconds,
        few_clients,
    };
    let mut best = start;
    // A fault may have nothing to do with it at all.
    if !best.faults.is_empty() && trial.first_failing(&[with(Vec::new())])?.is_some() {
        return Ok(with(Vec::new()));
    }
    let mut parts = 2;
    while best.faults.len() >= 2 {
        let size = best.faults.len().div_ceil(parts);
        let chunks: Vec<&[Planned]> = best.faults.chunks(size).collect();
        let alone = chunks.iter().map(|chunk| chunk.to_vec());
        let without = (0..chunks.len()).map(|out| {
            let kept = chunks.iter().enumerate().filter(|(nth, _)| *nth != out);
            kept.flat_map(|(_, chunk)| chunk.iter().copied()).collect()
        });
        // With two parts, one part alone is what the other one leaves.
        let candidates: Vec<Candidate> = if chunks.len() == 2 {
            alone.map(with).collect()
        } else {
            alone.chain(without).map(with).collect()
        };
        match trial.first_failing(&candidates)? {
            Some(nth) => {
                parts = if nth < chunks.len() { 2 } else { (parts - 1).max(2) };
                best = candidates[nth].clone();
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(best.faults.len()),
        }
    }
    Ok(best)
}

/// Each fault as short as it can be, by halves.
fn shorter_faults<T: Trial>(mut best: Candidate, trial: &mut T) -> Result<Candidate, T::Error> {
    const SHORTEST_MS: u64 = 10;
    for nth in 0..best.faults.len() {
        loop {
            let for_ms = best.faults[nth].for_ms;
            let lengths = [for_ms / 8, for_ms / 2];
            let shorter = |for_ms: u64| {
                let mut candidate = best.clone();
                candidate.faults[nth].for_ms = for_ms;
                candidate
            };
            let candidates: Vec<Candidate> = lengths
                .into_iter()
                .filter(|length| *length >= SHORTEST_MS)
                .map(shorter)
                .collect();
            match trial.first_failing(&candidates)? {
                Some(found) => best = candidates[found].clone(),
                None => break,
            }
        }
    }
    Ok(best)
}

/// Everything heals as early as it can: by halves, but not before the last fault begins.
fn earlier_end<T: Trial>(mut best: Candidate, trial: &mut T) -> Result<Candidate, T::Error> {
    let last_ms = best.faults.last().map_or(0, |planned| planned.at_ms);
    let earliest = last_ms / 1_000 + 1;
    while best.seconds > earliest {
        let room = best.seconds - earliest;
        let mut ends = vec![earliest, earliest + room / 4, earliest + room / 2, best.seconds - 1];
        ends.dedup();
        let candidates: Vec<Candidate> = ends
            .into_iter()
            .map(|seconds| Candidate {
                seconds,
                ..best.clone()
            })
            .collect();
        match trial.first_failing(&candidates)? {
            Some(found) => best = candidates[found].clone(),
            None => break,
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::faults::{Fault, Target};

    /// Fails when all of `needed` are there with at least their lengths, and the run is long enough.
    struct Needs {
        needed: Vec<Planned>,
        seconds: u64,
        tries: usize,
    }

    impl Trial for Needs {
        type Error = Infallible;

        fn first_failing(&mut self, candidates: &[Candidate]) -> Result<Option<usize>, Infallible> {
            self.tries += candidates.len();
            let fails = |candidate: &Candidate| {
                let there = |needed: &Planned| {
                    let same = |planned: &Planned| planned.at_ms == needed.at_ms && planned.for_ms >= needed.for_ms;
                    candidate.faults.iter().any(same)
                };
                candidate.seconds >= self.seconds && self.needed.iter().all(there)
            };
            Ok(candidates.iter().position(fails))
        }
    }

    fn plan(count: u64) -> Vec<Planned> {
        let planned = |nth| Planned {
            at_ms: 3_000 + nth * 100,
            for_ms: 1_000,
            fault: Fault::Kill(Target::Leader),
        };
        (0..count).map(planned).collect()
    }

    fn shrunk(needed: &[(usize, u64)], seconds: u64) -> (Candidate, usize) {
        let faults = plan(64);
        let needed = needed
            .iter()
            .map(|(nth, for_ms)| Planned {
                for_ms: *for_ms,
                ..faults[*nth]
            })
            .collect();
        let mut trial = Needs {
            needed,
            seconds,
            tries: 0,
        };
        let start = Candidate {
            faults,
            seconds: 60,
            few_clients: false,
        };
        let Ok(found) = shrink(start, &mut trial);
        (found, trial.tries)
    }

    #[test]
    fn a_list_shrinks_to_what_is_needed() {
        for needed in [
            vec![],
            vec![(63, 900)],
            vec![(0, 20), (63, 900)],
            vec![(5, 300), (6, 300), (40, 1)],
        ] {
            let (found, tries) = shrunk(&needed, 12);
            assert_eq!(found.faults.len(), needed.len(), "{found:?}");
            for (planned, (nth, for_ms)) in found.faults.iter().zip(&needed) {
                assert_eq!(planned.at_ms, 3_000 + *nth as u64 * 100);
                assert!(
                    planned.for_ms >= *for_ms && planned.for_ms < (2 * for_ms).max(20) + 8,
                    "{planned}"
                );
            }
            assert_eq!((found.seconds, found.few_clients), (12, true));
            assert!(tries < 400, "{tries} tries");
        }
    }

    #[test]
    fn no_fault_is_cut_off_by_an_earlier_end() {
        let (found, _) = shrunk(&[(63, 1)], 1);
        assert_eq!(found.seconds, 10);
    }
}
