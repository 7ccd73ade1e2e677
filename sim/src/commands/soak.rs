//! `ledgermq-sim soak`: many seeds, one process each, for a while.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use ledgermq_sim::{
    children::{Children, Ended, Job, cpu_seconds},
    commit, files, ledger, limits, marks,
    replay::Replay,
    run::{Profile, RunOptions},
    soak::Totals,
};

use super::{PASS, Scope, VIOLATION, duration, run::print_counts};

#[derive(Args)]
pub struct Arguments {
    /// Real time after which no new seed is started: 90s, 10m, 2h.
    #[arg(long, default_value = "10m", value_parser = duration)]
    budget: Duration,
    /// Processes at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=limits::JOBS_MAX))]
    jobs: u64,
    #[command(flatten)]
    scope: Scope,
    /// More profiles, run in turn with the first: quick,log.
    #[arg(long, value_enum, value_delimiter = ',')]
    and: Vec<Profile>,
    /// The first seed; default 1, or the first one that the ledger has not.
    #[arg(long)]
    from: Option<u64>,
    /// At most so many seeds of each profile.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Where failing seeds are kept.
    #[arg(long, default_value = "target/sim-failures")]
    folder: PathBuf,
    /// Append what was run to this seed ledger.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// A mark that no seed reached is a failure.
    #[arg(long)]
    require_marks: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let profiles: Vec<Profile> = [arguments.scope.profile]
        .into_iter()
        .chain(arguments.and.clone())
        .collect();
    for (nth, profile) in profiles.iter().enumerate() {
        let twice = profiles[..nth].contains(profile);
        anyhow::ensure!(!twice, "--and {}: this profile runs already", profile.name());
    }
    let commit = commit::checked_out();
    let known = match &arguments.ledger {
        Some(file) => ledger::read(file)?,
        None => Vec::new(),
    };
    let each = arguments.seeds.unwrap_or(u64::MAX / 2);
    let mut plan: Vec<RunOptions> = Vec::new();
    for profile in &profiles {
        let scope = Scope {
            profile: *profile,
            ..arguments.scope.clone()
        };
        let mut options = scope.options(0)?;
        let next = || ledger::next_seed(&known, *profile, &options.unlike_its_profile());
        options.seed.0 = arguments.from.unwrap_or_else(next);
        plan.push(options);
    }
    let options = |nth: usize| {
        let mut options = plan[nth % plan.len()].clone();
        options.seed.0 = options.seed.0.wrapping_add((nth / plan.len()) as u64);
        options
    };
    let jobs = (0..).take_while(|nth| ((*nth / plan.len()) as u64) < each).map(|nth| {
        let options = options(nth);
        Job {
            name: options.name(),
            arguments: options.arguments(),
        }
    });
    let children = Children::of_this_program(&arguments.folder, usize::try_from(arguments.jobs)?)?;
    let clock = Clock::start();
    let date = ledger::day(unix_seconds());
    let cpu_before = cpu_seconds()?;
    let mut totals = Totals::default();
    let mut kept = Ok(());
    let mut told = Duration::ZERO;
    children.run_all(
        jobs.take_while(|_| clock.elapsed() < arguments.budget),
        |nth, _, ended| {
            let options = options(nth);
            totals.add(options.profile, options.seed.0, &ended);
            if let Some(what) = ended.violation() {
                println!("FAIL {} seed {}: {what}", options.profile.name(), options.seed.0);
                kept = keep(&arguments.folder, &commit, &options, &ended);
            }
            if clock.elapsed() > told + TELL_EVERY {
                told = clock.elapsed();
                println!(
                    "{:>6} s: {} seeds, {} failures",
                    told.as_secs(),
                    totals.seeds,
                    totals.failures
                );
            }
            if kept.is_err() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    )?;
    kept?;
    if let Some(file) = &arguments.ledger {
        let of_profile = |profile| plan.iter().find(|options| options.profile == profile);
        let unlike = |profile| {
            of_profile(profile)
                .map(RunOptions::unlike_its_profile)
                .unwrap_or_default()
        };
        ledger::append(file, &totals.lines(&date, &commit, unlike))?;
    }
    conclude(arguments, &totals, clock.elapsed(), cpu_seconds()? - cpu_before)
}

/// Real time between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(30);

fn conclude(arguments: &Arguments, totals: &Totals, took: Duration, cpu: f64) -> anyhow::Result<u8> {
    anyhow::ensure!(totals.seeds > 0, "the budget is over before the first seed");
    print_counts("counts", &totals.counts);
    print_counts("marks", &totals.marks);
    let never = totals.never_hit(&marks::names());
    if !never.is_empty() {
        println!("never hit: {}", never.join(", "));
    }
    let hours = took.as_secs_f64() / 3_600.0;
    println!(
        "{} seeds in {:.1} s: {:.0} seeds an hour; {:.0} simulated s in {cpu:.1} CPU s: {:.1} simulated s a CPU s",
        totals.seeds,
        took.as_secs_f64(),
        totals.seeds as f64 / hours,
        totals.simulated_seconds,
        totals.simulated_seconds / cpu.max(0.01),
    );
    for (profile, found) in totals.found() {
        println!("FAIL {} seed {}: {}", profile.name(), found.seed, found.what);
    }
    let marks_missing = arguments.require_marks && !never.is_empty();
    if totals.failures > 0 {
        println!(
            "FAIL: {} seeds; kept in {}",
            totals.failures,
            arguments.folder.display()
        );
    }
    if marks_missing {
        println!("FAIL: {} marks were never hit", never.len());
    }
    if totals.failures > 0 || marks_missing {
        return Ok(VIOLATION);
    }
    println!("PASS");
    Ok(PASS)
}

/// Writes down a failing seed: for people, and as a replay file.
fn keep(folder: &Path, commit: &str, options: &RunOptions, ended: &Ended) -> anyhow::Result<()> {
    let name = options.name();
    let mut text = format!("commit:  {commit}\ncommand: {}\n", options.command());
    let replay = folder.join(format!("{name}.json"));
    let plan = options.plan(&options.layout());
    Replay::of(options, commit, plan, ended.violation().map(str::to_owned)).write(&replay)?;
    text.push_str(&format!("replay:  ledgermq-sim replay {}\n", replay.display()));
    match ended {
        Ended::Reported(report) => {
            for violation in &report.violations {
                text.push_str(&format!("VIOLATION {violation}\n"));
            }
            text.push_str("\nlast events:\n");
            for event in &report.tail {
                text.push_str(&format!("{event}\n"));
            }
        }
        Ended::Hung => text.push_str(&format!("HANGS for {} s\n", limits::RUN_WALL_BOUND.as_secs())),
        Ended::Died(how) => text.push_str(&format!("DIED {how}\n")),
    }
    files::write(&folder.join(format!("{name}.txt")), text)?;
    Ok(())
}

/// Real time: a soak ends by it.
struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a soak runs in no simulation")]
    fn start() -> Clock {
        Clock(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[expect(clippy::disallowed_methods, reason = "a soak runs in no simulation")]
fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
