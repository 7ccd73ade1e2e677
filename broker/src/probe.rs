//! The probe: a committed entry that shows that this door reaches a working leader. Health is ready only after one. Its
//! answer carries which replicas the leader hears, so every door leaves dead ones out of its routes.

use std::collections::BTreeSet;
use std::sync::Arc;

use ledgermq_raft_store::ReplicaId;
use ledgermq_raft_store::disk::Space;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::call::Call;
use crate::door::Door;
use crate::language::Language;
use crate::leader::{Leader, Verb, unexpected};
use crate::limits;
use crate::marks::mark;
use crate::refusal::LeadError;
use crate::room::Told;
use crate::routes::Routes;
use crate::state::command::Action;
use crate::state::outcome::Outcome;

/// The verb between doors.
pub struct Probe;

/// Nothing is asked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ask {}

/// A probe, and what its replica tells of itself by the way. A replica of an older version tells nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tell {
    /// Which replica probes; 0 for one that tells nothing.
    #[prost(uint64, tag = "1")]
    pub replica: u64,
    /// Room on its disk; a total of 0 while that is not known.
    #[prost(uint64, tag = "2")]
    pub disk_total_bytes: u64,
    /// See above.
    #[prost(uint64, tag = "3")]
    pub disk_free_bytes: u64,
    /// Its disk takes no new messages.
    #[prost(bool, tag = "4")]
    pub disk_full: bool,
}

impl Tell {
    fn of(leader: &Leader) -> Tell {
        let own = leader.room.own();
        let space = own.map_or_else(Space::default, |own| own.space);
        Tell {
            replica: leader.id.get(),
            disk_total_bytes: space.total_bytes,
            disk_free_bytes: space.free_bytes,
            disk_full: own.is_some_and(|own| own.full),
        }
    }

    /// The disk of another replica.
    fn disk(&self) -> Option<Told> {
        (self.replica != 0 && self.disk_total_bytes > 0).then_some(Told {
            space: Space {
                total_bytes: self.disk_total_bytes,
                free_bytes: self.disk_free_bytes,
            },
            full: self.disk_full,
        })
    }
}

/// What the leader hears.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Heard {
    /// Replicas heard within an election timeout, the leader among them.
    #[prost(uint64, repeated, tag = "1")]
    pub alive: Vec<u64>,
}

impl Verb for Probe {
    const NAME: &'static str = "Probe";
    type Request = Tell;
    type Reply = Heard;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &Tell) -> Result<Heard, LeadError> {
        if let Some(told) = request.disk() {
            leader.room.told(ReplicaId(request.replica), told);
        }
        if !leader.last_probe.fresh() {
            // Not the call's id: a repeat within the window would be answered without an entry.
            match leader.propose(leader.request_id(), Action::Probe).await? {
                Outcome::Probed => leader.last_probe.committed(),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(Heard {
            alive: alive(leader).into_iter().collect(),
        })
    }
}

/// The replicas that this leader heard within an election timeout.
pub fn alive(leader: &Leader) -> BTreeSet<u64> {
    let status = leader.handle.status();
    let heard = |ms: Option<u64>| ms.is_some_and(|ms| ms <= leader.away_after_ms);
    status
        .members
        .iter()
        .filter(|member| heard(member.heard_ms_ago))
        .map(|member| member.id.get())
        .collect()
}

/// Probes again and again; `ready` is true while the last probes came through.
pub async fn keep_probing(door: Arc<Door>, routes: Arc<Routes>, ready: watch::Sender<bool>) {
    let mut beat = interval(limits::PROBE_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missed = 0;
    let mut role = door.leader.role_watch();
    let mut reacted = Instant::now();
    loop {
        tokio::select! {
            biased;
            _ = beat.tick() => {}
            // A new leader is probed at once, but roles that flap don't make probes without end.
            changed = role.changed(), if reacted.elapsed() > limits::PROBE_INTERVAL / 10 => {
                if changed.is_err() {
                    ready.send_replace(false);
                    return;
                }
                reacted = Instant::now();
            }
        }
        let call = Call {
            client_id: "ledgermq-probe".to_owned(),
            language: Language::Unknown,
            client_version: String::new(),
            peer_host: String::new(),
            request_id: door.leader.request_id(),
            client_deadline: None,
            deadline: Instant::now() + limits::PROBE_INTERVAL,
        };
        match door.call::<Probe>(&call, &Tell::of(&door.leader)).await {
            Ok(heard) => {
                missed = 0;
                routes.leader_hears(heard.alive.into_iter().collect());
                // The answer took it out of its own routes already.
                let member = !door.leader.handle.is_removed();
                match (ready.send_replace(member), member) {
                    (false, true) => tracing::info!("ready: a probe was committed"),
                    (true, false) => {
                        tracing::warn!("not ready: this replica is no member of its broker group any more");
                    }
                    _ => {}
                }
            }
            Err(refusal) => {
                missed += 1;
                if missed >= limits::PROBES_MISSED_MAX && ready.send_replace(false) {
                    mark("not_ready");
                    tracing::warn!(%refusal, "not ready: no probe is committed");
                }
            }
        }
    }
}
