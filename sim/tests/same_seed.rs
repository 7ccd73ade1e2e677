//! Same seed twice, in two processes, with faults: the traces are equal byte by byte, and no seed finds a violation.

use std::path::Path;

use ledgermq_sim::{
    children::Children,
    meta::{self, Meta},
    run::{Profile, RunOptions},
    seed::Seed,
};

const SEEDS: u64 = 20;

fn check(profile: Profile, seconds: u64) {
    let (binary, folder) = (env!("CARGO_BIN_EXE_ledgermq-sim"), env!("CARGO_TARGET_TMPDIR"));
    let children = Children::new(Path::new(binary), Path::new(folder), 2).expect("a folder");
    let mut wrong = Vec::new();
    for seed in 1..=SEEDS {
        let options = RunOptions {
            seconds,
            ..RunOptions::new(Seed(seed), profile)
        };
        match meta::meta(&children, &options).expect("two runs") {
            Meta::Same(lines) => println!("seed {seed}: same, {lines} lines"),
            other => wrong.push(format!("{}: {other:?}", options.command())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_log_alone_runs_the_same_twice() {
    check(Profile::Log, 15);
}

#[test]
fn the_whole_broker_runs_the_same_twice() {
    check(Profile::Quick, 12);
}
