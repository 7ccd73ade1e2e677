//! `ledgermq replica`: a broker group of one replica grows and shrinks by commands, and what scripts read of it.

mod development;

use development::Dev;
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A broker process without a membership; dropped, it is killed.
struct Broker {
    child: Child,
    peer_address: String,
    client_address: String,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Starts an empty replica with the settings of another, at addresses and in a folder of its own.
fn start(like: &str, id: u64, folder: &Path) -> Broker {
    let text = std::fs::read_to_string(like).expect("a configuration");
    let mut table: toml::Table = toml::from_str(&text).expect("TOML");
    // Both at once, so that they differ.
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let addresses = free.map(|listener| listener.local_addr().expect("bound").to_string());
    let data_dir: PathBuf = folder.join(format!("replica-{id}"));
    table.insert("replica_id".to_owned(), i64::try_from(id).expect("small").into());
    table.insert("listen".to_owned(), addresses[0].clone().into());
    table.insert("peer_listen".to_owned(), addresses[1].clone().into());
    table.insert("data_dir".to_owned(), data_dir.display().to_string().into());
    let config = folder.join(format!("replica-{id}.toml"));
    std::fs::write(&config, toml::to_string(&table).expect("TOML")).expect("written");
    let child = Command::new(env!("CARGO_BIN_EXE_ledgermq"))
        .args(["broker", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .spawn()
        .expect("the broker starts");
    let [client_address, peer_address] = addresses;
    Broker {
        child,
        peer_address,
        client_address,
    }
}

type Outcome = Result<String, (Option<i32>, String)>;

/// `ledgermq replica VERB --broker-group broker-a …`
fn replica(dev: &Dev, verb: &str, rest: &[&str]) -> Outcome {
    dev.run(&[&["replica", verb, "--broker-group", "broker-a"], rest].concat())
}

/// `add` or another verb that takes number and addresses, tried again until the broker has opened its ports.
fn introduced(dev: &Dev, verb: &str, id: &str, broker: &Broker, rest: &[&str]) -> Outcome {
    let addresses = [
        "--peer-address",
        &broker.peer_address,
        "--client-address",
        &broker.client_address,
    ];
    let arguments = [&["--id", id], &addresses[..], rest].concat();
    for _ in 0..100 {
        match replica(dev, verb, &arguments) {
            Err((Some(5), _)) => std::thread::sleep(std::time::Duration::from_millis(100)),
            other => return other,
        }
    }
    replica(dev, verb, &arguments)
}

fn listed(dev: &Dev) -> Vec<Value> {
    let listed = dev.json(&["replica", "list", "--json"]).remove(0);
    listed["replicas"].as_array().expect("replicas").clone()
}

#[track_caller]
fn assert_refused(outcome: Outcome, code: i32, words: &str) {
    let (found, errors) = outcome.expect_err("refused");
    assert_eq!(found, Some(code), "{errors}");
    assert!(errors.contains(words), "{words:?} is not in {errors:?}");
}

#[test]
fn a_broker_group_grows_and_shrinks() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let dev = Dev::start(false, &folder.path().join("dev"));
    let brokers: Vec<Broker> = (2..=4).map(|id| start(&dev.config, id, folder.path())).collect();

    let added = introduced(&dev, "add", "2", &brokers[0], &[]).expect("added");
    assert!(added.contains("replica 2 is a member"), "{added}");
    let learner = &listed(&dev)[1];
    assert_eq!(
        (&learner["id"], &learner["voter"], &learner["role"]),
        (&2.into(), &false.into(), &"learner".into())
    );
    assert_eq!(learner["incarnation"].as_str().map(str::len), Some(16));
    replica(&dev, "promote", &["--id", "2", "--wait", "30s"]).expect("promoted");
    let added = introduced(&dev, "add", "3", &brokers[1], &["--promote", "--wait", "30s"]).expect("added");
    assert!(added.contains("replica 3 votes"), "{added}");
    assert!(
        listed(&dev)
            .iter()
            .all(|it| it["voter"] == true && it["healthy"] == true)
    );
    dev.run(&["send", "--topic", "t", "--body", "x"]).expect("sent");

    let replaced = introduced(&dev, "replace", "4", &brokers[2], &["--old", "3", "--wait", "30s"]);
    assert!(replaced.expect("replaced").contains("in the place of replica 3"));
    let ids: Vec<u64> = listed(&dev).iter().filter_map(|it| it["id"].as_u64()).collect();
    assert_eq!(ids, [1, 2, 4]);
    let table = dev
        .run(&["replica", "list", "--broker-group", "broker-a"])
        .expect("listed");
    assert!(table.starts_with("BROKER GROUP  REPLICA  ROLE"), "{table}");

    refusals(&dev, &brokers);
    for id in ["4", "2"] {
        replica(&dev, "remove", &["--id", id]).expect("removed");
    }
    assert_eq!(listed(&dev).len(), 1);
    assert_refused(replica(&dev, "remove", &["--id", "1"]), 4, "last voter");
    dev.run(&["send", "--topic", "t", "--body", "y"]).expect("sent");
}

fn refusals(dev: &Dev, brokers: &[Broker]) {
    let usage = replica(
        dev,
        "add",
        &["--id", "5", "--peer-address", "nowhere", "--client-address", "a:1"],
    );
    assert_refused(usage, 2, "host:port");
    assert_refused(replica(dev, "promote", &["--id", "9"]), 3, "replica 9 is not a member");
    assert_refused(replica(dev, "remove", &["--id", "9"]), 3, "replica 9 is not a member");
    let elsewhere = dev.run(&["replica", "promote", "--broker-group", "broker-z", "--id", "1"]);
    assert_refused(elsewhere, 3, "broker-z");
    let nobody = replica(
        dev,
        "add",
        &[
            "--id",
            "5",
            "--peer-address",
            "127.0.0.1:1",
            "--client-address",
            "127.0.0.1:2",
        ],
    );
    assert_refused(nobody, 5, "does not answer");
    // Replica 3 was a member: its folder is not empty.
    assert_refused(introduced(dev, "add", "3", &brokers[1], &[]), 4, "new id");
    let taken = replica(
        dev,
        "set-address",
        &[
            "--id",
            "4",
            "--peer-address",
            &brokers[0].peer_address,
            "--client-address",
            &brokers[2].client_address,
        ],
    );
    assert_refused(taken, 4, "belongs to replica 2");
}
