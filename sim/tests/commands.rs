//! The commands of `ledgermq-sim` as people and scripts use them: output, files and exit codes, on tiny runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ledgermq_sim::{
    faults::{Fault, Planned, Target},
    ledger,
    replay::Replay,
    report::Report,
};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ledgermq-sim"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn assert_exit(output: &Output, code: i32) {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An empty folder of a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn what_cannot_be_carried_out_exits_with_3_and_says_why() {
    let folder = folder("usage");
    let broken = path(&folder, "broken.json");
    fs::write(&broken, r#"[{"at_ms": 1, "for_ms": 1, "fault": "earthquake"}]"#).expect("written");
    let (absent, at_hand) = (path(&folder, "absent.json"), path(&folder, "traces"));
    let nowhere = path(&folder, "nowhere/a.trace");
    let late = path(&folder, "late.json");
    fs::write(&late, r#"[{"at_ms": 9000, "for_ms": 1, "fault": "blackout"}]"#).expect("written");
    let cases: &[(&[&str], &str)] = &[
        (&["run"], "--seed"),
        (&["run", "--seed", "1", "--seconds", "0"], "seconds"),
        (&["run", "--seed", "1", "--profile", "calm"], "calm"),
        (&["run", "--seed", "1", "--plan", &broken], "earthquake"),
        (&["replay", &broken], "broken.json"),
        (&["replay", &absent], "absent.json"),
        (&["soak", "--budget", "soon"], "soon"),
        (&["soak", "--seeds", "0"], "--seeds"),
        (&["soak", "--and", "quick,default"], "--and default"),
        (&["meta", "--seeds", "9..1"], "9..1"),
        (
            &["meta", "--seed", "1", "--plan", &broken, "--folder", &at_hand],
            "earthquake",
        ),
        (&["run", "--seed", "1", "--forbid", "kil"], "kil"),
        (
            &[
                "run",
                "--seed",
                "1",
                "--profile",
                "log",
                "--plan",
                &late,
                "--seconds",
                "9",
            ],
            "after the end of the run, 9 s",
        ),
        (
            &["run", "--seed", "1", "--profile", "log", "--history", &absent],
            "--history",
        ),
        (&["run", "--seed", "1", "--trace", &nowhere], "nowhere"),
        (&["shrink", "--replay", &broken, "--seconds", "9"], "--seconds"),
    ];
    for (arguments, says) in cases {
        let output = sim(arguments);
        assert_exit(&output, 3);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    assert_exit(&sim(&["--help"]), 0);
}

#[test]
fn a_run_tells_its_story_and_its_plan_runs_the_same_way() {
    let folder = folder("story");
    let (report, again) = (path(&folder, "report.json"), path(&folder, "again.json"));
    let told = sim(&[
        "run",
        "--seed",
        "2",
        "--profile",
        "log",
        "--seconds",
        "12",
        "--report",
        &report,
    ]);
    assert_exit(&told, 0);
    for word in ["options", "leads term", "chaos", "counts:", "marks:", "PASS seed 2"] {
        assert!(out(&told).contains(word), "{word}: {}", out(&told));
    }
    let first = Report::read(Path::new(&report)).expect("a report");
    assert!(!first.plan.is_empty() && !first.drawn.is_empty() && first.simulated_seconds > 12.0);
    let plan = path(&folder, "plan.json");
    fs::write(&plan, serde_json::to_string(&first.plan).expect("JSON")).expect("written");
    let planned = [
        "run",
        "--seed",
        "2",
        "--profile",
        "log",
        "--seconds",
        "12",
        "--plan",
        &plan,
    ];
    assert_exit(&sim(&[&planned[..], &["--quiet", "--report", &again]].concat()), 0);
    assert_eq!(Report::read(Path::new(&again)).expect("a report"), first);
}

#[test]
fn a_soak_adds_up_keeps_failures_and_writes_the_ledger() {
    let folder = folder("soak");
    let (failures, ledger_file) = (path(&folder, "failures"), path(&folder, "ledger.jsonl"));
    let tiny = [
        "soak",
        "--profile",
        "log",
        "--seconds",
        "8",
        "--seeds",
        "3",
        "--folder",
        &failures,
    ];
    let ledger_flag = ["--ledger", ledger_file.as_str()];
    let passes = sim(&[&tiny[..], &ledger_flag].concat());
    assert_exit(&passes, 0);
    for word in ["3 seeds in", "seeds an hour", "simulated s a CPU s", "acked", "PASS"] {
        assert!(out(&passes).contains(word), "{word}: {}", out(&passes));
    }
    let forbidding = [&tiny[..], &ledger_flag, &["--forbid", "election"]].concat();
    assert_exit(&sim(&forbidding), 1);
    assert_exit(&sim(&forbidding), 1);
    let lines = ledger::read(Path::new(&ledger_file)).expect("a ledger");
    let told: Vec<(&str, u64, u64, usize)> = lines
        .iter()
        .map(|line| {
            (
                line.options.as_str(),
                line.first_seed,
                line.last_seed,
                line.violations.len(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("--seconds 8", 1, 3, 0),
            ("--seconds 8 --forbid election=1", 1, 3, 3),
            ("--seconds 8 --forbid election=1", 4, 6, 3)
        ],
        "a soak goes on where the last one of its kind ended"
    );
    // What was kept of a failure runs again, and fails again.
    let kept = fs::read_to_string(Path::new(&failures).join("log-5.txt")).expect("kept");
    assert!(
        kept.contains("VIOLATION mark election") && kept.contains("last events"),
        "{kept}"
    );
    let replay = path(Path::new(&failures), "log-5.json");
    assert_exit(&sim(&["replay", &replay]), 1);
    // So short a soak reaches no blackout: a missing mark fails only when asked.
    let demands = sim(&[&tiny[..], &["--no-faults", "--require-marks"]].concat());
    assert_exit(&demands, 1);
    assert!(out(&demands).contains("never hit: "), "{}", out(&demands));
}

/// A dozen faults; two kills are needed to reach the mark `kill` twice, nothing else is.
fn many_faults() -> Vec<Planned> {
    let fault = |nth: u64| match nth % 6 {
        0 => Fault::Split(0, 2),
        1 => Fault::Kill(Target::Replica(1)),
        2 => Fault::Isolate(Target::Leader),
        3 => Fault::Hold(0, 1),
        4 => Fault::PowerLoss(Target::Replica(2)),
        _ => Fault::Mute(Target::Replica(0)),
    };
    let planned = |nth| Planned {
        at_ms: 3_000 + nth * 1_000,
        for_ms: 800,
        fault: fault(nth),
    };
    (0..12).map(planned).collect()
}

#[test]
fn a_failing_seed_shrinks_to_the_faults_it_needs() {
    let folder = folder("shrink");
    let (failures, small) = (path(&folder, "failures"), path(&folder, "small.json"));
    let plan = path(&folder, "plan.json");
    fs::write(&plan, serde_json::to_string(&many_faults()).expect("JSON")).expect("written");
    let common = [
        "shrink",
        "--seed",
        "2",
        "--profile",
        "log",
        "--seconds",
        "20",
        "--plan",
        &plan,
    ];
    let files = ["--folder", &failures, "--out", &small];
    let shrunk = sim(&[&common[..], &files, &["--forbid", "kill=2"]].concat());
    assert_exit(&shrunk, 1);
    let replay = Replay::read(Path::new(&small)).expect("a replay file");
    let kills = |planned: &Planned| planned.fault == Fault::Kill(Target::Replica(1)) && planned.for_ms < 800;
    assert!(
        replay.faults.len() == 2 && replay.faults.iter().all(kills),
        "{}",
        out(&shrunk)
    );
    assert_eq!(replay.seconds, 11, "{}", out(&shrunk));
    assert_eq!(replay.violation.as_deref(), Some("mark kill was reached 2 times"));
    let again = sim(&["replay", &small]);
    assert_exit(&again, 1);
    assert!(
        out(&again).contains("VIOLATION mark kill was reached 2 times"),
        "{}",
        out(&again)
    );
    assert!(
        out(&again).contains(&format!("ledgermq-sim replay {small}")),
        "{}",
        out(&again)
    );
    let passes = sim(&[&common[..], &files].concat());
    assert_exit(&passes, 0);
}

#[test]
fn a_seed_that_hangs_shrinks_as_well() {
    let folder = folder("hangs");
    let (failures, small) = (path(&folder, "failures"), path(&folder, "small.json"));
    // Without any patience every run hangs, also one without faults.
    let shrunk = sim(&[
        "shrink",
        "--seed",
        "2",
        "--profile",
        "log",
        "--patience",
        "0s",
        "--folder",
        &failures,
        "--out",
        &small,
    ]);
    assert_exit(&shrunk, 1);
    let replay = Replay::read(Path::new(&small)).expect("a replay file");
    assert_eq!(
        (replay.faults.len(), replay.violation.as_deref()),
        (0, Some("hangs")),
        "{}",
        out(&shrunk)
    );
}
