//! The rest of the broker group, as a model: the leader's log, how far it is committed, and the state as of each entry.
//! What is committed never changes; what is not may be gone after the next election.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::body;
use crate::log::{Frame, FrameKind};
use crate::raft::config::{KeptMembership, Members, Node, Vote, log_id};
use crate::raft::format;
use crate::tests::counting::{Copy, fold};
use crate::tests::seeds::Choices;
use crate::types::EntryId;

/// What the others know.
pub struct Truth {
    entries: Vec<Frame>,
    folds: Vec<u64>,
    memberships: Vec<KeptMembership>,
    /// Entries below are committed.
    pub committed: u64,
    /// The leader's log begins here.
    pub purged: u64,
    /// The leader's vote.
    pub vote: Vote,
}

fn members(number: u64) -> Members {
    let nodes: BTreeMap<u64, Node> = [1, 2, 3, 4 + number].map(|id| (id, Node::default())).into();
    Members::new(vec![BTreeSet::from([1, 2, 3])], nodes).expect("every voter has a node")
}

impl Truth {
    /// A broker group that was just born and has elected its first leader.
    pub fn new() -> Truth {
        let mut truth = Truth {
            entries: Vec::new(),
            folds: Vec::new(),
            memberships: Vec::new(),
            committed: 0,
            purged: 0,
            vote: Vote::new_committed(0, 2),
        };
        truth.membership();
        truth.committed = 1;
        truth.vote = Vote::new_committed(1, 2);
        truth.push(FrameKind::Blank, Bytes::new());
        truth
    }

    /// Index behind the last entry.
    pub fn end(&self) -> u64 {
        self.entries.len() as u64
    }

    /// An entry that is there.
    pub fn entry(&self, index: u64) -> &Frame {
        &self.entries[index as usize]
    }

    /// The id at an index, if there is one.
    pub fn id(&self, index: u64) -> Option<EntryId> {
        self.entries.get(index as usize).map(|frame| frame.id)
    }

    /// The state as of an entry.
    pub fn fold(&self, index: u64) -> u64 {
        self.folds[index as usize]
    }

    /// The membership in force at an entry.
    pub fn membership_at(&self, index: u64) -> KeptMembership {
        let of = |kept: &&KeptMembership| kept.log_id().as_ref().is_some_and(|id| id.index() <= index);
        self.memberships.iter().rev().find(of).cloned().expect("one came first")
    }

    /// A copy of the state as of the newest committed entry.
    pub fn export(&self) -> Copy {
        let index = self.committed - 1;
        Copy {
            id: self.entry(index).id,
            fold: self.fold(index),
        }
    }

    fn push(&mut self, kind: FrameKind, body: Bytes) {
        let id = EntryId::new(self.vote.leader_id.term, self.end());
        let commands = match kind {
            FrameKind::Commands => body::decode(&body).expect("just made"),
            FrameKind::Blank | FrameKind::Membership => Vec::new(),
        };
        self.folds
            .push(fold(self.folds.last().copied().unwrap_or(0), id, &commands));
        self.entries.push(Frame {
            id,
            kind,
            body_crc: crc32c::crc32c(&body),
            body,
        });
    }

    /// The leader appends a membership.
    pub fn membership(&mut self) {
        let members = members(self.end());
        let id = EntryId::new(self.vote.leader_id.term, self.end());
        self.memberships
            .push(KeptMembership::new(Some(log_id(id)), members.clone()));
        self.push(FrameKind::Membership, format::encode_members(&members));
    }

    /// The leader appends an entry.
    pub fn grow(&mut self, choices: &mut Choices) {
        if choices.one_in(12) {
            return self.membership();
        }
        let len_max = [1, 100, 600, 3000, 6000][choices.below(5) as usize];
        let filler = choices.below(256) as u8;
        let commands: Vec<Bytes> = (0..choices.between(1, 2))
            .map(|number| vec![filler ^ number as u8; choices.below(len_max) as usize].into())
            .collect();
        self.push(FrameKind::Commands, body::encode(&commands));
    }

    /// More is committed, up to anywhere.
    pub fn commit(&mut self, choices: &mut Choices) {
        self.committed = choices.between(self.committed, self.end());
    }

    /// The leader forgets more of what is committed.
    pub fn forget(&mut self, choices: &mut Choices) {
        self.purged = choices.between(self.purged, self.committed - 1);
    }

    /// A new leader, in this term or a later one, which has all that is committed and perhaps more.
    pub fn elect(&mut self, term: u64, choices: &mut Choices) {
        let kept = choices.between(self.committed, self.end());
        self.entries.truncate(kept as usize);
        self.folds.truncate(kept as usize);
        let remains = |membership: &KeptMembership| membership.log_id().as_ref().is_some_and(|id| id.index() < kept);
        self.memberships.retain(remains);
        self.vote = Vote::new_committed(term + choices.below(2), choices.between(2, 3));
        self.push(FrameKind::Blank, Bytes::new());
    }
}
