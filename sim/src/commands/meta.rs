//! `ledgermq-sim meta`: is a run a function of its seed?

use std::path::PathBuf;

use clap::Args;
use ledgermq_sim::{
    children::Children,
    meta::{self, Meta},
    seed,
};

use super::{NOT_REPRODUCIBLE, PASS, Scope, VIOLATION};

#[derive(Args)]
pub struct Arguments {
    /// One seed.
    #[arg(long, conflicts_with = "seeds", required_unless_present = "seeds")]
    seed: Option<u64>,
    /// A range of seeds, both ends included: 1..20.
    #[arg(long, value_parser = seed::range)]
    seeds: Option<(u64, u64)>,
    #[command(flatten)]
    scope: Scope,
    /// Where traces are kept while they are compared, and after a difference.
    #[arg(long, default_value = "target/sim-traces")]
    folder: PathBuf,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let one = arguments.seed.unwrap_or_default();
    let (first, last) = arguments.seeds.unwrap_or((one, one));
    let children = Children::of_this_program(&arguments.folder, 2)?;
    let mut code = PASS;
    for seed in first..=last {
        let options = arguments.scope.options(seed)?;
        let command = options.command();
        match meta::meta(&children, &options)? {
            Meta::Same(lines) => println!("seed {seed}: same, {lines} lines"),
            Meta::Violation => {
                println!("seed {seed}: same, but a violation: {command}");
                code = code.max(VIOLATION);
            }
            Meta::Hangs => {
                println!("seed {seed}: hangs: {command}");
                code = code.max(VIOLATION);
            }
            Meta::Differs(difference) => {
                println!("seed {seed}: NOT REPRODUCIBLE: {command}\n{difference}");
                code = NOT_REPRODUCIBLE;
            }
        }
    }
    Ok(code)
}
