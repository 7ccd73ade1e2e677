//! What of a replica outlives a restart, opened and made to fit together: the log, a snapshot on its way in, the machine.
//!
//! * An installation that a crash interrupted is done again from what was received.
//! * The state is neither ahead of the log nor behind what the log has forgotten.
//! * No entry is of a later term than the vote: a vote was lost else, and the replica could vote twice in a term.

use std::path::Path;
use std::sync::Arc;

use crate::disk::Disk;
use crate::errors::OpenError;
use crate::log::{Log, LogOptions, Sweeper, Writer};
use crate::machine::Applied;
use crate::marks::mark;
use crate::raft::adapter::Driven;
use crate::raft::format;
use crate::spool::Spool;
use crate::types::Term;

/// The files of a replica, open, and what is to be run for them.
pub struct Storage {
    /// The log.
    pub log: Log,
    /// What snapshots arrive in; holds no whole one.
    pub spool: Spool,
    /// The log's writer; it has not run yet.
    pub writer: Writer,
    /// What removes purged segments.
    pub sweeper: Sweeper,
}

/// Opens a replica's folder; `machine` holds what survived of its state. Fails when the parts do not fit together: then
/// something that was durable is lost.
pub async fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    log_options: LogOptions,
    machine: &mut dyn Driven,
) -> Result<Storage, OpenError> {
    let planted = log_options.planted;
    let (log, mut writer) = Log::open(Arc::clone(&disk), log_options).await?;
    let sweeper = writer.sweeper().expect("taken once");
    let spool = Spool::open(disk, dir, planted)?;
    let spool = finish_installation(spool, machine, &log, &mut writer).await?;
    fits_together(&log, machine)?;
    vote_reaches(&log)?;
    Ok(Storage {
        log,
        spool,
        writer,
        sweeper,
    })
}

/// Ends what a crash interrupted: an installation that had begun is done again from what was received, and a log that
/// still lacks its label begins behind it.
async fn finish_installation(
    mut spool: Spool,
    machine: &mut dyn Driven,
    log: &Log,
    writer: &mut Writer,
) -> Result<Spool, OpenError> {
    let Some(label) = spool.label().cloned() else {
        return match machine.is_whole() {
            true => Ok(spool),
            false => Err(OpenError::HalfInstalled),
        };
    };
    mark("snapshot_found_at_start");
    if !machine.is_whole() {
        mark("install_done_again");
        tracing::warn!(label = %label.id, "an interrupted installation of a snapshot is done again");
        machine.install_begin()?;
        let mut parts = spool.parts()?;
        while let Some(part) = parts.next()? {
            machine.install_part(part)?;
        }
        machine.install_finish(Applied {
            id: label.id,
            membership: label.memberships,
        })?;
    }
    // A label that the state has not reached: the crash came before the installation began.
    let installed = machine
        .applied()
        .is_some_and(|applied| applied.id.index >= label.id.index);
    if installed && log.id(label.id.index) != Some(label.id) {
        mark("log_begun_behind_label");
        writer.purge(label.id).await?;
    }
    spool.clear().await?;
    Ok(spool)
}

/// A state ahead of its log would make openraft purge the whole log to close the gap; one behind it lacks entries for good.
fn fits_together(log: &Log, machine: &dyn Driven) -> Result<(), OpenError> {
    let (applied, state) = (machine.applied().map(|applied| applied.id), log.state());
    if let Some(purged) = state.purged
        && applied.is_none_or(|applied| applied.index < purged.index)
    {
        return Err(OpenError::StateBehindLog { applied, purged });
    }
    let last = state.last.or(state.purged);
    if applied.map(|id| id.index) < last.map(|id| id.index) {
        mark("restart_behind_log");
    }
    match applied {
        Some(applied) if last.is_none_or(|last| last.index < applied.index) => {
            Err(OpenError::AppliedBeyondLog { applied, last })
        }
        _ => Ok(()),
    }
}

/// An entry is stored, and a snapshot installed, only after a vote of its term or a later one was durable; the first entry of
/// all is of term 0, which nobody votes in.
fn vote_reaches(log: &Log) -> Result<(), OpenError> {
    let state = log.state();
    let newest = state.last.max(state.purged);
    let vote = match log.vote() {
        Some(bytes) => Some(format::decode_vote(&bytes).map_err(|error| OpenError::Vote(error.to_string()))?),
        None => None,
    };
    let voted = vote.map_or(Term(0), |vote| Term(vote.leader_id.term));
    match newest {
        Some(newest) if newest.term > voted => Err(OpenError::VoteLost { voted, newest }),
        _ => Ok(()),
    }
}
