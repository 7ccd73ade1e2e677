//! RocksDB at one moment, for as long as the value lives.
//!
//! The bindings' snapshot borrows its database, and what owns both borrows from itself. Safe Rust has one such value,
//! an async block that holds both across an await: it is the snapshot's home here and runs on no runtime. Each question is
//! put into its slot, and one poll answers it.

use super::rocks::{get, last, scan};
use super::{Family, KvError, KvView, Pair};
use futures::future::BoxFuture;
use rocksdb::{DB, ReadOptions, Snapshot};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

enum Question {
    Get(Family, Vec<u8>),
    Scan(Family, Vec<u8>, Vec<u8>, usize),
    Last(Family, Vec<u8>, Vec<u8>),
}

#[derive(Default)]
struct Slot {
    question: Option<Question>,
    answer: Option<Result<Vec<Pair>, KvError>>,
}

/// The database as it was.
pub(super) struct Moment {
    home: Mutex<BoxFuture<'static, ()>>,
    slot: Arc<Mutex<Slot>>,
}

impl Moment {
    /// The database as it is now.
    pub fn of(db: Arc<DB>) -> Moment {
        let slot = Arc::new(Mutex::new(Slot::default()));
        let mut home: BoxFuture<'static, ()> = Box::pin(live(db, Arc::clone(&slot)));
        // The snapshot is taken by the first poll.
        poll(&mut home);
        Moment {
            home: Mutex::new(home),
            slot,
        }
    }

    fn ask(&self, question: Question) -> Result<Vec<Pair>, KvError> {
        // One at a time: who holds the home owns the slot.
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        locked(&self.slot).question = Some(question);
        poll(&mut home);
        let answer = locked(&self.slot).answer.take();
        answer.unwrap_or_else(|| Err(KvError::new("the snapshot gave no answer")))
    }
}

fn locked(slot: &Mutex<Slot>) -> std::sync::MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn poll(home: &mut BoxFuture<'static, ()>) {
    let polled = home.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "it never ends");
}

/// Holds the snapshot and answers a question a poll.
async fn live(db: Arc<DB>, slot: Arc<Mutex<Slot>>) {
    let snapshot = db.snapshot();
    loop {
        let question = locked(&slot).question.take();
        if let Some(question) = question {
            let answer = answer(&db, &snapshot, question);
            locked(&slot).answer = Some(answer);
        }
        let mut slept = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut slept, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

fn answer(db: &DB, snapshot: &Snapshot<'_>, question: Question) -> Result<Vec<Pair>, KvError> {
    let mut options = ReadOptions::default();
    options.set_snapshot(snapshot);
    match question {
        Question::Get(family, key) => {
            let value = get(db, &options, family, &key)?;
            Ok(value.map(|value| (key, value)).into_iter().collect())
        }
        Question::Scan(family, from, to, limit) => scan(db, options, family, (&from, &to), limit),
        Question::Last(family, from, upto) => Ok(last(db, options, family, (&from, &upto))?.into_iter().collect()),
    }
}

impl KvView for Moment {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let pairs = self.ask(Question::Get(family, key.to_vec()))?;
        Ok(pairs.into_iter().next().map(|(_, value)| value))
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError> {
        self.ask(Question::Scan(family, from.to_vec(), to.to_vec(), limit))
    }

    fn last(&self, family: Family, from: &[u8], upto: &[u8]) -> Result<Option<Pair>, KvError> {
        let pairs = self.ask(Question::Last(family, from.to_vec(), upto.to_vec()))?;
        Ok(pairs.into_iter().next())
    }
}
