//! A few of the planted bugs that are found within few seeds: the switch works, and the checkers see. All of them are looked
//! for by `ledgermq-sim planted`.

use std::path::Path;

use ledgermq_sim::{
    children::Children,
    plant::Bug,
    planting::{Line, Search},
};

/// Seeds that each of them is given.
const SEEDS: u64 = 20;

fn look(name: &str) -> Line {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let binary = Path::new(env!("CARGO_BIN_EXE_ledgermq-sim"));
    let children = Children::new(binary, &folder, 1).expect("a folder");
    let bug: Bug = name.parse().expect("a bug of this name");
    let search = Search {
        profile: None,
        seconds: None,
        from: 1,
        seeds: SEEDS,
    };
    search.look(&children, bug).expect("the seeds run")
}

fn is_found(name: &str) {
    let line = look(name);
    println!("{line:?}");
    assert!(line.seed.is_some(), "{line:?}");
    assert!(line.fail_without.is_empty(), "{line:?}");
}

#[test]
fn an_answer_from_the_leader_alone_is_seen() {
    is_found("ack-from-leader-alone");
}

#[test]
fn a_vote_that_was_not_synced_is_seen() {
    is_found("vote-not-synced");
}

#[test]
fn an_answer_before_the_commit_is_seen() {
    is_found("answer-before-commit");
}

#[test]
fn a_dedupe_window_that_forgets_early_is_seen() {
    is_found("dedupe-forgets-early");
}
