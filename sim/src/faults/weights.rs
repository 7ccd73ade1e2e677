//! How often each kind of fault comes, by profile.

use crate::{run::Profile, seed::Draws};

/// The kinds of faults that can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Kill,
    PowerLoss,
    Blackout,
    Ambush,
    AllDown,
    CrashLoop,
    Outage,
    Pause,
    RollingRestart,
    Wipe,
    Isolate,
    CutOff,
    Mute,
    Deafen,
    Split,
    Bridge,
    Minority,
    Hold,
    Slow,
    Reset,
    ClientsCut,
    NameServerCut,
    FailWrite,
    FailSync,
    NoSpace,
    NoSpaceAnywhere,
    SlowSync,
    Flip,
    Clock,
    Transfer,
    Grow,
    Shrink,
    Swap,
    Topic,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Network,
    Process,
    Power,
    Disk,
    Time,
    Operations,
}

/// Each kind with its class, its weight inside of the class, and whether raft-store alone knows it.
const KINDS: &[(Kind, Class, u64, bool)] = &[
    (Kind::Kill, Class::Process, 6, true),
    (Kind::CrashLoop, Class::Process, 2, true),
    (Kind::Pause, Class::Process, 4, true),
    (Kind::AllDown, Class::Process, 1, true),
    (Kind::RollingRestart, Class::Process, 1, false),
    (Kind::PowerLoss, Class::Power, 6, true),
    (Kind::Blackout, Class::Power, 1, true),
    (Kind::Ambush, Class::Power, 2, true),
    (Kind::Outage, Class::Power, 1, true),
    (Kind::Isolate, Class::Network, 4, true),
    (Kind::CutOff, Class::Network, 4, true),
    (Kind::Mute, Class::Network, 4, true),
    (Kind::Deafen, Class::Network, 4, true),
    (Kind::Split, Class::Network, 3, true),
    (Kind::Bridge, Class::Network, 3, true),
    (Kind::Minority, Class::Network, 3, true),
    (Kind::Hold, Class::Network, 3, true),
    (Kind::Slow, Class::Network, 3, true),
    (Kind::Reset, Class::Network, 3, false),
    (Kind::ClientsCut, Class::Network, 2, false),
    (Kind::NameServerCut, Class::Network, 1, false),
    (Kind::FailWrite, Class::Disk, 4, false),
    (Kind::FailSync, Class::Disk, 4, false),
    (Kind::NoSpace, Class::Disk, 3, false),
    (Kind::NoSpaceAnywhere, Class::Disk, 1, false),
    (Kind::SlowSync, Class::Disk, 3, true),
    (Kind::Flip, Class::Disk, 4, false),
    (Kind::Wipe, Class::Disk, 1, false),
    (Kind::Clock, Class::Time, 4, true),
    (Kind::Transfer, Class::Operations, 4, false),
    (Kind::Grow, Class::Operations, 2, false),
    (Kind::Shrink, Class::Operations, 2, false),
    (Kind::Swap, Class::Operations, 2, false),
    (Kind::Topic, Class::Operations, 2, false),
];

const fn of_class(profile: Profile, class: Class) -> u64 {
    match (profile, class) {
        (Profile::Disk, Class::Disk) => 12,
        (Profile::Disk, Class::Process | Class::Power) => 3,
        (Profile::Network, Class::Network) => 12,
        (Profile::Network, Class::Process) => 2,
        (Profile::Membership, Class::Operations) => 12,
        (Profile::Membership, Class::Network | Class::Process | Class::Power) => 2,
        (Profile::Power, Class::Power) => 12,
        (Profile::Power, Class::Process) => 4,
        (Profile::Disk | Profile::Network | Profile::Membership | Profile::Power, _) => 1,
        (_, Class::Network) => 4,
        (_, Class::Process | Class::Power) => 4,
        (_, Class::Disk) => 3,
        (_, Class::Time | Class::Operations) => 2,
    }
}

/// The classes, so that a class with many kinds comes no more often than one with few.
const CLASSES: [Class; 6] = [
    Class::Network,
    Class::Process,
    Class::Power,
    Class::Disk,
    Class::Time,
    Class::Operations,
];

/// The weights of one run: some classes and kinds not at all, some often.
pub(super) struct Weights(Vec<(Vec<(Kind, u64)>, u64)>);

impl Weights {
    pub(super) fn draw(draws: &mut Draws, profile: Profile) -> Weights {
        let mut often = |weight: u64| weight * draws.pick(&[0, 1, 1, 4]);
        let mut classes: Vec<(Vec<(Kind, u64)>, u64)> = Vec::new();
        for class in CLASSES {
            let possible = KINDS.iter().filter(|(_, of, ..)| *of == class);
            let mut kinds: Vec<(Kind, u64)> = possible
                .filter(|(.., log)| *log || profile != Profile::Log)
                .map(|(kind, _, weight, _)| (*kind, often(*weight)))
                .collect();
            kinds.retain(|(_, weight)| *weight > 0);
            let weight = often(of_class(profile, class));
            if weight > 0 && !kinds.is_empty() {
                classes.push((kinds, weight));
            }
        }
        if classes.is_empty() {
            classes.push((vec![(Kind::Kill, 1)], 1));
        }
        Weights(classes)
    }

    pub(super) fn pick(&self, draws: &mut Draws) -> Kind {
        let kinds: &Vec<(Kind, u64)> = weighted(draws, &self.0);
        *weighted(draws, kinds)
    }
}

/// One of these by their weights; there is one, and all weights are positive.
fn weighted<'a, T>(draws: &mut Draws, choices: &'a [(T, u64)]) -> &'a T {
    let total = choices.iter().map(|(_, weight)| weight).sum();
    let mut roll = draws.between(1, total);
    for (choice, weight) in choices {
        if roll <= *weight {
            return choice;
        }
        roll -= weight;
    }
    &choices[0].0
}
