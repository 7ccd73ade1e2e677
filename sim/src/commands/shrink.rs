//! `ledgermq-sim shrink`: the fewest faults with which a seed still fails.

use std::{cell::Cell, collections::BTreeMap, ops::ControlFlow, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use ledgermq_sim::{
    children::{Children, Job},
    commit, limits,
    replay::Replay,
    report,
    run::{Profile, RunOptions},
    shrink::{self, Candidate, Trial},
};

use super::{PASS, SCOPE, Scope, VIOLATION, duration};

#[derive(Args)]
pub struct Arguments {
    /// The seed.
    #[arg(long, required_unless_present = "replay", conflicts_with = "replay")]
    seed: Option<u64>,
    /// Shrink this replay file instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = SCOPE)]
    replay: Option<PathBuf>,
    #[command(flatten)]
    scope: Scope,
    /// Processes at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=limits::JOBS_MAX))]
    jobs: u64,
    /// Runs that may be spent.
    #[arg(long, default_value_t = 500)]
    tries: u64,
    /// Real time after which a try counts as hanging: 90s, 10m, 2h.
    #[arg(long, default_value = "5m", value_parser = duration)]
    patience: Duration,
    /// Take any violation for a failure, not only the kind that the seed finds.
    #[arg(long)]
    any: bool,
    /// The replay file to write; by default named after profile and seed, in the folder.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where candidates live while they are tried.
    #[arg(long, default_value = "target/sim-failures")]
    folder: PathBuf,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let options = match (&arguments.replay, arguments.seed) {
        (Some(file), _) => Replay::read(file)?.options(file),
        (None, seed) => arguments.scope.options(seed.unwrap_or_default())?,
    };
    let mut children = Children::of_this_program(&arguments.folder, usize::try_from(arguments.jobs)?)?;
    children.bound = arguments.patience;
    let name = options.name();
    let first = children.run(Job {
        arguments: options.arguments(),
        name: format!("{name}-shrink-first"),
    })?;
    let Some(violation) = first.violation() else {
        println!("PASS seed {}: nothing to shrink", options.seed.0);
        return Ok(PASS);
    };
    // Known before the run: it may have hung, or died without a word.
    let plan = options.plan(&options.layout());
    println!("{} faults: {violation}", plan.len());
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| arguments.folder.join(format!("{name}.shrunk.json")));
    // Whole at first: a file that cannot be written shows at once, and who breaks this off has something.
    let commit = commit::checked_out();
    Replay::of(&options, &commit, plan.clone(), Some(violation.to_owned())).write(&out)?;
    let mut tries = Tries {
        children: &children,
        options: &options,
        kind: (!arguments.any).then(|| report::kind(violation)),
        known: BTreeMap::new(),
        left: arguments.tries,
        found: violation.to_owned(),
        folder: arguments.folder.clone(),
    };
    let start = Candidate {
        faults: plan,
        seconds: options.seconds,
        // The log alone has no clients.
        few_clients: options.few_clients || options.profile == Profile::Log,
    };
    let small = shrink::shrink(start, &mut tries)?;
    let spent = arguments.tries - tries.left;
    let replay = Replay::of(
        &RunOptions {
            seconds: small.seconds,
            few_clients: small.few_clients && options.profile != Profile::Log,
            ..options.clone()
        },
        &commit,
        small.faults,
        Some(tries.found),
    );
    replay.write(&out)?;
    println!(
        "after {spent} tries, {} faults in {} s:",
        replay.faults.len(),
        replay.seconds
    );
    for planned in &replay.faults {
        println!("    {planned}");
    }
    println!("VIOLATION {}", replay.violation.as_deref().unwrap_or_default());
    println!("ledgermq-sim replay {}", out.display());
    Ok(VIOLATION)
}

struct Tries<'a> {
    children: &'a Children,
    options: &'a RunOptions,
    /// The kind of violation that counts; any, if none.
    kind: Option<String>,
    /// Whether a candidate, written down, fails; and with what.
    known: BTreeMap<String, Option<String>>,
    left: u64,
    /// What the last failing candidate found.
    found: String,
    folder: PathBuf,
}

impl Trial for Tries<'_> {
    type Error = anyhow::Error;

    fn first_failing(&mut self, candidates: &[Candidate]) -> anyhow::Result<Option<usize>> {
        let mut replays = Vec::new();
        for candidate in candidates {
            let options = RunOptions {
                seconds: candidate.seconds,
                few_clients: candidate.few_clients,
                ..self.options.clone()
            };
            let replay = Replay::of(&options, "", candidate.faults.clone(), None);
            replays.push((serde_json::to_string(&replay)?, replay));
        }
        self.try_unknown(&replays)?;
        for (nth, (text, _)) in replays.iter().enumerate() {
            match self.known.get(text) {
                Some(Some(found)) => {
                    self.found = found.clone();
                    let Candidate {
                        faults,
                        seconds,
                        few_clients,
                    } = &candidates[nth];
                    let clients = if *few_clients { "few" } else { "all" };
                    println!("    {} faults in {seconds} s, {clients} clients", faults.len());
                    return Ok(Some(nth));
                }
                Some(None) => {}
                // Not tried: the tries are used up. What comes behind must not be taken before it.
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

impl Tries<'_> {
    /// Tries the candidates, in their order, that nothing is known of, until the first that fails.
    fn try_unknown(&mut self, replays: &[(String, Replay)]) -> anyhow::Result<()> {
        let failing = |known: &BTreeMap<String, Option<String>>, text: &str| known.get(text).map(Option::is_some);
        let first = replays
            .iter()
            .position(|(text, _)| failing(&self.known, text) == Some(true));
        let until = first.unwrap_or(replays.len());
        let unknown: Vec<&(String, Replay)> = replays[..until]
            .iter()
            .filter(|(text, _)| !self.known.contains_key(text))
            .take(usize::try_from(self.left)?)
            .collect();
        let files: Vec<PathBuf> = (0..unknown.len())
            .map(|nth| self.folder.join(format!("{}.{nth}.candidate.json", std::process::id())))
            .collect();
        for (file, (_, replay)) in files.iter().zip(&unknown) {
            replay.write(file)?;
        }
        let (found, started) = (Cell::new(false), Cell::new(0));
        let jobs = files.iter().enumerate().map(|(nth, file)| {
            started.set(started.get() + 1);
            Job {
                arguments: vec!["replay".to_owned(), file.display().to_string()],
                name: format!("{}.{nth}.candidate", std::process::id()),
            }
        });
        let mut ends: Vec<Option<bool>> = vec![None; unknown.len()];
        self.children
            .run_all(jobs.take_while(|_| !found.get()), |nth, _, ended| {
                let fails = ended.violation().filter(|what| {
                    let same = |kind: &String| *kind == report::kind(what);
                    self.kind.as_ref().is_none_or(same)
                });
                ends[nth] = Some(fails.is_some());
                found.set(found.get() || fails.is_some());
                self.known.insert(unknown[nth].0.clone(), fails.map(str::to_owned));
                // The first in order is wanted: those before it are waited for, those behind it are not.
                match ends.iter().find(|end| **end != Some(false)) {
                    Some(Some(true)) => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })?;
        self.left = self.left.saturating_sub(started.get());
        for file in &files {
            std::fs::remove_file(file).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }
}
