//! Carries out a plan of faults on a running simulation, and heals what it broke.
//!
//! Cuts are counted for each direction of each link, so overlapping faults heal independently. turmoil cannot hold a
//! link that is cut, so a hold is given up when a cut comes, and skipped while one is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use turmoil::Sim;

use crate::{
    board::{Board, replica_name},
    faults::{Fault, Planned, Target},
    trace::Trace,
};

/// What happens to a replica's disk and memory when it dies; `true` stands for a loss of power.
pub type OnCrash = Box<dyn FnMut(bool)>;

/// The simulation as the faults see it.
pub struct Stage<'a> {
    /// The simulated hosts.
    pub sim: Sim<'a>,
    /// Host names; the replicas come first.
    pub hosts: Vec<String>,
    /// For each replica, what a crash does to its volatile state. Its length is the number of replicas.
    pub on_crash: Vec<OnCrash>,
    /// Roles and marks.
    pub board: Board,
    /// The trace.
    pub trace: Trace,
}

enum End {
    Up(usize),
    Mend(Vec<(usize, usize)>),
    Release(usize, usize),
}

/// The faults still to come and those to be healed.
pub struct Chaos {
    plan: VecDeque<Planned>,
    ends: BTreeMap<(u64, u64), End>,
    ends_made: u64,
    cuts: BTreeMap<(usize, usize), u32>,
    held: BTreeSet<(usize, usize)>,
    down: BTreeSet<usize>,
}

impl Chaos {
    /// Carries out `plan`, which is in order of time.
    pub fn new(plan: Vec<Planned>) -> Chaos {
        Chaos {
            plan: plan.into(),
            ends: BTreeMap::new(),
            ends_made: 0,
            cuts: BTreeMap::new(),
            held: BTreeSet::new(),
            down: BTreeSet::new(),
        }
    }

    /// Begins and ends what is due at `now_ms`.
    pub fn step(&mut self, now_ms: u64, stage: &mut Stage<'_>) {
        while self.ends.first_key_value().is_some_and(|((at, _), _)| *at <= now_ms) {
            if let Some((_, end)) = self.ends.pop_first() {
                self.end(end, stage);
            }
        }
        while self.plan.front().is_some_and(|planned| planned.at_ms <= now_ms) {
            if let Some(planned) = self.plan.pop_front() {
                self.begin(planned, now_ms + planned.for_ms, stage);
            }
        }
    }

    /// Heals everything at once and forgets the rest of the plan.
    pub fn heal(&mut self, stage: &mut Stage<'_>) {
        self.plan.clear();
        while let Some((_, end)) = self.ends.pop_first() {
            self.end(end, stage);
        }
        stage.trace.tell("chaos", "everything is healed");
    }

    fn begin(&mut self, planned: Planned, until_ms: u64, stage: &mut Stage<'_>) {
        let replicas = stage.on_crash.len();
        let for_ms = planned.for_ms;
        match planned.fault {
            Fault::Kill(target) => self.crash(stage, target, false, until_ms, for_ms),
            Fault::PowerLoss(target) => self.crash(stage, target, true, until_ms, for_ms),
            Fault::Blackout => {
                stage.board.mark("blackout");
                for replica in 0..replicas {
                    self.crash(stage, Target::Replica(replica), true, until_ms, for_ms);
                }
            }
            Fault::Isolate(target) => self.links(stage, target, "isolate", until_ms, for_ms, |who, _| {
                others(who, replicas)
                    .flat_map(|other| [(who, other), (other, who)])
                    .collect()
            }),
            Fault::CutOff(target) => self.links(stage, target, "cut_off", until_ms, for_ms, |who, hosts| {
                others(who, hosts)
                    .flat_map(|other| [(who, other), (other, who)])
                    .collect()
            }),
            Fault::Mute(target) => self.links(stage, target, "mute", until_ms, for_ms, |who, _| {
                others(who, replicas).map(|other| (who, other)).collect()
            }),
            Fault::Deafen(target) => self.links(stage, target, "deafen", until_ms, for_ms, |who, _| {
                others(who, replicas).map(|other| (other, who)).collect()
            }),
            Fault::Split(a, b) => {
                self.links(stage, Target::Replica(a), "split", until_ms, for_ms, |_, _| {
                    vec![(a, b), (b, a)]
                });
            }
            Fault::Hold(a, b) => self.hold(stage, a, b, until_ms, for_ms),
        }
    }

    fn end(&mut self, end: End, stage: &mut Stage<'_>) {
        match end {
            End::Up(replica) => {
                self.down.remove(&replica);
                stage.trace.tell(&replica_name(replica), "starts");
                stage.sim.bounce(stage.hosts[replica].as_str());
            }
            End::Mend(links) => self.mend(stage, &links),
            End::Release(a, b) => {
                if self.held.remove(&(a, b)) {
                    stage
                        .trace
                        .tell("chaos", format!("release {}–{}", stage.hosts[a], stage.hosts[b]));
                    stage.sim.release(stage.hosts[a].as_str(), stage.hosts[b].as_str());
                }
            }
        }
    }

    fn schedule(&mut self, at_ms: u64, end: End) {
        self.ends_made += 1;
        self.ends.insert((at_ms, self.ends_made), end);
    }

    fn resolve(stage: &Stage<'_>, target: Target) -> Option<usize> {
        match target {
            Target::Leader => stage.board.leader(),
            Target::Replica(replica) => Some(replica),
        }
    }

    fn crash(&mut self, stage: &mut Stage<'_>, target: Target, power: bool, until_ms: u64, for_ms: u64) {
        let Some(replica) = Self::resolve(stage, target).filter(|replica| !self.down.contains(replica)) else {
            return;
        };
        let leads = if stage.board.leader() == Some(replica) {
            ", the leader,"
        } else {
            ""
        };
        let name = replica_name(replica);
        let links: Vec<(usize, usize)> = if power {
            // Cut first: a machine without power sends no FIN.
            let hosts = stage.hosts.len();
            others(replica, hosts)
                .flat_map(|other| [(replica, other), (other, replica)])
                .collect()
        } else {
            Vec::new()
        };
        if power {
            stage.board.mark("power_loss");
            stage
                .trace
                .tell("chaos", format!("{name}{leads} loses power for {for_ms} ms"));
            self.cut(stage, &links);
        } else {
            stage.board.mark("kill");
            stage
                .trace
                .tell("chaos", format!("{name}{leads} is killed for {for_ms} ms"));
        }
        stage.sim.crash(stage.hosts[replica].as_str());
        (stage.on_crash[replica])(power);
        stage.board.down(replica);
        self.down.insert(replica);
        if power {
            self.schedule(until_ms, End::Mend(links));
        }
        self.schedule(until_ms, End::Up(replica));
    }

    fn links(
        &mut self,
        stage: &mut Stage<'_>,
        target: Target,
        name: &'static str,
        until_ms: u64,
        for_ms: u64,
        which: impl FnOnce(usize, usize) -> Vec<(usize, usize)>,
    ) {
        let Some(who) = Self::resolve(stage, target) else {
            return;
        };
        let leads = if stage.board.leader() == Some(who) {
            ", the leader,"
        } else {
            ""
        };
        let links = which(who, stage.hosts.len());
        stage.board.mark(name);
        let far = if name == "split" {
            format!(" from {}", replica_name(links[0].1))
        } else {
            String::new()
        };
        stage.trace.tell(
            "chaos",
            format!("{name} {}{leads}{far} for {for_ms} ms", replica_name(who)),
        );
        self.cut(stage, &links);
        self.schedule(until_ms, End::Mend(links));
    }

    /// Cuts links, each from the first host to the second; cuts of one link are counted.
    pub fn cut(&mut self, stage: &mut Stage<'_>, links: &[(usize, usize)]) {
        for &(from, to) in links {
            if self.held.remove(&(from.min(to), from.max(to))) {
                stage.sim.release(stage.hosts[from].as_str(), stage.hosts[to].as_str());
            }
            let cuts = self.cuts.entry((from, to)).or_default();
            *cuts += 1;
            if *cuts == 1 {
                stage
                    .sim
                    .partition_oneway(stage.hosts[from].as_str(), stage.hosts[to].as_str());
            }
        }
    }

    /// Takes back one cut of each of these links.
    pub fn mend(&mut self, stage: &mut Stage<'_>, links: &[(usize, usize)]) {
        let mut mended = 0;
        let whole = links.iter().all(|link| self.cuts.get(link) == Some(&1));
        for &(from, to) in links {
            let cuts = self.cuts.entry((from, to)).or_default();
            *cuts = cuts.saturating_sub(1);
            if *cuts == 0 {
                self.cuts.remove(&(from, to));
                stage
                    .sim
                    .repair_oneway(stage.hosts[from].as_str(), stage.hosts[to].as_str());
                mended += 1;
            }
        }
        let mended = format!("{mended} of {} cut directions mended", links.len());
        if whole {
            stage.trace.tell("chaos", mended)
        } else {
            stage.trace.event("chaos", mended)
        }
    }

    fn hold(&mut self, stage: &mut Stage<'_>, a: usize, b: usize, until_ms: u64, for_ms: u64) {
        let (a, b) = (a.min(b), a.max(b));
        let cut = self.cuts.contains_key(&(a, b)) || self.cuts.contains_key(&(b, a));
        if a == b || cut || !self.held.insert((a, b)) {
            return;
        }
        stage.board.mark("hold");
        stage.trace.tell(
            "chaos",
            format!("hold {}–{} for {for_ms} ms", stage.hosts[a], stage.hosts[b]),
        );
        stage.sim.hold(stage.hosts[a].as_str(), stage.hosts[b].as_str());
        self.schedule(until_ms, End::Release(a, b));
    }
}

fn others(who: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).filter(move |other| *other != who)
}
