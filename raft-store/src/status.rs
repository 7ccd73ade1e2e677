//! What a replica tells about itself: its role, its members, how far it has come.

use crate::release::Release;
use crate::types::{EntryId, LogIndex, ReplicaId, Term};

/// The part a replica plays at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Takes proposals and replicates them.
    Leader,
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
    /// Receives the log and does not vote.
    Learner,
}

impl State {
    /// The word used in status reports.
    pub const fn name(self) -> &'static str {
        match self {
            State::Leader => "leader",
            State::Follower => "follower",
            State::Candidate => "candidate",
            State::Learner => "learner",
        }
    }
}

/// The role of this replica in its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// The term this replica is in.
    pub term: Term,
    /// Its part in it.
    pub state: State,
    /// Who leads, if known.
    pub leader: Option<ReplicaId>,
    /// This replica leads and an entry of its own term is applied, so its state is up to date.
    pub serving: bool,
}

/// One member of the broker group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: ReplicaId,
    /// `host:port` for the other replicas.
    pub peer_address: String,
    /// `host:port` for clients.
    pub client_address: String,
    /// Whether it votes.
    pub voter: bool,
    /// The folder it became a member with.
    pub incarnation: u64,
}

/// One member as this replica sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its number.
    pub id: ReplicaId,
    /// `host:port` for the other replicas.
    pub peer_address: String,
    /// `host:port` for clients.
    pub client_address: String,
    /// Whether it votes.
    pub voter: bool,
    /// Last entry known to be on it; only a leader knows this of the others.
    pub last_index: Option<LogIndex>,
    /// Milliseconds since it was last heard; 0 for this replica itself, `None` if never heard since the start.
    pub heard_ms_ago: Option<u64>,
    /// The folder it became a member with.
    pub incarnation: u64,
    /// It lacks no more of the log than what is on its way, and is heard; only a leader knows this of the others.
    pub caught_up: bool,
    /// The program it runs; `None` while it is not connected to this replica.
    pub release: Option<Release>,
}

/// One finished segment of the log: it is written no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSpan {
    /// The first entry in it that is not purged.
    pub first: LogIndex,
    /// The last entry in it.
    pub last: LogIndex,
    /// Its length.
    pub bytes: u64,
}

/// A snapshot of one replica's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This replica.
    pub id: ReplicaId,
    /// Its term.
    pub term: Term,
    /// Who leads, if known.
    pub leader: Option<ReplicaId>,
    /// Its part.
    pub state: State,
    /// Last entry in its log.
    pub last: Option<EntryId>,
    /// Last entry it knows committed.
    pub committed: Option<EntryId>,
    /// Last entry its machine applied.
    pub applied: Option<EntryId>,
    /// Last entry durable on its disk.
    pub durable: Option<EntryId>,
    /// All members, this replica included, by number. Empty before the bootstrap.
    pub members: Vec<MemberStatus>,
    /// This replica was a member and is none any more.
    pub removed: bool,
    /// Why the log or the consensus core stopped for good, if it did.
    pub poisoned: Option<String>,
    /// How often this replica saw a new leader elected since it started.
    pub elections: u64,
    /// How many of them this replica won by agreed takeover.
    pub takeovers: u64,
    /// The cluster, once known.
    pub cluster_id: Option<String>,
    /// The random number that tells this folder from any other with the same replica id.
    pub incarnation: u64,
}
