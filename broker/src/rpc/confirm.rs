//! The first renewal of leases that renew by themselves: a door tells the leader what it delivered (see
//! [`crate::delivered`]). Internal: no client calls it.

use std::collections::VecDeque;
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
        let of = (request.consumer_group.as_str(), request.topic.as_str());
        // What is acknowledged meanwhile leaves the rest of its span in pieces that the command does not name.
        for round in 0..limits::RENEW_ROUNDS {
            let held = held(leader, of, stretches.clone());
            if held.is_empty() {
                break;
            }
            if round > 0 {
                mark("delivery_confirmed_again");
            }
            for spans in held.chunks(limits::RENEW_BATCH_MAX) {
                let renew = Renew {
                    consumer_group: request.consumer_group.clone(),
                    topic: request.topic.clone(),
                    spans: spans.to_vec(),
                };
                mark("delivery_confirmed");
                leader.propose(leader.request_id(), Action::Renew(renew)).await?;
            }
        }
        Ok(Done {})
    }
}

/// What of these stretches is neither acknowledged nor confirmed yet, as far as this replica knows.
fn held(leader: &Leader, of: (&str, &str), stretches: impl Iterator<Item = Stretch>) -> Vec<RenewSpan> {
    let spans = stretches.flat_map(|s| leader.view.unconfirmed(of, s.queue_id, (s.first, s.last), s.lease));
    spans.collect()
}

/// Whether this replica has seen all of a delivery acknowledged. What it holds may be a moment old, or nothing while another
/// replica's state is on its way; then it knows nothing of the leases.
fn is_seen_done(leader: &Leader, delivery: &Delivery) -> bool {
    let of = (delivery.consumer_group.as_str(), delivery.topic.as_str());
    let applied = leader.view.applied().map_or(0, |id| id.index.get());
    let knows = delivery.stretches.iter().all(|stretch| stretch.lease.0 <= applied);
    knows && held(leader, of, delivery.stretches.iter().copied()).is_empty()
}

/// Confirms what this door delivered to clients that live and have not acknowledged it yet.
pub async fn confirm_deliveries(door: Arc<Door>) {
    let mut beat = interval(limits::RENEW_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let mut due = door.delivered.due();
        let mut untold = VecDeque::new();
        while untold.len() < limits::CONFIRM_FAILURES as usize
            && let Some(reply) = due.pop_front()
        {
            let delivery = &reply.delivery;
            let needed = door.leader.clients.lives(client_hash(&delivery.client_id));
            if needed && !is_seen_done(&door.leader, delivery) && !confirm(&door, delivery).await {
                untold.push_back(reply);
            }
        }
        untold.append(&mut due);
        door.delivered.put_back(untold);
    }
}

/// True when the leader has taken it.
async fn confirm(door: &Door, delivery: &Delivery) -> bool {
    let call = Call {
        client_id: delivery.client_id.clone(),
        language: Language::Unknown,
        client_version: String::new(),
        peer_host: String::new(),
        request_id: door.leader.request_id(),
        client_deadline: None,
        deadline: Instant::now() + limits::HOLD,
    };
    let arrived = Arrived {
        consumer_group: delivery.consumer_group.clone(),
        topic: delivery.topic.clone(),
        stretches: words(&delivery.stretches),
    };
    let told = door.call::<Confirm>(&call, &arrived).await;
    if let Err(refusal) = &told {
        tracing::debug!(%refusal, "deliveries were not confirmed");
    }
    told.is_ok()
}
