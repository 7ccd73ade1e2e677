//! Between crates: who may import whom, and names that belong to one crate alone.

use crate::paths;
use crate::tree::{File, Tree};

/// Folder, and the folders it may import. Nobody imports sim or tests.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("raft-store", &[]),
    ("broker", &["proto", "raft-store"]),
    ("namesrv", &["proto"]),
    ("client", &["proto"]),
    ("cli", &["broker", "namesrv", "client", "proto"]),
    ("sim", &["broker", "namesrv", "client", "cli", "proto", "raft-store"]),
    ("tests", &["broker", "namesrv", "client", "cli", "proto", "raft-store"]),
];

/// A word, and the one folder whose code and Cargo.toml may hold it.
const RESERVED: &[(&str, &str)] = &[("openraft", "raft-store"), ("turmoil", "sim"), ("rocksdb", "broker")];

/// Complains of an import against the direction, in Cargo.toml or in code.
pub fn directions(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in &tree.files {
        let Some((folder, allowed)) = DIRECTIONS.iter().find(|(folder, _)| in_folder(file, folder)) else {
            continue;
        };
        for imported in ledgermq_crates(file) {
            if imported != *folder && !allowed.contains(&imported.as_str()) {
                complaints.push(format!("{}: {folder} must not import {imported}", file.path));
            }
        }
    }
    complaints
}

/// Complains of a reserved name outside of its crate.
pub fn reserved_names(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.contains('/')) {
        for (word, home) in RESERVED.iter().filter(|(_, home)| !in_folder(file, home)) {
            let named = if file.is_rust() {
                paths::all(&file.code)
                    .iter()
                    .any(|path| path.segments[0].starts_with(word))
            } else {
                file.path.ends_with("Cargo.toml") && file.text.lines().any(|line| line.trim_start().starts_with(word))
            };
            if named {
                complaints.push(format!("{}: only {home} may name {word}", file.path));
            }
        }
    }
    complaints
}

fn in_folder(file: &File, folder: &str) -> bool {
    file.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The folders of our crates that a Cargo.toml or a source names.
fn ledgermq_crates(file: &File) -> Vec<String> {
    let names: Vec<String> = if file.path.ends_with("/Cargo.toml") {
        let keys = file.text.lines().filter_map(|line| line.split(['=', '.']).next());
        keys.map(|key| key.trim().replace('-', "_")).collect()
    } else if file.is_rust() {
        paths::all(&file.code)
            .into_iter()
            .map(|path| path.segments[0].clone())
            .collect()
    } else {
        Vec::new()
    };
    let mut folders: Vec<String> = names
        .iter()
        .filter_map(|name| name.strip_prefix("ledgermq_"))
        .map(|name| name.replace('_', "-"))
        .collect();
    folders.retain(|folder| DIRECTIONS.iter().any(|(known, _)| known == folder));
    folders.sort();
    folders.dedup();
    folders
}

#[test]
fn imports_against_the_direction_are_found() {
    let tree = Tree::sample(&[
        ("proto/src/lib.rs", "//! x\nuse ledgermq_broker::Broker;"),
        (
            "broker/src/lib.rs",
            "//! x\nfn f() { ledgermq_client::new(); ledgermq_raft_store::open(); }",
        ),
        (
            "client/Cargo.toml",
            "[dependencies]\nledgermq-namesrv = { workspace = true }\nledgermq-proto.workspace = true",
        ),
        ("cli/src/main.rs", "//! x\nuse ledgermq_sim::World;"),
    ]);
    let complaints = directions(&tree);
    assert_eq!(complaints.len(), 4, "{complaints:?}");
}

#[test]
fn reserved_names_are_found() {
    let tree = Tree::sample(&[
        (
            "broker/src/a.rs",
            "//! openraft in words is fine\nuse openraft_rt::AsyncRuntime;",
        ),
        ("client/Cargo.toml", "turmoil = { workspace = true }"),
        ("raft-store/src/raft.rs", "//! x\nuse openraft::Raft;"),
    ]);
    let complaints = reserved_names(&tree);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
}
