//! Everything that lies in a replica's queues, and how far consumer groups are, read from its state and its log.

use std::collections::BTreeMap;

use bytes::Bytes;
use ledgermq_broker::{
    Broker,
    state::{identity::QueueOffset, record::Record},
};
use ledgermq_raft_store::LogIndex;

use super::Witness;
use crate::history::{Bounds, MessageName, Progress, Stored, What};

fn number(offset: QueueOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

/// Records the bounds of every queue and all that lies between.
pub(super) fn queues(witness: &Witness, replica: &str, broker_group: &str, broker: &Broker) -> Result<(), String> {
    let view = broker.view();
    let mut entries: BTreeMap<LogIndex, Bytes> = BTreeMap::new();
    for topic in view.topics() {
        for (queue, bounds) in (0..).zip(view.queue_bounds(&topic.name).unwrap_or_default()) {
            witness.record(What::Bounds(Bounds {
                reader: replica.to_owned(),
                broker_group: broker_group.to_owned(),
                topic: topic.name.clone(),
                queue: i64::from(queue),
                first: number(bounds.first),
                end: number(bounds.end),
            }));
            for offset in (bounds.first.0..bounds.end.0).map(QueueOffset) {
                let place = || format!("{}/{queue}@{}", topic.name, offset.0);
                let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", place());
                let location = view.location(topic.id, queue, offset).map_err(|error| failed(&error))?;
                let location = location.ok_or_else(|| failed(&"nowhere"))?;
                let entry = match entries.get(&location.index) {
                    Some(entry) => entry.clone(),
                    None => {
                        let entry = broker.handle().read(location.index).map_err(|error| failed(&error))?;
                        entries.insert(location.index, entry.clone());
                        entry
                    }
                };
                let from = location.slot as usize;
                let to = from + location.length as usize;
                if to > entry.len() {
                    return Err(failed(&"outside of its entry"));
                }
                let record = Record::decode(entry.slice(from..to)).map_err(|error| failed(&error))?;
                let what = match MessageName::of_body(&record.body) {
                    Some(name) => What::Stored(Stored {
                        reader: replica.to_owned(),
                        broker_group: broker_group.to_owned(),
                        topic: topic.name.clone(),
                        queue: i64::from(queue),
                        offset: number(offset),
                        key: name.to_string(),
                    }),
                    None => What::Stranger {
                        message_id: record.message_id,
                    },
                };
                witness.record(what);
            }
        }
    }
    Ok(())
}

/// Records the progress of every consumer group, and tells the history what retention has forgotten.
pub(super) fn progress(witness: &Witness, replica: &str, broker_group: &str, broker: &Broker) {
    let view = broker.view();
    let Some(as_of) = view.as_of() else { return };
    let topics = view.topics();
    for topic in &topics {
        for (queue, bounds) in (0..).zip(view.queue_bounds(&topic.name).unwrap_or_default()) {
            if bounds.first.0 > 0 {
                witness
                    .history
                    .begins(broker_group, &topic.name, queue, number(bounds.first));
            }
        }
    }
    for group in view.consumer_groups() {
        for topic in &topics {
            for progress in view.progress(&group.name, &topic.name).unwrap_or_default() {
                witness.record(What::Progress(Progress {
                    reader: replica.to_owned(),
                    broker_group: broker_group.to_owned(),
                    consumer_group: group.name.clone(),
                    topic: topic.name.clone(),
                    queue: i64::from(progress.queue_id),
                    done: number(progress.floor),
                    next: number(progress.next),
                    end: number(progress.end),
                    not_done: progress.not_done,
                    index: as_of.index.get(),
                }));
            }
        }
    }
}
