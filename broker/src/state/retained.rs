//! What a cut leaves: which queues lose something and where they begin then, and which references would be left behind.

use super::hot::Hot;
use super::identity::{QueueOffset, TopicId};
use super::kv::{Family, KvView};
use super::queue::IndexError;
use super::reference::{Reference, first_key};
use super::run::{read_entry, run_key, run_key_first};
use crate::planted::Bug;
use ledgermq_raft_store::types::LogIndex;

/// Pairs read at once.
const PAGE: usize = 256;
/// Runs that are looked at one by one before the boundary is sought by halving.
const RUNS_PER_LOOK: usize = 16;

/// Calls `each` with the references to entries up to `upto` whose records are kept, ascending. `each` answers up to
/// which entry to go on, which may be further.
pub(crate) fn for_each_reference(
    hot: &Hot,
    kv: &dyn KvView,
    mut upto: LogIndex,
    mut each: impl FnMut(Reference) -> Option<LogIndex>,
) -> Result<(), IndexError> {
    if hot.planted.has(Bug::CarryOverLeftOut) {
        return Ok(());
    }
    let mut from = Vec::new();
    loop {
        let page = kv.scan(Family::References, &from, &first_key(upto.next()), PAGE)?;
        let is_last = page.len() < PAGE;
        let before = upto;
        for (key, value) in page {
            let reference = Reference::read(&key, &value)?;
            let queues = hot.topics.of(reference.topic).map(|state| &state.queues);
            let queue = queues.and_then(|queues| queues.get(reference.queue_id as usize));
            if queue.is_some_and(|queue| queue.first <= reference.offset) {
                match each(reference) {
                    Some(further) => upto = upto.max(further),
                    None => return Ok(()),
                }
            }
            from = key;
            from.push(0);
        }
        if is_last && upto == before {
            return Ok(());
        }
    }
}

/// Where a queue begins after a cut, and the first keys of the runs that go.
pub(crate) struct Boundary {
    /// First offset and entry of the first run that stays; `None` when all in the store go.
    pub stays: Option<(QueueOffset, LogIndex)>,
    /// The keys of the runs that go, if they are few.
    pub keys: Option<Vec<Vec<u8>>>,
}

/// Finds the first run from `first` on that came after entry `upto`: among the first few by looking, else by halving
/// the offsets, so a long queue costs a few seeks.
pub(crate) fn boundary(
    kv: &dyn KvView,
    (topic, queue_id): (TopicId, u32),
    first: QueueOffset,
    upto: LogIndex,
) -> Result<Boundary, IndexError> {
    let key = |offset| run_key(topic, queue_id, offset);
    let end = key(QueueOffset(u64::MAX));
    let mut keys = Vec::new();
    for (found, value) in kv.scan(Family::Runs, &key(first), &end, RUNS_PER_LOOK)? {
        let entry = read_entry(&value)?;
        if entry > upto {
            let stays = Some((run_key_first(&found)?, entry));
            let keys = Some(keys);
            return Ok(Boundary { stays, keys });
        }
        keys.push(found);
    }
    if keys.len() < RUNS_PER_LOOK {
        let keys = Some(keys);
        return Ok(Boundary { stays: None, keys });
    }
    let run_upto = |from: QueueOffset, upto: QueueOffset| -> Result<Option<(QueueOffset, LogIndex)>, IndexError> {
        let found = kv.last(Family::Runs, &key(from), &key(upto))?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| Ok((run_key_first(&key)?, read_entry(&value)?));
        found.map(read).transpose()
    };
    // Runs that begin at `low` or before go; the one that begins at `high` stays.
    let mut low = run_key_first(keys.last().expect("a full page"))?;
    let newest = run_upto(low, QueueOffset(u64::MAX))?;
    let Some(mut high) = newest.filter(|(_, entry)| *entry > upto) else {
        return Ok(Boundary {
            stays: None,
            keys: None,
        });
    };
    while high.0.since(low) > 1 {
        let middle = low.plus(high.0.since(low) / 2);
        match run_upto(low.next(), middle)? {
            Some(run) if run.1 > upto => high = run,
            _ => low = middle,
        }
    }
    let stays = Some(high);
    Ok(Boundary { stays, keys: None })
}
