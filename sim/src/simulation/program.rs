//! A command-line program of a user's simulation: one seed told as a story, or many seeds, one process each.

use std::{
    ffi::OsString,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

use super::{Error, Simulation};
use crate::{
    children::{Children, Job},
    limits, log,
};

const PASS: u8 = 0;
const VIOLATION: u8 = 1;
const USAGE: u8 = 3;

/// Runs seeds of a simulation. Exit codes: 0 pass, 1 violation, 3 usage or I/O.
#[derive(Debug, Parser)]
pub struct Program {
    /// One seed, told as a story.
    #[arg(long, required_unless_present = "seeds", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Many seeds, both ends included, each in a process of its own: 1..20.
    #[arg(long, value_parser = crate::seed::range)]
    seeds: Option<(u64, u64)>,
    /// Processes at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=limits::JOBS_MAX))]
    jobs: u64,
    /// With many seeds: go on after the first that fails.
    #[arg(long, requires = "seeds")]
    keep_going: bool,
    /// Write every event to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    trace: Option<PathBuf>,
    /// Write the verdict and the counts to this file, as JSON.
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    report: Option<PathBuf>,
    /// Print the verdict alone.
    #[arg(long)]
    quiet: bool,
    /// Print the product's logs of this level and above (error, warn, info, debug, trace) to stderr.
    #[arg(long, value_name = "LEVEL", conflicts_with = "seeds")]
    log: Option<String>,
    /// Arguments of the simulation itself.
    #[arg(last = true)]
    own: Vec<String>,
}

/// What `main` of a simulation calls: takes the command line (`--seed 7`, or `--seeds 1..100`; `--help` lists the rest),
/// builds with `build` (which is given the seed and what stands behind `--`), runs, prints, and answers the exit code.
pub fn program(build: impl Fn(u64, &[String]) -> Simulation) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(program_with(arguments, build))
}

fn program_with(arguments: Vec<OsString>, build: impl Fn(u64, &[String]) -> Simulation) -> u8 {
    let name = arguments.first().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "simulation".to_owned());
    let program = match Program::try_parse_from(arguments) {
        Ok(program) => program,
        Err(refused) => {
            let code = if refused.use_stderr() { USAGE } else { PASS };
            let _ = refused.print();
            return code;
        }
    };
    let played = match (program.seed, program.seeds) {
        (Some(seed), _) => program.one(&name, seed, &build),
        (None, range) => program.many(&name, range.unwrap_or_default()),
    };
    played.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        USAGE
    })
}

impl Program {
    /// The arguments that run `seed` again.
    fn arguments(&self, seed: u64) -> Vec<String> {
        let mut arguments = vec!["--seed".to_owned(), seed.to_string()];
        if !self.own.is_empty() {
            arguments.push("--".to_owned());
            arguments.extend(self.own.iter().cloned());
        }
        arguments
    }

    fn one(&self, name: &str, seed: u64, build: &impl Fn(u64, &[String]) -> Simulation) -> anyhow::Result<u8> {
        if let Some(level) = &self.log {
            log::to_stderr(level)?;
        }
        let mut simulation = build(seed, &self.own);
        if let Some(file) = &self.trace {
            simulation = simulation.trace(file);
        }
        if !self.quiet {
            simulation = simulation.tell();
        }
        if simulation.again.is_none() {
            simulation = simulation.run_again(&format!("{name} {}", self.arguments(seed).join(" ")));
        }
        let again = simulation.again.clone();
        let report = simulation.report()?;
        if let Some(file) = &self.report {
            report.write(file)?;
        }
        if report.passed() {
            println!("PASS seed {seed}");
            return Ok(PASS);
        }
        let report = Box::new(report);
        println!("{}", Error::Violated { seed, report, again });
        Ok(VIOLATION)
    }

    fn many(&self, name: &str, (first, last): (u64, u64)) -> anyhow::Result<u8> {
        let folder = std::env::temp_dir().join(format!("ledgermq-simulation-{}", std::process::id()));
        let children = Children::of_this_program(&folder, usize::try_from(self.jobs)?)?;
        let failed = self.run_seeds(name, &children, first, last);
        remove(&folder)?;
        let (seeds, failed) = failed?;
        if failed > 0 {
            println!("FAIL: {failed} of {seeds} seeds");
            return Ok(VIOLATION);
        }
        println!("PASS: {seeds} seeds");
        Ok(PASS)
    }

    fn run_seeds(&self, name: &str, children: &Children, first: u64, last: u64) -> std::io::Result<(u64, u64)> {
        let jobs = (first..=last).map(|seed| Job {
            name: seed.to_string(),
            arguments: self.arguments(seed),
        });
        let (mut seeds, mut failed) = (0, 0);
        children.run_all(jobs, |_, job, ended| {
            seeds += 1;
            let Some(what) = ended.violation() else {
                return ControlFlow::Continue(());
            };
            failed += 1;
            println!("FAIL seed {}: {what}\n    {name} {}", job.name, job.arguments.join(" "));
            if self.keep_going {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok((seeds, failed))
    }
}

fn remove(folder: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(folder)
}
