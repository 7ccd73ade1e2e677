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
    /// Why this replica does not get through to it, if so.
    pub trouble: Option<Trouble>,
    /// The program it runs; `None` while it is not connected to this replica.
    pub release: Option<Release>,
}

/// The membership in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MembershipStatus {
    /// The entry that made it; `None` before the bootstrap.
    pub at: Option<EntryId>,
    /// It is a step between two: a majority of the old and of the new voters is needed.
    pub joint: bool,
    /// It is known to be committed.
    pub committed: bool,
}

/// What was wrong with a call from another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It was meant for another broker group.
    BrokerGroup,
    /// It was meant for a replica of another number.
    Replica,
    /// It was meant for another folder of this number.
    Incarnation,
    /// This replica belongs to no cluster yet.
    NoCluster,
    /// The caller belongs to another cluster.
    Cluster,
    /// The caller has another folder than the membership knows.
    Caller,
}

impl Mismatch {
    /// The word used in status reports.
    pub const fn name(self) -> &'static str {
        match self {
            Mismatch::BrokerGroup => "broker-group",
            Mismatch::Replica => "replica",
            Mismatch::Incarnation => "incarnation",
            Mismatch::NoCluster => "no-cluster",
            Mismatch::Cluster => "cluster",
            Mismatch::Caller => "caller",
        }
    }
}

/// A call that this replica refused lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCall {
    /// The number that the caller gave.
    pub from: ReplicaId,
    /// What was wrong.
    pub why: Mismatch,
    /// The same in words.
    pub reason: String,
    /// When.
    pub ms_ago: u64,
}

/// Why this replica does not get through to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// It answers, and refuses.
    pub refuses: bool,
    /// What it or the network said last.
    pub reason: String,
    /// Milliseconds since the first failure after the last success.
    pub for_ms: u64,
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
    /// The membership that has them.
    pub membership: MembershipStatus,
    /// Calls that this replica refused lately, the last of each caller, by its number.
    pub refused: Vec<RefusedCall>,
    /// How many milliseconds the wall clock is ahead of the median of all that are heard; negative where it is behind,
    /// `None` where no other is heard.
    pub clock_offset_ms: Option<i64>,
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
