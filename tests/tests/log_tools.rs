//! `ledgermq log verify|dump|stat` on folders that the real log wrote: exit codes, and the shape of the JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use bytes::Bytes;
use ledgermq_broker::state::command::{Action, Command as Change, NewMessage, Send};
use ledgermq_broker::state::identity::RequestId;
use ledgermq_broker::state::record::{BodyEncoding, MessageType, Record};
use ledgermq_raft_store::disk::RealDisk;
use ledgermq_raft_store::log::{Frame, FrameKind, Log, LogOptions};
use ledgermq_raft_store::{EntryId, Planted, body};
use serde_json::Value;

/// The product binary, beside which this test was built.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("LEDGERMQ_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a path");
    let folder = test.parent().and_then(Path::parent).expect("target/release/deps");
    folder.join("ledgermq")
}

fn run(arguments: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(binary());
    command.arg("log").arg(arguments[0]).arg(dir).args(&arguments[1..]);
    command.output().expect("build the binary first: make build")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("UTF-8");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn send(number: u64) -> Bytes {
    let record = Record {
        topic: "orders".to_owned(),
        message_id: format!("m-{number}"),
        tag: String::new(),
        keys: Vec::new(),
        message_group: String::new(),
        born_timestamp_ms: 0,
        born_host: String::new(),
        store_host: String::new(),
        body_encoding: BodyEncoding::Identity,
        message_type: MessageType::Normal,
        delivery_timestamp_ms: None,
        trace_context: String::new(),
        properties: Vec::new(),
        body: Bytes::from(vec![b'x'; 100]),
    };
    let messages = vec![NewMessage {
        queue_id: 2,
        record: record.encode(),
    }];
    let action = Action::Send(Send {
        client_id: "client-1".to_owned(),
        topic: "orders".to_owned(),
        messages,
    });
    let change = Change {
        stamp_ms: 1000 + number,
        request_id: RequestId([0; 16]),
        action,
    };
    body::encode(&[change.encode()])
}

/// A data folder whose log has 40 entries.
async fn data_dir() -> tempfile::TempDir {
    let data = tempfile::tempdir().expect("a folder");
    let replica = data.path().join("replica");
    std::fs::create_dir_all(&replica).expect("creates");
    let options = LogOptions {
        dir: replica.join("log"),
        segment_bytes: 4096,
        tail_cache_bytes: 1024,
        seed: 1,
        planted: Planted::default(),
    };
    let (log, writer) = Log::open(Arc::new(RealDisk), options).await.expect("opens");
    let writer = tokio::spawn(writer.run());
    for index in 0..40 {
        let body = if index == 0 { Bytes::new() } else { send(index) };
        let frame = Frame {
            id: EntryId::new(1, index),
            kind: if index == 0 {
                FrameKind::Blank
            } else {
                FrameKind::Commands
            },
            body_crc: crc32c(&body),
            body,
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        log.append(vec![frame], done).expect("follows");
        receiver.await.expect("answers").expect("durable");
    }
    log.save_vote(vote(1)).await.expect("durable");
    drop(log);
    writer.await.expect("ends");
    data
}

/// A committed vote of this term for replica 1, as docs/formats.md draws it.
fn vote(term: u64) -> Bytes {
    let mut bytes = vec![1, 1, 0, 0];
    bytes.extend_from_slice(&term.to_le_bytes());
    bytes.extend_from_slice(&1_u64.to_le_bytes());
    let checksum = crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.into()
}

/// CRC32C, bit by bit: the tool must agree with a second implementation.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn first_segment(data: &Path) -> PathBuf {
    data.join("replica/log/00000000000000000001.segment")
}

#[tokio::test]
async fn a_whole_log_is_found_from_each_of_its_folders() {
    let data = data_dir().await;
    for dir in ["", "replica", "replica/log"] {
        let output = run(&["verify", "--json"], &data.path().join(dir));
        assert_eq!(code(&output), 0, "{dir}: {}", String::from_utf8_lossy(&output.stderr));
        let report = &lines(&output)[0];
        assert_eq!(
            (&report["entries"], &report["findings"]),
            (&Value::from(40), &Value::Array(vec![]))
        );
    }
    let missing = run(&["verify"], &data.path().join("nowhere"));
    assert_eq!(code(&missing), 3);
    let empty = tempfile::tempdir().expect("a folder");
    let output = run(&["stat"], empty.path());
    assert_eq!(code(&output), 3);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("replica/log"),
        "it says what was tried"
    );
}

#[tokio::test]
async fn a_flipped_bit_is_code_4_and_named() {
    let data = data_dir().await;
    let path = first_segment(data.path());
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).expect("writes");
    let output = run(&["verify", "--json"], data.path());
    assert_eq!(code(&output), 4);
    let report = &lines(&output)[0];
    assert_eq!(report["verdict"], "corrupt");
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["severity"], &finding["file"]),
        (&"corrupt".into(), &"00000000000000000001.segment".into())
    );
    for key in ["position", "index"] {
        assert!(finding[key].is_u64(), "{key} of {finding}");
    }
    assert!(
        finding["remedy"]
            .as_str()
            .is_some_and(|remedy| remedy.contains("rebuild"))
    );
    assert_eq!(code(&run(&["dump"], data.path())), 4);
}

#[tokio::test]
async fn stat_counts_and_dump_decodes() {
    let data = data_dir().await;
    let output = run(&["stat", "--json"], data.path());
    assert_eq!(code(&output), 0);
    let stat = &lines(&output)[0];
    let counted = ["entries", "blanks", "commands", "memberships"].map(|key| stat[key].as_u64());
    assert_eq!(counted, [Some(40), Some(1), Some(39), Some(0)]);
    assert_eq!(stat["last"], serde_json::json!({ "term": 1, "index": 39 }));
    let segments = stat["segments"].as_array().expect("a list");
    assert_eq!(
        segments
            .iter()
            .filter_map(|segment| segment["entries"].as_u64())
            .sum::<u64>(),
        40
    );

    let dump = lines(&run(&["dump", "--json", "--from", "10", "--limit", "3"], data.path()));
    let indexes: Vec<u64> = dump.iter().filter_map(|entry| entry["index"].as_u64()).collect();
    assert_eq!(indexes, [10, 11, 12]);
    let command = &dump[0]["commands"][0];
    assert_eq!((&command["kind"], &command["stamp_ms"]), (&"send".into(), &1010.into()));
    assert_eq!(
        (&command["fields"]["topic"], &command["fields"]["count"]),
        (&"orders".into(), &1.into())
    );
    assert_eq!(command["messages"][0]["queue"], 2);
    assert!(command["messages"][0].get("body").is_none());
    let dump = lines(&run(&["dump", "--json", "--bodies", "--limit", "2"], data.path()));
    assert_eq!(dump[1]["commands"][0]["messages"][0]["body"], "x".repeat(100));
}

#[tokio::test]
async fn a_folder_in_use_is_not_verified_unasked() {
    let data = data_dir().await;
    let lock = std::fs::File::create(data.path().join("lock")).expect("creates");
    lock.lock().expect("is free");
    let output = run(&["verify"], data.path());
    assert_eq!(code(&output), 4);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--running"));
    assert_eq!(code(&run(&["verify", "--running"], data.path())), 0);
    drop(lock);
    assert_eq!(code(&run(&["verify"], data.path())), 0);
}
