//! Carries out a plan of faults on a running simulation, and heals what it broke; does what the people who watch over
//! machines do: starts again what stopped for a failed disk, wipes what refuses to start for damaged bytes.
//!
//! Cuts are counted for each direction of each link, so overlapping faults heal independently. turmoil cannot hold a
//! link that is cut, so a hold is given up when a cut comes, and skipped while one is there.

mod disks;
mod links;
mod machines;
mod operations;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use turmoil::Sim;

use crate::{
    board::{Board, replica_name},
    faults::{Fault, Moment, Planned, Target},
    fleet::Fleet,
    trace::Trace,
};

/// What happens to a replica's disk and memory when it dies; `true` stands for a loss of power.
pub type OnCrash = Box<dyn FnMut(bool)>;

/// The simulation as the faults see it.
pub struct Stage<'a> {
    /// The simulated hosts.
    pub sim: Sim<'a>,
    /// Host names; the machines of replicas come first, then the name servers.
    pub hosts: Vec<String>,
    /// For each machine, what a crash does to its volatile state. Its length is the number of machines.
    pub on_crash: Vec<OnCrash>,
    /// How many name servers there are.
    pub name_servers: usize,
    /// Longest delay of a link that is well.
    pub latency: Duration,
    /// The machines.
    pub fleet: Fleet,
    /// Roles and marks.
    pub board: Board,
    /// The trace.
    pub trace: Trace,
}

impl Stage<'_> {
    fn machines(&self) -> usize {
        self.on_crash.len()
    }

    /// The machine that a target means now.
    fn resolve(&self, target: Target) -> Option<usize> {
        match target {
            Target::Leader => self.board.leader(0),
            Target::LeaderOf(group) => self.board.leader(group),
            Target::Replica(machine) => (machine < self.machines()).then_some(machine),
        }
    }

    /// `replica-2`, or `replica-2, the leader,`.
    fn title(&self, machine: usize) -> String {
        let leads = self.board.leader(self.fleet.group_of(machine)) == Some(machine);
        let leads = if leads { ", the leader," } else { "" };
        format!("{}{leads}", replica_name(machine))
    }
}

/// What is to be done later.
enum Due {
    /// Starts a machine.
    Up(usize),
    /// Kills one.
    Down { machine: usize, for_ms: u64 },
    /// Cuts the power of all.
    Blackout { for_ms: u64 },
    /// Asks one to stop in good order.
    AskToStop(usize),
    /// Looks whether the others have forgotten what a machine would need next.
    OutageLook {
        machine: usize,
        applied: u64,
        deadline_ms: u64,
    },
    /// Mends directions of links.
    Mend(Vec<(usize, usize)>),
    /// Releases links.
    Release(Vec<(usize, usize)>),
    /// The links of a machine are as fast as before.
    Fast(usize),
    /// A disk is well again.
    DiskWell(usize),
    /// A clock is right again.
    ClockRight(usize),
    /// An operator aims at so many voters.
    Want(usize, usize),
    /// A topic goes.
    DeleteTopic(String),
    /// Replaces the replica on a machine if its bytes are damaged.
    ReplaceDamaged(usize),
}

impl Due {
    /// Whether it breaks something, so that it is left out once everything is to be healed.
    fn breaks(&self) -> bool {
        matches!(self, Due::Down { .. } | Due::Blackout { .. } | Due::AskToStop(_))
    }
}

/// A loss of power that waits for its moment.
struct Ambush {
    moment: Moment,
    /// How often the moment had come when it was laid.
    before: u64,
    until_ms: u64,
    wait_ms: u64,
}

/// The faults still to come and those to be healed.
pub struct Chaos {
    plan: VecDeque<Planned>,
    ambushes: Vec<Ambush>,
    due: BTreeMap<(u64, u64), Due>,
    due_made: u64,
    cuts: BTreeMap<(usize, usize), u32>,
    held: BTreeSet<(usize, usize)>,
    down: BTreeSet<usize>,
    wrong_clocks: BTreeSet<usize>,
    healed: bool,
}

impl Chaos {
    /// Carries out `plan`, which is in order of time.
    pub fn new(plan: Vec<Planned>) -> Chaos {
        Chaos {
            plan: plan.into(),
            ambushes: Vec::new(),
            due: BTreeMap::new(),
            due_made: 0,
            cuts: BTreeMap::new(),
            held: BTreeSet::new(),
            down: BTreeSet::new(),
            wrong_clocks: BTreeSet::new(),
            healed: false,
        }
    }

    /// Begins and ends what is due at `now_ms`.
    pub fn step(&mut self, now_ms: u64, stage: &mut Stage<'_>) {
        self.watch(now_ms, stage);
        self.spring(now_ms, stage);
        while self.due.first_key_value().is_some_and(|((at, _), _)| *at <= now_ms) {
            if let Some((_, due)) = self.due.pop_first() {
                self.end(due, now_ms, stage);
            }
        }
        while self.plan.front().is_some_and(|planned| planned.at_ms <= now_ms) {
            if let Some(planned) = self.plan.pop_front() {
                self.begin(planned, now_ms, stage);
            }
        }
    }

    /// Heals everything at once and forgets the rest of the plan. Replicas whose bytes are damaged are replaced.
    pub fn heal(&mut self, stage: &mut Stage<'_>) {
        self.plan.clear();
        self.ambushes.clear();
        self.healed = true;
        let now_ms = u64::try_from(stage.trace.now().as_millis()).unwrap_or(u64::MAX);
        while let Some((_, due)) = self.due.pop_first() {
            if !due.breaks() {
                self.end(due, now_ms, stage);
            }
        }
        for machine in 0..stage.machines() {
            self.replace_damaged(stage, machine, now_ms);
        }
        stage.trace.tell("chaos", "everything is healed");
    }

    fn begin(&mut self, planned: Planned, now_ms: u64, stage: &mut Stage<'_>) {
        let for_ms = planned.for_ms;
        let until_ms = now_ms + for_ms;
        match planned.fault {
            Fault::Blackout => self.blackout(stage, until_ms, for_ms),
            Fault::Ambush(moment, wait_ms) => self.ambushes.push(Ambush {
                moment,
                before: stage.board.count(moment.mark()),
                until_ms,
                wait_ms,
            }),
            Fault::AllDown(order) => self.all_down(stage, order, now_ms, for_ms),
            Fault::RollingRestart(group) => self.rolling_restart(stage, group, now_ms, for_ms),
            Fault::Split(a, b) => self.split(stage, a, b, until_ms, for_ms),
            Fault::Hold(a, b) => self.hold(stage, &[(a, b)], until_ms, &format!("hold {a}–{b} for {for_ms} ms")),
            Fault::NameServerCut(which) => self.name_server_cut(stage, which, until_ms, for_ms),
            Fault::NoSpaceAnywhere => {
                stage.board.mark("no_space_anywhere");
                for machine in 0..stage.machines() {
                    self.no_space(stage, machine, until_ms, for_ms);
                }
            }
            Fault::Transfer(machine) => self.transfer(stage, machine),
            Fault::Grow(group) => self.resize(stage, group, 1, until_ms),
            Fault::Shrink(group) => self.resize(stage, group, -1, until_ms),
            Fault::Topic(number) => self.topic(stage, number, until_ms),
            fault => {
                let target = fault.target();
                if let Some(machine) = target.and_then(|target| stage.resolve(target)) {
                    self.hit(stage, fault, machine, now_ms, for_ms);
                }
            }
        }
    }

    /// A fault against one machine.
    fn hit(&mut self, stage: &mut Stage<'_>, fault: Fault, machine: usize, now_ms: u64, for_ms: u64) {
        let until_ms = now_ms + for_ms;
        match fault {
            Fault::Kill(_) => self.kill(stage, machine, until_ms, for_ms),
            Fault::PowerLoss(_) => self.power_loss(stage, machine, until_ms, for_ms),
            Fault::CrashLoop(_) => self.crash_loop(stage, machine, now_ms, for_ms),
            Fault::Outage(_) => self.outage(stage, machine, until_ms),
            Fault::Pause(_) => self.pause(stage, machine, until_ms, for_ms),
            Fault::Wipe(_) => self.wipe(stage, machine, until_ms),
            Fault::Slow(_, ms) => self.slow(stage, machine, ms, until_ms, for_ms),
            Fault::Reset(_) => self.reset(stage, machine),
            Fault::FailWrite(_) => self.fail_disk(stage, machine, "fail_write", until_ms),
            Fault::FailSync(_) => self.fail_disk(stage, machine, "fail_sync", until_ms),
            Fault::NoSpace(_) => self.no_space(stage, machine, until_ms, for_ms),
            Fault::SlowSync(_, ms) => self.slow_sync(stage, machine, ms, until_ms, for_ms),
            Fault::Flip(_, rot, place) => self.flip(stage, machine, (rot, place), until_ms),
            Fault::Clock(_, jump_ms, drift_ppm) => self.clock(stage, machine, (jump_ms, drift_ppm), until_ms, for_ms),
            Fault::Swap(_) => self.swap(stage, machine),
            _ => self.cut_around(stage, fault, machine, until_ms, for_ms),
        }
    }

    fn end(&mut self, due: Due, now_ms: u64, stage: &mut Stage<'_>) {
        match due {
            Due::Up(machine) => self.up(stage, machine),
            Due::Down { machine, for_ms } => self.kill(stage, machine, now_ms + for_ms, for_ms),
            Due::Blackout { for_ms } => {
                stage.board.mark("ambush");
                self.blackout(stage, now_ms + for_ms, for_ms);
            }
            Due::AskToStop(machine) => {
                // Whoever comes onto an empty machine later was not meant.
                if stage.fleet.seat(machine).is_some() && stage.board.asked_to_stop(machine) {
                    stage.trace.tell(&replica_name(machine), "is asked to stop");
                    stage.fleet.ask_to_stop(machine);
                }
            }
            Due::OutageLook {
                machine,
                applied,
                deadline_ms,
            } => self.outage_look(stage, machine, applied, (now_ms, deadline_ms)),
            Due::Mend(links) => self.mend(stage, &links),
            Due::Release(links) => self.release(stage, &links),
            Due::Fast(machine) => self.set_latency(stage, machine, stage.latency),
            Due::DiskWell(machine) => self.disk_well(stage, machine),
            Due::ClockRight(machine) => {
                if self.wrong_clocks.remove(&machine) {
                    stage
                        .trace
                        .tell("chaos", format!("{}'s clock is right", replica_name(machine)));
                    stage.fleet.clock(machine).mend();
                }
            }
            Due::Want(group, voters) => stage.fleet.want(group, voters),
            Due::ReplaceDamaged(machine) => self.replace_damaged(stage, machine, now_ms),
            Due::DeleteTopic(name) => stage.fleet.order(0, crate::fleet::Order::DeleteTopic(name)),
        }
    }

    fn schedule(&mut self, at_ms: u64, due: Due) {
        self.due_made += 1;
        self.due.insert((at_ms, self.due_made), due);
    }
}

fn others(who: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).filter(move |other| *other != who)
}
