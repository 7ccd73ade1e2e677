//! A look into a replica's folder while no broker runs: where its log is, whom it belongs to, what its vote and its
//! memberships say. What is in the log itself is [`crate::log::inspect`]'s part. Nothing is ever written.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::disk::Disk;
use crate::identity;
pub use crate::identity::Identity;
pub use crate::log::inspect::{
    Bodies, Entry, Finding, Report, Scope, Seen, SegmentReport, Severity, segment_bytes, walk,
};
use crate::raft::format;
use crate::types::{LogIndex, ReplicaId, Term};

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder of the log.
    pub log: PathBuf,
    /// The replica's folder, with the identity.
    pub replica: Option<PathBuf>,
}

/// Why there is nothing to look into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// The folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// No log there.
    #[error("no log in {dir}: no segment and no marks in any of {tried}")]
    Nothing {
        /// As given.
        dir: String,
        /// Where it was looked for.
        tried: String,
    },
}

/// Finds the log in a data folder, a replica's folder or the log's own folder.
pub fn find(disk: &dyn Disk, dir: &Path) -> Result<Place, InspectError> {
    let candidates = [dir.to_owned(), dir.join("log"), dir.join("replica").join("log")];
    let failed = |path: &Path, source| InspectError::Io {
        path: path.display().to_string(),
        source,
    };
    for log in &candidates {
        if crate::log::inspect::is_log(disk, log).map_err(|error| failed(log, error))? {
            let parent = log.parent().map(Path::to_owned);
            let has_identity = |dir: &PathBuf| disk.exists(&dir.join("identity")).unwrap_or(false);
            return Ok(Place {
                log: log.clone(),
                replica: parent.filter(has_identity),
            });
        }
    }
    let tried: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    Err(InspectError::Nothing {
        dir: dir.display().to_string(),
        tried: tried.join(", "),
    })
}

/// Whom the folder belongs to; `None` when that is not there, or why it cannot be read.
pub fn identity(disk: &dyn Disk, place: &Place) -> io::Result<Option<Result<Identity, String>>> {
    match &place.replica {
        Some(dir) => identity::peek(disk, dir),
        None => Ok(None),
    }
}

/// A vote in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteReport {
    /// Its term.
    pub term: Term,
    /// Whom it is for.
    pub candidate: ReplicaId,
    /// A majority gave it.
    pub is_committed: bool,
}

/// The vote in what the log keeps.
pub fn vote(bytes: &[u8]) -> Result<VoteReport, String> {
    let vote = format::decode_vote(bytes).map_err(|error| error.to_string())?;
    Ok(VoteReport {
        term: Term(vote.leader_id.term),
        candidate: ReplicaId(vote.leader_id.voted_for),
        is_committed: vote.committed,
    })
}

/// A member in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    /// The replica.
    pub id: ReplicaId,
    /// Of its folder.
    pub incarnation: u64,
    /// Where its peers reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Whether it votes in any of the configurations.
    pub is_voter: bool,
}

/// A membership in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipReport {
    /// The voters; two sets while a change is joint.
    pub voters: Vec<Vec<ReplicaId>>,
    /// All members.
    pub members: Vec<MemberReport>,
}

/// The membership in the body of an entry.
pub fn membership(body: &[u8]) -> Result<MembershipReport, String> {
    let members = format::decode_members(body).map_err(|error| error.to_string())?;
    let configs = members.get_joint_config();
    let voters = configs.iter().map(|ids| ids.iter().map(|id| ReplicaId(*id)).collect());
    let nodes = members.nodes().map(|(id, node)| MemberReport {
        id: ReplicaId(*id),
        incarnation: node.incarnation,
        peer_address: node.peer_address.clone(),
        client_address: node.client_address.clone(),
        is_voter: configs.iter().any(|ids| ids.contains(id)),
    });
    Ok(MembershipReport {
        voters: voters.collect(),
        members: nodes.collect(),
    })
}

/// Checks everything below a folder: the log, entry by entry, the vote against the log, the identity. `progress` hears
/// how many more bytes are done.
pub fn verify(disk: &dyn Disk, place: &Place, progress: &mut dyn FnMut(u64)) -> io::Result<Report> {
    let scope = Scope {
        from: LogIndex(0),
        to: LogIndex(u64::MAX),
        bodies: Bodies::Check,
    };
    let mut report = walk(disk, &place.log, &scope, &mut |seen| {
        if let Seen::Bytes(bytes) = seen {
            progress(bytes);
        }
        std::ops::ControlFlow::Continue(())
    })?;
    check_vote(&mut report);
    if let Some(Err(reason)) = identity(disk, place)? {
        report.find(finding(Severity::Corrupt, "identity", reason));
    }
    Ok(report)
}

fn finding(severity: Severity, file: &str, reason: String) -> Finding {
    Finding {
        severity,
        file: file.to_owned(),
        position: 0,
        index: None,
        reason,
        remedy: "rebuild this replica from its peers",
    }
}

/// An entry is stored only after a vote of its term or a later one: else a vote was lost, and the replica refuses to start.
fn check_vote(report: &mut Report) {
    let last = report.segments.iter().filter_map(|segment| segment.last).next_back();
    let last = last.max(report.purged);
    let vote = report.vote.clone().map(|bytes: Bytes| vote(&bytes));
    let found = match (vote, last) {
        (Some(Err(reason)), _) => Some((Severity::Corrupt, reason)),
        (Some(Ok(vote)), Some(last)) if vote.term < last.term => Some((
            Severity::Corrupt,
            format!("it is of term {}, but entry {last} is of a later one", vote.term),
        )),
        (None, Some(last)) if last.term > Term(0) => Some((
            Severity::Corrupt,
            format!("there is none, but entry {last} is of a term"),
        )),
        _ => None,
    };
    if let Some((severity, reason)) = found {
        report.find(finding(severity, "vote", reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FaultyDisk;
    use crate::raft::config::Vote;

    #[test]
    fn a_folder_without_a_log_says_where_it_was_looked_for() {
        let disk = FaultyDisk::new(1);
        disk.create_dir_all(Path::new("/data/replica")).expect("creates");
        let error = find(&disk, Path::new("/data")).expect_err("nothing there").to_string();
        assert!(error.contains("/data/log, /data/replica/log"), "{error}");
    }

    #[test]
    fn a_vote_older_than_the_log_is_corrupt() {
        let bytes = format::encode_vote(&Vote::new_committed(3, 2));
        let mut report = Report {
            vote: Some(bytes.clone()),
            segments: vec![SegmentReport {
                last: Some(crate::types::EntryId::new(3, 9)),
                ..SegmentReport::default()
            }],
            ..Report::default()
        };
        check_vote(&mut report);
        assert!(report.findings.is_empty());
        report.segments[0].last = Some(crate::types::EntryId::new(4, 9));
        check_vote(&mut report);
        assert_eq!(report.findings[0].severity, Severity::Corrupt);
        let mut purged = Report {
            purged: Some(crate::types::EntryId::new(1, 9)),
            ..Report::default()
        };
        check_vote(&mut purged);
        assert!(purged.is_corrupt, "what was purged counts as well");
        report.is_corrupt = false;
        report.vote = Some(bytes.slice(..20));
        check_vote(&mut report);
        assert!(report.is_corrupt);
    }
}
