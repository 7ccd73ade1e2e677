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

/// One start of a replica.
struct Watched<M> {
    replica: String,
    broker_group: String,
    boot: u64,
    handle: Handle<M>,
    role: tokio::sync::watch::Receiver<Role>,
}

impl<M: Machine> Watched<M> {
    fn new(witness: &Witness, machine: usize, broker_group: String, handle: Handle<M>) -> Watched<M> {
        Watched {
            replica: replica_name(machine),
            broker_group,
            boot: witness.boots(machine, handle.status().id.get()),
            role: handle.role(),
            handle,
        }
    }

    /// What every replica can say, with a broker or without.
    fn word(&mut self) -> Snapshot {
        let role = *self.role.borrow_and_update();
        Snapshot {
            replica: self.replica.clone(),
            broker_group: self.broker_group.clone(),
            boot: self.boot,
            ..Snapshot::of(&self.handle.status(), role, world::seconds())
        }
    }

    /// Until the role changes, or the next look.
    async fn pause(&mut self) {
        // A role that ended must not make the watch spin.
        if let Ok(Err(_)) = tokio::time::timeout(EVERY, self.role.changed()).await {
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// As [`watch`], of a replica that is no more than the replicated log and its machine.
pub async fn watch_log<M: Machine>(witness: Witness, machine: usize, broker_group: String, handle: Handle<M>) {
    let mut watched = Watched::new(&witness, machine, broker_group, handle);
    loop {
        witness.saw(machine, watched.word());
        watched.pause().await;
    }
}

/// Tells the witness of one replica for as long as its process lives.
pub async fn watch(witness: Witness, machine: usize, broker_group: String, broker: Broker) {
    let mut watched = Watched::new(&witness, machine, broker_group, broker.handle().clone());
    let mut hashed = LogIndex(0);
    let mut progress_at = 0.0;
    let mut logged_ms = 0;
    loop {
        let word = watched.word();
        let (at, serving) = (word.at, word.serving);
        witness.saw(
            machine,
            Snapshot {
                ready: *broker.ready().borrow(),
                cut: broker.view().applied().map(|_| broker.view().cut().get()),
                lags: witness.lags(&broker),
                ..word
            },
        );
        let (replica, broker_group) = (&watched.replica, &watched.broker_group);
        witness
            .history
            .format_level_seen(broker_group, broker.view().format_level());
        let log_time_ms = broker.view().log_time_ms();
        if log_time_ms != logged_ms {
            // Log time is known at its entries alone; a leader applies them as soon as it has stamped them.
            if logged_ms != 0 && serving {
                let ahead_ms = log_time_ms.cast_signed().wrapping_sub(world::unix_ms().cast_signed());
                witness.history.log_time(broker_group, ahead_ms);
            }
            logged_ms = log_time_ms;
        }
        let done = *broker.view().digest_done().borrow();
        if done > hashed {
            hashed = done;
            if let Some(digest) = broker.view().digest_of(done) {
                witness.saw_digest(machine, broker_group, (done.get(), digest));
            }
        }
        if at >= progress_at {
            progress_at = at + PROGRESS_EVERY;
            audit::progress(&witness, replica, broker_group, &broker);
        }
        if witness.is_audit_due(machine) {
            audit::progress(&witness, replica, broker_group, &broker);
            match audit::queues(&witness, replica, broker_group, &broker) {
                Ok(()) => witness.audited(machine),
                Err(reason) => witness.violations([format!("present: {replica} can't read its queues: {reason}")]),
            }
        }
        watched.pause().await;
    }
}
