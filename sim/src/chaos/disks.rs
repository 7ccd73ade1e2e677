//! What goes wrong with disks and clocks.

use std::{path::Path, time::Duration};

use ledgermq_raft_store::disk::{Disk, FaultyDisk, Open};

use super::{Chaos, Due, Stage};
use crate::{board::replica_name, faults::Rot, world};

/// Where a replica keeps its log, below its data folder.
const FOLDER: &str = "/data/replica";
/// A replica must have applied so much before its bytes rot.
const ROT_ENTRIES_MIN: u64 = 200;

impl Chaos {
    fn disk(stage: &Stage<'_>, machine: usize) -> Option<FaultyDisk> {
        stage.fleet.seat(machine).map(|seat| seat.disk)
    }

    pub(super) fn fail_disk(&mut self, stage: &mut Stage<'_>, machine: usize, name: &'static str, until_ms: u64) {
        let Some(disk) = Self::disk(stage, machine) else {
            return;
        };
        stage.board.mark(name);
        let story = format!("{name} on {}", stage.title(machine));
        stage.trace.tell("chaos", story);
        stage.board.excuse(machine, name);
        match name {
            "fail_sync" => disk.fail_next_sync(),
            _ => disk.fail_next_write(),
        }
        self.schedule(until_ms, Due::DiskWell(machine));
    }

    pub(super) fn no_space(&mut self, stage: &mut Stage<'_>, machine: usize, until_ms: u64, for_ms: u64) {
        let Some(disk) = Self::disk(stage, machine) else {
            return;
        };
        stage.board.mark("no_space");
        let story = format!("the disk of {} is full for {for_ms} ms", stage.title(machine));
        stage.trace.tell("chaos", story);
        stage.board.excuse(machine, "no_space");
        disk.capacity_bytes(Some(disk.used_bytes()));
        self.schedule(until_ms, Due::DiskWell(machine));
    }

    pub(super) fn slow_sync(&mut self, stage: &mut Stage<'_>, machine: usize, ms: u64, until_ms: u64, for_ms: u64) {
        let Some(disk) = Self::disk(stage, machine) else {
            return;
        };
        stage.board.mark("slow_sync");
        let story = format!("syncs of {} take up to {ms} ms for {for_ms} ms", stage.title(machine));
        stage.trace.tell("chaos", story);
        disk.sync_delay(Duration::from_millis(ms / 4)..Duration::from_millis(ms));
        self.schedule(until_ms, Due::DiskWell(machine));
    }

    /// Everything that was done to the machine's disk is over; what stopped for it may still have to be noticed.
    pub(super) fn disk_well(&mut self, stage: &mut Stage<'_>, machine: usize) {
        stage.board.excuse_ends(machine);
        if let Some(disk) = Self::disk(stage, machine) {
            disk.heal();
            disk.capacity_bytes(None);
            disk.sync_delay(Duration::ZERO..stage.fleet.sync_delay(machine));
        }
    }

    /// Kills the replica, flips a bit in its folder, and starts it again at `until_ms`.
    pub(super) fn flip(&mut self, stage: &mut Stage<'_>, machine: usize, (rot, place): (Rot, u64), until_ms: u64) {
        let board = &stage.board;
        let group = stage.fleet.group_of(machine);
        let applied = board.applied_index(machine);
        let others_know = |seat: usize| board.is_up(seat) && board.applied_index(seat) + 50 >= applied;
        let known = stage.fleet.seats(group).into_values().all(others_know);
        if !known || applied < ROT_ENTRIES_MIN || !self.can_spare(stage, machine) {
            return;
        }
        let Some(disk) = Self::disk(stage, machine) else {
            return;
        };
        let for_ms = until_ms.saturating_sub(u64::try_from(stage.trace.now().as_millis()).unwrap_or(until_ms));
        self.kill(stage, machine, until_ms, for_ms);
        match flipped(&disk, rot, place) {
            Some(told) => {
                stage.board.mark("flip");
                stage.board.damage(machine);
                stage
                    .trace
                    .tell("chaos", format!("a bit flips on {}: {told}", replica_name(machine)));
            }
            None => stage.trace.event("chaos", "nothing to rot"),
        }
    }

    pub(super) fn clock(
        &mut self,
        stage: &mut Stage<'_>,
        machine: usize,
        (jump_ms, drift_ppm): (i64, i64),
        until_ms: u64,
        for_ms: u64,
    ) {
        let seats = stage.fleet.seats(stage.fleet.group_of(machine));
        let is_wrong = |seat: &&usize| **seat != machine && self.wrong_clocks.contains(seat);
        let wrong = seats.values().filter(is_wrong).count() + 1;
        if wrong > seats.len().saturating_sub(1) / 2 {
            return;
        }
        stage.board.mark("wrong_clock");
        let story = format!(
            "the clock of {} jumps by {jump_ms} ms and gains {drift_ppm} ppm for {for_ms} ms",
            stage.title(machine)
        );
        stage.trace.tell("chaos", story);
        let right_ms = world::at_ms(stage.trace.now());
        stage.fleet.clock(machine).break_at(right_ms, jump_ms, drift_ppm);
        self.wrong_clocks.insert(machine);
        self.schedule(until_ms, Due::ClockRight(machine));
    }
}

/// Flips a bit; tells where.
fn flipped(disk: &FaultyDisk, rot: Rot, place: u64) -> Option<String> {
    let folder = Path::new(FOLDER);
    let mut names = Vec::new();
    for dir in [folder.to_path_buf(), folder.join("log")] {
        for name in disk.list(&dir).unwrap_or_default() {
            names.push(dir.join(name));
        }
    }
    let is = |path: &Path, end: &str| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().ends_with(end))
    };
    names.retain(|path| match rot {
        Rot::Log => is(path, ".segment"),
        Rot::Vote => is(path, "vote"),
        Rot::Any => true,
    });
    let path = names.get(usize::try_from(place % names.len().max(1) as u64).ok()?)?;
    let used = used_bytes(disk, path)?;
    // The newest entries of a log may be on this disk alone.
    let reach = if is(path, ".segment") { used / 2 } else { used };
    let position = (place >> 8) % reach.max(1);
    disk.flip_bit(path, position).ok()?;
    Some(format!("{} at {position} of {used}", path.display()))
}

/// Bytes of a file without the zeros at its end; `None` for an empty one.
fn used_bytes(disk: &FaultyDisk, path: &Path) -> Option<u64> {
    let file = disk.open(path, Open::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
    file.read_at(0, &mut bytes).ok()?;
    let last = bytes.iter().rposition(|byte| *byte != 0)?;
    Some(last as u64 + 1)
}
