//! One broker, put together on the seams it is given: production and simulation run the same code.
//!
//! ```text
//!   open: state ─▶ log (raft runtime) ─▶ leader ─▶ door ─▶ services ─▶ listeners
//!   run:  until the stop; then leadership handed over, not ready, polls ended, GOAWAY, state flushed
//! ```

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use ledgermq_proto::net::{BoxedStream, Listener, Net};
use ledgermq_raft_store::disk::Disk;
use ledgermq_raft_store::{self as raft, Handle, PeerStream, ReplicaId, Role, Status, Timings};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::Administration;
use crate::admin::health::Own;
use crate::blocking::Blocking;
use crate::config::{Config, Durability};
use crate::counters::Metrics;
use crate::door::Door;
use crate::driver::{Driver, tell_health};
use crate::forwarded::DoorService;
use crate::lanes::{Hints, Lanes};
use crate::leader::{Leader, Parts};
use crate::metrics;
use crate::name_servers::NameServers;
use crate::planted::Planted;
use crate::probe;
use crate::registration::{Registration, keep_registered};
use crate::retention::{self, Retention};
use crate::routes::Routes;
use crate::rpc::Messaging;
use crate::rpc::confirm::confirm_deliveries;
use crate::server::{ClientRoute, PeerRoute, serve};
use crate::state::kv::memory::MemoryKv;
use crate::state::kv::rocks::{RocksKv, RocksMemory, RocksSettings};
use crate::state::kv::{Kv, KvError};
use crate::state::level;
use crate::state::machine::{self, StateMachine};
use crate::timers;
use crate::tuning::Tuning;
use crate::upgrade;

/// Where the state lies.
pub enum KvSource {
    /// RocksDB below the data folder.
    Rocks,
    /// RocksDB on files in memory, which survive as long as the value; it compacts nothing by itself.
    RocksInMemory(RocksMemory),
    /// In memory, with a durable image that survives as long as the value.
    Memory(MemoryKv),
}

/// Where things run.
pub enum Spawn {
    /// All on the current runtime, blocking work inline: the simulation.
    Here,
    /// Production: the log has a runtime and its writer a thread, so that busy calls can't starve them.
    Apart {
        /// Spawns on the log's runtime.
        raft: Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>,
        /// Runs the log's drivers, each on a thread of its own.
        drivers: Box<dyn FnOnce(raft::Driver) -> io::Result<()> + Send + Sync>,
    },
}

/// The world as a broker sees it.
pub struct Seams {
    /// Network.
    pub net: Arc<dyn Net>,
    /// Files of the log.
    pub disk: Arc<dyn Disk>,
    /// The state's store.
    pub kv: KvSource,
    /// Unix milliseconds.
    pub wall_clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Root of all draws; must differ at every start.
    pub seed: u64,
    /// Where things run.
    pub spawn: Spawn,
    /// A bug on purpose; none outside of tests.
    pub planted: Planted,
    /// How it looks after its state.
    pub tuning: Tuning,
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenBrokerError {
    /// A listener could not be bound.
    #[error("cannot listen on {address} ({field}): {source}")]
    Listen {
        /// The key of the configuration.
        field: &'static str,
        /// As configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The data folder could not be used.
    #[error("cannot use data_dir {path}: {source}")]
    DataDir {
        /// As configured.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The state could not be opened.
    #[error("cannot open the state: {0}")]
    State(String),
    /// The log could not be opened.
    #[error("cannot open the log: {0}")]
    Log(#[from] raft::OpenError),
    /// A thread or task of the log could not be started.
    #[error("cannot start the log's writer: {0}")]
    Writer(String),
}

/// A broker that is open. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    leader: Arc<Leader>,
    addresses: Addresses,
    ready: watch::Receiver<bool>,
}

/// Where a broker is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// host:port that clients are told.
    pub client: String,
    /// host:port that the other replicas are told.
    pub peer: String,
    /// The bound address of the metrics port.
    pub metrics: Option<String>,
}

impl Broker {
    /// Where it is reached.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How its replica is.
    pub fn status(&self) -> Status {
        self.leader.handle.status()
    }

    /// Its role and the changes of it.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.leader.role_watch()
    }

    /// Whether it reaches committed probes, and the changes of that.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// The log's handle.
    pub fn handle(&self) -> &Handle<StateMachine> {
        &self.leader.handle
    }

    /// The state's read side.
    pub fn view(&self) -> &crate::state::view::View {
        &self.leader.view
    }
}

struct Connector(Arc<dyn Net>);

impl raft::Connect for Connector {
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<Box<dyn PeerStream>>> {
        let connecting = self.0.connect(authority);
        Box::pin(async move {
            connecting
                .await
                .map(|stream: BoxedStream| Box::new(stream) as Box<dyn PeerStream>)
        })
    }
}

/// Opens a broker. It serves from now on; [`Driver::run`] stops it.
///
/// Boxed, so that a broker is compiled once, in this crate, and not again in every program that opens one.
pub fn open(config: Config, seams: Seams) -> BoxFuture<'static, Result<(Broker, Driver), OpenBrokerError>> {
    Box::pin(opening(config, seams))
}

async fn opening(config: Config, seams: Seams) -> Result<(Broker, Driver), OpenBrokerError> {
    let data_dir = |source| OpenBrokerError::DataDir {
        path: config.data_dir.display().to_string(),
        source,
    };
    seams.disk.create_dir_all(&config.data_dir).map_err(data_dir)?;
    let listener = bind(&seams.net, "listen", &config.listen).await?;
    let client_address = advertised(&config.advertise, &*listener, &config.listen);
    let metrics_listener = match &config.metrics_listen {
        Some(address) => Some(bind(&seams.net, "metrics_listen", address).await?),
        None => None,
    };
    let metrics_address = metrics_listener
        .as_ref()
        .and_then(|listener| listener.local_addr().ok())
        .map(|address| address.to_string());

    let lanes = Arc::new(Lanes::default());
    let hints = Arc::new(Hints::new(Arc::clone(&lanes), Arc::clone(&seams.wall_clock)));
    let topics = hints.topics();
    let kv = open_kv(&config, &seams)?;
    let settings = machine::Settings {
        format_level_max: config.format_level_max,
        planted: seams.planted,
        ..seams.tuning.state
    };
    let (state, view) = StateMachine::open(kv, &config.broker_group, settings, hints)
        .map_err(|error| OpenBrokerError::State(error.to_string()))?;

    let (peers_stopping, peers_stop) = watch::channel(false);
    let blocking = match seams.spawn {
        Spawn::Here => Blocking::Inline,
        Spawn::Apart { .. } => Blocking::pool(),
    };
    let (handle, peer_address) = open_log(&config, &seams, state, client_address.clone(), peers_stop).await?;
    let (handle, log) = handle;
    match seams.spawn {
        Spawn::Here => {
            tokio::spawn(log.writer.run());
            tokio::spawn(log.sweeper.run());
        }
        Spawn::Apart { drivers, .. } => drivers(log).map_err(|error| OpenBrokerError::Writer(error.to_string()))?,
    }

    let (stopping, stop) = watch::channel(false);
    let leader = Arc::new(Leader::new(
        &config,
        Parts {
            client_address: client_address.clone(),
            handle: handle.clone(),
            view,
            lanes,
            blocking,
            metrics: Metrics::default(),
            stopping: stop.clone(),
            seed: seams.seed,
            planted: seams.planted,
        },
    ));
    let door = Arc::new(Door::new(Arc::clone(&leader), Arc::clone(&seams.net)));
    let routes = Arc::new(Routes::new(&config.broker_group, handle.members_watch()));
    let messaging = Messaging {
        door: Arc::clone(&door),
        routes: Arc::clone(&routes),
        wall_clock: Arc::clone(&seams.wall_clock),
        stopping: stop.clone(),
    };
    let (ready_sender, ready) = watch::channel(false);
    let name_servers = Arc::new(NameServers::new(&config.name_servers));
    let admin = Administration {
        door: Arc::clone(&door),
        routes: Arc::clone(&routes),
        durability: config.durability,
        own: Arc::new(Own {
            peer_address: peer_address.clone(),
            ready: ready.clone(),
            format_level_max: config.format_level_max,
            name_servers: Arc::clone(&name_servers),
            wall_clock: Arc::clone(&seams.wall_clock),
        }),
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    let route = ClientRoute::new(messaging, admin, DoorService::new(Arc::clone(&leader)), health);
    let clients = tokio::spawn(serve(listener, route, config.connections_max, stop));

    let mut tasks = JoinSet::new();
    tasks.spawn(tell_health(reporter.clone(), ready.clone()));
    tasks.spawn(confirm_deliveries(Arc::clone(&door)));
    tasks.spawn(probe::keep_probing(door, Arc::clone(&routes), ready_sender));
    tasks.spawn(timers::renew_leases(Arc::clone(&leader)));
    tasks.spawn(timers::release_abandoned(Arc::clone(&leader)));
    tasks.spawn(timers::make_digests(Arc::clone(&leader)));
    let (disk, data_dir) = (Arc::clone(&seams.disk), config.data_dir.clone());
    tasks.spawn(timers::watch_disk(Arc::clone(&leader), disk, data_dir));
    tasks.spawn(upgrade::raise_format_level(Arc::clone(&leader)));
    tasks.spawn(upgrade::tell_format_level(Arc::clone(&leader)));
    let kept = Retention {
        age_ms: config.retention_hours * 3_600_000,
        bytes: config.retention_bytes,
    };
    tasks.spawn(retention::keep(Arc::clone(&leader), kept, seams.tuning.retention_check));
    if let Some(listener) = metrics_listener {
        tasks.spawn(metrics::serve(listener, Arc::clone(&leader)));
    }
    let registration = Registration {
        leader: Arc::clone(&leader),
        routes,
        peer_address: peer_address.clone(),
        topics,
        name_servers,
    };
    for name_server in config.name_servers.clone() {
        tasks.spawn(keep_registered(
            registration.clone(),
            Arc::clone(&seams.net),
            name_server,
        ));
    }
    let addresses = Addresses {
        client: client_address,
        peer: peer_address,
        metrics: metrics_address,
    };
    tracing::info!(
        broker_group = config.broker_group,
        replica = config.replica_id,
        clients = addresses.client,
        peers = addresses.peer,
        "broker open"
    );
    let broker = Broker {
        leader: Arc::clone(&leader),
        addresses,
        ready: ready.clone(),
    };
    Ok((
        broker,
        Driver {
            leader,
            tuning: seams.tuning,
            reporter,
            stopping,
            peers_stopping,
            clients,
            tasks,
        },
    ))
}

fn open_kv(config: &Config, seams: &Seams) -> Result<Arc<dyn Kv>, OpenBrokerError> {
    let state = |error: KvError| OpenBrokerError::State(error.to_string());
    let shared = |kv: RocksKv| Arc::new(kv) as Arc<dyn Kv>;
    match &seams.kv {
        KvSource::Memory(memory) => Ok(Arc::new(memory.clone())),
        KvSource::Rocks => {
            let opened = RocksKv::open(&config.data_dir.join("state"), rocks_settings(config));
            opened.map(shared).map_err(state)
        }
        KvSource::RocksInMemory(memory) => {
            let settings = RocksSettings {
                compact: false,
                ..rocks_settings(config)
            };
            RocksKv::open_in(memory, settings).map(shared).map_err(state)
        }
    }
}

fn rocks_settings(config: &Config) -> RocksSettings {
    RocksSettings {
        memtable_bytes: config.memtable_bytes as usize,
        block_cache_bytes: config.block_cache_bytes as usize,
        ..RocksSettings::default()
    }
}

type OpenLog = ((Handle<StateMachine>, raft::Driver), String);

/// Opens the log and serves its peers, on the log's runtime.
async fn open_log(
    config: &Config,
    seams: &Seams,
    state: StateMachine,
    client_address: String,
    stop: watch::Receiver<bool>,
) -> Result<OpenLog, OpenBrokerError> {
    let (opened, result) = tokio::sync::oneshot::channel();
    let net = Arc::clone(&seams.net);
    let (peer_listen, peer_advertise) = (config.peer_listen.clone(), config.peer_advertise.clone());
    let connections_max = config.connections_max;
    let options = raft::Options {
        id: ReplicaId(config.replica_id),
        broker_group: config.broker_group.clone(),
        dir: config.data_dir.join("replica"),
        peer_address: String::new(),
        client_address,
        segment_bytes: config.segment_bytes,
        tail_cache_bytes: config.tail_cache_bytes as usize,
        in_flight_bytes: config.in_flight_bytes as usize,
        durability: match config.durability {
            Durability::FsyncQuorum => raft::Durability::FsyncQuorum,
            Durability::MemoryQuorum => raft::Durability::MemoryQuorum,
        },
        timings: Timings {
            heartbeat_ms: config.heartbeat_ms,
            election_min_ms: config.election_min_ms,
            election_max_ms: config.election_max_ms,
            silence_ms: config.silence_ms,
        },
        planted: seams.planted.log,
        release: raft::Release {
            level: config.format_level_max,
            version: level::VERSION.to_owned(),
        },
    };
    let raft_seams = raft::Seams {
        disk: Arc::clone(&seams.disk),
        connect: Arc::new(Connector(Arc::clone(&net))),
        wall_clock: Arc::clone(&seams.wall_clock),
        seed: seams.seed,
    };
    let work = async move {
        let opening = async {
            let listener = bind(&net, "peer_listen", &peer_listen).await?;
            let peer_address = advertised(&peer_advertise, &*listener, &peer_listen);
            let options = raft::Options {
                peer_address: peer_address.clone(),
                ..options
            };
            let (handle, driver) = raft::open(options, raft_seams, state).await?;
            tokio::spawn(serve(listener, PeerRoute(handle.peer_service()), connections_max, stop));
            Ok(((handle, driver), peer_address))
        };
        // Nobody waits any more when the opening broker is dropped.
        let _dropped = opened.send(opening.await);
    };
    match &seams.spawn {
        Spawn::Here => work.await,
        Spawn::Apart { raft, .. } => raft(Box::pin(work)),
    }
    result
        .await
        .unwrap_or_else(|_| Err(OpenBrokerError::Writer("the log's runtime ended".to_owned())))
}

async fn bind(net: &Arc<dyn Net>, field: &'static str, address: &str) -> Result<Box<dyn Listener>, OpenBrokerError> {
    let listen = |source| OpenBrokerError::Listen {
        field,
        address: address.to_owned(),
        source,
    };
    net.bind(address).await.map_err(listen)
}

/// What others are told: as configured, else the listen address with the port that was bound.
fn advertised(advertise: &Option<String>, listener: &dyn Listener, listen: &str) -> String {
    if let Some(address) = advertise {
        return address.clone();
    }
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    match listener.local_addr() {
        Ok(bound) => format!("{host}:{}", bound.port()),
        Err(_) => listen.to_owned(),
    }
}
