//! `ledgermq log stat DIR`: what is in each segment and in the slots, and whom the folder belongs to.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use ledgermq_broker::log_tools::inspect::{self, Bodies, Identity, Report, Scope, SegmentReport};
use ledgermq_broker::log_tools::{EntryId, LogIndex, RealDisk};
use serde_json::{Value, json};

use super::{Found, find, finding_json, local, tell_findings, verdict, warn_if_running};
use crate::failure::Failure;
use crate::output::{Table, json_line, line_out};

/// The flags.
#[derive(Args)]
pub struct Arguments {
    /// A data folder, a replica's folder or a log folder
    dir: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let found = find(&arguments.dir)?;
    warn_if_running(&found);
    let scope = Scope {
        from: LogIndex(0),
        to: LogIndex(u64::MAX),
        bodies: Bodies::Skip,
    };
    let walked = inspect::walk(&RealDisk, &found.place.log, &scope, &mut |_| ControlFlow::Continue(()));
    let report = walked.map_err(|error| local(&found, error))?;
    let identity = inspect::identity(&RealDisk, &found.place).map_err(|error| local(&found, error))?;
    if arguments.json {
        json_line(&document(&found, &report, identity.as_ref()))?;
    } else {
        print(&found, &report, identity.as_ref())?;
        tell_findings(&report);
    }
    verdict(&found, &report)
}

type Read<'a> = Option<&'a Result<Identity, String>>;

fn id_json(id: Option<EntryId>) -> Value {
    id.map_or(
        Value::Null,
        |id| json!({ "term": id.term.get(), "index": id.index.get() }),
    )
}

fn identity_json(identity: Read<'_>) -> Value {
    match identity {
        None => Value::Null,
        Some(Err(reason)) => json!({ "error": reason }),
        Some(Ok(identity)) => json!({
            "replica_id": identity.id.get(),
            "broker_group": identity.broker_group,
            "cluster_id": identity.cluster_id,
            "incarnation": identity.incarnation.to_string(),
        }),
    }
}

fn vote_json(report: &Report) -> Value {
    match report.vote.as_ref().map(|bytes| inspect::vote(bytes)) {
        None => Value::Null,
        Some(Err(reason)) => json!({ "error": reason }),
        Some(Ok(vote)) => json!({
            "term": vote.term.get(),
            "candidate": vote.candidate.get(),
            "committed": vote.is_committed,
        }),
    }
}

fn segment_json(segment: &SegmentReport) -> Value {
    json!({
        "segment": segment.segment,
        "generation": segment.generation,
        "first": id_json(segment.first),
        "last": id_json(segment.last),
        "entries": segment.entries(),
        "blanks": segment.blanks,
        "commands": segment.commands,
        "memberships": segment.memberships,
        "seals": segment.seals,
        "body_bytes": segment.body_bytes,
        "header_bytes": segment.header_bytes,
        "end": segment.end,
        "file_bytes": segment.file_bytes,
        "durable_end": segment.durable_end.get(),
        "durable_position": segment.durable_position,
        "torn_bytes": segment.torn_bytes,
        "leftover_bytes": segment.leftover_bytes,
        "purged": segment.is_purged,
    })
}

/// All segments as if they were one.
fn total(report: &Report) -> SegmentReport {
    let mut total = SegmentReport::default();
    for segment in &report.segments {
        total.first = total.first.or(segment.first);
        total.last = segment.last.or(total.last);
        total.blanks += segment.blanks;
        total.commands += segment.commands;
        total.memberships += segment.memberships;
        total.seals += segment.seals;
        total.body_bytes += segment.body_bytes;
        total.header_bytes += segment.header_bytes;
        total.file_bytes += segment.file_bytes;
        total.durable_end = total.durable_end.max(segment.durable_end);
        total.torn_bytes += segment.torn_bytes;
    }
    total
}

fn document(found: &Found, report: &Report, identity: Read<'_>) -> Value {
    let all = total(report);
    json!({
        "log": found.place.log.display().to_string(),
        "identity": identity_json(identity),
        "vote": vote_json(report),
        "committed": id_json(report.committed),
        "purged": id_json(report.purged),
        "first": id_json(all.first),
        "last": id_json(all.last),
        "entries": all.entries(),
        "blanks": all.blanks,
        "commands": all.commands,
        "memberships": all.memberships,
        "seals": all.seals,
        "body_bytes": all.body_bytes,
        "header_bytes": all.header_bytes,
        "file_bytes": all.file_bytes,
        "durable_end": all.durable_end.get(),
        "torn_bytes": all.torn_bytes,
        "segments": report.segments.iter().map(segment_json).collect::<Vec<_>>(),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn shown(id: Option<EntryId>) -> String {
    id.map_or("-".to_owned(), |id| id.to_string())
}

fn row(name: String, segment: &SegmentReport) -> Vec<String> {
    vec![
        name,
        shown(segment.first),
        shown(segment.last),
        segment.blanks.to_string(),
        segment.commands.to_string(),
        segment.memberships.to_string(),
        segment.seals.to_string(),
        segment.body_bytes.to_string(),
        segment.header_bytes.to_string(),
        segment.file_bytes.to_string(),
        segment.durable_end.to_string(),
    ]
}

fn print(found: &Found, report: &Report, identity: Read<'_>) -> Result<(), Failure> {
    line_out(&format!("log         {}", found.place.log.display()))?;
    line_out(&format!("identity    {}", identity_text(identity)))?;
    line_out(&format!("vote        {}", vote_text(report)))?;
    line_out(&format!("committed   {}", shown(report.committed)))?;
    line_out(&format!("purged      {}", shown(report.purged)))?;
    line_out("entries are term.index; all below the durable end are durable")?;
    let mut table = Table::new(&[
        "segment",
        "first",
        "last",
        "blanks",
        "commands",
        "memberships",
        "seals",
        "body bytes",
        "header bytes",
        "file bytes",
        "durable end",
    ]);
    for segment in &report.segments {
        let purged = if segment.is_purged { " (purged)" } else { "" };
        table.row(row(format!("{}{purged}", segment.segment), segment));
    }
    table.row(row("total".to_owned(), &total(report)));
    table.print()
}

fn identity_text(identity: Read<'_>) -> String {
    match identity {
        None => "-".to_owned(),
        Some(Err(reason)) => format!("unreadable: {reason}"),
        Some(Ok(identity)) => format!(
            "replica {} of {}, cluster {}, incarnation {}",
            identity.id,
            identity.broker_group,
            identity.cluster_id.as_deref().unwrap_or("not known yet"),
            identity.incarnation
        ),
    }
}

fn vote_text(report: &Report) -> String {
    match report.vote.as_ref().map(|bytes| inspect::vote(bytes)) {
        None => "-".to_owned(),
        Some(Err(reason)) => format!("unreadable: {reason}"),
        Some(Ok(vote)) => {
            let committed = if vote.is_committed { ", given by a majority" } else { "" };
            format!("term {}, for replica {}{committed}", vote.term, vote.candidate)
        }
    }
}
