//! `ledgermq log verify DIR`: is every byte of the log what was written?

use std::path::PathBuf;

use clap::Args;
use ledgermq_broker::log_tools::RealDisk;
use ledgermq_broker::log_tools::inspect::{self, Report, SegmentReport};
use serde_json::json;

use super::{Found, find, finding_json, finding_text, local, verdict};
use crate::failure::{Failure, Kind};
use crate::limits::LOG_PROGRESS_BYTES;
use crate::output::{json_line, line_out};

/// The flags.
#[derive(Args)]
pub struct Arguments {
    /// A data folder, a replica's folder or a log folder
    dir: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
    /// Also while a broker runs on the folder, whose newest writes may then look damaged
    #[arg(long)]
    running: bool,
}

/// Runs it.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let found = find(&arguments.dir)?;
    if found.is_running && !arguments.running {
        let text = "a broker is running on this folder: stop it first, or pass --running and take warnings with care";
        return Err(Failure::new(Kind::Refused, text));
    }
    super::warn_if_running(&found);
    let total = inspect::segment_bytes(&RealDisk, &found.place.log).map_err(|error| local(&found, error))?;
    let (mut done, mut told) = (0, 0);
    let mut progress = |bytes: u64| {
        done += bytes;
        if done - told >= LOG_PROGRESS_BYTES {
            eprintln!("ledgermq: {} of {} MiB", done >> 20, total >> 20);
            told = done;
        }
    };
    let report = inspect::verify(&RealDisk, &found.place, &mut progress).map_err(|error| local(&found, error))?;
    if arguments.json {
        json_line(&document(&found, &report))?;
    } else {
        for finding in &report.findings {
            line_out(&finding_text(finding))?;
        }
        if !report.is_corrupt {
            line_out(&summary(&found, &report))?;
        }
    }
    verdict(&found, &report)
}

fn document(found: &Found, report: &Report) -> serde_json::Value {
    json!({
        "log": found.place.log.display().to_string(),
        "verdict": if report.is_corrupt { "corrupt" } else if report.findings.is_empty() { "whole" } else { "warnings" },
        "segments": report.segments.len(),
        "entries": report.segments.iter().map(SegmentReport::entries).sum::<u64>(),
        "torn_bytes": report.segments.iter().map(|segment| segment.torn_bytes).sum::<u64>(),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "findings_more": report.findings_more,
    })
}

fn summary(found: &Found, report: &Report) -> String {
    let entries: u64 = report.segments.iter().map(SegmentReport::entries).sum();
    let (count, dir) = (report.segments.len(), found.place.log.display());
    format!("{dir}: whole, {entries} entries in {count} segments")
}
