//! What becomes of a snapshot whose sender is deposed while it is on its way, or does not hear that it arrived.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;

use crate::disk::FaultyDisk;
use crate::handle::Handle;
use crate::options::{Connect, Durability, Options, PeerStream, Seams, Timings};
use crate::peer::wire;
use crate::planted::Planted;
use crate::raft::config::KeptMembership;
use crate::raft::format;
use crate::release::Release;
use crate::tests::counting::Counting;
use crate::types::ReplicaId;

const ADDRESS: &str = "replica-1:9000";

/// There is nobody else.
struct Alone;

impl Connect for Alone {
    fn connect(&self, _authority: &str) -> BoxFuture<'static, io::Result<Box<dyn PeerStream>>> {
        Box::pin(async { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) })
    }
}

fn options() -> Options {
    Options {
        id: ReplicaId(1),
        broker_group: "transfers".to_owned(),
        dir: "/replica".into(),
        peer_address: ADDRESS.to_owned(),
        client_address: ADDRESS.to_owned(),
        segment_bytes: 1 << 16,
        tail_cache_bytes: 1 << 16,
        in_flight_bytes: 1 << 20,
        durability: Durability::FsyncQuorum,
        timings: Timings::default(),
        planted: Planted::default(),
        release: Release {
            level: 1,
            version: "1.0".to_owned(),
        },
    }
}

/// The whole of it in one part, labelled far beyond the log, from the leader of a term that is over.
fn outdated() -> (wire::SnapshotHead, wire::SnapshotChunk) {
    let id = wire::EntryId { term: 0, index: 1_000 };
    let head = wire::SnapshotHead {
        header: None,
        vote: Some(wire::Vote {
            term: 0,
            candidate: 2,
            committed: true,
        }),
        last: Some(id),
        membership: format::encode_kept(&KeptMembership::default()),
        export: Some(id),
        from: Bytes::new(),
    };
    let data = Bytes::from_static(b"a part");
    let part = wire::SnapshotPart {
        checksum: crc32c::crc32c(&data),
        data,
        next: None,
    };
    let chunk = wire::SnapshotChunk {
        head: None,
        part: Some(part),
    };
    (head, chunk)
}

/// A replica that leads its broker group alone, in a later term than the snapshot's.
async fn leading(disk: &FaultyDisk) -> Handle<Counting> {
    let seams = Seams {
        disk: Arc::new(disk.clone()),
        connect: Arc::new(Alone),
        wall_clock: Arc::new(|| 1),
        seed: 1,
    };
    let (handle, driver) = crate::open(options(), seams, Counting::new()).await.expect("opens");
    tokio::spawn(driver.writer.run());
    tokio::spawn(driver.sweeper.run());
    let members = vec![(ReplicaId(1), ADDRESS.to_owned(), ADDRESS.to_owned())];
    handle.bootstrap(members).await.expect("bootstraps");
    let mut role = handle.role();
    role.wait_for(|role| role.serving).await.expect("leads");
    handle
}

/// Found by `ledgermq-sim run --seed 5 --profile log`: the replica refused every later snapshot until it was restarted.
#[tokio::test(start_paused = true)]
async fn the_snapshot_of_a_deposed_leader_is_not_in_the_way_of_the_next() {
    let handle = leading(&FaultyDisk::new(1)).await;
    let (head, chunk) = outdated();
    let incoming = &handle.parts.incoming;
    let presence = &handle.parts.network.presence;
    let inbound = stream::iter([Ok(chunk)]);
    let reply = incoming.receive(&handle.parts.raft, presence, (2, head), inbound).await;
    let vote = reply.expect("is answered").vote.expect("names the vote");
    assert!(vote.term > 0, "{vote:?}");
    let spool = incoming.admit().expect("there is room for the next");
    assert!(spool.label().is_none());
}

/// Found by `ledgermq-sim run --seed 223 --profile log`: the same, when the sender hung up while the snapshot was synced.
#[tokio::test(start_paused = true)]
async fn a_snapshot_whose_sender_hangs_up_is_not_in_the_way_of_the_next() {
    let disk = FaultyDisk::new(1);
    let handle = leading(&disk).await;
    let (head, chunk) = outdated();
    let incoming = &handle.parts.incoming;
    let presence = &handle.parts.network.presence;
    let inbound = stream::iter([Ok(chunk)]);
    disk.sync_delay(Duration::from_millis(50)..Duration::from_millis(51));
    let receiving = incoming.receive(&handle.parts.raft, presence, (2, head), inbound);
    let hung_up = tokio::time::timeout(Duration::from_millis(10), receiving).await;
    assert!(hung_up.is_err(), "it is still being synced");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let spool = incoming.admit().expect("there is room for the next");
    assert!(spool.label().is_none());
}

/// The answer got lost: the leader sends the same again, and sends no entry before it is answered. Nothing of it is received.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_here_already_is_answered_at_once() {
    let handle = leading(&FaultyDisk::new(1)).await;
    let (head, _) = outdated();
    let here = handle.status().last.expect("it leads");
    let id = wire::EntryId {
        term: here.term.get(),
        index: here.index.get(),
    };
    let head = wire::SnapshotHead { last: Some(id), ..head };
    let incoming = &handle.parts.incoming;
    let presence = &handle.parts.network.presence;
    let receiving = incoming.receive(&handle.parts.raft, presence, (2, head), stream::pending());
    let reply = tokio::time::timeout(Duration::from_secs(1), receiving).await;
    let reply = reply.expect("without a part of it").expect("is answered");
    assert!(reply.vote.is_some_and(|vote| vote.term > 0));
}
