//! Looks at the replicas' disks as a loss of power would leave them at this moment, whoever is up or down.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::Path,
};

use ledgermq_broker::state;
use ledgermq_raft_store::{
    LogIndex,
    disk::{Disk, FaultyDisk},
    inspect::{self, Bodies, Scope, Seen, VoteReport},
};

use super::{Inner, Witness};
use crate::{
    board::replica_name,
    checkers::{durable_quorum, intact, marks},
    fleet::{Seat, Store},
};

/// How far a replica's state is durable: the last entry applied, and the newest cut. `None` where nothing was flushed, or it
/// can't be told.
type StateOf = dyn Fn(usize, &Seat) -> Result<Option<(u64, u64)>, String> + Send + Sync;

/// Where replicas keep what is looked at.
pub struct Ground {
    /// A replica's folder on its disk.
    dir: &'static str,
    /// The state of the replica on a machine.
    state: Box<StateOf>,
}

impl Ground {
    /// Of replicas whose folder is `dir`, and whose state `state` tells.
    pub fn new(
        dir: &'static str,
        state: impl Fn(usize, &Seat) -> Result<Option<(u64, u64)>, String> + Send + Sync + 'static,
    ) -> Ground {
        Ground {
            dir,
            state: Box::new(state),
        }
    }

    /// Of brokers.
    pub fn of_brokers() -> Ground {
        Ground::new("/data", |_, seat| {
            let Store::Memory(kv) = &seat.store else {
                return Ok(None);
            };
            let far = state::how_far(&kv.durable()).map_err(|error| error.to_string())?;
            Ok(far.map(|(applied, cut)| (applied.index.get(), cut.get())))
        })
    }
}

/// What lies durably on a replica's disks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskLook {
    /// The vote.
    pub vote: Option<VoteReport>,
    /// Term and index of the newest purged entry.
    pub purged: Option<(u64, u64)>,
    /// Term and checksum of the body of each entry.
    pub entries: BTreeMap<u64, (u64, u32)>,
    /// The state: the last entry applied, and the newest cut. `None` where nothing was flushed, or it can't be told.
    pub state: Option<(u64, u64)>,
    /// What of it is damaged.
    pub damage: Option<String>,
}

impl Witness {
    pub(super) fn look_at_disks(&self, now_ms: u64) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.looked_at_ms = now_ms;
        let mut looks: BTreeMap<usize, DiskLook> = BTreeMap::new();
        let mut wrong = Vec::new();
        for machine in self.fleet.seated() {
            let Some(seat) = self.fleet.seat(machine) else { continue };
            let node = inner.nodes.entry(machine).or_default();
            if node.id != seat.id {
                // It has not started yet.
                continue;
            }
            node.spoiled |= self.board.is_damaged(machine);
            let name = replica_name(machine);
            match look(&seat.disk, self.ground.dir, || (self.ground.state)(machine, &seat)) {
                Ok(look) => {
                    wrong.extend(intact::check(&name, node.spoiled, &look));
                    looks.insert(machine, look);
                }
                Err(reason) => wrong.push(format!("intact: {name} can't be looked at: {reason}")),
            }
        }
        inner.disks_looked_at += looks.len() as u64;
        for group in 0..inner.groups.len() {
            wrong.extend(judge(inner, &self.fleet.seats(group), group, &looks));
        }
        self.violations(wrong);
    }
}

/// Judges what lies on the disks of one broker group; `seats` are its replicas with their machines.
fn judge(
    inner: &mut Inner,
    seats: &BTreeMap<u64, usize>,
    group: usize,
    looks: &BTreeMap<usize, DiskLook>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let last = |machine: &usize| inner.nodes.get(machine).and_then(|node| node.last.as_ref());
    let known = seats
        .values()
        .filter_map(last)
        .filter_map(|last| last.committed.max(last.applied));
    let committed = known.max().unwrap_or(0);
    let voters = voters(inner, seats);
    for (id, machine) in seats {
        let whole = inner.nodes.get(machine).is_some_and(|node| !node.spoiled);
        let Some(look) = looks.get(machine).filter(|_| whole) else {
            continue;
        };
        let name = format!("{} ({id})", replica_name(*machine));
        wrong.extend(inner.votes.see(&name, look.vote));
        wrong.extend(marks::check_disk(&name, look));
        // What this replica itself has applied, which is durable there: behind it may lie what others have overruled, also
        // while it calls their entries committed, or has the effect of them by a snapshot.
        let applied = last(machine).filter(|last| last.ahead_since.is_none());
        let upto = applied.and_then(|last| last.applied).unwrap_or(0);
        let entries = inner.committed.entry(inner.groups[group].clone()).or_default();
        wrong.extend(entries.see(&name, upto, look));
    }
    let look_of = |id: &u64| {
        let machine = seats.get(id);
        let whole = |machine: &&usize| inner.nodes.get(machine).is_some_and(|node| !node.spoiled);
        let look = machine.filter(whole).and_then(|machine| looks.get(machine));
        (
            machine.map_or_else(|| format!("replica {id}"), |machine| replica_name(*machine)),
            look,
        )
    };
    if let Some(voters) = voters {
        let voters: Vec<(String, Option<&DiskLook>)> = voters.iter().map(look_of).collect();
        wrong.extend(durable_quorum::check(committed, &voters));
    }
    wrong
}

/// Who votes in a broker group, when all replicas agree on it: else a change is under way.
fn voters(inner: &Inner, seats: &BTreeMap<u64, usize>) -> Option<BTreeSet<u64>> {
    let last = seats
        .values()
        .filter_map(|machine| inner.nodes.get(machine)?.last.as_ref());
    let mut said = last.map(|last| &last.voters).filter(|voters| !voters.is_empty());
    let first = said.next()?.clone();
    said.all(|voters| *voters == first).then_some(first)
}

fn look(
    disk: &FaultyDisk,
    dir: &str,
    state: impl FnOnce() -> Result<Option<(u64, u64)>, String>,
) -> Result<DiskLook, String> {
    let mut look = DiskLook::default();
    let disk = disk.durable();
    // A replica that never started has no log.
    let Ok(place) = inspect::find(&disk, Path::new(dir)) else {
        return Ok(look);
    };
    let scope = Scope {
        from: LogIndex(0),
        to: LogIndex(u64::MAX),
        bodies: Bodies::Skip,
    };
    let report = inspect::walk(&disk, &place.log, &scope, &mut |seen| {
        if let Seen::Entry(entry) = seen {
            let id = entry.id;
            look.entries.insert(id.index.get(), (id.term.get(), entry.body_crc));
        }
        ControlFlow::Continue(())
    });
    let report = report.map_err(|error| error.to_string())?;
    if report.is_corrupt {
        look.damage = Some(format!("{:?}", report.findings));
    }
    look.purged = report.purged.map(|id| (id.term.get(), id.index.get()));
    if let Some((_, purged)) = look.purged {
        look.entries = look.entries.split_off(&(purged + 1));
    }
    look.vote = report.vote.map(|bytes| inspect::vote(&bytes)).transpose()?;
    // A snapshot on its way in explains a state ahead of its log until the next start.
    let incoming = place.log.parent().map(|dir| dir.join("incoming"));
    let installing = incoming.is_some_and(|file| disk.exists(&file).unwrap_or(true));
    if !installing {
        look.state = state()?;
    }
    Ok(look)
}
