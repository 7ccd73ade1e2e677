//! `ledgermq-sim`: runs seeds of the simulation. Exit codes: 0 pass, 1 violation, 2 not reproducible, 3 usage or I/O.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use ledgermq_sim::{
    check, log,
    meta::{self, Meta},
    run::{self, Profile, Report, RunOptions},
    seed::Seed,
};

#[derive(Parser)]
#[command(
    name = "ledgermq-sim",
    version,
    about = "The whole LedgerMQ cluster under deterministic simulation"
)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run one seed and tell its story.
    Run(RunArgs),
    /// Run each seed in two processes and compare their traces byte by byte.
    Meta(MetaArgs),
    /// Judge a history that was written by a run, or by real processes.
    Check(CheckArgs),
}

#[derive(Args)]
struct Shared {
    /// What is run.
    #[arg(long, value_enum, default_value = "default")]
    profile: Profile,
    /// Simulated seconds until all faults heal; default by profile.
    #[arg(long)]
    seconds: Option<u64>,
    /// Let nothing go wrong.
    #[arg(long)]
    no_faults: bool,
}

#[derive(Args)]
struct RunArgs {
    /// The seed.
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    shared: Shared,
    /// Write every event to this file.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Write what clients did and were told to this file, as JSON lines (docs/history.md).
    #[arg(long)]
    history: Option<PathBuf>,
    /// Print the verdict alone.
    #[arg(long)]
    quiet: bool,
    /// Print the product's logs of this level and above (error, warn, info, debug, trace) to stderr.
    #[arg(long)]
    log: Option<String>,
}

#[derive(Args)]
struct CheckArgs {
    /// A file of JSON lines (docs/history.md), or a folder whose files *.jsonl are one history together.
    history: PathBuf,
}

#[derive(Args)]
struct MetaArgs {
    /// One seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// A range of seeds, both ends included: 1..20.
    #[arg(long)]
    seeds: Option<String>,
    #[command(flatten)]
    shared: Shared,
    /// Where traces are kept while they are compared, and after a difference.
    #[arg(long, default_value = "target/sim-traces")]
    folder: PathBuf,
}

const VIOLATION: u8 = 1;
const NOT_REPRODUCIBLE: u8 = 2;
const USAGE: u8 = 3;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Verb::Run(args) => run_one(args),
        Verb::Meta(args) => run_meta(&args),
        Verb::Check(args) => run_check(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(USAGE)
        }
    }
}

fn options(shared: &Shared, seed: u64) -> RunOptions {
    let seconds = shared.seconds.unwrap_or(shared.profile.seconds());
    RunOptions {
        faults: !shared.no_faults,
        ..meta::options(Seed(seed), shared.profile, seconds)
    }
}

fn run_one(args: RunArgs) -> anyhow::Result<u8> {
    if let Some(level) = &args.log {
        log::to_stderr(level)?;
    }
    let options = RunOptions {
        trace: args.trace,
        history: args.history,
        tell: !args.quiet,
        ..options(&args.shared, args.seed)
    };
    let report = run::run(&options)?;
    print(&options, &report);
    Ok(if report.violations.is_empty() { 0 } else { VIOLATION })
}

fn print(options: &RunOptions, report: &Report) {
    let line = |counts: &[(&str, u64)]| {
        counts
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    println!("counts: {}", line(&report.counts));
    println!("marks:  {}", line(&report.marks));
    println!(
        "trace:  {} events, hash {:016x}, {:.1} simulated s",
        report.events, report.hash, report.simulated
    );
    if report.violations.is_empty() {
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
    println!("FAIL seed {}: {}", options.seed.0, run::command(options));
}

fn run_check(args: &CheckArgs) -> anyhow::Result<u8> {
    let checked = check::check(&args.history)?;
    println!("{} events", checked.events);
    for (name, count) in &checked.counts {
        println!("    {name} {count}");
    }
    for wrong in &checked.wrong {
        println!("VIOLATION {wrong}");
    }
    let verdict = if checked.wrong.is_empty() { "PASS" } else { "FAIL" };
    println!("{verdict} {}", args.history.display());
    Ok(if checked.wrong.is_empty() { 0 } else { VIOLATION })
}

fn run_meta(args: &MetaArgs) -> anyhow::Result<u8> {
    let (first, last) = match (&args.seed, &args.seeds) {
        (Some(seed), _) => (*seed, *seed),
        (None, Some(range)) => {
            let (first, last) = range
                .split_once("..")
                .ok_or_else(|| anyhow::anyhow!("--seeds takes FIRST..LAST, got {range:?}"))?;
            (first.parse()?, last.trim_start_matches('=').parse()?)
        }
        (None, None) => anyhow::bail!("--seed N or --seeds FIRST..LAST is needed"),
    };
    let binary = std::env::current_exe()?;
    let mut code = 0;
    for seed in first..=last {
        let options = options(&args.shared, seed);
        match meta::meta(&binary, &options, &args.folder)? {
            Meta::Same(lines) => println!("seed {seed}: same, {lines} lines"),
            Meta::Violation => {
                println!("seed {seed}: same, but a violation: {}", run::command(&options));
                code = code.max(VIOLATION);
            }
            Meta::Hangs => {
                println!("seed {seed}: hangs: {}", run::command(&options));
                code = code.max(VIOLATION);
            }
            Meta::Differs(difference) => {
                println!("seed {seed}: NOT REPRODUCIBLE\n{difference}");
                code = NOT_REPRODUCIBLE;
            }
        }
    }
    Ok(code)
}
