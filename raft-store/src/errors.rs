//! The errors of the façade, one enum a boundary.

use std::io;

use crate::log::OpenLogError;
use crate::machine::MachineError;
use crate::options::OptionsError;
use crate::types::{EntryId, LogIndex, ReplicaId, Term};

/// Why a replica could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options contradict themselves.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The log is corrupt or unreadable.
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// The folder belongs to another replica.
    #[error(
        "the folder belongs to replica {found_id} of broker group {found_broker_group:?}, not to replica {id} of {broker_group:?}; a replica needs a folder of its own"
    )]
    Foreign {
        /// Whose folder it is.
        found_id: ReplicaId,
        /// The broker group it belongs to.
        found_broker_group: String,
        /// Who opened it.
        id: ReplicaId,
        /// The broker group of the one who opened it.
        broker_group: String,
    },
    /// The identity file does not decode.
    #[error("the identity file is damaged: {0}; restore it, or give the replica an empty folder and a new id")]
    Identity(String),
    /// A file could not be read or written.
    #[error("cannot read or write the replica's folder: {0}")]
    Io(#[from] io::Error),
    /// The machine's state is ahead of the log.
    #[error(
        "the state is applied up to {applied}, beyond the end of the log ({last:?}): the log lost entries; rebuild this replica from its peers"
    )]
    AppliedBeyondLog {
        /// How far the state has come.
        applied: EntryId,
        /// Where the log ends.
        last: Option<EntryId>,
    },
    /// The machine's state lacks entries that the log no longer has.
    #[error(
        "the state is applied up to {applied:?}, and the log begins behind {purged}: the state lost entries; rebuild this replica from its peers"
    )]
    StateBehindLog {
        /// How far the state has come.
        applied: Option<EntryId>,
        /// The last entry that the log has forgotten.
        purged: EntryId,
    },
    /// An installation was interrupted and its source is gone.
    #[error(
        "a snapshot was half installed and what it was installed from is lost; rebuild this replica from its peers"
    )]
    HalfInstalled,
    /// The vote does not decode.
    #[error("the vote is damaged: {0}; rebuild this replica from its peers")]
    Vote(String),
    /// The log holds, or held, an entry of a later term than the vote.
    #[error(
        "the newest vote is of term {voted}, but the log has come to entry {newest}: a vote was lost, and this replica could vote twice in a term; rebuild it from its peers"
    )]
    VoteLost {
        /// Term of the vote; 0 without one.
        voted: Term,
        /// The newest entry.
        newest: EntryId,
    },
    /// The membership kept by the machine does not decode.
    #[error("the membership in the state is damaged: {0}")]
    Membership(String),
    /// The state machine could not replay the log.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The consensus core did not start.
    #[error("the consensus core did not start: {0}")]
    Core(String),
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This replica does not lead. Without a leader, try again shortly: one is being elected.
    #[error("not the leader (leader: {leader:?})")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<ReplicaId>,
    },
    /// The command may or may not take effect.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Too much is in flight; nothing was proposed.
    #[error("too many bytes in flight")]
    Busy,
    /// The command is larger than an entry may be; nothing was proposed.
    #[error("a command of {length} bytes is larger than the bound of {bound} bytes")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// The bound in bytes.
        bound: usize,
    },
    /// This replica has stopped; nothing was proposed.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

/// Why the body of an entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Only applied entries are readable.
    #[error("entry {0} is not applied here")]
    NotApplied(LogIndex),
    /// Retention cut the entry off.
    #[error("entry {0} is no longer kept")]
    Purged(LogIndex),
    /// The disk failed.
    #[error("cannot read entry {index}: {source}")]
    Io {
        /// Which entry.
        index: LogIndex,
        /// What the disk said.
        source: io::Error,
    },
}

/// Why a broker group was not bootstrapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// It already has members.
    #[error("the broker group is already bootstrapped")]
    AlreadyBootstrapped,
    /// The list does not work.
    #[error("bad member list: {0}")]
    BadMembers(String),
    /// A replica could not be asked.
    #[error("replica {id} at {address} does not answer: {reason}")]
    Unreachable {
        /// Which replica.
        id: ReplicaId,
        /// Where it was asked.
        address: String,
        /// What happened.
        reason: String,
    },
    /// A replica refuses to join.
    #[error("replica {id} at {address} refuses: {reason}")]
    Refused {
        /// Which replica.
        id: ReplicaId,
        /// Where it was asked.
        address: String,
        /// Its reason.
        reason: String,
    },
    /// This replica failed while bootstrapping.
    #[error("bootstrap failed: {0}")]
    Failed(String),
}

/// Why the leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only a leader can hand over.
    #[error("not the leader (leader: {leader:?})")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<ReplicaId>,
    },
    /// There is no such voter.
    #[error("replica {0} is not a voter of this broker group")]
    UnknownReplica(ReplicaId),
    /// The other replica is not connected.
    #[error("replica {0} cannot be reached")]
    Away(ReplicaId),
    /// The other replica did not take over in time.
    #[error("replica {0} did not take over in time")]
    Timeout(ReplicaId),
    /// This replica has stopped.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

/// Why the membership was not changed. Every change may be asked for again: it goes on where it broke off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Only a leader changes the membership.
    #[error("not the leader (leader: {leader:?})")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<ReplicaId>,
    },
    /// One change at a time.
    #[error("another change of the membership is under way; try again when it is done")]
    UnderWay,
    /// It may have taken effect, or half of it: asking again finishes it.
    #[error("outcome unknown: {0}; ask again to finish it")]
    Unknown(String),
    /// This replica has stopped.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
    /// A number or an address does not work.
    #[error("{0}")]
    Invalid(String),
    /// There is no such member.
    #[error("replica {0} is not a member of this broker group")]
    NotMember(ReplicaId),
    /// The number is taken.
    #[error("replica {id} is a member already, with peer address {peer_address} and client address {client_address}")]
    Member {
        /// Which replica.
        id: ReplicaId,
        /// Where the others reach it.
        peer_address: String,
        /// Where clients reach it.
        client_address: String,
    },
    /// The number belongs to another folder.
    #[error(
        "replica {id} at {address} has an empty or foreign folder: its incarnation is {found:016x}, the membership knows {known:016x}; a wiped replica needs a new id"
    )]
    Wiped {
        /// Which replica.
        id: ReplicaId,
        /// Where it was asked.
        address: String,
        /// What the membership knows.
        known: u64,
        /// What it answered.
        found: u64,
    },
    /// The broker group is full.
    #[error("the broker group has {count} members, at most {bound}")]
    TooMany {
        /// How many it has.
        count: usize,
        /// The bound.
        bound: usize,
    },
    /// A replica could not be asked.
    #[error("replica {id} at {address} does not answer: {reason}")]
    Unreachable {
        /// Which replica.
        id: ReplicaId,
        /// Where it was asked.
        address: String,
        /// What happened.
        reason: String,
    },
    /// A replica refuses to join.
    #[error("replica {id} at {address} refuses: {reason}")]
    Refused {
        /// Which replica.
        id: ReplicaId,
        /// Where it was asked.
        address: String,
        /// Its reason.
        reason: String,
    },
    /// A learner has not caught up.
    #[error("replica {id} has not caught up: it is {} behind the leader, last heard {}",
        behind(.entries), heard(.heard_ms_ago))]
    Behind {
        /// Which replica.
        id: ReplicaId,
        /// How many entries it lacks; `None` while nothing is known of its log.
        entries: Option<u64>,
        /// When it was last heard; `None` if never.
        heard_ms_ago: Option<u64>,
    },
    /// The change could not be committed.
    #[error("only {heard} of {voters} voters are heard: without a majority nothing can be changed")]
    NoMajority {
        /// How many voters live, this one included.
        heard: usize,
        /// How many there are.
        voters: usize,
    },
    /// The change would leave too few living voters.
    #[error(
        "without replica {id}, only {heard} of {voters} voters would be heard: no majority, and nothing could be written; bring replicas back first, or force it"
    )]
    WouldLoseMajority {
        /// Whose removal was asked for.
        id: ReplicaId,
        /// How many voters would be heard.
        heard: usize,
        /// How many voters there would be.
        voters: usize,
    },
    /// A broker group has at least one voter.
    #[error("replica {0} is the last voter")]
    LastVoter(ReplicaId),
    /// The leader was to be removed and could not hand the leadership over.
    #[error("replica {id} leads, and its leadership cannot be handed over: {source}")]
    HandOver {
        /// The leader.
        id: ReplicaId,
        /// Why not.
        source: TransferError,
    },
    /// The core refused.
    #[error("the change was refused: {0}")]
    Failed(String),
}

fn behind(entries: &Option<u64>) -> String {
    match entries {
        Some(entries) => format!("{entries} entries"),
        None => "an unknown number of entries".to_owned(),
    }
}

fn heard(ms_ago: &Option<u64>) -> String {
    match ms_ago {
        Some(ms) => format!("{ms} ms ago"),
        None => "never".to_owned(),
    }
}
