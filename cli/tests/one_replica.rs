//! Every command against a development cluster of one replica: what a script reads, and that `dev` ends in order.

mod development;

use development::Dev;

#[test]
fn every_command_does_its_part() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let dev = Dev::start(false, folder.path());
    assert_eq!(dev.pid, dev.child.id(), "embedded: one process");
    assert!(dev.run(&["config", "check", &dev.config]).is_ok());

    let cluster = dev.json(&["cluster", "--json"]).remove(0);
    let broker_group = &cluster["broker_groups"][0];
    assert_eq!(
        (&broker_group["name"], &broker_group["leader"]),
        (&"broker-a".into(), &1.into())
    );
    let replica = &broker_group["replicas"][0];
    assert_eq!(
        (&replica["role"], &replica["healthy"]),
        (&"leader".into(), &true.into())
    );
    for key in ["id", "address", "last_index", "committed_index", "applied_index"] {
        assert!(!replica[key].is_null(), "{key} is missing");
    }

    let digests = dev.json(&["cluster", "--digest", "--json"]).remove(0);
    let broker_group = &digests["broker_groups"][0];
    assert_eq!(broker_group["equal"], true);
    let digest = broker_group["replicas"][0]["digest"].as_str();
    assert_eq!(digest.map(str::len), Some(32));

    topics(&dev);
    consumer_groups(&dev);
    messages(&dev);
}

fn topics(dev: &Dev) {
    dev.run(&["topic", "create", "plain", "--queues", "4"])
        .expect("created");
    let again = dev
        .run(&["topic", "create", "plain", "--type", "fifo"])
        .expect_err("the name is taken");
    assert_eq!(again.0, Some(4), "{}", again.1);
    let listed = dev.json(&["topic", "list", "--json"]).remove(0);
    let topics = listed["topics"].as_array().expect("topics");
    assert!(
        topics
            .iter()
            .any(|it| it["name"] == "plain" && it["type"] == "normal" && it["queues"] == 4),
        "{listed}"
    );
    let described = dev.json(&["topic", "describe", "plain", "--json"]).remove(0);
    assert_eq!(described["message_queues"].as_array().map(Vec::len), Some(4));
    let missing = dev.run(&["topic", "describe", "missing"]).expect_err("no such topic");
    assert_eq!(missing.0, Some(3), "{}", missing.1);
    dev.run(&["topic", "create", "short-lived"]).expect("created");
    dev.run(&["topic", "delete", "short-lived"]).expect("deleted");
    assert!(
        dev.run(&["topic", "list"])
            .is_ok_and(|table| !table.contains("short-lived"))
    );
}

fn consumer_groups(dev: &Dev) {
    dev.run(&[
        "consumer-group",
        "create",
        "readers",
        "--fifo",
        "--max-attempts",
        "5",
        "--from",
        "latest",
    ])
    .expect("created");
    let described = dev.json(&["consumer-group", "describe", "readers", "--json"]).remove(0);
    assert_eq!(
        (&described["fifo"], &described["max_attempts"]),
        (&true.into(), &5.into()),
        "{described}"
    );
    assert_eq!(described["from"], "latest");
    assert!(
        dev.run(&["consumer-group", "list"])
            .is_ok_and(|table| table.contains("readers"))
    );
}

fn messages(dev: &Dev) {
    let sent = dev
        .json(&[
            "send", "--topic", "plain", "--body", "hello", "--tag", "greeting", "--key", "k1",
        ])
        .remove(0);
    assert_eq!(sent["broker_group"], "broker-a");
    assert!(sent["queue_id"].is_u64() && sent["queue_offset"].is_u64(), "{sent}");
    let receive = [
        "receive",
        "--topic",
        "plain",
        "--consumer-group",
        "all",
        "--count",
        "1",
        "--timeout",
        "10s",
    ];
    let received = dev.json(&receive).remove(0);
    for key in ["message_id", "queue_id", "queue_offset"] {
        assert_eq!(sent[key], received[key], "{key}");
    }
    assert_eq!(
        (&received["body"], &received["tag"]),
        (&"hello".into(), &"greeting".into())
    );
    assert_eq!(
        (&received["topic"], &received["delivery_attempt"]),
        (&"plain".into(), &1.into())
    );
    assert_eq!(received["keys"], serde_json::json!(["k1"]));

    let many = dev.json(&["send", "--topic", "plain", "--count", "50", "--size", "100"]);
    assert_eq!(many.len(), 50);
    let rest = dev.json(&[
        "receive",
        "--topic",
        "plain",
        "--consumer-group",
        "all",
        "--timeout",
        "2s",
    ]);
    assert_eq!(rest.len(), 50, "the first one was acknowledged");
}

#[test]
fn children_die_with_dev() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut dev = Dev::start(true, folder.path());
    assert_ne!(dev.pid, dev.child.id(), "a process of its own");
    let stat = format!("/proc/{}/stat", dev.pid);
    assert!(std::fs::exists(&stat).expect("/proc"));
    // SIGKILL: dev itself can do nothing any more.
    dev.child.kill().expect("killed");
    dev.child.wait().expect("reaped");
    for _ in 0..300 {
        // Its new parent may take its time to reap it.
        let alive = std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        if !alive {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("replica {} outlives dev", dev.pid);
}
