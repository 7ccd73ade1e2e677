//! What a replica is told when it is opened: who it is, where its files are, how patient it is, and the seams
//! through which it sees the world.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::disk::Disk;
use crate::planted::Planted;
use crate::release::Release;
use crate::types::ReplicaId;

/// One replica's settings. The caller has checked them (see [`Options::check`]).
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of this replica in its broker group; from 1.
    pub id: ReplicaId,
    /// Name of the broker group.
    pub broker_group: String,
    /// Folder of this replica's log, vote and identity.
    pub dir: PathBuf,
    /// `host:port` at which the other replicas reach this one.
    pub peer_address: String,
    /// `host:port` at which clients reach this one.
    pub client_address: String,
    /// Size of a log segment file, in bytes.
    pub segment_bytes: u64,
    /// Bytes of recent entries kept in memory.
    pub tail_cache_bytes: usize,
    /// Bound of the bytes proposed here and not yet applied; beyond it proposals answer `Busy`.
    pub in_flight_bytes: usize,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Heartbeats and elections.
    pub timings: Timings,
    /// A bug on purpose; none outside of tests.
    pub planted: Planted,
    /// What the others are told of this program.
    pub release: Release,
}

/// What an acknowledged command survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Acknowledged = fsynced on a majority. The default.
    #[default]
    FsyncQuorum,
    /// Acknowledged = in the memory of a majority: a power cut of a majority loses acknowledged commands.
    MemoryQuorum,
}

/// Heartbeats and elections, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Between two heartbeats of a leader.
    pub heartbeat_ms: u64,
    /// Shortest election timeout: the fallback when the survivors can't agree that the leader is gone.
    pub election_min_ms: u64,
    /// Longest election timeout; also the leader's lease.
    pub election_max_ms: u64,
    /// A leader unheard for this long counts as gone, if a majority agrees.
    pub silence_ms: u64,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            heartbeat_ms: 100,
            election_min_ms: 400,
            election_max_ms: 700,
            silence_ms: 250,
        }
    }
}

/// Why a set of [`Options`] cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Replica numbers start at 1.
    #[error("replica id 0 is not allowed; replicas are numbered from 1")]
    ZeroId,
    /// The broker group needs a name.
    #[error("the name of the broker group is empty")]
    NoBrokerGroup,
    /// Election timeouts must exceed heartbeats, and the longest the shortest.
    #[error("timings must satisfy heartbeat_ms * 2 <= silence_ms < election_min_ms < election_max_ms, got {0:?}")]
    Timings(Timings),
    /// Levels start at 1.
    #[error("level 0 is not allowed; levels are numbered from 1")]
    ZeroLevel,
    /// Nothing could ever be proposed.
    #[error("in_flight_bytes is {0}, must be at least 65536")]
    InFlight(usize),
}

impl Options {
    /// Checks the relations between the settings.
    pub fn check(&self) -> Result<(), OptionsError> {
        let t = self.timings;
        if self.id.get() == 0 {
            return Err(OptionsError::ZeroId);
        }
        if self.broker_group.is_empty() {
            return Err(OptionsError::NoBrokerGroup);
        }
        let ordered = t.heartbeat_ms > 0
            && t.heartbeat_ms * 2 <= t.silence_ms
            && t.silence_ms < t.election_min_ms
            && t.election_min_ms < t.election_max_ms;
        if !ordered {
            return Err(OptionsError::Timings(t));
        }
        if self.release.level == 0 {
            return Err(OptionsError::ZeroLevel);
        }
        if self.in_flight_bytes < 65_536 {
            return Err(OptionsError::InFlight(self.in_flight_bytes));
        }
        Ok(())
    }
}

/// The world as a replica sees it: disk, network, wall clock, randomness.
#[derive(Clone)]
pub struct Seams {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Connections to other replicas.
    pub connect: Arc<dyn Connect>,
    /// Unix milliseconds.
    pub wall_clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Root of this replica's own draws (incarnation, cluster id, jitter). Must differ at every start, as a wiped
    /// replica draws a new incarnation from it. openraft's draws come from [`crate::seeded`].
    pub seed: u64,
}

impl fmt::Debug for Seams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seams")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// A byte stream between two replicas.
pub trait PeerStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> PeerStream for S {}

/// Opens connections to the peer listeners of other replicas.
pub trait Connect: Send + Sync + 'static {
    /// Connects to `authority` (`host:port`). The caller sets the deadline.
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<Box<dyn PeerStream>>>;
}
