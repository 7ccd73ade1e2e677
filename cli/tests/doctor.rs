//! `ledgermq doctor` on real processes: replicas killed, a majority lost, a folder wiped, a log damaged.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// One replica of the development cluster.
struct Replica {
    pid: String,
    access_point: String,
    config: PathBuf,
    data_dir: PathBuf,
}

/// A development cluster of three processes, and those that were started again.
struct Cluster {
    dev: Child,
    replicas: Vec<Replica>,
    restarted: Vec<Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.restarted.iter_mut().chain([&mut self.dev]) {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// What `doctor --json` found.
struct Found {
    exit: Option<i32>,
    document: Value,
}

fn ledgermq(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ledgermq"));
    command.args(arguments).env_remove("LEDGERMQ_ENDPOINTS");
    command
}

impl Replica {
    fn read(line: &str) -> Replica {
        let words: Vec<&str> = line.split(' ').collect();
        let ["replica", _, "pid", pid, "access-point", access_point, "config", config] = words[..] else {
            panic!("dev printed {line:?}")
        };
        let text = std::fs::read_to_string(config).expect("a configuration");
        let table: toml::Table = toml::from_str(&text).expect("TOML");
        Replica {
            pid: pid.to_owned(),
            access_point: access_point.to_owned(),
            config: PathBuf::from(config),
            data_dir: PathBuf::from(table["data_dir"].as_str().expect("a folder")),
        }
    }

    fn kill(&self) {
        let killed = Command::new("kill")
            .args(["-9", &self.pid])
            .status()
            .expect("kill runs");
        assert!(killed.success());
    }
}

impl Cluster {
    fn start(folder: &Path) -> Cluster {
        let mut dev = ledgermq(&["dev", "--replicas", "3", "--port", "0", "--processes", "--data"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("dev starts");
        let lines = BufReader::new(dev.stdout.take().expect("piped")).lines();
        let lines = lines.map(|line| line.expect("a line"));
        let replicas: Vec<Replica> = lines
            .take_while(|line| !line.starts_with("ready "))
            .map(|line| Replica::read(&line))
            .collect();
        assert_eq!(replicas.len(), 3);
        Cluster {
            dev,
            replicas,
            restarted: Vec::new(),
        }
    }

    fn endpoints(&self) -> String {
        let addresses: Vec<&str> = self.replicas.iter().map(|it| it.access_point.as_str()).collect();
        addresses.join(";")
    }

    /// Starts a replica's process again.
    fn again(&mut self, nth: usize) -> usize {
        let child = ledgermq(&["broker", "--config"])
            .arg(&self.replicas[nth].config)
            .stdin(Stdio::null())
            .spawn()
            .expect("a broker starts");
        self.restarted.push(child);
        self.restarted.len() - 1
    }

    fn stop(&mut self, started: usize) {
        self.restarted[started].kill().expect("it runs");
        self.restarted[started].wait().expect("it ended");
    }

    fn doctor(&self, rest: &[&str]) -> Found {
        let endpoints = self.endpoints();
        let output = ledgermq(&["doctor", "--json", "--endpoints", &endpoints])
            .args(rest)
            .output()
            .expect("doctor runs");
        Found {
            exit: output.status.code(),
            document: serde_json::from_slice(&output.stdout).expect("a JSON document"),
        }
    }

    /// Asks until these are the findings: what happened a moment ago may not have been noticed yet.
    #[track_caller]
    fn expect(&self, codes: &[&str], rest: &[&str]) -> Found {
        let expected: BTreeSet<&str> = codes.iter().copied().collect();
        let mut last = self.doctor(rest);
        for _ in 0..120 {
            if last.codes() == expected {
                return last;
            }
            std::thread::sleep(Duration::from_millis(250));
            last = self.doctor(rest);
        }
        panic!("expected {expected:?}, found {:#}", last.document)
    }
}

impl Found {
    fn findings(&self) -> &[Value] {
        self.document["findings"].as_array().expect("findings")
    }

    /// The kinds of findings, without those that a busy or full machine has by itself.
    fn codes(&self) -> BTreeSet<&str> {
        let codes = self.findings().iter().map(|it| it["code"].as_str().expect("a code"));
        let of_machine = |code: &&str| code.starts_with("disk-") || ["slow-fsync", "healthy"].contains(code);
        codes.filter(|code| !of_machine(code)).collect()
    }

    #[track_caller]
    fn cause(&self, code: &str, replica: Option<u64>) -> &str {
        let of = |it: &&Value| it["code"] == code && it["replica"].as_u64() == replica;
        let found = self.findings().iter().find(of);
        found.and_then(|it| it["cause"].as_str()).expect("the finding")
    }
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

#[test]
fn the_causes_are_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut cluster = Cluster::start(folder.path());
    let addresses: Vec<String> = cluster.replicas.iter().map(|it| it.access_point.clone()).collect();
    for body in ["needle-1", "needle-2", "needle-3"] {
        let send = ["send", "--endpoints", &addresses[0], "--topic", "t", "--body", body];
        assert!(ledgermq(&send).status().expect("send runs").success());
    }
    let healthy = cluster.expect(&[], &[]);
    assert_eq!(healthy.document["replicas"].as_array().map(Vec::len), Some(3));
    assert_eq!(healthy.document["replicas"][0]["version"], env!("CARGO_PKG_VERSION"));

    cluster.replicas[2].kill();
    let one_down = cluster.expect(&["replica-unreachable"], &[]);
    assert_eq!(
        (one_down.exit, &one_down.document["verdict"]),
        (Some(4), &Value::from("critical"))
    );
    let cause = one_down.cause("replica-unreachable", Some(3));
    assert_says(cause, &[&addresses[2], "onnection refused", "last heard"]);

    cluster.replicas[1].kill();
    let lost = cluster.expect(&["no-quorum", "replica-unreachable"], &[]);
    let cause = lost.cause("no-quorum", None);
    assert_says(
        cause,
        &[
            "1 of 3 voters are heard, 2 are needed",
            "replica 2 does not",
            "replica 3 does not",
        ],
    );
    let text = ledgermq(&["doctor", "--endpoints", &addresses[0]])
        .output()
        .expect("doctor runs");
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(
        text.starts_with("critical  broker-a  no-quorum\n  no quorum: 1 of 3"),
        "{text}"
    );

    cluster.again(1);
    cluster.expect(&["replica-unreachable"], &[]);
    wiped(&mut cluster);
    damaged(&mut cluster);
}

/// Replica 3 comes back with an empty folder under its old number, then with its own.
fn wiped(cluster: &mut Cluster) {
    let data_dir = cluster.replicas[2].data_dir.clone();
    let kept = data_dir.with_extension("kept");
    std::fs::rename(&data_dir, &kept).expect("moved away");
    let started = cluster.again(2);
    let wiped = cluster.expect(&["wiped-replica"], &[]);
    assert_eq!(wiped.exit, Some(4));
    assert_says(
        wiped.cause("wiped-replica", Some(3)),
        &["incarnation", "the membership has"],
    );
    // Its peers tell the same where it cannot be asked.
    let peers: Vec<&Value> = wiped
        .findings()
        .iter()
        .filter(|it| it["code"] == "wiped-replica")
        .collect();
    let command = peers[0]["command"].as_str().expect("a command");
    assert_says(command, &["replica replace --broker-group broker-a --old 3 --id ID"]);
    cluster.stop(started);
    std::fs::remove_dir_all(&data_dir).expect("removed");
    std::fs::rename(&kept, &data_dir).expect("moved back");
}

/// A byte of replica 3's log is another.
fn damaged(cluster: &mut Cluster) {
    let data_dir = cluster.replicas[2].data_dir.clone();
    let whole = data_dir.display().to_string();
    cluster.expect(&["log-whole", "replica-unreachable"], &["--data-dir", &whole]);
    let running = cluster.replicas[0].data_dir.display().to_string();
    cluster.expect(&["folder-in-use", "replica-unreachable"], &["--data-dir", &running]);

    let file = flip(&data_dir.join("replica").join("log"), b"needle-2");
    let started = cluster.again(2);
    let status = cluster.restarted[started].wait().expect("it ended");
    assert!(!status.success(), "a corrupt log is refused");
    let corrupt = cluster.expect(&["corrupt-log", "replica-unreachable"], &["--data-dir", &whole]);
    assert_eq!(corrupt.exit, Some(4));
    let cause = corrupt.cause("corrupt-log", Some(3));
    assert_says(cause, &[&file, "at byte", "rebuild this replica"]);

    cluster.replicas[0].kill();
    cluster.stop(0);
    let unanswered = cluster.expect(&["no-answer"], &[]);
    assert_eq!(
        (unanswered.exit, &unanswered.document["verdict"]),
        (Some(5), &Value::from("unanswered"))
    );
    // What is certain counts, although nobody answers.
    assert_eq!(
        cluster
            .expect(&["corrupt-log", "no-answer"], &["--data-dir", &whole])
            .exit,
        Some(4)
    );
}

/// Flips a bit of the first place that has these bytes, and answers the name of its file.
fn flip(log: &Path, needle: &[u8]) -> String {
    for entry in std::fs::read_dir(log).expect("the log") {
        let path = entry.expect("an entry").path();
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("opens");
        // A segment is as long as it may become; what was written is at its beginning.
        let mut bytes = Vec::new();
        (&file).take(4 << 20).read_to_end(&mut bytes).expect("readable");
        let place = bytes.windows(needle.len()).position(|window| window == needle);
        if let Some(place) = place {
            file.write_all_at(&[bytes[place] ^ 1], place as u64).expect("writable");
            return path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name")
                .to_owned();
        }
    }
    panic!("{} has no such bytes", log.display())
}
