//! Looks at the replicas' disks as a loss of power would leave them at this moment, whoever is up or down.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use ledgermq_broker::{kv::memory::MemoryKv, state};
use ledgermq_raft_store::{
    LogIndex,
    disk::FaultyDisk,
    inspect::{self, Bodies, Scope, Seen, VoteReport},
};

use super::{Inner, Witness};
use crate::checkers::{durable_quorum, marks};

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
        let mut looks: BTreeMap<String, DiskLook> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (name, node) in &mut inner.nodes {
            match look(&node.disk, node.kv.as_ref()) {
                Ok(look) => {
                    // Nothing of ours damages what is synced: where something is, a fault did it.
                    node.spoiled |= look.damage.is_some();
                    looks.insert(name.clone(), look);
                }
                Err(reason) => wrong.push(format!("durable_quorum: {name} can't be looked at: {reason}")),
            }
        }
        inner.disks_looked_at += looks.len() as u64;
        wrong.extend(judge(inner, &looks));
        self.violations(wrong);
    }
}

fn judge(inner: &mut Inner, looks: &BTreeMap<String, DiskLook>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut committed: BTreeMap<String, u64> = BTreeMap::new();
    for node in inner.nodes.values() {
        let known = node.last.as_ref().and_then(|last| last.committed.max(last.applied));
        let newest = committed.entry(node.broker_group.clone()).or_default();
        *newest = known.unwrap_or(0).max(*newest);
    }
    for (name, look) in looks {
        let Some(node) = inner.nodes.get(name).filter(|node| !node.spoiled) else {
            continue;
        };
        wrong.extend(inner.votes.see(name, look.vote));
        wrong.extend(marks::check_disk(name, look));
        let upto = committed.get(&node.broker_group).copied().unwrap_or(0);
        let entries = inner.committed.entry(node.broker_group.clone()).or_default();
        wrong.extend(entries.see(name, upto, look));
    }
    for (broker_group, upto) in committed {
        let Some(voters) = voters(inner, &broker_group) else {
            continue;
        };
        let look_of = |id: &u64| {
            let mut nodes = inner.nodes.iter();
            let found = nodes.find(|(_, node)| node.broker_group == broker_group && node.id == *id);
            match found {
                Some((name, node)) => (name.as_str(), looks.get(name).filter(|_| !node.spoiled)),
                None => ("a voter that is not on the stage", None),
            }
        };
        let voters: Vec<(&str, Option<&DiskLook>)> = voters.iter().map(look_of).collect();
        wrong.extend(durable_quorum::check(upto, &voters));
    }
    wrong
}

/// Who votes in a broker group, when all that are up agree on it: else a change is under way.
fn voters(inner: &Inner, broker_group: &str) -> Option<std::collections::BTreeSet<u64>> {
    let of_group = inner.nodes.values().filter(|node| node.broker_group == broker_group);
    let mut said = of_group
        .filter_map(|node| node.last.as_ref())
        .filter(|last| !last.voters.is_empty());
    let first = said.next()?.voters.clone();
    said.all(|last| last.voters == first).then_some(first)
}

fn look(disk: &FaultyDisk, kv: Option<&MemoryKv>) -> Result<DiskLook, String> {
    let mut look = DiskLook::default();
    let disk = disk.durable();
    // A replica that never started has no log.
    let Ok(place) = inspect::find(&disk, Path::new("/data")) else {
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
    if let Some(kv) = kv {
        let far = state::how_far(&kv.durable()).map_err(|error| error.to_string())?;
        look.state = far.map(|(applied, cut)| (applied.index.get(), cut.get()));
    }
    Ok(look)
}
