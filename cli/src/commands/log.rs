//! `ledgermq log verify|dump|stat DIR`: looks into a replica's log without a broker. Nothing is ever written.

mod dump;
mod stat;
mod verify;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ledgermq_broker::log_tools::RealDisk;
use ledgermq_broker::log_tools::inspect::{self, Finding, InspectError, Place, Report, SegmentReport, Severity};
use serde_json::{Value, json};

use crate::doctor::survey::Folder;
use crate::failure::{Failure, Kind};
use crate::limits::DOCTOR_DAMAGES_MAX;

/// The flags.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check every byte; exit code 4 when the log is corrupt. A torn tail is a warning
    Verify(verify::Arguments),
    /// Print the entries, one a line
    Dump(dump::Arguments),
    /// Count what is in each segment, and show vote, marks and identity
    Stat(stat::Arguments),
}

/// Runs it.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Verify(arguments) => verify::run(arguments),
        Verb::Dump(arguments) => dump::run(arguments),
        Verb::Stat(arguments) => stat::run(arguments),
    }
}

/// A log that was found, kept from being opened by a broker as long as this lives.
struct Found {
    place: Place,
    is_running: bool,
    _claim: Option<File>,
}

/// Finds the log; `dir` is a data folder, a replica's folder or a log folder.
fn find(dir: &Path) -> Result<Found, Failure> {
    let absolute = std::fs::canonicalize(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(Kind::NotFound, format!("{}: no such folder", dir.display())),
        _ => Failure::local(dir.display(), error),
    })?;
    let place = inspect::find(&RealDisk, &absolute).map_err(|error| match error {
        InspectError::Nothing { .. } => Failure::new(Kind::NotFound, error.to_string()),
        InspectError::Io { .. } => Failure::new(Kind::Local, error.to_string()),
    })?;
    let data_dir = place.log.parent().and_then(Path::parent);
    let (is_running, claim) = claim(data_dir.map(|dir| dir.join("lock")));
    Ok(Found {
        place,
        is_running,
        _claim: claim,
    })
}

/// Whether a broker holds the folder; if not, it cannot take it while the answer lives.
fn claim(lock: Option<PathBuf>) -> (bool, Option<File>) {
    let Some(Ok(file)) = lock.map(File::open) else {
        return (false, None);
    };
    match file.try_lock_shared() {
        Ok(()) => (false, Some(file)),
        Err(TryLockError::WouldBlock) => (true, None),
        // A file system without locks: nobody can hold one.
        Err(TryLockError::Error(_)) => (false, None),
    }
}

fn warn_if_running(found: &Found) {
    if found.is_running {
        eprintln!("ledgermq: a broker is running on this folder: what it writes meanwhile may look torn or missing");
    }
}

/// Checks every byte of a log for `ledgermq doctor`, as `verify` does. A folder that a broker runs on is not read.
pub fn examine(dir: &Path) -> Result<Folder, Failure> {
    let found = find(dir)?;
    let identity = inspect::identity(&RealDisk, &found.place).map_err(|error| local(&found, error))?;
    let mut folder = Folder {
        log: found.place.log.display().to_string(),
        is_running: found.is_running,
        owner: identity.and_then(Result::ok).map(|it| (it.broker_group, it.id.get())),
        ..Folder::default()
    };
    if found.is_running {
        return Ok(folder);
    }
    let report = inspect::verify(&RealDisk, &found.place, &mut |_| {}).map_err(|error| local(&found, error))?;
    folder.segments = report.segments.len() as u64;
    folder.entries = report.segments.iter().map(SegmentReport::entries).sum();
    // Corruption first: a warning must not push it out.
    let mut findings: Vec<&Finding> = report.findings.iter().collect();
    findings.sort_by_key(|finding| finding.severity != Severity::Corrupt);
    let listed = findings.len().min(DOCTOR_DAMAGES_MAX);
    folder.more = report.findings_more + (findings.len() - listed) as u64;
    let damage = |finding: &&Finding| (finding.severity == Severity::Corrupt, words(finding));
    folder.damages = findings.iter().take(listed).map(damage).collect();
    Ok(folder)
}

fn local(found: &Found, error: std::io::Error) -> Failure {
    Failure::local(found.place.log.display(), error)
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "severity": severity(finding),
        "file": finding.file,
        "position": finding.position,
        "index": finding.index.map(|index| index.get()),
        "reason": finding.reason,
        "remedy": finding.remedy,
    })
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Warning => "warning",
        Severity::Corrupt => "corrupt",
    }
}

fn finding_text(finding: &Finding) -> String {
    format!("{}: {}", severity(finding), words(finding))
}

fn words(finding: &Finding) -> String {
    let entry = finding
        .index
        .map(|index| format!(" (entry {index})"))
        .unwrap_or_default();
    let Finding {
        file,
        position,
        reason,
        remedy,
        ..
    } = finding;
    format!("{file} at byte {position}{entry}: {reason}; {remedy}")
}

/// A corrupt log ends the command with the code for "refused".
fn verdict(found: &Found, report: &Report) -> Result<(), Failure> {
    if !report.is_corrupt {
        return Ok(());
    }
    let corrupt = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Corrupt);
    let count = corrupt.count() as u64 + report.findings_more;
    let text = format!("{} is corrupt in {count} place(s)", found.place.log.display());
    Err(Failure::new(Kind::Refused, text))
}

/// Findings go to stderr where stdout holds something else.
fn tell_findings(report: &Report) {
    for finding in &report.findings {
        eprintln!("ledgermq: {}", finding_text(finding));
    }
    if report.findings_more > 0 {
        eprintln!("ledgermq: and {} more", report.findings_more);
    }
}
