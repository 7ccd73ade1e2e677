//! The first renewal of leases that renew by themselves: a door tells the leader what it delivered (see
//! [`crate::delivered`]). Internal: no client calls it.

use std::sync::Arc;

use ledgermq_proto::rocketmq::Code;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::call::Call;
use crate::delivered::{Delivery, Stretch};
use crate::door::Door;
use crate::language::Language;
use crate::leader::{Leader, Verb};
use crate::limits;
use crate::marks::mark;
use crate::refusal::{LeadError, Refusal};
use crate::state::command::{Action, Renew, RenewSpan};
use crate::state::identity::{LeaseId, QueueOffset, client_hash};

/// The verb between doors.
pub struct Confirm;

/// What arrived at one client.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Arrived {
    /// For which consumer group.
    #[prost(string, tag = "1")]
    pub consumer_group: String,
    /// Of which topic.
    #[prost(string, tag = "2")]
    pub topic: String,
    /// Queue, first offset, last offset and lease of each stretch, one after another.
    #[prost(uint64, repeated, tag = "3")]
    pub stretches: Vec<u64>,
}

/// Done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Done {}

const WORDS: usize = 4;

fn words(stretches: &[Stretch]) -> Vec<u64> {
    let words = |s: &Stretch| [u64::from(s.queue_id), s.first.0, s.last.0, s.lease.0];
    stretches.iter().flat_map(words).collect()
}

impl Verb for Confirm {
    const NAME: &'static str = "Confirm";
    type Request = Arrived;
    type Reply = Done;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &Arrived) -> Result<Done, LeadError> {
        let (stretches, rest) = request.stretches.as_chunks::<WORDS>();
        if !rest.is_empty() {
            let length = request.stretches.len();
            return Err(Refusal::new(Code::BadRequest, format!("{length} words are no stretches")).into());
        }
        let stretches = stretches.iter().map(|[queue_id, first, last, lease]| Stretch {
            queue_id: u32::try_from(*queue_id).unwrap_or(u32::MAX),
            first: QueueOffset(*first),
            last: QueueOffset(*last),
            lease: LeaseId(*lease),
        });
        let held = held(leader, (&request.consumer_group, &request.topic), stretches);
        for spans in held.chunks(limits::RENEW_BATCH_MAX) {
            let renew = Renew {
                consumer_group: request.consumer_group.clone(),
                topic: request.topic.clone(),
                spans: spans.to_vec(),
            };
            mark("delivery_confirmed");
            leader.propose(leader.request_id(), Action::Renew(renew)).await?;
        }
        Ok(Done {})
    }
}

/// What of these stretches is not acknowledged yet, as far as this replica knows.
fn held(leader: &Leader, of: (&str, &str), stretches: impl Iterator<Item = Stretch>) -> Vec<RenewSpan> {
    let spans = stretches.flat_map(|s| leader.view.self_renewing(of, s.queue_id, (s.first, s.last), s.lease));
    spans.collect()
}

/// Confirms what this door delivered to clients that live and have not acknowledged it yet.
pub async fn confirm_deliveries(door: Arc<Door>) {
    let mut beat = interval(limits::RENEW_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        for delivery in door.delivered.due() {
            if door.leader.clients.lives(client_hash(&delivery.client_id)) {
                confirm(&door, delivery).await;
            }
        }
    }
}

async fn confirm(door: &Door, delivery: Delivery) {
    // What this replica knows may be a moment old, yet what it has seen acknowledged needs no call.
    let of = (delivery.consumer_group.as_str(), delivery.topic.as_str());
    if held(&door.leader, of, delivery.stretches.iter().copied()).is_empty() {
        return;
    }
    let call = Call {
        client_id: delivery.client_id,
        language: Language::Unknown,
        client_version: String::new(),
        peer_host: String::new(),
        request_id: door.leader.request_id(),
        client_deadline: None,
        deadline: Instant::now() + limits::HOLD,
    };
    let arrived = Arrived {
        consumer_group: delivery.consumer_group,
        topic: delivery.topic,
        stretches: words(&delivery.stretches),
    };
    if let Err(refusal) = door.call::<Confirm>(&call, &arrived).await {
        tracing::debug!(%refusal, "deliveries were not confirmed");
    }
}
