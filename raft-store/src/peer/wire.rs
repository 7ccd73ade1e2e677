//! The words of `peer.proto`, and their translation from and to openraft's.

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::log::{Frame, FrameKind};
use crate::raft::config::{self, Config, LogId};
use crate::types;

pub use generated::*;

#[allow(missing_docs, clippy::all)]
mod generated {
    tonic::include_proto!("ledgermq.peer.v1");
}

/// Why a message is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed peer message: {0}")]
pub struct WireError(pub String);

fn need<T>(value: Option<T>, what: &str) -> Result<T, WireError> {
    value.ok_or_else(|| WireError(format!("{what} is missing")))
}

impl From<types::EntryId> for EntryId {
    fn from(id: types::EntryId) -> EntryId {
        EntryId {
            term: id.term.get(),
            index: id.index.get(),
        }
    }
}

impl From<EntryId> for types::EntryId {
    fn from(id: EntryId) -> types::EntryId {
        types::EntryId::new(id.term, id.index)
    }
}

/// An entry id as sent.
pub fn id_out(id: &LogId) -> EntryId {
    config::entry_id(id).into()
}

/// An entry id as received.
pub fn id_in(id: EntryId) -> LogId {
    config::log_id(id.into())
}

/// A vote as sent.
pub fn vote_out(vote: &config::Vote) -> Vote {
    Vote {
        term: vote.leader_id.term,
        candidate: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

/// A vote as received.
pub fn vote_in(vote: Option<Vote>) -> Result<config::Vote, WireError> {
    let vote = need(vote, "the vote")?;
    Ok(if vote.committed {
        config::Vote::new_committed(vote.term, vote.candidate)
    } else {
        config::Vote::new(vote.term, vote.candidate)
    })
}

fn kind_out(kind: FrameKind) -> u32 {
    match kind {
        FrameKind::Blank => 1,
        FrameKind::Commands => 2,
        FrameKind::Membership => 3,
    }
}

fn kind_in(kind: u32) -> Result<FrameKind, WireError> {
    match kind {
        1 => Ok(FrameKind::Blank),
        2 => Ok(FrameKind::Commands),
        3 => Ok(FrameKind::Membership),
        other => Err(WireError(format!("unknown kind of entry {other}"))),
    }
}

/// An append request as sent. Bodies are shared, not copied here.
pub fn append_out(request: AppendEntriesRequest<Config>, header: Option<Header>) -> AppendRequest {
    let entries = request.entries.into_iter().map(config::to_frame).map(|frame| Entry {
        id: Some(frame.id.into()),
        kind: kind_out(frame.kind),
        body_crc: frame.body_crc,
        body: frame.body,
    });
    AppendRequest {
        header,
        vote: Some(vote_out(&request.vote)),
        previous: request.prev_log_id.as_ref().map(id_out),
        commit: request.leader_commit.as_ref().map(id_out),
        entries: entries.collect(),
    }
}

/// An append request as received; each body is checked against its checksum before it goes anywhere.
pub fn append_in(request: AppendRequest) -> Result<AppendEntriesRequest<Config>, WireError> {
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let id: types::EntryId = need(entry.id, "an entry's id")?.into();
        if crc32c::crc32c(&entry.body) != entry.body_crc {
            return Err(WireError(format!("the body of entry {id} does not match its checksum")));
        }
        let frame = Frame {
            id,
            kind: kind_in(entry.kind)?,
            body: entry.body,
            body_crc: entry.body_crc,
        };
        entries.push(config::from_frame(frame).map_err(|error| WireError(error.to_string()))?);
    }
    Ok(AppendEntriesRequest {
        vote: vote_in(request.vote)?,
        prev_log_id: request.previous.map(id_in),
        leader_commit: request.commit.map(id_in),
        entries,
    })
}

/// The answer to one append request as sent.
pub fn appended_out(result: &StreamAppendResult<Config>) -> AppendReply {
    let result = match result {
        Ok(last) => append_reply::Result::Matched(Matched {
            last: last.as_ref().map(id_out),
        }),
        Err(StreamAppendError::Conflict(id)) => append_reply::Result::Conflict(id_out(id)),
        Err(StreamAppendError::HigherVote(vote)) => append_reply::Result::HigherVote(vote_out(vote)),
    };
    AppendReply { result: Some(result) }
}

/// The answer to one append request as received.
pub fn appended_in(reply: AppendReply) -> Result<StreamAppendResult<Config>, WireError> {
    Ok(match need(reply.result, "the result")? {
        append_reply::Result::Matched(matched) => Ok(matched.last.map(id_in)),
        append_reply::Result::Conflict(id) => Err(StreamAppendError::Conflict(id_in(id))),
        append_reply::Result::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_in(Some(vote))?)),
    })
}

/// A request for a vote as sent.
pub fn ballot_out(request: &VoteRequest<Config>, header: Header) -> BallotRequest {
    BallotRequest {
        header: Some(header),
        vote: Some(vote_out(&request.vote)),
        last: request.last_log_id.as_ref().map(id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

/// A request for a vote as received.
pub fn ballot_in(request: BallotRequest) -> Result<VoteRequest<Config>, WireError> {
    let mut asked = VoteRequest::new(vote_in(request.vote)?, request.last.map(id_in));
    asked.leadership_transfer = request.leadership_transfer;
    Ok(asked)
}

/// A voter's answer as sent.
pub fn balloted_out(response: &VoteResponse<Config>) -> BallotReply {
    BallotReply {
        vote: Some(vote_out(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(id_out),
    }
}

/// A voter's answer as received.
pub fn balloted_in(reply: BallotReply) -> Result<VoteResponse<Config>, WireError> {
    Ok(VoteResponse::new(
        vote_in(reply.vote)?,
        reply.last.map(id_in),
        reply.granted,
    ))
}

/// A handover as sent.
pub fn handover_out(request: &TransferLeaderRequest<Config>, header: Header) -> HandoverRequest {
    HandoverRequest {
        header: Some(header),
        from_leader: Some(vote_out(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(id_out),
    }
}

/// A handover as received.
pub fn handover_in(request: HandoverRequest) -> Result<TransferLeaderRequest<Config>, WireError> {
    Ok(TransferLeaderRequest::new(
        vote_in(request.from_leader)?,
        request.to,
        request.last.map(id_in),
    ))
}

/// The answer to a handover as sent.
pub fn handed_over_out(response: &TransferLeaderResponse<Config>) -> HandoverReply {
    let result = match response {
        Ok(()) => handover_reply::Result::Accepted(true),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            let (expected, actual) = (Some(vote_out(expected)), Some(vote_out(actual)));
            handover_reply::Result::VoteChanged(VoteChanged { expected, actual })
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            let (expected, actual) = (expected.as_ref().map(id_out), actual.as_ref().map(id_out));
            handover_reply::Result::LogNotFlushed(LogNotFlushed { expected, actual })
        }
    };
    HandoverReply { result: Some(result) }
}

/// The answer to a handover as received.
pub fn handed_over_in(reply: HandoverReply) -> Result<TransferLeaderResponse<Config>, WireError> {
    Ok(match need(reply.result, "the result")? {
        handover_reply::Result::Accepted(_) => Ok(()),
        handover_reply::Result::VoteChanged(changed) => Err(TransferLeaderError::VoteChanged {
            expected: vote_in(changed.expected)?,
            actual: vote_in(changed.actual)?,
        }),
        handover_reply::Result::LogNotFlushed(behind) => Err(TransferLeaderError::LogNotFlushed {
            expected: behind.expected.map(id_in),
            actual: behind.actual.map(id_in),
        }),
    })
}
