//! From a plan to the messages in the reply. Runs as a task of its own: a receiver that goes away in the middle must not
//! leave messages granted to nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledgermq_proto::rocketmq::{
    DeadLetterQueue, Digest, DigestType, Encoding, Message, MessageType as WireType, Resource, SystemProperties,
};
use tokio::sync::oneshot;

use super::{Received, Request, timestamp};
use crate::call::Call;
use crate::lanes::Lane;
use crate::leader::{Leader, unexpected};
use crate::limits;
use crate::marks::mark;
use crate::planted::Bug;
use crate::records::{ReadRecordError, Records};
use crate::refusal::{LeadError, Refusal};
use crate::rpc::release;
use crate::state::command::{Action, Lease, PlannedRange};
use crate::state::handle::ReceiptHandle;
use crate::state::identity::{LeaseId, TopicId};
use crate::state::outcome::{Granted, Leased, Outcome};
use crate::state::plan::{Plan, PlannedRecord};
use crate::state::record::{BodyEncoding, MessageType, Record};
use crate::validate::message::md5_upper;

/// Planned ranges that no other receive plans, until this is dropped.
pub(super) struct Reservation {
    lane: Arc<Lane>,
    ranges: Vec<PlannedRange>,
}

impl Reservation {
    pub(super) fn new(lane: Arc<Lane>, ranges: Vec<PlannedRange>) -> Self {
        Self { lane, ranges }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.ranges.is_empty() {
            return;
        }
        let mut reserved = self.lane.reserved();
        reserved.remove(&self.ranges);
        let hindered = self.lane.hindered.swap(false, Ordering::Relaxed);
        drop(reserved);
        if hindered {
            self.lane.wake.notify_one();
        }
    }
}

/// What the task needs, apart from the plan.
struct Task {
    leader: Arc<Leader>,
    call: Call,
    consumer_group: String,
    topic: String,
    tags: Vec<String>,
}

pub(super) async fn grant(
    request: &Request<'_>,
    lane: &Arc<Lane>,
    plan: Plan,
    reservation: Reservation,
) -> Result<Received, LeadError> {
    let lease = Lease {
        consumer_group: request.consumer_group.to_owned(),
        topic: request.topic.to_owned(),
        invisible_ms: request.invisible_ms,
        auto_renew: request.auto_renew,
        client_id: request.call.client_id.clone(),
        attempt_id: request.attempt_id.to_owned(),
        ranges: plan.ranges,
    };
    let task = Task {
        leader: Arc::clone(request.leader),
        call: request.call.clone(),
        consumer_group: request.consumer_group.to_owned(),
        topic: request.topic.to_owned(),
        tags: request.tags.clone(),
    };
    let more = plan.more || plan.records.len() >= request.batch;
    let lane = Arc::clone(lane);
    let (done, answer) = oneshot::channel();
    tokio::spawn(async move {
        let leased = match task.leader.planted.has(Bug::StaleLeaderGrants) {
            true => task.lease_in_time(lease, &plan.records).await,
            false => task.lease(lease).await,
        };
        drop(reservation);
        if more {
            lane.wake.notify_one();
        }
        let received = match leased {
            Ok(leased) => task.messages(leased, &plan.records).await,
            Err(error) => Err(error),
        };
        if let Err(Ok(received)) = done.send(received) {
            task.give_back(received).await;
        }
    });
    answer
        .await
        .unwrap_or_else(|_| Err(LeadError::Unknown("the receive broke off".into())))
}

impl Task {
    async fn lease(&self, lease: Lease) -> Result<Leased, LeadError> {
        match self
            .leader
            .propose(self.leader.request_id(), Action::Lease(lease))
            .await?
        {
            Outcome::Leased(leased) => Ok(leased?),
            other => Err(unexpected(&other)),
        }
    }

    /// The bug: what the log does not take in time is handed out as it was planned.
    async fn lease_in_time(&self, lease: Lease, planned: &[PlannedRecord]) -> Result<Leased, LeadError> {
        const PATIENCE: Duration = Duration::from_millis(100);
        let visible_at_ms = self.leader.now_ms() + lease.invisible_ms;
        let topic = self.leader.view.topic(&lease.topic);
        match (tokio::time::timeout(PATIENCE, self.lease(lease)).await, topic) {
            (Ok(Ok(leased)), _) => Ok(leased),
            (Ok(Err(error)), None) => Err(error),
            (Err(_), None) => Err(LeadError::Unknown("not in time".into())),
            (_, Some(topic)) => Ok(Leased {
                topic: topic.id,
                granted: planned
                    .iter()
                    .map(|record| Granted {
                        queue_id: record.queue_id,
                        offset: record.offset,
                        attempt: 1,
                        lease: LeaseId(0),
                        visible_at_ms,
                    })
                    .collect(),
                dead_lettered: 0,
            }),
        }
    }

    async fn messages(&self, leased: Leased, planned: &[PlannedRecord]) -> Result<Received, LeadError> {
        if leased.granted.is_empty() {
            return Ok(Received::default());
        }
        let planned: BTreeMap<(u32, u64), PlannedRecord> = planned
            .iter()
            .map(|record| ((record.queue_id, record.offset.0), *record))
            .collect();
        let granted: Vec<(Granted, PlannedRecord)> = leased
            .granted
            .iter()
            .filter_map(|granted| Some((*granted, *planned.get(&(granted.queue_id, granted.offset.0))?)))
            .collect();
        let leader = Arc::clone(&self.leader);
        let topic = leased.topic;
        let read = self.leader.blocking.run(move || read(&leader, topic, &granted)).await;
        let records = match read {
            Some(Ok(records)) => records,
            Some(Err(reason)) => {
                return Err(Refusal::new(ledgermq_proto::rocketmq::Code::InternalServerError, reason).into());
            }
            None => return Err(LeadError::Unknown("the read broke off".into())),
        };
        let mut messages = Vec::with_capacity(records.len());
        let mut unwanted = Vec::new();
        for (granted, planned, record) in records {
            let handle = ReceiptHandle {
                broker_group: self.leader.broker_group.clone(),
                topic: leased.topic,
                queue_id: granted.queue_id,
                offset: granted.offset,
                lease: granted.lease,
            };
            // The plan compares hashes of tags; here the text decides.
            if !self.tags.is_empty() && !self.tags.contains(&record.tag) {
                unwanted.push(handle);
            } else {
                messages.push(message(&self.topic, record, granted, planned, &handle));
            }
        }
        if !unwanted.is_empty() {
            release::done(&self.leader, &self.consumer_group, &self.topic, unwanted).await;
        }
        self.leader
            .metrics
            .messages_out(&self.topic, &self.consumer_group, messages.len());
        Ok(Received { messages })
    }

    async fn give_back(&self, received: Received) {
        let handles = received
            .messages
            .into_iter()
            .filter_map(|message| message.system_properties?.receipt_handle);
        let handles: Vec<ReceiptHandle> = handles.filter_map(|handle| handle.parse().ok()).collect();
        tracing::debug!(
            client = self.call.client_id,
            count = handles.len(),
            "client left before its messages came"
        );
        release::give_back(&self.leader, &self.consumer_group, &self.topic, handles).await;
    }
}

type ReadRecord = (Granted, PlannedRecord, Record);

/// Reads records. One that was forgotten since it was granted is left out: its lease ended with it.
fn read(leader: &Leader, topic: TopicId, granted: &[(Granted, PlannedRecord)]) -> Result<Vec<ReadRecord>, String> {
    let mut records = Records::new(&leader.handle);
    let mut read = Vec::with_capacity(granted.len());
    for (granted, planned) in granted {
        let bytes = match records.read(planned.location) {
            Err(ReadRecordError::Gone(_)) => {
                mark("record_moved_under_reader");
                let now = leader.view.location(topic, granted.queue_id, granted.offset);
                match now.map_err(|error| error.to_string())? {
                    Some(location) => records.read(location),
                    None => continue,
                }
            }
            bytes => bytes,
        };
        let bytes = bytes.map_err(|error| error.to_string())?;
        let record = Record::decode(bytes).map_err(|error| error.to_string())?;
        read.push((*granted, *planned, record));
    }
    Ok(read)
}

/// A message as clients need it (grpc.md C.1).
fn message(topic: &str, record: Record, granted: Granted, planned: PlannedRecord, handle: &ReceiptHandle) -> Message {
    let some = |text: String| (!text.is_empty()).then_some(text);
    // A dead letter keeps the topic it was sent to; clients get the topic they asked for.
    let origin = (record.topic != topic).then(|| DeadLetterQueue {
        topic: record.topic.clone(),
        message_id: record.message_id.clone(),
    });
    let message_type = match record.message_type {
        MessageType::Normal => WireType::Normal,
        MessageType::Fifo => WireType::Fifo,
        MessageType::Delay => WireType::Delay,
        MessageType::Transaction => WireType::Transaction,
    };
    let encoding = match record.body_encoding {
        BodyEncoding::Identity => Encoding::Identity,
        BodyEncoding::Gzip => Encoding::Gzip,
    };
    let system = SystemProperties {
        tag: some(record.tag),
        keys: record.keys,
        message_id: record.message_id,
        body_digest: Some(Digest {
            r#type: DigestType::Md5 as i32,
            checksum: md5_upper(&record.body),
        }),
        body_encoding: encoding as i32,
        message_type: message_type as i32,
        born_timestamp: Some(timestamp(record.born_timestamp_ms)),
        born_host: record.born_host,
        store_timestamp: Some(timestamp(planned.store_time_ms)),
        store_host: record.store_host,
        delivery_timestamp: record.delivery_timestamp_ms.map(timestamp),
        receipt_handle: Some(handle.to_string()),
        queue_id: granted.queue_id as i32,
        queue_offset: Some(granted.offset.0 as i64),
        delivery_attempt: Some(i32::try_from(granted.attempt).unwrap_or(i32::MAX)),
        message_group: some(record.message_group),
        trace_context: some(record.trace_context),
        dead_letter_queue: origin,
        ..SystemProperties::default()
    };
    debug_assert!(record.body.len() <= limits::BODY_BYTES_MAX);
    Message {
        topic: Some(Resource {
            name: topic.to_owned(),
            ..Resource::default()
        }),
        user_properties: record.properties.into_iter().collect(),
        system_properties: Some(system),
        body: record.body,
    }
}
