//! `ledgermq config check FILE`: reads a broker's configuration as the broker would, and says what is wrong with it.

use crate::failure::{Failure, Kind};
use crate::output::line_out;
use clap::{Args, Subcommand};
use ledgermq_broker::config::Config;
use std::path::{Path, PathBuf};

/// The flags.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check a broker's configuration file
    Check {
        /// The file
        file: PathBuf,
    },
}

/// Runs it.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Verb::Check { file } = arguments.verb;
    read(&file)?;
    line_out(&format!("{}: fine", file.display()))
}

/// Reads and checks a broker's configuration.
pub fn read(file: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(Kind::NotFound, format!("{}: no such file", file.display())),
        _ => Failure::local(file.display(), error),
    })?;
    Config::from_toml(&text).map_err(|error| Failure::new(Kind::Refused, format!("{}: {error}", file.display())))
}
