//! The faults of a run as an explicit list, drawn from the seed's stream `faults` before the run starts. A fault names
//! its target by role where that matters (the leader of the moment); everything else is decided here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::seed::{Draws, Seed};

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The replica that leads when the fault begins; nobody, if none leads.
    Leader,
    /// A replica, counted from 0.
    Replica(usize),
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The process dies (SIGKILL): memory is gone, the kernel keeps what was written.
    Kill(Target),
    /// The machine loses power: memory and what was written but not synced are gone; the others hear nothing.
    PowerLoss(Target),
    /// All machines lose power at once.
    Blackout,
    /// The target hears no other replica, and no other replica hears it; clients still reach it.
    Isolate(Target),
    /// The target is cut off from everything, clients included.
    CutOff(Target),
    /// What the target sends to the other replicas is lost; what they send arrives.
    Mute(Target),
    /// What the other replicas send to the target is lost; what it sends arrives.
    Deafen(Target),
    /// Two replicas don't hear each other.
    Split(usize, usize),
    /// What two replicas send each other is held back and then delivered.
    Hold(usize, usize),
}

/// A fault with its begin and its length, in simulated milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// When it begins.
    pub at_ms: u64,
    /// How long until it is healed.
    pub for_ms: u64,
    /// What happens.
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} ms for {} ms: {:?}", self.at_ms, self.for_ms, self.fault)
    }
}

/// The plan of faults of a run: between `from_ms` and `until_ms`, against `replicas` replicas.
pub fn plan(seed: Seed, replicas: usize, from_ms: u64, until_ms: u64) -> Vec<Planned> {
    let mut draws = seed.stream("faults");
    let weights = weights(&mut draws);
    let total: u64 = weights.iter().sum();
    let gap_max = draws.pick(&[1_500, 3_000, 6_000]);
    let mut planned = Vec::new();
    let mut at_ms = from_ms + draws.between(0, gap_max);
    while at_ms < until_ms {
        let mut roll = draws.between(1, total);
        let mut kind = 0;
        while roll > weights[kind] {
            roll -= weights[kind];
            kind += 1;
        }
        let for_ms = length(&mut draws);
        planned.push(Planned {
            at_ms,
            for_ms,
            fault: fault(&mut draws, kind, replicas),
        });
        at_ms += draws.between(100, gap_max);
    }
    planned
}

const KINDS: usize = 9;

/// How often each kind comes in this run; some kinds not at all.
fn weights(draws: &mut Draws) -> [u64; KINDS] {
    loop {
        let mut weights = [0; KINDS];
        for weight in &mut weights {
            *weight = draws.pick(&[0, 1, 1, 3, 6]);
        }
        // The whole cluster down is rare, or nothing else would happen.
        weights[2] = weights[2].min(1);
        if weights.iter().sum::<u64>() > 0 {
            return weights;
        }
    }
}

fn length(draws: &mut Draws) -> u64 {
    match draws.below(4) {
        0 => draws.between(5, 150),
        1 | 2 => draws.between(150, 1_500),
        _ => draws.between(1_500, 5_000),
    }
}

fn target(draws: &mut Draws, replicas: usize) -> Target {
    if draws.percent(55) {
        Target::Leader
    } else {
        Target::Replica(draws.below(replicas))
    }
}

fn fault(draws: &mut Draws, kind: usize, replicas: usize) -> Fault {
    let target = target(draws, replicas);
    let a = draws.below(replicas);
    let b = (a + 1 + draws.below((replicas - 1).max(1))) % replicas;
    match kind {
        0 => Fault::Kill(target),
        1 => Fault::PowerLoss(target),
        2 => Fault::Blackout,
        3 => Fault::Isolate(target),
        4 => Fault::CutOff(target),
        5 => Fault::Mute(target),
        6 => Fault::Deafen(target),
        7 => Fault::Split(a, b),
        _ => Fault::Hold(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed() {
        let first = plan(Seed(7), 3, 3_000, 60_000);
        assert_eq!(first, plan(Seed(7), 3, 3_000, 60_000));
        assert!(!first.is_empty());
        assert!(first.iter().all(|planned| (3_000..60_000).contains(&planned.at_ms)));
        assert!(first.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms));
    }
}
