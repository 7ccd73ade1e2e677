//! Draws the plan of faults of a run from the seed's stream `faults`.

use super::{
    Fault, Moment, Planned, Rot, Target,
    weights::{Kind, Weights},
};
use crate::{
    layout::Layout,
    run::Profile,
    seed::{Draws, Seed},
};

/// Milliseconds between a moment and the loss of power that waited for it. Most steps of a disk take a few.
const WAITS_MS: &[u64] = &[0, 0, 1, 1, 2, 3, 5, 10, 20, 40, 80];

/// The plan of faults of a run between `from_ms` and `until_ms`.
pub fn plan(seed: Seed, profile: Profile, layout: &Layout, from_ms: u64, until_ms: u64) -> Vec<Planned> {
    let mut draws = seed.stream("faults");
    let weights = Weights::draw(&mut draws, profile);
    let gap_max = draws.pick(&[1_500, 3_000, 6_000]);
    let mut planned = Vec::new();
    let mut at_ms = from_ms + draws.between(0, gap_max);
    while at_ms < until_ms {
        let kind = weights.pick(&mut draws);
        let for_ms = length(&mut draws, kind);
        planned.push(Planned {
            at_ms,
            for_ms,
            fault: fault(&mut draws, kind, layout),
        });
        at_ms += draws.between(100, gap_max);
    }
    planned
}

fn length(draws: &mut Draws, kind: Kind) -> u64 {
    match kind {
        Kind::Slow | Kind::SlowSync | Kind::NameServerCut | Kind::ClientsCut => draws.between(500, 8_000),
        Kind::Clock | Kind::Topic => draws.between(2_000, 20_000),
        Kind::Grow | Kind::Shrink => draws.between(3_000, 15_000),
        Kind::RollingRestart => draws.between(3_000, 9_000),
        Kind::CrashLoop | Kind::AllDown | Kind::Wipe => draws.between(500, 5_000),
        Kind::Pause => draws.between(200, 4_000),
        Kind::Outage => draws.between(8_000, 15_000),
        Kind::Ambush => draws.between(2_000, 15_000),
        _ => match draws.below(4) {
            0 => draws.between(5, 150),
            1 | 2 => draws.between(150, 1_500),
            _ => draws.between(1_500, 5_000),
        },
    }
}

fn leader(group: usize) -> Target {
    match group {
        0 => Target::Leader,
        group => Target::LeaderOf(group),
    }
}

/// Milliseconds of a jump of a clock, and millionths of its drift.
fn wrong_clock(draws: &mut Draws) -> (i64, i64) {
    let far = draws.pick(&[300, 3_000, 60_000, 3_600_000, 90_000_000]);
    let jump = draws.between(1, far) as i64;
    let drift = draws.pick(&[0, 0, 100, 50_000, 500_000]);
    match draws.below(4) {
        0 => (0, drift.max(100)),
        1 => (-jump, -drift),
        2 => (-jump, drift),
        _ => (jump, drift),
    }
}

fn fault(draws: &mut Draws, kind: Kind, layout: &Layout) -> Fault {
    let machines = layout.machines();
    let group = draws.below(layout.broker_groups.len());
    let of_group: Vec<usize> = (0..machines.len())
        .filter(|machine| machines[*machine] == group)
        .collect();
    let a = draws.below(of_group.len());
    let b = (a + 1 + draws.below((of_group.len() - 1).max(1))) % of_group.len();
    let (a, b) = (of_group[a], of_group[b]);
    let target = if draws.percent(55) {
        leader(group)
    } else {
        Target::Replica(a)
    };
    match kind {
        Kind::Kill => Fault::Kill(target),
        Kind::PowerLoss => Fault::PowerLoss(target),
        Kind::Blackout => Fault::Blackout,
        Kind::Ambush => Fault::Ambush(draws.pick(&Moment::ALL), draws.pick(WAITS_MS)),
        Kind::AllDown => Fault::AllDown(draws.number()),
        Kind::CrashLoop => Fault::CrashLoop(target),
        Kind::Outage => Fault::Outage(target),
        Kind::Pause => Fault::Pause(target),
        Kind::RollingRestart => Fault::RollingRestart(group),
        Kind::Wipe => Fault::Wipe(target),
        Kind::Isolate => Fault::Isolate(target),
        Kind::CutOff => Fault::CutOff(target),
        Kind::Mute => Fault::Mute(target),
        Kind::Deafen => Fault::Deafen(target),
        Kind::Split => Fault::Split(a, b),
        Kind::Bridge => Fault::Bridge(target),
        Kind::Minority => Fault::Minority(target),
        Kind::Hold => Fault::Hold(a, b),
        Kind::Slow => Fault::Slow(target, draws.pick(&[100, 250, 700])),
        Kind::Reset => Fault::Reset(target),
        Kind::ClientsCut => Fault::ClientsCut(target),
        Kind::NameServerCut => Fault::NameServerCut(draws.below(layout.name_servers.max(1))),
        Kind::FailWrite => Fault::FailWrite(target),
        Kind::FailSync => Fault::FailSync(target),
        Kind::NoSpace => Fault::NoSpace(target),
        Kind::NoSpaceAnywhere => Fault::NoSpaceAnywhere,
        Kind::SlowSync => Fault::SlowSync(target, draws.pick(&[100, 400, 1_500])),
        Kind::Flip => Fault::Flip(target, draws.pick(&[Rot::Log, Rot::Vote, Rot::Any]), draws.number()),
        Kind::Clock => {
            let (jump_ms, drift_ppm) = wrong_clock(draws);
            Fault::Clock(target, jump_ms, drift_ppm)
        }
        Kind::Transfer => Fault::Transfer(a),
        Kind::Grow => Fault::Grow(group),
        Kind::Shrink => Fault::Shrink(group),
        Kind::Swap => Fault::Swap(target),
        Kind::Topic => Fault::Topic(draws.between(1, 5)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed() {
        let profile = Profile::Default;
        let plan = || plan(Seed(7), profile, &Layout::draw(Seed(7), profile), 3_000, 60_000);
        let first = plan();
        assert_eq!(first, plan());
        assert!(!first.is_empty());
        assert!(first.iter().all(|planned| (3_000..60_000).contains(&planned.at_ms)));
        assert!(first.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms));
    }

    #[test]
    fn every_kind_is_drawn() {
        let profile = Profile::Default;
        let mut names = std::collections::BTreeSet::new();
        for seed in (0..300).map(Seed) {
            for planned in plan(seed, profile, &Layout::draw(seed, profile), 3_000, 60_000) {
                let name = format!("{:?}", planned.fault);
                names.insert(name.split('(').next().unwrap_or_default().to_owned());
            }
        }
        assert_eq!(names.len(), 34, "{names:?}");
    }
}
