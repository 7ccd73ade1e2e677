//! The commands, their exit codes, and the flags that several of them share.

mod check;
mod meta;
mod planted;
mod replay;
mod run;
mod shrink;
mod soak;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use ledgermq_sim::{
    board::Forbidden,
    plant::{Bug, Plant},
    replay::{read_plan, seconds},
    run::{Faults, Profile, RunOptions},
    seed::Seed,
};

/// Nothing was found.
pub const PASS: u8 = 0;
/// A seed found a violation, crashed or hung.
pub const VIOLATION: u8 = 1;
/// Two runs of a seed differ.
pub const NOT_REPRODUCIBLE: u8 = 2;
/// The command could not be carried out: its flags, its files.
pub const USAGE: u8 = 3;

/// Every command; its flags are in its own file.
#[derive(Subcommand)]
pub enum Command {
    /// Run one seed and tell its story
    Run(run::Arguments),
    /// Run each seed in two processes and compare their traces byte by byte
    Meta(meta::Arguments),
    /// Run seeds for a while, one process a seed, and add up what they found
    Soak(soak::Arguments),
    /// Find the fewest faults with which a seed still fails, and write them down as a replay file
    Shrink(shrink::Arguments),
    /// Run a replay file
    Replay(replay::Arguments),
    /// Plant known bugs and look how many seeds it takes until each is found
    Planted(planted::Arguments),
    /// Judge a history that was written by a run, or by real processes
    Check(check::Arguments),
}

impl Command {
    /// Whether this process simulates by itself; the others start one process a seed.
    pub const fn simulates(&self) -> bool {
        matches!(self, Command::Run(_) | Command::Replay(_))
    }
}

/// Runs one command to its end; answers the exit code.
pub fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Meta(arguments) => meta::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Shrink(arguments) => shrink::run(&arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Planted(arguments) => planted::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
    }
}

/// What is run, but for the seed.
#[derive(Clone, Args)]
pub struct Scope {
    /// What is run.
    #[arg(long, value_enum, default_value = "default")]
    pub profile: Profile,
    /// Simulated seconds until all faults heal; default by profile.
    #[arg(long, value_parser = seconds_of)]
    pub seconds: Option<u64>,
    /// Let nothing go wrong.
    #[arg(long)]
    pub no_faults: bool,
    /// Let go wrong what this file lists: a JSON list of faults, as in a replay file.
    #[arg(long, value_name = "FILE", conflicts_with = "no_faults")]
    pub plan: Option<PathBuf>,
    /// Plant a known bug; see `planted`.
    #[arg(long, hide = true, value_name = "BUG")]
    pub plant: Option<Bug>,
    /// One client of each kind that cannot be missed, instead of those that the seed draws.
    #[arg(long)]
    pub few_clients: bool,
    /// Take it for a violation when this mark is reached, or reached so often: what is the least that reaches it?
    #[arg(long, value_name = "MARK[=TIMES]")]
    pub forbid: Option<Forbidden>,
}

/// The names of [`Scope`]'s flags: a replay file says all of this by itself.
pub const SCOPE: [&str; 7] = [
    "profile",
    "seconds",
    "no_faults",
    "plan",
    "plant",
    "few_clients",
    "forbid",
];

impl Scope {
    /// The options for one seed.
    pub fn options(&self, seed: u64) -> anyhow::Result<RunOptions> {
        let faults = match &self.plan {
            _ if self.no_faults => Faults::None,
            Some(file) => Faults::Planned(read_plan(file)?, file.clone()),
            None => Faults::Drawn,
        };
        let options = RunOptions::new(Seed(seed), self.profile);
        Ok(RunOptions {
            seconds: self.seconds.unwrap_or(options.seconds),
            faults,
            plant: Plant(self.plant),
            few_clients: self.few_clients,
            forbid: self.forbid.clone(),
            ..options
        })
    }
}

fn seconds_of(text: &str) -> Result<u64, String> {
    let number = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    seconds(number).map(|()| number)
}

/// Reads a duration: `90s`, `10m`, `2h`; a bare number means seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration, expected e.g. 90s, 10m or 2h");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(unit_seconds)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::duration;

    #[test]
    fn durations_are_read_or_refused() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for text in [
            "",
            "m",
            "1.5h",
            "-1s",
            "10 m",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(duration(text).is_err(), "{text:?} was taken");
        }
    }
}
