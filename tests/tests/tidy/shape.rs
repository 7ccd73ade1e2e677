//! The shape of single files: names, length, opening words, and what must not stand in any file.

use crate::paths;
use crate::tree::{File, Tree};

/// The longest file.
const LINES_MAX: usize = 500;

/// Names that say nothing of what is inside.
const CATCH_ALLS: &[&str] = &[
    "common", "util", "utils", "helper", "helpers", "manager", "managers", "impl", "impls", "base", "misc",
];

/// Files that may be longer: file, reason.
pub const LONG_FILES: &[(&str, &str)] = &[];

/// Files that may hold unsafe code: file, reason.
pub const UNSAFE_FILES: &[(&str, &str)] = &[(
    "sim/src/stopped_clock.rs",
    "the simulation's program defines the C library's clock, as h2 has no seam for it; decision 0015",
)];

/// Complains of files, folders and modules with a catch-all name, also as the last part of one (`topic_manager`).
pub fn catch_all_names(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let is_catch_all = |name: &str| name.rsplit('_').next().is_some_and(|last| CATCH_ALLS.contains(&last));
    for file in tree
        .files
        .iter()
        .filter(|file| file.is_rust() || file.path.ends_with(".py"))
    {
        let stem = file.path.rsplit_once('.').map_or(file.path.as_str(), |(stem, _)| stem);
        for part in stem.split('/').filter(|part| is_catch_all(part)) {
            complaints.push(format!("{}: {part} says nothing of what is inside", file.path));
        }
        for at in paths::words(&file.code, "mod") {
            let rest = file.code[at + 3..].trim_start();
            let name = &rest[..rest
                .find(|c: char| c != '_' && !c.is_alphanumeric())
                .unwrap_or(rest.len())];
            if is_catch_all(name) {
                complaints.push(format!("{}: mod {name} says nothing of what is inside", file.path));
            }
        }
    }
    complaints
}

/// Complains of long files and of exceptions that nothing needs.
pub fn long_files(tree: &Tree, exceptions: &[(&str, &str)]) -> Vec<String> {
    let sources = tree
        .files
        .iter()
        .filter(|file| [".rs", ".py", ".sh"].iter().any(|end| file.path.ends_with(end)));
    let long: Vec<&File> = sources.filter(|file| file.text.lines().count() > LINES_MAX).collect();
    let mut complaints: Vec<String> = long
        .iter()
        .filter(|file| !exceptions.iter().any(|(path, _)| *path == file.path))
        .map(|file| {
            format!(
                "{}: {} lines are more than {LINES_MAX}",
                file.path,
                file.text.lines().count()
            )
        })
        .collect();
    complaints.extend(idle(exceptions, &long));
    complaints
}

/// Complains of Rust sources that do not say first what they are.
pub fn opening_docs(tree: &Tree) -> Vec<String> {
    let without = tree.rust().filter(|file| !file.text.starts_with("//! "));
    without
        .map(|file| format!("{}: does not open with //!", file.path))
        .collect()
}

/// Complains of unsafe code.
pub fn unsafe_code(tree: &Tree, exceptions: &[(&str, &str)]) -> Vec<String> {
    let with: Vec<&File> = tree
        .rust()
        .filter(|file| paths::words(&file.code, "unsafe").next().is_some())
        .collect();
    let mut complaints: Vec<String> = with
        .iter()
        .filter(|file| !exceptions.iter().any(|(path, _)| *path == file.path))
        .map(|file| format!("{}: unsafe", file.path))
        .collect();
    complaints.extend(idle(exceptions, &with));
    complaints
}

fn idle(exceptions: &[(&str, &str)], needed: &[&File]) -> Vec<String> {
    let idle = exceptions
        .iter()
        .filter(|(path, _)| !needed.iter().any(|file| file.path == *path));
    idle.map(|(path, _)| format!("the exception of {path} is not needed any more"))
        .collect()
}

/// Complains of paths of one machine and addresses of package registries. Cargo.lock names the default registry and
/// is written by a tool.
pub fn foreign_addresses(tree: &Tree) -> Vec<String> {
    // Written in two pieces, so that this file does not complain of itself.
    let machine = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
    ];
    let registries = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("python", "hosted"),
        concat!("proxy.golang", ".org"),
        concat!("npmjs", ".org"),
        concat!("artifact", "ory"),
        concat!("index", "-url"),
    ];
    let mut complaints = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.ends_with("Cargo.lock")) {
        for (number, line) in file.text.lines().enumerate() {
            let starts_path = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "})_-.".contains(c));
            let path = machine
                .iter()
                .find(|word| line.match_indices(**word).any(|(at, _)| starts_path(at)));
            let registry = registries.iter().find(|word| line.contains(**word));
            if let Some(word) = path.or(registry) {
                complaints.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    complaints
}

#[test]
fn catch_all_names_are_found() {
    let tree = Tree::sample(&[
        ("broker/src/util.rs", ""),
        ("broker/src/topic_manager.rs", ""),
        ("broker/src/helpers/a.rs", ""),
        ("broker/src/a.rs", "mod common { }"),
        ("broker/src/utility_bills.rs", ""),
    ]);
    assert_eq!(catch_all_names(&tree).len(), 4);
}

#[test]
fn long_files_are_found() {
    let (fits, long) = ("x\n".repeat(LINES_MAX), "x\n".repeat(LINES_MAX + 1));
    let tree = Tree::sample(&[("a/src/fits.rs", &fits), ("a/src/long.rs", &long)]);
    assert_eq!(long_files(&tree, &[]).len(), 1);
    assert!(long_files(&tree, &[("a/src/long.rs", "a table")]).is_empty());
    assert_eq!(
        long_files(&tree, &[("a/src/long.rs", "a table"), ("a/src/fits.rs", "idle")]).len(),
        1
    );
}

#[test]
fn files_without_opening_words_are_found() {
    let tree = Tree::sample(&[
        ("a/src/a.rs", "//! What it is.\n"),
        ("a/src/b.rs", "use x;\n"),
        ("a/src/c.rs", ""),
    ]);
    assert_eq!(opening_docs(&tree).len(), 2);
}

#[test]
fn unsafe_code_is_found_and_the_word_in_a_comment_is_not() {
    let tree = Tree::sample(&[
        ("a/src/a.rs", "fn f() { unsafe { g() } }"),
        ("a/src/b.rs", "// unsafe\nconst UNSAFE_CODE: &str = \"unsafe\";"),
    ]);
    assert_eq!(unsafe_code(&tree, &[]).len(), 1);
}

#[test]
fn machine_paths_and_registries_are_found() {
    let bad = [
        concat!("cd /ro", "ot/x"),
        concat!("https://crates", ".io/x"),
        concat!("pip --index", "-url x"),
    ];
    for text in bad {
        assert_eq!(
            foreign_addresses(&Tree::sample(&[("Makefile", text)])).len(),
            1,
            "{text} was taken"
        );
    }
    let fine = "$(HOME)/.cache/x, a net/work/y, {top}/wo";
    assert!(foreign_addresses(&Tree::sample(&[("Makefile", fine)])).is_empty());
}
