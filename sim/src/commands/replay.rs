//! `ledgermq-sim replay`: a run that is written down.

use std::path::PathBuf;

use clap::Args;
use ledgermq_sim::replay::Replay;

use super::run::{Shown, play};

#[derive(Args)]
pub struct Arguments {
    /// The replay file.
    file: PathBuf,
    #[command(flatten)]
    shown: Shown,
}

pub fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let replay = Replay::read(&arguments.file)?;
    play(replay.options(&arguments.file), arguments.shown)
}
