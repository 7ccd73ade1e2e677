//! The bytes of votes and memberships, kept and sent. Ours, not openraft's serde. All integers little endian.
//!
//! ```text
//! vote         version 1: u8 | committed: u8 | zero: u16 | term: u64 | candidate: u64 | crc32c of all before: u32
//!
//! members      version 1: u8 | zero: u8 | configs: u16 | nodes: u16
//!              then a config (two while a change of membership is joint):  voters: u16 | voters x id: u64
//!              then a node:  id: u64 | incarnation: u64 | peer address: string | client address: string
//!              string = length: u16 | UTF-8
//!
//! kept         members with the id of their entry:
//! membership   version 1: u8 | present: u8 | zero: u16 | term: u64 | index: u64 | members | crc32c of all before: u32
//!
//! kept         version 1: u8 | zero: u8 | count: u16 | count x (length: u32 | kept membership)
//! memberships  | crc32c of all before: u32
//! ```
//!
//! Voters and nodes are in ascending order of their ids, so equal memberships have equal bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};

use crate::raft::config::{KeptMembership, Members, Node, Vote, entry_id, log_id};
use crate::types::EntryId;

const VOTE_VERSION: u8 = 1;
const VOTE_BYTES: usize = 24;
const MEMBERS_VERSION: u8 = 1;
const KEPT_VERSION: u8 = 1;
const HISTORY_VERSION: u8 = 1;

/// Why bytes are not a vote or membership.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end early.
    #[error("{0} ends early")]
    Short(&'static str),
    /// Bytes are left over.
    #[error("{0} has bytes left over")]
    Long(&'static str),
    /// A version this build does not know.
    #[error("unknown version {version} of {what}")]
    Version {
        /// Of which format.
        what: &'static str,
        /// The version found.
        version: u8,
    },
    /// The checksum is wrong.
    #[error("checksum of {0} is wrong")]
    Checksum(&'static str),
    /// Checksum right, content impossible.
    #[error("{0}")]
    Content(String),
}

/// A vote as bytes.
pub fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = BytesMut::with_capacity(VOTE_BYTES);
    out.put_u8(VOTE_VERSION);
    out.put_u8(u8::from(vote.committed));
    out.put_u16_le(0);
    out.put_u64_le(vote.leader_id.term);
    out.put_u64_le(vote.leader_id.voted_for);
    seal(out)
}

/// A vote from its bytes.
pub fn decode_vote(bytes: &[u8]) -> Result<Vote, FormatError> {
    let mut input = unseal(bytes, "a vote")?;
    input.version(VOTE_VERSION)?;
    let committed = input.u8()? != 0;
    input.u16()?;
    let (term, candidate) = (input.u64()?, input.u64()?);
    input.end()?;
    Ok(if committed {
        Vote::new_committed(term, candidate)
    } else {
        Vote::new(term, candidate)
    })
}

/// A membership as bytes.
pub fn encode_members(members: &Members) -> Bytes {
    let mut out = BytesMut::new();
    put_members(&mut out, members);
    out.freeze()
}

/// A membership from its bytes.
pub fn decode_members(bytes: &[u8]) -> Result<Members, FormatError> {
    let mut input = Input {
        rest: bytes,
        what: "a membership",
    };
    let members = input.members()?;
    input.end()?;
    Ok(members)
}

/// A membership with the id of its entry as bytes.
pub fn encode_kept(kept: &KeptMembership) -> Bytes {
    let mut out = BytesMut::new();
    let id = kept.log_id().as_ref().map(entry_id);
    out.put_u8(KEPT_VERSION);
    out.put_u8(u8::from(id.is_some()));
    out.put_u16_le(0);
    let id = id.unwrap_or_default();
    out.put_u64_le(id.term.get());
    out.put_u64_le(id.index.get());
    put_members(&mut out, kept.membership());
    seal(out)
}

/// A membership with the id of its entry, from its bytes; no bytes are no membership yet.
pub fn decode_kept(bytes: &[u8]) -> Result<KeptMembership, FormatError> {
    if bytes.is_empty() {
        return Ok(KeptMembership::default());
    }
    let mut input = unseal(bytes, "a kept membership")?;
    input.version(KEPT_VERSION)?;
    let present = input.u8()? != 0;
    input.u16()?;
    let id = EntryId::new(input.u64()?, input.u64()?);
    let members = input.members()?;
    input.end()?;
    Ok(KeptMembership::new(present.then(|| log_id(id)), members))
}

/// Memberships in the order of their entries as bytes.
pub fn encode_history(history: &[KeptMembership]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(HISTORY_VERSION);
    out.put_u8(0);
    out.put_u16_le(count(history.len()));
    for kept in history {
        let bytes = encode_kept(kept);
        out.put_u32_le(u32::try_from(bytes.len()).expect("bounded by limits::MEMBERS_MAX"));
        out.put_slice(&bytes);
    }
    seal(out)
}

/// Memberships from their bytes; no bytes are no membership yet.
pub fn decode_history(bytes: &[u8]) -> Result<Vec<KeptMembership>, FormatError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut input = unseal(bytes, "kept memberships")?;
    input.version(HISTORY_VERSION)?;
    input.u8()?;
    let mut history = Vec::new();
    for _ in 0..input.u16()? {
        history.push(decode_kept(input.bytes()?)?);
    }
    input.end()?;
    Ok(history)
}

fn put_members(out: &mut BytesMut, members: &Members) {
    let configs = members.get_joint_config();
    out.put_u8(MEMBERS_VERSION);
    out.put_u8(0);
    out.put_u16_le(count(configs.len()));
    out.put_u16_le(count(members.nodes().count()));
    for config in configs {
        out.put_u16_le(count(config.len()));
        for id in config {
            out.put_u64_le(*id);
        }
    }
    for (id, node) in members.nodes() {
        out.put_u64_le(*id);
        out.put_u64_le(node.incarnation);
        for text in [&node.peer_address, &node.client_address] {
            out.put_u16_le(count(text.len()));
            out.put_slice(text.as_bytes());
        }
    }
}

/// Members, memberships kept and the lengths of addresses are bounded long before 65,536 (see `limits`).
fn count(length: usize) -> u16 {
    u16::try_from(length).expect("bounded by limits")
}

fn seal(mut out: BytesMut) -> Bytes {
    let checksum = crc32c::crc32c(&out);
    out.put_u32_le(checksum);
    out.freeze()
}

fn unseal<'a>(bytes: &'a [u8], what: &'static str) -> Result<Input<'a>, FormatError> {
    let (rest, checksum) = bytes.split_last_chunk::<4>().ok_or(FormatError::Short(what))?;
    if crc32c::crc32c(rest) != u32::from_le_bytes(*checksum) {
        return Err(FormatError::Checksum(what));
    }
    Ok(Input { rest, what })
}

struct Input<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(FormatError::Short(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.take::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], FormatError> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        let head = self.rest.get(..length).ok_or(FormatError::Short(self.what))?;
        self.rest = &self.rest[length..];
        Ok(head)
    }

    fn version(&mut self, known: u8) -> Result<(), FormatError> {
        match self.u8()? {
            version if version == known => Ok(()),
            version => Err(FormatError::Version {
                what: self.what,
                version,
            }),
        }
    }

    fn text(&mut self) -> Result<String, FormatError> {
        let length = usize::from(self.u16()?);
        let head: &'a [u8] = self.rest.get(..length).ok_or(FormatError::Short(self.what))?;
        self.rest = &self.rest[length..];
        String::from_utf8(head.to_vec()).map_err(|_| FormatError::Content(format!("{} holds no UTF-8", self.what)))
    }

    fn members(&mut self) -> Result<Members, FormatError> {
        self.version(MEMBERS_VERSION)?;
        self.u8()?;
        let (config_count, node_count) = (self.u16()?, self.u16()?);
        let mut configs = Vec::new();
        for _ in 0..config_count {
            let voter_count = self.u16()?;
            let mut voters = BTreeSet::new();
            for _ in 0..voter_count {
                voters.insert(self.u64()?);
            }
            configs.push(voters);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..node_count {
            let (id, incarnation) = (self.u64()?, self.u64()?);
            let (peer_address, client_address) = (self.text()?, self.text()?);
            nodes.insert(
                id,
                Node {
                    peer_address,
                    client_address,
                    incarnation,
                },
            );
        }
        if configs.is_empty() && nodes.is_empty() {
            return Ok(Members::default());
        }
        Members::new(configs, nodes).map_err(|error| FormatError::Content(error.to_string()))
    }

    fn end(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(FormatError::Long(self.what))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(id: u64) -> Node {
        Node {
            peer_address: format!("replica-{id}:9000"),
            client_address: format!("replica-{id}:8081"),
            incarnation: id * 0x1_0000_0001,
        }
    }

    fn members(configs: &[&[u64]], learners: &[u64]) -> Members {
        let configs: Vec<BTreeSet<u64>> = configs.iter().map(|ids| ids.iter().copied().collect()).collect();
        let ids = configs
            .iter()
            .flatten()
            .chain(learners)
            .copied()
            .collect::<BTreeSet<u64>>();
        Members::new(
            configs,
            ids.into_iter().map(|id| (id, node(id))).collect::<BTreeMap<_, _>>(),
        )
        .expect("valid")
    }

    #[test]
    fn memberships_round_trip() {
        let cases = [
            Members::default(),
            members(&[&[1]], &[]),
            members(&[&[1, 2, 3], &[2, 3, 4]], &[9]),
        ];
        for case in cases {
            assert_eq!(decode_members(&encode_members(&case)), Ok(case.clone()));
            let kept = KeptMembership::new(Some(log_id(EntryId::new(3, 4))), case.clone());
            assert_eq!(decode_kept(&encode_kept(&kept)), Ok(kept));
            let kept = KeptMembership::new(None, case);
            assert_eq!(decode_kept(&encode_kept(&kept)), Ok(kept));
        }
        assert_eq!(decode_kept(&[]), Ok(KeptMembership::default()));
    }

    #[test]
    fn layout_of_a_vote_stays() {
        let bytes = encode_vote(&Vote::new_committed(5, 2));
        assert_eq!(
            &bytes[..20],
            &[1, 1, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(bytes.len(), VOTE_BYTES);
    }

    proptest! {
        #[test]
        fn votes_round_trip(term: u64, candidate: u64, committed: bool) {
            let vote = if committed { Vote::new_committed(term, candidate) } else { Vote::new(term, candidate) };
            prop_assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
        }

        #[test]
        fn a_flipped_bit_is_seen(position in 0usize..VOTE_BYTES * 8) {
            let mut bytes = encode_vote(&Vote::new(7, 3)).to_vec();
            bytes[position / 8] ^= 1 << (position % 8);
            prop_assert!(decode_vote(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode_members(&bytes);
            let _ = decode_kept(&bytes);
            let _ = decode_history(&bytes);
            let _ = decode_vote(&bytes);
        }
    }
}
