//! Inside a crate: the modules right below `src/` import each other without a cycle.

use crate::paths;
use crate::tree::{File, Tree};
use std::collections::{BTreeMap, BTreeSet};

type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// Complains of every import cycle between the top-level modules of a crate.
pub fn between_modules(tree: &Tree, folder: &str) -> Vec<String> {
    let graph = graph(tree, folder);
    let mut complaints = Vec::new();
    for (from, targets) in &graph {
        for (to, witness) in targets {
            // Each cycle is told once for each of its edges: any of them can be the wrong one.
            if let Some(back) = way(&graph, to, from) {
                complaints.push(format!("{folder}: {from} → {} ({witness})", back.join(" → ")));
            }
        }
    }
    complaints
}

/// Which module imports which, with one file as a witness.
fn graph(tree: &Tree, folder: &str) -> Graph {
    let prefix = format!("{folder}/src/");
    let files: Vec<&File> = tree.sources_of(folder).filter(|file| !file.is_test_file()).collect();
    let module_path = |file: &File| -> Vec<String> {
        let inner = file
            .path
            .trim_start_matches(&prefix)
            .trim_end_matches(".rs")
            .trim_end_matches("/mod");
        inner.split('/').map(str::to_owned).collect()
    };
    let is_root = |path: &[String]| path.len() == 1 && (path[0] == "lib" || path[0] == "main");
    let modules: BTreeSet<String> = files
        .iter()
        .map(|file| module_path(file))
        .filter(|path| !is_root(path))
        .map(|path| path[0].clone())
        .collect();
    let exported = root_exports(&files, &prefix, &modules);
    let mut graph = Graph::new();
    for file in files {
        let own = module_path(file);
        if is_root(&own) {
            continue;
        }
        for named in paths::all(&file.production) {
            let Some(first) = from_root(&own, &named.segments) else {
                continue;
            };
            let target = if modules.contains(&first) {
                Some(first)
            } else {
                exported.get(&first).cloned()
            };
            if let Some(target) = target.filter(|target| *target != own[0]) {
                let witness = format!("{}:{} names {}", file.path, file.line_of(named.position), named.text());
                graph
                    .entry(own[0].clone())
                    .or_default()
                    .entry(target)
                    .or_insert(witness);
            }
        }
    }
    graph
}

/// What lib.rs re-exports, and from which module.
fn root_exports(files: &[&File], prefix: &str, modules: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for file in files.iter().filter(|file| file.path == format!("{prefix}lib.rs")) {
        for named in paths::all(&file.production) {
            let segments: Vec<&String> = named
                .segments
                .iter()
                .filter(|it| *it != "crate" && *it != "self")
                .collect();
            if let [module, .., item] = segments.as_slice()
                && modules.contains(*module)
            {
                exported.insert((*item).clone(), (*module).clone());
            }
        }
    }
    exported
}

/// The first segment below the crate's root that a path in module `own` names; None for paths to other crates and for
/// paths that stay inside of the module.
fn from_root(own: &[String], segments: &[String]) -> Option<String> {
    match segments.first()?.as_str() {
        "crate" => segments.get(1).cloned(),
        "super" => {
            let ups = segments.iter().take_while(|segment| *segment == "super").count();
            (ups == own.len()).then(|| segments.get(ups).cloned()).flatten()
        }
        _ => None,
    }
}

/// A way along the imports, with both ends.
fn way(graph: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![from.to_owned()]];
    while let Some(way) = ways.pop() {
        let last = way.last().cloned().unwrap_or_default();
        if last == to {
            return Some(way);
        }
        if seen.insert(last.clone()) {
            let next = graph.get(&last).into_iter().flat_map(BTreeMap::keys);
            ways.extend(next.map(|next| [way.as_slice(), std::slice::from_ref(next)].concat()));
        }
    }
    None
}

#[test]
fn a_cycle_is_found_through_crate_super_and_re_exports() {
    let tree = Tree::sample(&[
        ("broker/src/lib.rs", "//! x\nmod a; mod b; mod c;\npub use c::Thing;"),
        ("broker/src/a.rs", "//! x\nuse crate::b::B;"),
        ("broker/src/b/inner.rs", "//! x\nuse super::super::c::C;"),
        ("broker/src/c.rs", "//! x\n"),
    ]);
    assert!(between_modules(&tree, "broker").is_empty());
    let with_cycle = Tree::sample(&[
        ("broker/src/lib.rs", "//! x\nmod a; mod b; mod c;\npub use c::Thing;"),
        ("broker/src/a.rs", "//! x\nuse crate::b::B;"),
        ("broker/src/b/inner.rs", "//! x\nfn f() -> crate::Thing { g() }"),
        ("broker/src/c.rs", "//! x\nuse super::a::A;"),
    ]);
    assert_eq!(between_modules(&with_cycle, "broker").len(), 3);
}

#[test]
fn tests_may_import_upwards() {
    let tree = Tree::sample(&[
        ("broker/src/a.rs", "//! x\nuse crate::b::B;"),
        ("broker/src/b.rs", "//! x\n#[cfg(test)]\nmod tests { use crate::a::A; }"),
        ("broker/src/b/tests.rs", "//! x\nuse crate::a::A;"),
    ]);
    assert!(between_modules(&tree, "broker").is_empty());
}
