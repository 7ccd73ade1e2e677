//! The types openraft is configured with: ids, nodes, entries.
//!
//! Committed leader ids are the term alone (`leader_id_std`): one leader a term, and an entry's id is (term, index).
//! An entry keeps its body as the bytes that are stored and sent, with the checksum its proposer computed.

use std::any::Any;
use std::fmt;

use bytes::Bytes;
use openraft::entry::{RaftEntry, RaftPayload};
use openraft::type_config::alias::{CommittedLeaderIdOf, LogIdOf};
use openraft::{Membership, RaftTypeConfig, StoredMembership};

use crate::log::{Frame, FrameKind};
use crate::raft::format;
use crate::raft::runtime::Runtime;
use crate::types::{EntryId, LogIndex, Term};

/// openraft's name for a vote here.
pub type Vote = openraft::impls::Vote<LeaderId>;
/// Term and candidate.
pub type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
/// openraft's name for an entry id.
pub type LogId = LogIdOf<Config>;
/// A membership with the id of the entry that carries it.
pub type KeptMembership = StoredMembership<CommittedLeaderIdOf<Config>, u64, Node>;
/// The members and the voters among them.
pub type Members = Membership<u64, Node>;

/// openraft's type configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Config;

impl RaftTypeConfig for Config {
    type D = Batch;
    type R = Outcomes;
    type NodeId = u64;
    type Node = Node;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// What the membership says about one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `host:port` for the other replicas.
    pub peer_address: String,
    /// `host:port` for clients.
    pub client_address: String,
    /// The folder it was bootstrapped with; any other is refused.
    pub incarnation: u64,
}

/// The encoded body of an entry of commands, and its CRC32C.
#[derive(Clone)]
pub struct Batch {
    /// See [`crate::body`].
    pub body: Bytes,
    /// CRC32C of `body`.
    pub crc: u32,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} bytes)", self.body.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One outcome of the machine, its type erased.
pub type Outcome = Box<dyn Any + Send + Sync>;

/// The machine's outcomes of one entry: one a command, none for entries without commands.
pub struct Outcomes(pub Vec<Outcome>);

impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outcomes({})", self.0.len())
    }
}

/// What an entry holds.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// Commands for the machine.
    Commands(Batch),
    /// A new membership.
    Membership(Members),
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Blank => f.write_str("blank"),
            Payload::Commands(batch) => batch.fmt(f),
            Payload::Membership(members) => members.fmt(f),
        }
    }
}

impl RaftPayload for Payload {
    type D = Batch;
    type NodeId = u64;
    type Node = Node;

    fn blank() -> Self {
        Payload::Blank
    }

    fn with_normal(self, data: Batch) -> Self {
        Payload::Commands(data)
    }

    fn with_membership(self, membership: Members) -> Self {
        Payload::Membership(membership)
    }

    fn get_membership(&self) -> Option<Members> {
        match self {
            Payload::Membership(members) => Some(members.clone()),
            Payload::Blank | Payload::Commands(_) => None,
        }
    }
}

/// One entry of the log, in memory.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place.
    pub id: LogId,
    /// What it holds.
    pub payload: Payload,
}

impl Entry {
    /// Bytes of its body; memberships count as few.
    pub fn body_bytes(&self) -> usize {
        match &self.payload {
            Payload::Blank => 0,
            Payload::Commands(batch) => batch.body.len(),
            Payload::Membership(members) => members.nodes().count() * 256,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.payload)
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = CommittedLeaderIdOf<Config>;
    type Payload = Payload;

    fn new(id: LogId, payload: Payload) -> Self {
        Entry { id, payload }
    }

    fn log_id_parts(&self) -> (&Self::CommittedLeaderId, u64) {
        (self.id.committed_leader_id(), self.id.index())
    }

    fn set_log_id(&mut self, id: LogId) {
        self.id = id;
    }

    fn get_membership(&self) -> Option<Members> {
        self.payload.get_membership()
    }
}

/// Our id as openraft's.
pub fn log_id(id: EntryId) -> LogId {
    LogId::new_term_index(id.term.get(), id.index.get())
}

/// openraft's id as ours.
pub fn entry_id(id: &LogId) -> EntryId {
    EntryId {
        term: Term(id.committed_leader_id().term),
        index: LogIndex(id.index()),
    }
}

/// An entry as the log keeps it.
pub fn to_frame(entry: Entry) -> Frame {
    let id = entry_id(&entry.id);
    match entry.payload {
        Payload::Blank => Frame {
            id,
            kind: FrameKind::Blank,
            body: Bytes::new(),
            body_crc: crc32c::crc32c(&[]),
        },
        Payload::Commands(batch) => Frame {
            id,
            kind: FrameKind::Commands,
            body: batch.body,
            body_crc: batch.crc,
        },
        Payload::Membership(members) => {
            let body = format::encode_members(&members);
            let body_crc = crc32c::crc32c(&body);
            Frame {
                id,
                kind: FrameKind::Membership,
                body,
                body_crc,
            }
        }
    }
}

/// A kept entry as openraft wants it. Fails on a membership that does not decode.
pub fn from_frame(frame: Frame) -> Result<Entry, format::FormatError> {
    let payload = match frame.kind {
        FrameKind::Blank => Payload::Blank,
        FrameKind::Commands => Payload::Commands(Batch {
            body: frame.body,
            crc: frame.body_crc,
        }),
        FrameKind::Membership => Payload::Membership(format::decode_members(&frame.body)?),
    };
    Ok(Entry {
        id: log_id(frame.id),
        payload,
    })
}
