//! What happens to machines: they die, come back, stop for a failed disk, lose their disk.

use super::{Ambush, Chaos, Due, Stage, others};
use crate::{board::replica_name, fleet::Stop, seed::Seed};

/// How long an outage lasts at most, milliseconds.
const OUTAGE_MS_MAX: u64 = 25_000;
const OUTAGE_LOOK_MS: u64 = 300;
/// How long the power is away after an ambush, milliseconds.
const AMBUSH_MS: u64 = 400;

impl Chaos {
    /// Looks after what stopped by itself, and after machines whose replica has left.
    pub(super) fn watch(&mut self, now_ms: u64, stage: &mut Stage<'_>) {
        for machine in stage.fleet.take_retired() {
            stage.board.wiped(machine);
            if !self.down.contains(&machine) {
                stage.trace.event(&replica_name(machine), "is emptied");
                stage.sim.crash(stage.hosts[machine].as_str());
                stage.board.down(machine);
                stage.sim.bounce(stage.hosts[machine].as_str());
            }
        }
        for (machine, stop) in stage.fleet.take_stopped() {
            if self.down.contains(&machine) {
                continue;
            }
            let name = replica_name(machine);
            let damaged = stage.board.is_damaged(machine);
            match stop {
                Stop::Asked => {
                    stage.board.mark("stopped_in_order");
                    stage.trace.tell(&name, "has stopped in good order");
                }
                Stop::Failed(reason) if stage.board.may_stop(machine, &reason) => {
                    stage.board.mark("stopped_by_disk");
                    stage.trace.tell(&name, format!("stops by itself: {reason}"));
                }
                Stop::Refused(reason) if damaged => {
                    stage.board.mark("refused_to_start");
                    stage.trace.tell(&name, format!("refuses to start: {reason}"));
                    self.throw_away(stage, machine, now_ms);
                    continue;
                }
                // Its disk fails while it is opened.
                Stop::Refused(reason) if stage.board.is_injected(machine, &reason) => {
                    stage.board.mark("failed_to_start");
                    stage.trace.tell(&name, format!("cannot start: {reason}"));
                }
                Stop::Failed(reason) => stage.board.violation(format!("{name} stopped: {reason}")),
                Stop::Refused(reason) => stage.board.violation(format!("{name} refuses to start: {reason}")),
            }
            self.stop(stage, machine, false);
            // Somebody notices and starts it again.
            let noticed_ms = match self.healed {
                true => 50,
                false => 100 + (now_ms * 31 + machine as u64 * 577) % 1_400,
            };
            self.schedule(now_ms + noticed_ms, Due::Up(machine));
        }
    }

    /// The end of whatever runs on a machine.
    fn stop(&mut self, stage: &mut Stage<'_>, machine: usize, power: bool) {
        stage.sim.crash(stage.hosts[machine].as_str());
        (stage.on_crash[machine])(power);
        stage.board.down(machine);
        self.down.insert(machine);
    }

    pub(super) fn up(&mut self, stage: &mut Stage<'_>, machine: usize) {
        if self.down.remove(&machine) {
            stage.trace.tell(&replica_name(machine), "starts");
            stage.sim.bounce(stage.hosts[machine].as_str());
        }
    }

    pub(super) fn kill(&mut self, stage: &mut Stage<'_>, machine: usize, until_ms: u64, for_ms: u64) {
        if self.down.contains(&machine) {
            return;
        }
        stage.board.mark("kill");
        let story = format!("{} is killed for {for_ms} ms", stage.title(machine));
        stage.trace.tell("chaos", story);
        self.stop(stage, machine, false);
        self.schedule(until_ms, Due::Up(machine));
    }

    pub(super) fn power_loss(&mut self, stage: &mut Stage<'_>, machine: usize, until_ms: u64, for_ms: u64) {
        if self.lose_power(stage, machine, until_ms, &format!("loses power for {for_ms} ms")) {
            stage.board.mark("power_loss");
            self.schedule(until_ms, Due::Up(machine));
        }
    }

    pub(super) fn blackout(&mut self, stage: &mut Stage<'_>, until_ms: u64, for_ms: u64) {
        stage.board.mark("blackout");
        for machine in 0..stage.machines() {
            self.power_loss(stage, machine, until_ms, for_ms);
        }
    }

    /// Springs the ambushes whose moment has come.
    pub(super) fn spring(&mut self, now_ms: u64, stage: &mut Stage<'_>) {
        let (sprung, waiting) = std::mem::take(&mut self.ambushes)
            .into_iter()
            .filter(|ambush| now_ms < ambush.until_ms)
            .partition::<Vec<Ambush>, _>(|ambush| stage.board.count(ambush.moment.mark()) > ambush.before);
        self.ambushes = waiting;
        for ambush in sprung {
            self.schedule(now_ms + ambush.wait_ms, Due::Blackout { for_ms: AMBUSH_MS });
        }
    }

    /// Cut first: a machine without power sends no FIN. The links are mended at `mended_ms`.
    fn lose_power(&mut self, stage: &mut Stage<'_>, machine: usize, mended_ms: u64, what: &str) -> bool {
        if self.down.contains(&machine) {
            return false;
        }
        let story = format!("{} {what}", stage.title(machine));
        stage.trace.tell("chaos", story);
        let links: Vec<(usize, usize)> = others(machine, stage.hosts.len())
            .flat_map(|other| [(machine, other), (other, machine)])
            .collect();
        self.cut(stage, &links);
        self.stop(stage, machine, true);
        self.schedule(mended_ms, Due::Mend(links));
        true
    }

    pub(super) fn all_down(&mut self, stage: &mut Stage<'_>, order: u64, now_ms: u64, for_ms: u64) {
        stage.board.mark("all_down");
        let mut draws = Seed(order).stream("order");
        for machine in 0..stage.machines() {
            let up_ms = draws.between(1, for_ms.max(1));
            self.kill(stage, machine, now_ms + up_ms, up_ms);
        }
    }

    pub(super) fn crash_loop(&mut self, stage: &mut Stage<'_>, machine: usize, now_ms: u64, for_ms: u64) {
        const TIMES: u64 = 4;
        stage.board.mark("crash_loop");
        let turn_ms = for_ms / TIMES;
        for turn in 0..TIMES {
            // Dead for less than a turn, and alive for a part of it that grows.
            let for_ms = (turn_ms * (TIMES - turn) / (TIMES + 1)).max(1);
            self.schedule(now_ms + turn * turn_ms, Due::Down { machine, for_ms });
        }
    }

    pub(super) fn rolling_restart(&mut self, stage: &mut Stage<'_>, group: usize, now_ms: u64, for_ms: u64) {
        stage.board.mark("rolling_restart");
        let machines: Vec<usize> = stage.fleet.seats(group).into_values().collect();
        for (turn, machine) in machines.iter().enumerate() {
            let at_ms = now_ms + for_ms * turn as u64 / machines.len() as u64;
            self.schedule(at_ms, Due::AskToStop(*machine));
        }
    }

    pub(super) fn outage(&mut self, stage: &mut Stage<'_>, machine: usize, until_ms: u64) {
        let (applied, deadline_ms) = (stage.board.applied_index(machine), until_ms + OUTAGE_MS_MAX);
        if self.lose_power(stage, machine, until_ms, "loses power for long") {
            stage.board.mark("outage");
            let look = Due::OutageLook {
                machine,
                applied,
                deadline_ms,
            };
            self.schedule(until_ms, look);
        }
    }

    pub(super) fn outage_look(
        &mut self,
        stage: &mut Stage<'_>,
        machine: usize,
        applied: u64,
        (now_ms, deadline_ms): (u64, u64),
    ) {
        let forgotten = stage.board.kept_from(stage.fleet.group_of(machine)) > applied + 1;
        if forgotten {
            stage.board.mark("outage_past_retention");
        }
        if forgotten || self.healed || now_ms >= deadline_ms {
            return self.up(stage, machine);
        }
        let look = Due::OutageLook {
            machine,
            applied,
            deadline_ms,
        };
        self.schedule(now_ms + OUTAGE_LOOK_MS, look);
    }

    pub(super) fn wipe(&mut self, stage: &mut Stage<'_>, machine: usize, until_ms: u64) {
        if !self.can_spare(stage, machine) || !self.lose_power(stage, machine, until_ms, "loses its disk") {
            return;
        }
        stage.board.mark("wipe");
        stage.fleet.wipe(machine);
        stage.board.wiped(machine);
        self.schedule(until_ms, Due::Up(machine));
    }

    /// A replica that is of no use any more: its machine starts empty.
    pub(super) fn throw_away(&mut self, stage: &mut Stage<'_>, machine: usize, now_ms: u64) {
        stage.board.mark("thrown_away");
        stage.trace.tell(&replica_name(machine), "is wiped, to be replaced");
        if !self.down.contains(&machine) {
            self.stop(stage, machine, false);
        }
        stage.fleet.wipe(machine);
        stage.board.wiped(machine);
        self.schedule(now_ms + 20, Due::Up(machine));
    }

    /// Replaces a replica whose bytes are damaged, once its broker group keeps a majority meanwhile.
    pub(super) fn replace_damaged(&mut self, stage: &mut Stage<'_>, machine: usize, now_ms: u64) {
        const LOOK_MS: u64 = 200;
        if !stage.board.is_damaged(machine) {
            return;
        }
        if loses_one_calmly(stage, stage.fleet.group_of(machine)) {
            self.throw_away(stage, machine, now_ms);
        } else {
            self.schedule(now_ms + LOOK_MS, Due::ReplaceDamaged(machine));
        }
    }

    /// Whether the broker group has a copy of everything on a majority without this machine, and keeps it until the
    /// machine is replaced: its membership is as wanted, and nothing of another member is lost or damaged.
    pub(super) fn can_spare(&self, stage: &Stage<'_>, machine: usize) -> bool {
        let group = stage.fleet.group_of(machine);
        let seats = stage.fleet.seats(group);
        let mut machines = seats.values();
        loses_one_calmly(stage, group)
            && seats.values().any(|seated| *seated == machine)
            && machines.all(|seated| !stage.board.is_damaged(*seated))
    }
}

/// Whether the membership of a broker group is as wanted, and a majority is left without one of its replicas.
fn loses_one_calmly(stage: &Stage<'_>, group: usize) -> bool {
    stage.fleet.is_settled(group) && stage.fleet.seats(group).len() >= 3
}
