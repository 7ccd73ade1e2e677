//! The command line as a script sees it without a cluster: exit codes, where errors go, configuration checks.

use std::io::Write;
use std::process::{Command, Output};

fn ledgermq(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ledgermq"))
        .args(arguments)
        .env_remove("LEDGERMQ_ENDPOINTS")
        .output()
        .expect("the binary runs")
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, words: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "stderr: {errors}");
    assert!(errors.contains(words), "{words:?} is not in {errors:?}");
    assert!(output.stdout.is_empty(), "errors go to stderr");
}

/// An address on which nobody listens.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn wrong_usage_is_2() {
    assert_fails(&ledgermq(&["topic", "create"]), 2, "NAME");
    assert_fails(&ledgermq(&["fly"]), 2, "fly");
    assert_fails(&ledgermq(&["cluster", "--endpoints", "nowhere"]), 2, "host:port");
    assert_fails(&ledgermq(&["send", "--topic", "t"]), 2, "--body");
    assert_fails(
        &ledgermq(&["send", "--topic", "t", "--body", "x", "--count", "1", "--size", "1"]),
        2,
        "--body",
    );
    assert_fails(&ledgermq(&["dev", "--replicas", "0"]), 2, "0");
}

#[test]
fn a_missing_file_is_3() {
    assert_fails(
        &ledgermq(&["config", "check", "no-such-file.toml"]),
        3,
        "no-such-file.toml",
    );
    assert_fails(
        &ledgermq(&["broker", "--config", "no-such-file.toml"]),
        3,
        "no-such-file.toml",
    );
}

#[test]
fn a_wrong_configuration_is_4_and_named() {
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    writeln!(file, "broker_grup = \"broker-a\"").expect("written");
    let path = file.path().display().to_string();
    assert_fails(&ledgermq(&["config", "check", &path]), 4, "broker_group");
}

#[test]
fn no_server_is_5() {
    for command in [
        &["cluster", "--json"][..],
        &["topic", "list"],
        &["topic", "describe", "t"],
        &["consumer-group", "list"],
        &["leader", "transfer", "--broker-group", "broker-a", "--to", "1"],
    ] {
        let output = ledgermq(&[command, &["--endpoints", NOBODY]].concat());
        assert_fails(&output, 5, NOBODY);
    }
}

#[test]
fn a_taken_port_is_6() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    assert_fails(&ledgermq(&["namesrv", "--listen", &address]), 6, &address);
}

#[test]
fn endpoints_come_from_the_environment() {
    let output = Command::new(env!("CARGO_BIN_EXE_ledgermq"))
        .arg("cluster")
        .env("LEDGERMQ_ENDPOINTS", NOBODY)
        .output()
        .expect("the binary runs");
    assert_fails(&output, 5, NOBODY);
}
