//! Opening a replica: identity, storage, core, and the tasks around them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::BoxFuture;
use openraft::Raft;
use tokio::sync::{mpsc, watch};

use crate::bootstrap::Bootstrap;
use crate::draws::Draws;
use crate::errors::OpenError;
use crate::handle::{Handle, Parts};
use crate::identity::{Identity, Keeper};
use crate::log::{LogOptions, Sweeper, Writer};
use crate::machine::Machine;
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
use crate::status::Role;
use crate::storage::{self, Storage};
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
        planted: options.planted,
    };
    let Storage {
        log,
        spool,
        writer,
        sweeper,
    } = storage::open(Arc::clone(&seams.disk), &options.dir, log_options, machine.as_mut()).await?;
    let incoming = Arc::new(Incoming::new(spool, log.clone()));
    let (released, level, labels) = (machine.released(), machine.level(), Arc::<Labels>::default());
    let (adapter, applied) = Adapter::new(machine, Some(log.clone()), Arc::clone(&labels))
        .map_err(|error| OpenError::Membership(error.to_string()))?;

    let presence = Presence::new();
    let clock = Arc::new(ClusterClock::new(Arc::clone(&seams.wall_clock)));
    let network = Network {
        links: Arc::new(Links::new(Arc::clone(&seams.connect))),
        passport: Arc::new(Passport::new(keeper, options.release.clone())),
        labels: Arc::clone(&labels),
        presence: Arc::clone(&presence),
        planted: options.planted,
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
        level,
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
