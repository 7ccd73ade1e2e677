//! The seams of simulation: clock, disk, randomness, network and threads are passed in, never reached for.
//!
//! These rules bind every crate that can run in the simulation. Only the files in the lists may name what is forbidden:
//! they are the seams themselves, or run outside of every simulation.

use crate::lexer::end_of_braces;
use crate::paths;
use crate::tree::{File, Tree};

/// The folders whose code runs in the simulation.
const SIMULATED: &[&str] = &["proto", "raft-store", "broker", "namesrv", "client", "sim"];

/// A forbidden path (and everything below it), and what to do instead.
const FORBIDDEN: &[(&str, &str)] = &[
    ("std::time::SystemTime", "take the wall clock as a parameter"),
    ("std::time::UNIX_EPOCH", "take the wall clock as a parameter"),
    ("std::time::Instant", "use tokio::time::Instant"),
    ("std::fs", "go through Disk"),
    ("tokio::fs", "go through Disk"),
    ("std::thread::spawn", "return a driver"),
    ("std::thread::scope", "return a driver"),
    ("std::thread::sleep", "use tokio::time::sleep"),
    ("std::thread::Builder", "return a driver"),
    ("tokio::task::spawn_blocking", "go through the blocking seam"),
    ("tokio::task::block_in_place", "go through the blocking seam"),
    ("tokio::runtime", "the caller owns the runtimes"),
    ("tokio::net", "go through Net"),
    ("tokio::signal", "take the shutdown as a future"),
    ("std::net::TcpListener", "go through Net"),
    ("std::net::TcpStream", "go through Net"),
    ("std::net::UdpSocket", "go through Net"),
    ("std::net::ToSocketAddrs", "go through Net"),
    ("std::process", "nothing of a process belongs into simulated code"),
    ("std::env::var", "take it as configuration"),
    ("std::hash::RandomState", "use a BTreeMap"),
    ("std::collections::hash_map::RandomState", "use a BTreeMap"),
    (
        "std::collections::hash_map::DefaultHasher",
        "use a hash with a fixed seed",
    ),
    ("rand::rng", "take a seed"),
    ("rand::random", "take a seed"),
    ("rand::rngs::ThreadRng", "take a seed"),
    ("rand::rngs::OsRng", "take a seed"),
    ("rand::rngs::SysRng", "take a seed"),
];

/// Methods with the same effect, on whatever value.
const FORBIDDEN_METHODS: &[(&str, &str)] = &[
    ("spawn_blocking", "go through the blocking seam"),
    ("block_in_place", "go through the blocking seam"),
    ("from_os_rng", "take a seed"),
    ("block_on", "return a driver"),
];

/// A file that may name something forbidden: file, path or method, reason.
pub type Exception = (&'static str, &'static str, &'static str);

/// The seam files.
#[rustfmt::skip]
pub const EXCEPTIONS: &[Exception] = &[
    ("proto/src/net.rs", "tokio::net", "the seam itself: TcpNet opens the product's sockets"),
    ("raft-store/src/disk/real.rs", "std::fs", "the seam itself: RealDisk"),
    ("raft-store/src/disk/real.rs", "tokio::task::spawn_blocking", "the same: its reads block, so they run aside"),
    ("raft-store/src/disk/real.rs", "spawn_blocking", "the same"),
    ("raft-store/src/disk/conformance.rs", "block_on", "a test suite that both disks run, outside of any runtime"),
    ("raft-store/src/raft/runtime.rs", "rand::rngs::SysRng", "the seam itself: seeds where no seed was given"),
    ("raft-store/src/raft/runtime.rs", "block_on", "openraft asks its runtime for it; only its tests call it"),
    ("broker/src/blocking.rs", "tokio::task::spawn_blocking", "the seam itself: a bounded pool, inline when simulated"),
    ("broker/src/blocking.rs", "spawn_blocking", "the same"),
    ("broker/src/process.rs", "std::fs", "a process claims its data folder with a lock of the system"),
    ("broker/src/process.rs", "tokio::runtime", "the broker as a process: owns the runtimes, runs in no simulation"),
    ("broker/src/process.rs", "block_on", "the same"),
    ("broker/src/process.rs", "std::thread::Builder", "the log's writer has a thread of its own in production"),
    ("broker/src/process.rs", "std::time::SystemTime", "the seam itself: production's wall clock"),
    ("broker/src/process.rs", "std::time::UNIX_EPOCH", "the same"),
    ("broker/src/process.rs", "rand::rngs::SysRng", "the seam itself: a process draws its seed"),
    ("sim/src/check.rs", "std::fs", "reads histories for the command around a simulation"),
    ("sim/src/children.rs", "std::process", "runs seeds in processes of their own"),
    ("sim/src/children.rs", "std::fs", "reads what those processes report"),
    ("sim/src/children.rs", "std::thread::sleep", "waits for other processes"),
    ("sim/src/children.rs", "std::time::Instant", "the watchdog over other processes measures real time"),
    ("sim/src/commands/shrink.rs", "std::process", "names the files of candidates after itself"),
    ("sim/src/commands/shrink.rs", "std::fs", "removes the files of candidates"),
    ("sim/src/commands/soak.rs", "std::time::Instant", "a soak ends by real time"),
    ("sim/src/commands/soak.rs", "std::time::SystemTime", "the ledger has the day of a soak"),
    ("sim/src/commands/soak.rs", "std::time::UNIX_EPOCH", "the same"),
    ("sim/src/commit.rs", "std::process", "asks git which commit is run"),
    ("sim/src/files.rs", "std::fs", "what the commands around a simulation read and write"),
    ("sim/src/ledger.rs", "std::fs", "the seed ledger is a file of the repository"),
    ("sim/src/main.rs", "std::process", "the program around a simulation: exit codes"),
    ("sim/src/replay.rs", "std::fs", "replay files and plans, for people"),
    ("sim/src/simulation/program.rs", "std::process", "the program around a user's simulation: exit codes"),
    ("sim/src/simulation/program.rs", "std::fs", "removes the reports of its processes"),
    ("sim/src/trace.rs", "std::fs", "the trace of a run, for people and for comparing runs"),
    ("sim/src/world.rs", "std::time::UNIX_EPOCH", "where the simulated clocks start"),
];

/// Hash maps that may be iterated: file, name of the map, reason.
pub const ITERATION_EXCEPTIONS: &[Exception] = &[(
    "broker/src/lanes.rs",
    "lanes",
    "drops idle lanes and counts the rest: no order is seen",
)];

fn simulated(tree: &Tree) -> impl Iterator<Item = &File> {
    let inside = |file: &&File| {
        SIMULATED
            .iter()
            .any(|folder| file.path.starts_with(&format!("{folder}/src/")))
    };
    tree.rust().filter(inside).filter(|file| !file.is_test_file())
}

/// Complains of a forbidden name outside of its seam, and of an exception that nothing needs.
pub fn forbidden_names(tree: &Tree, exceptions: &[Exception]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut used = vec![false; exceptions.len()];
    for file in simulated(tree) {
        let mut found: Vec<(usize, &str, &str)> = Vec::new();
        for named in paths::all(&file.production) {
            let text = named.text().replacen("core::", "std::", 1);
            let below = |name: &str| text == name || text.starts_with(&format!("{name}::"));
            found.extend(
                FORBIDDEN
                    .iter()
                    .filter(|it| below(it.0))
                    .map(|it| (named.position, it.0, it.1)),
            );
        }
        for (method, instead) in FORBIDDEN_METHODS {
            let positions = paths::words(&file.production, method);
            found.extend(
                positions
                    .filter(|at| is_call(&file.production, *at))
                    .map(|at| (at, *method, *instead)),
            );
        }
        found.sort_unstable();
        found.dedup();
        for (position, name, instead) in found {
            match exceptions.iter().position(|it| it.0 == file.path && it.1 == name) {
                Some(nth) => used[nth] = true,
                None => complaints.push(format!("{}:{}: {name}: {instead}", file.path, file.line_of(position))),
            }
        }
    }
    complaints.extend(unused(exceptions, &used));
    complaints
}

/// `.name(` or `::name(`, not a definition.
fn is_call(code: &str, at: usize) -> bool {
    let before = code[..at].trim_end();
    before.ends_with('.') || before.ends_with("::")
}

fn unused(exceptions: &[Exception], used: &[bool]) -> Vec<String> {
    let idle = exceptions.iter().zip(used).filter(|(_, used)| !**used);
    idle.map(|((file, name, _), _)| format!("the exception of {file} for {name} is not needed any more"))
        .collect()
}

/// Complains of iteration over something that the same file declares as a hash map or set.
pub fn hash_iteration(tree: &Tree, exceptions: &[Exception]) -> Vec<String> {
    const ITERATIONS: &[&str] = &[
        "iter",
        "iter_mut",
        "into_iter",
        "keys",
        "into_keys",
        "values",
        "values_mut",
        "into_values",
        "drain",
        "retain",
        "extract_if",
    ];
    let mut complaints = Vec::new();
    let mut used = vec![false; exceptions.len()];
    for file in simulated(tree) {
        let code = squeezed(&file.production);
        for name in hash_names(&code) {
            let calls = ITERATIONS.iter().map(|method| format!("{name}.{method}("));
            let loops = ["", "&", "&mut "]
                .iter()
                .flat_map(|by| ["", "self."].iter().map(move |owner| (by, owner)));
            let loops = loops.map(|(by, owner)| format!(" in {by}{owner}{name}{{"));
            let found = calls.chain(loops).any(|text| {
                code.match_indices(&text)
                    .any(|(at, _)| text.starts_with(' ') || !ends_in_word(&code[..at]))
            });
            if !found {
                continue;
            }
            match exceptions.iter().position(|it| it.0 == file.path && it.1 == name) {
                Some(nth) => used[nth] = true,
                None => complaints.push(format!(
                    "{}: the hash map {name} is iterated: use a BTreeMap",
                    file.path
                )),
            }
        }
    }
    complaints.extend(unused(exceptions, &used));
    complaints
}

/// Code with white space only where it parts two words, and around `in`.
fn squeezed(code: &str) -> String {
    let mut text = String::new();
    for word in code.split_whitespace() {
        let parts_words =
            ends_in_word(&text) && word.starts_with(|c: char| c == '_' || c.is_alphanumeric() || c == '&');
        if parts_words {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

fn ends_in_word(text: &str) -> bool {
    text.ends_with(|c: char| c == '_' || c.is_alphanumeric())
}

/// Names that are declared as a hash map or set: `name: HashMap<`, `name: Mutex<HashMap<`, `let name = HashMap::new`.
fn hash_names(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for kind in ["HashMap", "HashSet"] {
        for at in paths::words(code, kind) {
            let before = code[..at].trim_end_matches(|c: char| c == '<' || c == ':' || c == '_' || c.is_alphanumeric());
            // `name:Mutex<HashMap<…` keeps its colon only when there was one: cut back to it.
            let declaration = &code[before.len()..at];
            let name = match (declaration.find(':'), before.ends_with('=')) {
                (Some(colon), _) if !declaration[colon..].starts_with("::") => declaration[..colon].to_owned(),
                (_, true) => last_word(before.trim_end_matches('=')),
                _ => continue,
            };
            if !name.is_empty() && name.bytes().all(crate::lexer::is_word) {
                names.push(name);
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

fn last_word(text: &str) -> String {
    let start = text
        .rfind(|c: char| c != '_' && !c.is_alphanumeric())
        .map_or(0, |at| at + 1);
    text[start..].to_owned()
}

/// Complains of a `select!` that lets chance choose among its branches.
pub fn biased_selects(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.rust().filter(|file| !file.path.starts_with("tests/")) {
        for at in paths::words(&file.code, "select") {
            let Some(open) = file.code[at..].strip_prefix("select!").and_then(|rest| rest.find('{')) else {
                continue;
            };
            let open = at + "select!".len() + open;
            let body = &file.code[open..end_of_braces(&file.code, open)];
            if !body.trim_start_matches('{').trim_start().starts_with("biased;") {
                complaints.push(format!("{}:{}: select! without `biased;`", file.path, file.line_of(at)));
            }
        }
    }
    complaints
}

#[test]
fn forbidden_names_are_found_in_every_spelling() {
    let spellings = [
        "use std::time::SystemTime;",
        "use std::{time::Instant, fs};",
        "use std::time; fn f() { time::Instant::now(); }",
        "fn f() { std::fs::read(p); }",
        "fn f() { handle.spawn_blocking(g); }",
        "use rand::rng as dice;",
        "fn f() { tokio::net::TcpStream::connect(a); }",
    ];
    for text in spellings {
        let tree = Tree::sample(&[("broker/src/a.rs", text)]);
        assert!(!forbidden_names(&tree, &[]).is_empty(), "{text} was taken");
    }
    let fine = "use tokio::time::Instant; use std::net::SocketAddr; // std::fs\nfn f() { Instant::now(); }";
    assert!(forbidden_names(&Tree::sample(&[("broker/src/a.rs", fine)]), &[]).is_empty());
}

#[test]
fn exceptions_count_only_where_they_are_needed() {
    let tree = Tree::sample(&[
        ("raft-store/src/disk/real.rs", "use std::fs::File;"),
        ("broker/src/a.rs", ""),
    ]);
    assert!(forbidden_names(&tree, &[("raft-store/src/disk/real.rs", "std::fs", "the seam")]).is_empty());
    assert_eq!(
        forbidden_names(&tree, &[("broker/src/a.rs", "std::fs", "idle")]).len(),
        2
    );
}

#[test]
fn iteration_over_hash_maps_is_found() {
    for text in [
        "struct S { seen: HashMap<u8, u8> } fn f(s: &S) { for x in s.seen\n.values() {} }",
        "struct S { seen: Mutex<HashMap<u8, u8>> } fn f(&self) { self.seen.iter(); }",
        "fn f() { let mut all = HashSet::new(); for x in &all { g(x); } }",
    ] {
        let tree = Tree::sample(&[("broker/src/a.rs", text)]);
        assert!(!hash_iteration(&tree, &[]).is_empty(), "{text} was taken");
    }
    let fine = "struct S { seen: HashMap<u8, u8>, rows: Vec<u8> } fn f(s: &S) { s.seen.get(&1); s.rows.iter(); }";
    assert!(hash_iteration(&Tree::sample(&[("broker/src/a.rs", fine)]), &[]).is_empty());
}

#[test]
fn an_unbiased_select_is_found() {
    let bad = Tree::sample(&[("broker/src/a.rs", "fn f() { tokio::select! { a = b => {} } }")]);
    assert_eq!(biased_selects(&bad).len(), 1);
    let good = Tree::sample(&[("broker/src/a.rs", "fn f() { tokio::select! { biased; a = b => {} } }")]);
    assert!(biased_selects(&good).is_empty());
}
