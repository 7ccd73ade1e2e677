//! `ledgermq-sim run`: one seed, told as a story.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use ledgermq_sim::{
    log,
    report::Report,
    run::{self, Profile, RunOptions},
};

use super::{PASS, Scope, VIOLATION};

#[derive(Args)]
pub struct Arguments {
    /// The seed.
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    shown: Shown,
}

/// What is shown of a run, and where.
#[derive(Args)]
pub struct Shown {
    /// Write every event to this file.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write the verdict, the counts and the plan of faults to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write what clients did and were told to this file, as JSON lines (docs/history.md).
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Print the verdict alone.
    #[arg(long)]
    quiet: bool,
    /// Print the product's logs of this level and above (error, warn, info, debug, trace) to stderr.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

pub fn run(arguments: Arguments) -> anyhow::Result<u8> {
    play(arguments.scope.options(arguments.seed)?, arguments.shown)
}

/// Runs and shows; answers the exit code.
pub fn play(options: RunOptions, shown: Shown) -> anyhow::Result<u8> {
    let without_clients = options.profile == Profile::Log && shown.history.is_some();
    anyhow::ensure!(
        !without_clients,
        "--history: profile log has no clients whose history could be told"
    );
    if let Some(level) = &shown.log {
        log::to_stderr(level)?;
    }
    let options = RunOptions {
        trace: shown.trace,
        history: shown.history,
        tell: !shown.quiet,
        ..options
    };
    let report = run::run(&options)?;
    if let Some(file) = &shown.report {
        report.write(file)?;
    }
    print(&options, &report, shown.quiet);
    Ok(if report.passed() { PASS } else { VIOLATION })
}

fn print(options: &RunOptions, report: &Report, quiet: bool) {
    if !quiet {
        println!();
        print_counts("counts", &report.counts);
        print_counts("marks", &report.marks);
        println!(
            "{} faults planned; {} events, hash {:016x}; {:.1} simulated s",
            report.plan.len(),
            report.events,
            report.hash,
            report.simulated_seconds
        );
    }
    if report.passed() {
        println!("PASS seed {}", options.seed.0);
        return;
    }
    println!("last events:");
    for event in &report.tail {
        println!("    {event}");
    }
    for violation in &report.violations {
        println!("VIOLATION {violation}");
    }
    println!("FAIL seed {}: {}", options.seed.0, options.command());
}

/// Prints names and counts in columns.
pub fn print_counts(title: &str, counts: &BTreeMap<String, u64>) {
    const COLUMNS: usize = 4;
    println!("{title}:");
    let wide = counts.keys().map(String::len).max().unwrap_or_default();
    let cells: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name:<wide$} {count:>9}"))
        .collect();
    for row in cells.chunks(COLUMNS) {
        println!("    {}", row.join("   "));
    }
}
