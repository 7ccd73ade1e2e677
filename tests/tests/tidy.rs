//! The house rules that a program can check (docs/architecture.md lists them), each with a sample that it refuses.
//!
//! A rule is a pure function from the work tree to complaints. An exception is a line in the rule's own list, with its
//! reason; an exception that nothing needs any more is a complaint as well.

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/cycles.rs"]
mod cycles;
#[path = "tidy/lexer.rs"]
mod lexer;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/seams.rs"]
mod seams;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/tree.rs"]
mod tree;

use tree::Tree;

/// Fails with all complaints at once.
fn assert_none(complaints: Vec<String>) {
    assert!(
        complaints.is_empty(),
        "{} complaint(s):\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn crates_import_downwards_only() {
    assert_none(crates::directions(&Tree::load()));
}

#[test]
fn only_raft_store_names_openraft_and_only_sim_names_turmoil() {
    assert_none(crates::reserved_names(&Tree::load()));
}

#[test]
fn folders_of_raft_store_and_broker_have_no_import_cycle() {
    let tree = Tree::load();
    assert_none(cycles::between_modules(&tree, "raft-store"));
    assert_none(cycles::between_modules(&tree, "broker"));
}

#[test]
fn clock_disk_randomness_network_and_threads_come_through_seams() {
    assert_none(seams::forbidden_names(&Tree::load(), seams::EXCEPTIONS));
}

#[test]
fn hash_maps_are_not_iterated() {
    assert_none(seams::hash_iteration(&Tree::load(), seams::ITERATION_EXCEPTIONS));
}

#[test]
fn every_select_is_biased() {
    assert_none(seams::biased_selects(&Tree::load()));
}

#[test]
fn no_module_is_a_catch_all() {
    assert_none(shape::catch_all_names(&Tree::load()));
}

#[test]
fn no_file_is_longer_than_500_lines() {
    assert_none(shape::long_files(&Tree::load(), shape::LONG_FILES));
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    assert_none(shape::opening_docs(&Tree::load()));
}

#[test]
fn no_unsafe_code() {
    assert_none(shape::unsafe_code(&Tree::load(), shape::UNSAFE_FILES));
}

#[test]
fn no_machine_paths_and_no_registry_addresses() {
    assert_none(shape::foreign_addresses(&Tree::load()));
}

#[test]
fn the_tree_is_really_read() {
    let tree = Tree::load();
    for crate_name in [
        "proto",
        "raft-store",
        "broker",
        "namesrv",
        "client",
        "cli",
        "sim",
        "tests",
    ] {
        assert!(
            tree.sources_of(crate_name).next().is_some(),
            "{crate_name} has no source file"
        );
    }
}
