//! `ledgermq-sim planted`: plants known bugs and looks how many seeds it takes until a checker finds each.

use std::path::PathBuf;

use clap::Args;
use ledgermq_sim::{
    children::Children,
    limits,
    plant::Bug,
    planting::{self, Line, Search},
    run::Profile,
};

use super::{PASS, VIOLATION};

/// What the report calls quick.
const FEW_SEEDS: u64 = 100;

#[derive(Args)]
pub struct Arguments {
    /// A bug, again for more; default all but `vote-before-appends`, which is for the random histories of the storage.
    #[arg(long, value_name = "NAME")]
    bug: Vec<Bug>,
    /// The most seeds for a bug.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Where to look; default each bug's own profile.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Simulated seconds until all faults heal; default by profile.
    #[arg(long, value_parser = super::seconds_of)]
    seconds: Option<u64>,
    /// Processes at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=limits::JOBS_MAX))]
    jobs: u64,
    /// Where files live while a seed runs.
    #[arg(long, default_value = "target/sim-planted")]
    folder: PathBuf,
    /// Print one JSON object a bug, and nothing else.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let children = Children::of_this_program(&arguments.folder, usize::try_from(arguments.jobs)?)?;
    let search = Search {
        profile: arguments.profile,
        seconds: arguments.seconds,
        from: arguments.from,
        seeds: arguments.seeds,
    };
    let bugs: Vec<Bug> = match arguments.bug.is_empty() {
        true => planting::looked_for().collect(),
        false => arguments.bug.clone(),
    };
    let wide = bugs.iter().map(|bug| bug.name().len()).max().unwrap_or_default();
    let mut lines: Vec<Line> = Vec::new();
    for bug in bugs {
        let line = search.look(&children, bug)?;
        if arguments.json {
            println!("{}", serde_json::to_string(&line)?);
        } else {
            print(&line, wide);
        }
        lines.push(line);
    }
    let found = lines.iter().filter(|line| line.seed.is_some());
    let quickly = found.clone().filter(|line| line.seeds <= FEW_SEEDS).count();
    let (found, all) = (found.count(), lines.len());
    if !arguments.json {
        println!(
            "{found} of {all} bugs found within {} seeds, {quickly} within {FEW_SEEDS}",
            arguments.seeds
        );
    }
    let clean = lines.iter().all(|line| line.fail_without.is_empty());
    Ok(if found == all && clean { PASS } else { VIOLATION })
}

fn print(line: &Line, wide: usize) {
    let (bug, profile, seeds) = (&line.bug, line.profile.name(), line.seeds);
    match line.seed {
        Some(seed) => println!(
            "{bug:<wide$}  {profile:<10}  {seeds:>4} seeds (seed {seed})  {}",
            line.said
        ),
        None => println!("{bug:<wide$}  {profile:<10}  {seeds:>4} seeds  NOT FOUND"),
    }
    if !line.fail_without.is_empty() {
        println!("    seeds that fail without it: {:?}", line.fail_without);
    }
}
