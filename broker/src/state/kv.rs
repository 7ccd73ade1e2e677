//! Ordered key-value pairs on disk, the seam under the state machine.
//!
//! Pairs live in families, one for each kind. A batch becomes visible as a whole; it becomes durable only by
//! [`Kv::flush`], which makes all batches before it durable, all families together. A crash loses what came after
//! the last flush, never a part of a batch, and closing flushes nothing. A view is the store as it was at one moment,
//! for as long as it is held. Both implementations pass [`conformance`](self::conformance).

use std::sync::Arc;

#[cfg(test)]
mod conformance;
pub mod memory;
mod moment;
pub mod rocks;

/// The kinds of pairs. The numbers are stored and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// How far the state has come.
    Meta = 0,
    /// Topics.
    Topics = 1,
    /// Consumer groups.
    ConsumerGroups = 2,
    /// The queue index: one pair for the records of one entry in one queue.
    Runs = 3,
    /// How far consumer groups are.
    Progress = 4,
    /// What consumer groups have not done of what they were handed out.
    Spans = 5,
    /// Message ids and request ids within the window.
    Recent = 6,
    /// What is of this replica alone, not part of the digest and of no export.
    Local = 7,
    /// Where queues begin, once something of them was forgotten.
    Queues = 8,
    /// Records that lie in an older entry than the one by which they came into their queue, by that entry.
    References = 9,
}

impl Family {
    /// All, in the order of their numbers.
    pub const ALL: [Family; 10] = [
        Family::Meta,
        Family::Topics,
        Family::ConsumerGroups,
        Family::Runs,
        Family::Progress,
        Family::Spans,
        Family::Recent,
        Family::Local,
        Family::Queues,
        Family::References,
    ];

    /// Those that every replica holds alike.
    pub fn shared() -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(|family| *family != Family::Local)
    }

    /// Its stored name.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Meta => "meta",
            Family::Topics => "topics",
            Family::ConsumerGroups => "consumer_groups",
            Family::Runs => "runs",
            Family::Progress => "progress",
            Family::Spans => "spans",
            Family::Recent => "recent",
            Family::Local => "local",
            Family::Queues => "queues",
            Family::References => "references",
        }
    }

    /// The family of this number.
    pub fn of(number: u8) -> Option<Family> {
        Family::ALL.get(usize::from(number)).copied()
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a pair.
    Put(Family, Vec<u8>, Vec<u8>),
    /// Removes a pair.
    Delete(Family, Vec<u8>),
    /// Removes all pairs with `from <= key < to`.
    DeleteRange(Family, Vec<u8>, Vec<u8>),
}

/// Changes that happen together, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes.
    pub changes: Vec<Change>,
}

/// The store under the state could not be read or written. Never retried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key-value store: {reason}")]
pub struct KvError {
    /// What the store said.
    pub reason: String,
}

impl KvError {
    /// An error with this reason.
    pub fn new(reason: impl std::fmt::Display) -> KvError {
        KvError {
            reason: reason.to_string(),
        }
    }
}

/// What can be read of a store: of a [`Kv`] as it is now, of a view as it was. Calls block; none waits for another.
pub trait KvView: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// Pairs with `from <= key`, and `key < to` unless `to` is empty, ascending, at most `limit`.
    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError>;

    /// The pair with the largest key in `from..=upto`.
    fn last(&self, family: Family, from: &[u8], upto: &[u8]) -> Result<Option<Pair>, KvError>;
}

/// The seam.
pub trait Kv: KvView {
    /// Makes a batch visible.
    fn write(&self, batch: Batch) -> Result<(), KvError>;

    /// Makes all that was written before durable.
    fn flush(&self) -> Result<(), KvError>;

    /// The store as it is now, whatever is written later. Costs nothing at first; what is overwritten meanwhile is kept
    /// until the view is dropped. The store stays open as long as one of its views.
    fn view(&self) -> Result<Arc<dyn KvView>, KvError>;
}

/// Calls `each` with all pairs of a family, ascending, a page at a time.
pub fn for_each_pair<E: From<KvError>>(
    kv: &dyn KvView,
    family: Family,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    const PAGE: usize = 1024;
    let mut from = Vec::new();
    loop {
        let page = kv.scan(family, &from, &[], PAGE)?;
        for (key, value) in &page {
            each(key, value)?;
        }
        match page.into_iter().nth(PAGE - 1) {
            Some((mut last, _)) => {
                last.push(0);
                from = last;
            }
            None => return Ok(()),
        }
    }
}
