//! What an application gets at each start of its host.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ledgermq_client::Options;
use ledgermq_proto::net::Net;
use ledgermq_raft_store::disk::{Disk, FaultyDisk};

use super::store::Store;
use crate::{
    board::Board,
    net::SimNet,
    seed::{Draws, Seed},
    trace::Trace,
    world,
};

/// The context of an application: one for each start of its host. Cheap to clone into tasks.
#[derive(Clone)]
pub struct App {
    pub(super) name: String,
    pub(super) boot: u64,
    pub(super) seed: Seed,
    pub(super) endpoints: Arc<Vec<String>>,
    pub(super) store: Store,
    pub(super) disk: FaultyDisk,
    pub(super) calm: Arc<AtomicBool>,
    pub(super) board: Board,
    pub(super) trace: Trace,
}

impl App {
    /// The host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often the host started before: 0 at its first start.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Options for a producer or a consumer of [`ledgermq_client`]: the simulated network, the cluster's endpoints, the
    /// simulated wall clock, a seed of its own. The client's id is the same after a restart, so a send that is repeated
    /// with its message id is known again; a host with several clients gives each a name ([`App::client_named`]).
    pub fn client(&self) -> Options {
        self.client_named("client")
    }

    /// The same for one client of several.
    pub fn client_named(&self, name: &str) -> Options {
        let client_id = format!("{}@{name}", self.name);
        let seed = self.seed.child(&client_id, self.boot).0;
        let wall_clock = Arc::new(world::unix_ms);
        Options::new(self.net(), self.endpoints.to_vec(), &client_id, wall_clock, seed)
    }

    /// The simulated network.
    pub fn net(&self) -> Arc<dyn Net> {
        Arc::new(SimNet)
    }

    /// The brokers' addresses, for administrative calls.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// A stream of draws, its own for each label, host and start.
    pub fn draws(&self, label: &str) -> Draws {
        self.seed.child(&self.name, self.boot).stream(label)
    }

    /// Simulated time since the start of the run. `tokio::time` measures and sleeps in the same time.
    pub fn now(&self) -> Duration {
        self.trace.now()
    }

    /// The simulated wall clock, unix milliseconds.
    pub fn unix_ms(&self) -> u64 {
        world::unix_ms()
    }

    /// What survives crashes of this host: rows, in transactions.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// What survives crashes of this host: files. A loss of power takes what was not synced.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    /// True once all faults are healed: an application that makes work of its own stops making more, so that what it made
    /// comes to an end.
    pub fn calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Adds a line to the story and to the trace.
    pub fn tell(&self, what: impl Display) {
        self.trace.tell(&self.name, what);
    }

    /// Adds a line to the trace alone.
    pub fn trace(&self, what: impl Display) {
        self.trace.event(&self.name, what);
    }

    /// Counts something that the report should show.
    pub fn mark(&self, name: &'static str) {
        self.board.mark(name);
    }

    /// Something that must never happen happened: ends the run as a failure.
    pub fn violation(&self, what: impl Display) {
        self.board.violation(format!("{}: {what}", self.name));
    }
}
