//! On the host of each replica: what it says of itself.

use std::time::Duration;

use ledgermq_broker::Broker;
use ledgermq_raft_store::{Handle, LogIndex, Machine, Role};

use super::{Snapshot, Witness, audit};
use crate::{board::replica_name, world};

/// Longest time between two looks.
const EVERY: Duration = Duration::from_millis(25);
/// Time between two looks at the progress of consumer groups.
const PROGRESS_EVERY: f64 = 4.0;

impl Witness {
    /// What consumer groups have not done, where they must.
    fn lags(&self, broker: &Broker) -> Vec<(String, String, u64)> {
        let lags = broker.view().lags().into_iter();
        lags.filter(|(group, topic, lag)| *lag > 0 && self.history.consumes(group, topic))
            .collect()
    }
}

/// As [`watch`], of a replica that is no more than the replicated log and its machine.
pub async fn watch_log<M: Machine>(witness: Witness, machine: usize, broker_group: String, handle: Handle<M>) {
    let replica = replica_name(machine);
    let boot = witness.boots(machine, handle.status().id.get());
    let mut role = handle.role();
    loop {
        let now = *role.borrow_and_update();
        witness.saw(
            machine,
            Snapshot {
                replica: replica.clone(),
                broker_group: broker_group.clone(),
                boot,
                ..Snapshot::of(&handle.status(), now, world::seconds())
            },
        );
        pause(&mut role).await;
    }
}

/// Until the role changes, or the next look.
async fn pause(role: &mut tokio::sync::watch::Receiver<Role>) {
    // A role that ended must not make the watch spin.
    if let Ok(Err(_)) = tokio::time::timeout(EVERY, role.changed()).await {
        tokio::time::sleep(EVERY).await;
    }
}

/// Tells the witness of one replica for as long as its process lives.
pub async fn watch(witness: Witness, machine: usize, broker_group: String, broker: Broker) {
    let replica = replica_name(machine);
    let boot = witness.boots(machine, broker.status().id.get());
    let mut role = broker.role();
    let mut hashed = LogIndex(0);
    let mut progress_at = 0.0;
    loop {
        let now = *role.borrow_and_update();
        let at = world::seconds();
        witness.saw(
            machine,
            Snapshot {
                replica: replica.clone(),
                broker_group: broker_group.clone(),
                boot,
                ready: *broker.ready().borrow(),
                cut: broker.view().cut().get(),
                lags: witness.lags(&broker),
                ..Snapshot::of(&broker.status(), now, at)
            },
        );
        let done = *broker.view().digest_done().borrow();
        if done > hashed {
            hashed = done;
            if let Some(digest) = broker.view().digest_of(done) {
                witness.saw_digest(&broker_group, &replica, done.get(), digest);
            }
        }
        if at >= progress_at {
            progress_at = at + PROGRESS_EVERY;
            audit::progress(&witness, &replica, &broker_group, &broker);
        }
        if witness.is_audit_due(machine) {
            audit::progress(&witness, &replica, &broker_group, &broker);
            match audit::queues(&witness, &replica, &broker_group, &broker) {
                Ok(()) => witness.audited(machine),
                Err(reason) => witness.violations([format!("present: {replica} can't read its queues: {reason}")]),
            }
        }
        pause(&mut role).await;
    }
}
