//! Every source file that the documents name by its full path exists.

use std::path::Path;

#[test]
fn named_files_exist() {
    // Tests run in the folder of their package.
    let top = Path::new("..");
    let mut documents: Vec<_> = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
        .map(|name| top.join(name))
        .into();
    for folder in [top.join("docs"), top.join("docs/decisions")] {
        let entries = std::fs::read_dir(folder).expect("a readable folder");
        documents.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    documents.retain(|path| path.extension().is_some_and(|end| end == "md"));
    let mut named = 0;
    let mut missing = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(&document).expect("a readable document");
        for path in paths(&text) {
            named += 1;
            if !top.join(path).exists() {
                missing.push(format!("{}: {path}", document.display()));
            }
        }
    }
    assert!(named >= 7, "only {named} paths found: the write path names more");
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
}

/// `crate/…/file.rs` with a folder of the workspace in front.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)));
    words.filter(|word| {
        let mut parts = word.split('/');
        let crates = [
            "proto",
            "raft-store",
            "broker",
            "namesrv",
            "client",
            "cli",
            "sim",
            "tests",
        ];
        let in_crate = parts.next().is_some_and(|first| crates.contains(&first));
        in_crate && parts.next().is_some_and(|second| second == "src" || second == "tests") && word.ends_with(".rs")
    })
}

#[test]
fn paths_are_found_in_text() {
    let found: Vec<_> = paths("see `broker/src/a.rs`, log/writer.rs, tests/tidy.rs and (sim/src/b_c.rs).").collect();
    assert_eq!(found, ["broker/src/a.rs", "sim/src/b_c.rs"]);
}
