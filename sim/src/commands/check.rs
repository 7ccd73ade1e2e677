//! `ledgermq-sim check`: judges a history that was written by a run, or by real processes.

use std::path::PathBuf;

use clap::Args;
use ledgermq_sim::check;

use super::{PASS, VIOLATION};

#[derive(Args)]
pub struct Arguments {
    /// A file of JSON lines (docs/history.md), or a folder whose files *.jsonl are one history together.
    history: PathBuf,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let checked = check::check(&arguments.history)?;
    println!("{} events", checked.events);
    let counts = checked.counts.iter().map(|(name, count)| ((*name).to_owned(), *count));
    super::run::print_counts("counts", &counts.collect());
    for wrong in &checked.wrong {
        println!("VIOLATION {wrong}");
    }
    if checked.wrong.is_empty() {
        println!("PASS {}", arguments.history.display());
        return Ok(PASS);
    }
    println!("FAIL {}", arguments.history.display());
    Ok(VIOLATION)
}
