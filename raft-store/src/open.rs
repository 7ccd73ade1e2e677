//! Opening a replica: identity, log, machine, core, and the tasks around them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::BoxFuture;
use openraft::Raft;
use tokio::sync::{Mutex, mpsc, watch};

use crate::bootstrap::Bootstrap;
use crate::draws::Draws;
use crate::errors::OpenError;
use crate::handle::{Handle, Parts};
use crate::identity::{Identity, Keeper};
use crate::log::{Log, LogOptions, Sweeper, Writer};
use crate::machine::{Applied, Machine};
use crate::membership::Changes;
use crate::membership::steps::Membership;
use crate::options::{Options, Seams};
use crate::peer::beat;
use crate::peer::client::Network;
use crate::peer::clock::ClusterClock;
use crate::peer::link::Links;
use crate::peer::passport::Passport;
use crate::peer::presence::Presence;
use crate::peer::transfer::Incoming;
use crate::raft::adapter::{Adapter, Driven};
use crate::raft::labels::Labels;
use crate::raft::members;
use crate::raft::proposer::Proposer;
use crate::raft::roles;
use crate::raft::settings;
use crate::raft::store::Store;
use crate::retention::Retention;
use crate::spool::Spool;
use crate::status::Role;
use crate::takeover::agreement::Takeover;
use crate::takeover::stall::Stall;

/// What the caller runs: the log's one writer, and what removes purged segments. In production each on an OS thread of its
/// own, in the simulation as tasks.
pub struct Driver {
    /// Runs until the log's handles are gone, or the log has failed. It uses tokio's timers: on a thread of its own it
    /// runs inside a current-thread runtime of its own, or in `Handle::block_on` of another.
    pub writer: Writer,
    /// Runs until the writer has ended; like the writer inside a runtime with timers.
    pub sweeper: Sweeper,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// Opens a replica's folder. The driver must run before the replica can vote or take entries; everything else runs on
/// the runtime this is called in.
pub async fn open<M: Machine>(options: Options, seams: Seams, machine: M) -> Result<(Handle<M>, Driver), OpenError> {
    let (parts, driver) = open_parts(options, seams, Box::new(machine)).await?;
    Ok((Handle::new(parts), driver))
}

/// Boxed, so that the core is compiled once, in this crate, and not again wherever a replica is opened.
fn open_parts(
    options: Options,
    seams: Seams,
    machine: Box<dyn Driven>,
) -> BoxFuture<'static, Result<(Parts, Driver), OpenError>> {
    Box::pin(opening(options, seams, machine))
}

async fn opening(options: Options, seams: Seams, mut machine: Box<dyn Driven>) -> Result<(Parts, Driver), OpenError> {
    options.check()?;
    let mut draws = Draws::new(seams.seed);
    let newborn = Identity {
        id: options.id,
        incarnation: draws.draw(),
        broker_group: options.broker_group.clone(),
        cluster_id: None,
    };
    let keeper = Arc::new(Keeper::open(Arc::clone(&seams.disk), &options.dir, newborn).await?);
    let log_options = LogOptions {
        dir: options.dir.join("log"),
        segment_bytes: options.segment_bytes,
        tail_cache_bytes: options.tail_cache_bytes,
        seed: draws.draw(),
    };
    let (log, mut writer) = Log::open(Arc::clone(&seams.disk), log_options).await?;
    let sweeper = writer.sweeper().expect("taken once");
    let spool = Spool::open(Arc::clone(&seams.disk), &options.dir)?;
    let spool = finish_installation(spool, machine.as_mut(), &log, &mut writer).await?;
    fits_together(&log, machine.as_ref())?;
    let incoming = Arc::new(Incoming::new(Mutex::new(spool), log.clone()));
    let (released, labels) = (machine.released(), Arc::<Labels>::default());
    let (adapter, applied) = Adapter::new(machine, Some(log.clone()), Arc::clone(&labels))
        .map_err(|error| OpenError::Membership(error.to_string()))?;

    let presence = Presence::new();
    let clock = Arc::new(ClusterClock::new(Arc::clone(&seams.wall_clock)));
    let network = Network {
        links: Arc::new(Links::new(Arc::clone(&seams.connect))),
        passport: Arc::new(Passport::new(keeper)),
        labels: Arc::clone(&labels),
        presence: Arc::clone(&presence),
    };
    let config = settings::config(&options.broker_group, options.timings);
    let config = Arc::new(config.validate().map_err(|error| OpenError::Core(error.to_string()))?);
    let store = Store::new(log.clone(), options.durability);
    let raft = Raft::new(options.id.get(), config, network.clone(), store, adapter)
        .await
        .map_err(|fatal| OpenError::Core(fatal.to_string()))?;

    let (proposer, proposing) = Proposer::new(raft.clone(), options.in_flight_bytes);
    let (role_sender, role) = watch::channel(Role::default());
    let (elections, takeovers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (members_sender, members) = watch::channel(members::members(&members::now(&raft)));
    let (resigning, resigned) = watch::channel(None);
    let following = roles::follow(
        raft.clone(),
        applied.clone(),
        resigned,
        members_sender,
        role_sender,
        Arc::clone(&elections),
    );
    let beat_interval = Duration::from_millis(options.timings.heartbeat_ms);
    let beating = beat::run(raft.clone(), network.clone(), Arc::clone(&clock), beat_interval);
    let takeover = Takeover {
        raft: raft.clone(),
        network: network.clone(),
        silence: Duration::from_millis(options.timings.silence_ms),
        started: Arc::clone(&takeovers),
        draws: Draws::new(draws.draw()),
    };
    let retention = Retention {
        raft: raft.clone(),
        log: log.clone(),
        labels,
        presence,
        released,
        away_after: Duration::from_millis(options.timings.election_max_ms),
    };
    let stall = Stall {
        raft: raft.clone(),
        log: log.clone(),
        presence: Arc::clone(&network.presence),
        silence: Duration::from_millis(options.timings.silence_ms),
        resigned: resigning,
    };
    let bootstrap = Bootstrap {
        raft: raft.clone(),
        links: Arc::clone(&network.links),
        passport: Arc::clone(&network.passport),
        draw: (u128::from(draws.draw()) << 64) | u128::from(draws.draw()),
    };
    let (births, asked) = mpsc::channel(1);
    let membership = Membership {
        raft: raft.clone(),
        links: Arc::clone(&network.links),
        passport: Arc::clone(&network.passport),
        presence: Arc::clone(&network.presence),
        silence: Duration::from_millis(options.timings.silence_ms),
    };
    let (changes, changing) = Changes::new();
    // Ends with the core, so that the last word about the role is that there is none.
    tokio::spawn(following);
    let tasks = vec![
        tokio::spawn(proposing).abort_handle(),
        tokio::spawn(beating).abort_handle(),
        tokio::spawn(bootstrap.serve(asked)).abort_handle(),
        tokio::spawn(membership.serve(changing)).abort_handle(),
        tokio::spawn(takeover.run()).abort_handle(),
        tokio::spawn(stall.run()).abort_handle(),
        tokio::spawn(retention.run()).abort_handle(),
    ];
    let parts = Parts {
        raft,
        log,
        network,
        incoming,
        clock,
        proposer,
        role,
        applied,
        elections,
        takeovers,
        births,
        changes,
        members,
        silence: Duration::from_millis(options.timings.silence_ms),
        tasks,
    };
    Ok((parts, Driver { writer, sweeper }))
}

/// Ends what a crash interrupted: an installation that had begun is done again from what was received, and a log that
/// still lacks its label begins behind it.
async fn finish_installation(
    mut spool: Spool,
    machine: &mut dyn Driven,
    log: &Log,
    writer: &mut Writer,
) -> Result<Spool, OpenError> {
    let Some(label) = spool.label().cloned() else {
        return match machine.is_whole() {
            true => Ok(spool),
            false => Err(OpenError::HalfInstalled),
        };
    };
    if !machine.is_whole() {
        tracing::warn!(label = %label.id, "an interrupted installation of a snapshot is done again");
        machine.install_begin()?;
        let mut parts = spool.parts()?;
        while let Some(part) = parts.next()? {
            machine.install_part(part)?;
        }
        machine.install_finish(Applied {
            id: label.id,
            membership: label.memberships,
        })?;
    }
    // A label that the state has not reached: the crash came before the installation began.
    let installed = machine
        .applied()
        .is_some_and(|applied| applied.id.index >= label.id.index);
    if installed && log.id(label.id.index) != Some(label.id) {
        writer.purge(label.id).await?;
    }
    spool.clear().await?;
    Ok(spool)
}

/// A state ahead of its log would make openraft purge the whole log to close the gap; one behind it lacks entries for good.
fn fits_together(log: &Log, machine: &dyn Driven) -> Result<(), OpenError> {
    let (applied, state) = (machine.applied().map(|applied| applied.id), log.state());
    if let Some(purged) = state.purged
        && applied.is_none_or(|applied| applied.index < purged.index)
    {
        return Err(OpenError::StateBehindLog { applied, purged });
    }
    let last = state.last.or(state.purged);
    match applied {
        Some(applied) if last.is_none_or(|last| last.index < applied.index) => {
            Err(OpenError::AppliedBeyondLog { applied, last })
        }
        _ => Ok(()),
    }
}
