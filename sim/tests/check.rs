//! `ledgermq-sim check` on a history that a run has written, as it is and with something wrong in it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ledgermq-sim"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// The exit code of `check` on these lines, and what it prints.
fn checked(folder: &Path, lines: &str) -> (Option<i32>, String) {
    let file = folder.join("history.jsonl");
    fs::write(&file, lines).expect("written");
    let output = sim(&["check", &file.display().to_string()]);
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[test]
fn a_history_of_a_run_holds_and_a_changed_one_does_not() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check");
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("run.jsonl").display().to_string();
    let run = ["run", "--quiet", "--seed", "3", "--profile", "quick", "--seconds", "6"];
    let run = sim(&[&run[..], &["--no-faults", "--history", &file]].concat());
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    let lines = fs::read_to_string(&file).expect("a history");
    let (code, said) = checked(&folder, &lines);
    assert_eq!(code, Some(0), "{said}");

    // A message is gone from one replica's queue.
    let stored = lines.lines().find(|line| line.contains(r#""kind":"stored""#));
    let lost = lines.replacen(stored.expect("queues were read"), "", 1);
    let (code, said) = checked(&folder, &lost);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("VIOLATION dense:") && said.contains("VIOLATION present:"),
        "{said}"
    );

    // A message was received that nobody sent.
    let sent = |line: &&str| line.contains(r#""kind":"send""#) && !line.contains(r#""topic":"payments""#);
    let first = lines.lines().find(sent).expect("something was sent");
    let key = first.split(r#""key":""#).nth(1).and_then(|rest| rest.split('"').next());
    let unsent = format!(r#""kind":"send","op":"intent","key":"{}""#, key.expect("a key"));
    let renamed = lines.replace(&unsent, r#""kind":"send","op":"intent","key":"another""#);
    let outcome = format!(r#""kind":"send","op":"ok","key":"{}""#, key.expect("a key"));
    let renamed = renamed.replace(&outcome, r#""kind":"send","op":"unknown","key":"another""#);
    let (code, said) = checked(&folder, &renamed);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("VIOLATION phantoms:"), "{said}");

    let (code, _) = checked(&folder, "{\"t\":1,\"kind\":\"dance\"}\n");
    assert_eq!(code, Some(3));
}
