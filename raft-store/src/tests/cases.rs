//! What histories have found, as short cases.

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};

use crate::disk::{Disk, FaultyDisk};
use crate::errors::OpenError;
use crate::log::OpenLogError;
use crate::machine::Machine;
use crate::planted::Planted;
use crate::raft::config::{Vote, entry_id, from_frame, log_id};
use crate::tests::counting::Counting;
use crate::tests::replica::{DIR, End, Replica, log_options};
use crate::tests::seeds::Choices;
use crate::tests::truth::Truth;
use crate::types::LogIndex;

async fn open(disk: &Arc<FaultyDisk>, machine: &Counting) -> Result<Replica, OpenError> {
    Replica::open(disk, machine, log_options(1, Planted::default()), false).await
}

/// Appends the entries of a range, without waiting.
async fn append(replica: &mut Replica, truth: &Truth, range: std::ops::Range<u64>) {
    let entries = range.map(|index| from_frame(truth.entry(index).clone()).expect("just made"));
    let appended = replica.store.append(entries.collect::<Vec<_>>(), IOFlushed::noop());
    appended.await.expect("no fault");
}

/// A replica with the entries of a young broker group, all of them durable.
async fn young(entries: u64) -> (Arc<FaultyDisk>, Counting, Truth, Replica) {
    let (disk, machine, mut truth) = (Arc::new(FaultyDisk::new(7)), Counting::new(), Truth::new());
    let mut choices = Choices::new(7);
    while truth.end() < entries {
        truth.grow(&mut choices);
    }
    truth.committed = entries;
    let mut replica = open(&disk, &machine).await.expect("a new folder opens");
    replica.store.save_vote(&truth.vote).await.expect("no fault");
    append(&mut replica, &truth, 0..entries).await;
    (disk, machine, truth, replica)
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_stays_until_its_label_is_durable_in_the_log() {
    let (_disk, _machine, truth, mut replica) = young(4).await;
    // Its entry is in the log, and not durable yet: the writer has not come to it.
    let label = truth.entry(3).id;
    let mut spool = replica.incoming.admit().expect("nobody else");
    let mut settling = Box::pin(replica.incoming.settle(&mut spool, label));
    assert!(settling.as_mut().now_or_never().is_none(), "it was forgotten early");
    replica.store.save_vote(&truth.vote).await.expect("drains the appends");
    tokio::time::timeout(std::time::Duration::from_secs(1), settling)
        .await
        .expect("now it may go");
}

#[tokio::test(start_paused = true)]
async fn a_label_never_goes_back() {
    let (_disk, machine, truth, mut replica) = young(30).await;
    replica.apply(0, 20).await.expect("durable");
    machine.flush();
    let late = replica.label(truth.entry(18).id).await.expect("labelled");
    // Memberships of before the label are forgotten when a new one comes.
    replica.apply(20, 30).await.expect("durable");
    let again = replica.label(truth.entry(2).id).await.expect("labelled");
    assert_eq!(again.meta.last_log_id.as_ref().map(entry_id), Some(truth.entry(18).id));
    assert_eq!(again.meta, late.meta);
}

/// A snapshot is labelled, a membership comes, the state is flushed, and power is lost before the purge.
#[tokio::test(start_paused = true)]
async fn memberships_are_kept_until_the_log_is_purged() {
    let (disk, machine, mut truth, mut replica) = young(12).await;
    truth.membership();
    replica.apply(0, 10).await.expect("durable");
    let early = truth.entry(2).id;
    replica.label(early).await.expect("labelled");
    replica.store.purge(log_id(early)).await.expect("no fault");
    replica.label(truth.entry(9).id).await.expect("labelled");
    append(&mut replica, &truth, 12..13).await;
    replica.apply(10, 13).await.expect("durable");
    machine.flush();
    replica.end(End::Crash, &disk).await;
    machine.crash();
    let mut replica = open(&disk, &machine).await.expect("opens");
    let current = replica.adapter.get_current_snapshot().await.expect("can be sent");
    let meta = current.expect("the log begins behind it").meta;
    assert_eq!(meta.last_log_id.as_ref().map(entry_id), Some(early));
    assert_eq!(meta.last_membership, truth.membership_at(2));
    replica.label(truth.entry(5).id).await.expect("labelled");
}

/// A snapshot is installed although the log holds its label, and the process dies before the purge behind it.
#[tokio::test(start_paused = true)]
async fn an_installed_snapshot_is_labelled_where_memberships_are_known() {
    let (disk, machine, mut truth, mut replica) = young(12).await;
    truth.membership();
    truth.committed = 13;
    append(&mut replica, &truth, 12..13).await;
    replica.apply(0, 10).await.expect("durable");
    let early = truth.entry(2).id;
    replica.label(early).await.expect("labelled");
    replica.store.purge(log_id(early)).await.expect("no fault");
    machine.flush();
    // The purge of the installation comes to nothing: the log has failed.
    disk.fail_next_sync();
    assert!(replica.store.save_vote(&truth.vote).await.is_err());
    let (label, membership) = (truth.entry(12).id, truth.membership_at(12));
    let received = replica.receive(&truth.export(), label, membership).await;
    assert!(received.is_err(), "the purge cannot succeed");
    replica.end(End::Kill, &disk).await;
    machine.crash();
    let mut replica = open(&disk, &machine).await.expect("opens");
    assert_eq!(machine.applied().map(|applied| applied.id), Some(label));
    let current = replica.adapter.get_current_snapshot().await.expect("can be sent");
    let meta = current.expect("the log begins behind it").meta;
    assert_eq!(meta.last_log_id.as_ref().map(entry_id), Some(label));
    assert_eq!(meta.last_membership, truth.membership_at(12));
}

#[tokio::test(start_paused = true)]
async fn a_lost_vote_is_refused() {
    let (disk, machine, truth, replica) = young(9).await;
    replica
        .log
        .save_vote(replica.log.vote().expect("saved"))
        .await
        .expect("drains");
    replica.end(End::Close, &disk).await;
    let path = Path::new(DIR).join("log/vote");
    // The file is gone.
    let vote = disk.open(&path, crate::disk::Open::Write).expect("there");
    disk.remove(&path).expect("there");
    let refused = open(&disk, &machine).await.err().expect("refused");
    assert!(matches!(refused, OpenError::Log(OpenLogError::Corrupt(found)) if found.file == "vote"));
    drop(vote);
    // It is there, and says nothing.
    disk.open(&path, crate::disk::Open::Create).expect("made");
    let newest = truth.entry(8).id;
    match open(&disk, &machine).await.err() {
        Some(OpenError::VoteLost { voted, newest: found }) => assert_eq!((voted.get(), found), (0, newest)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_start_that_broke_off_is_no_lost_vote() {
    for seed in 0..400 {
        let disk = Arc::new(FaultyDisk::new(seed));
        let machine = Counting::new();
        for _ in 0..3 {
            disk.sync_delay(std::time::Duration::ZERO..std::time::Duration::from_millis(2));
            match seed % 5 {
                0 => disk.fail_next_sync(),
                1 => disk.fail_next_write(),
                _ => {}
            }
            let patience = std::time::Duration::from_micros(seed * 37 % 9_000);
            if let Ok(Err(error)) = tokio::time::timeout(patience, open(&disk, &machine)).await {
                assert!(
                    matches!(error, OpenError::Io(_) | OpenError::Log(OpenLogError::Io(_))),
                    "{error}"
                );
            }
            disk.heal();
            if seed % 2 == 0 {
                disk.crash();
            } else {
                disk.kill();
            }
        }
        let replica = open(&disk, &machine)
            .await
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(replica.log.vote(), None);
        assert!(machine.applied().is_none() && replica.log.id(LogIndex(0)).is_none());
        let vote = Vote::new(1, 1);
        replica.store.clone().save_vote(&vote).await.expect("no fault");
        replica.end(End::Kill, &disk).await;
    }
}
