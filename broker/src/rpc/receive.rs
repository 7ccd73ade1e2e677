//! ReceiveMessage (grpc.md B.5): the leader plans and reserves, the log decides, the bodies are read from the log.
//!
//! ```text
//!   plan ─▶ reserve ─▶ propose the lease ─▶ read the granted records ─▶ reply
//!     └─ nothing ─▶ park in the lane until an arrival, a lease's end, the deadline, or the loss of leadership
//! ```
//! A client that is gone when its messages were granted gives them back: they are visible after 1 s. What was written to the
//! end of the reply is confirmed by the door before its lease is renewed.

mod grant;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use ledgermq_proto::rocketmq::receive_message_response::Content;
use ledgermq_proto::rocketmq::{Code, Message, ReceiveMessageRequest, ReceiveMessageResponse, Status};
use tokio::time::{Instant, sleep_until};

use super::Messaging;
use crate::call::{self, Call, ConnectionEnd};
use crate::delivered::{Delivery, Stretch, stretches};
use crate::door::{leadership_ends, stops};
use crate::lanes::{Lane, Parked};
use crate::leader::{Leader, Verb};
use crate::limits;
use crate::marks::mark;
use crate::refusal::{LeadError, Refusal, ok};
use crate::state::plan::{Filter, Plan, PlanRequest};
use crate::validate::{names, receive};

/// The verb between doors.
pub struct Receive;

/// Messages handed out; none when the poll's time is over.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Received {
    /// As the client gets them.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<Message>,
}

/// The frames of one reply. Messages that were not taken when it is dropped are given back; a reply that was taken whole is
/// noted as delivered.
pub struct Frames {
    frames: VecDeque<ReceiveMessageResponse>,
    handed_out: Option<HandedOut>,
}

/// Whose messages a reply carries.
struct HandedOut {
    messaging: Messaging,
    call: Call,
    consumer_group: String,
    topic: String,
    connection: ConnectionEnd,
    /// Leases that renew by themselves; empty for others.
    self_renewing: Vec<Stretch>,
}

impl Messaging {
    pub(super) async fn receive(&self, request: tonic::Request<ReceiveMessageRequest>) -> tonic::Response<Frames> {
        let language = call::language(request.metadata());
        let connection = request.extensions().get::<ConnectionEnd>().cloned().unwrap_or_default();
        let answer = match self.read(&request) {
            Ok(mut call) => self
                .receive_checked(&mut call, request.get_ref())
                .await
                .map(|received| (call, received)),
            Err(refusal) => Err(refusal),
        };
        let request = request.into_inner();
        tonic::Response::new(match answer {
            Ok((_, received)) if received.messages.is_empty() => {
                let status = Refusal::new(Code::MessageNotFound, "no new message").status(language);
                self.frames(status, Vec::new(), None)
            }
            Ok((call, received)) => {
                let topic = request.message_queue.and_then(|queue| queue.topic).unwrap_or_default();
                let handles = received
                    .messages
                    .iter()
                    .filter_map(handle)
                    .filter_map(|text| text.parse().ok());
                let handed_out = HandedOut {
                    messaging: self.clone(),
                    call,
                    consumer_group: request.group.unwrap_or_default().name,
                    topic: topic.name,
                    connection,
                    self_renewing: if request.auto_renew {
                        stretches(handles)
                    } else {
                        Vec::new()
                    },
                };
                self.frames(ok(), received.messages, Some(handed_out))
            }
            Err(refusal) => self.frames(refusal.status(language), Vec::new(), None),
        })
    }

    async fn receive_checked(&self, call: &mut Call, request: &ReceiveMessageRequest) -> Result<Received, Refusal> {
        let until = receive::poll_until(
            request.long_polling_timeout.as_ref(),
            call.client_deadline,
            &call.client_version,
            Instant::now(),
        )?;
        names::topic(request.message_queue.as_ref().and_then(|queue| queue.topic.as_ref()))?;
        names::consumer_group(request.group.as_ref())?;
        receive::invisible_ms(request)?;
        receive::filter(request.filter_expression.as_ref())?;
        self.leader().clients.heard(&call.client_id);
        call.deadline = until;
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            () = stops(&mut stopping) => Ok(Received::default()),
            received = self.door.call::<Receive>(call, request) => match received {
                // The poll's time ended a moment before the leader's word came: there is a leader, and no message.
                Err(refusal) if refusal == Refusal::no_leader() && self.leader().role().leader.is_some() => {
                    Ok(Received::default())
                }
                received => received,
            },
        }
    }

    /// Status first, then the messages, then the time (grpc.md B.5); never without a frame.
    fn frames(&self, status: Status, messages: Vec<Message>, handed_out: Option<HandedOut>) -> Frames {
        let now_ms = (self.wall_clock)();
        let frame = |content| ReceiveMessageResponse { content: Some(content) };
        let mut frames = VecDeque::with_capacity(messages.len() + 2);
        frames.push_back(frame(Content::Status(status)));
        frames.extend(messages.into_iter().map(|message| frame(Content::Message(message))));
        frames.push_back(frame(Content::DeliveryTimestamp(timestamp(now_ms))));
        Frames { frames, handed_out }
    }
}

/// Unix milliseconds as protobuf.
pub fn timestamp(ms: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: (ms / 1000) as i64,
        nanos: ((ms % 1000) * 1_000_000) as i32,
    }
}

impl Stream for Frames {
    type Item = Result<ReceiveMessageResponse, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.frames.pop_front().map(Ok))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let Some(handed_out) = self.handed_out.take() else {
            return;
        };
        let HandedOut {
            messaging,
            call,
            consumer_group,
            topic,
            connection,
            self_renewing,
        } = handed_out;
        let untaken = self.frames.drain(..).filter_map(|frame| match frame.content {
            Some(Content::Message(message)) => handle(&message).map(str::to_owned),
            _ => None,
        });
        let handles: Vec<String> = untaken.collect();
        if !handles.is_empty() {
            mark("undelivered_given_back");
            tokio::spawn(async move { messaging.release(call, consumer_group, topic, handles).await });
        } else if !self_renewing.is_empty() {
            let delivery = Delivery {
                client_id: call.client_id,
                consumer_group,
                topic,
                stretches: self_renewing,
            };
            messaging.door.delivered.note(delivery, connection);
        }
    }
}

fn handle(message: &Message) -> Option<&str> {
    message.system_properties.as_ref()?.receipt_handle.as_deref()
}

/// One poll at the leader.
struct Request<'a> {
    leader: &'a Arc<Leader>,
    call: &'a Call,
    consumer_group: &'a str,
    topic: &'a str,
    attempt_id: &'a str,
    batch: usize,
    filter: Filter,
    tags: receive::Tags,
    invisible_ms: u64,
    auto_renew: bool,
}

impl Verb for Receive {
    const NAME: &'static str = "ReceiveMessage";
    type Request = ReceiveMessageRequest;
    type Reply = Received;

    async fn lead(leader: &Arc<Leader>, call: &Call, request: &ReceiveMessageRequest) -> Result<Received, LeadError> {
        let topic = names::topic(request.message_queue.as_ref().and_then(|queue| queue.topic.as_ref()))?;
        let consumer_group = names::consumer_group(request.group.as_ref())?;
        leader.clients.heard(&call.client_id);
        let topic = leader.topic(call, topic).await?;
        leader.consumer_group(call, consumer_group).await?;
        let tags = receive::filter(request.filter_expression.as_ref())?;
        let poll = Request {
            leader,
            call,
            consumer_group,
            topic: &topic.name,
            attempt_id: request.attempt_id.as_deref().unwrap_or_default(),
            batch: request.batch_size.clamp(1, limits::RECEIVE_BATCH_MAX as i32) as usize,
            filter: receive::plan_filter(&tags),
            tags,
            invisible_ms: receive::invisible_ms(request)?,
            auto_renew: request.auto_renew,
        };
        poll.run().await
    }
}

impl Request<'_> {
    async fn run(&self) -> Result<Received, LeadError> {
        let busy = || Refusal::new(Code::TooManyRequests, "polling full");
        let lane = self
            .leader
            .lanes
            .lane(self.topic, self.consumer_group)
            .ok_or_else(busy)?;
        // The door must have the answer before its own time is over.
        let until = self.call.deadline - limits::POLL_MARGIN.min(self.call.remaining());
        let mut role = self.leader.role_watch();
        let term = self.leader.role().term;
        let mut parked: Option<Parked> = None;
        let mut tries = 0;
        loop {
            if !self.leader.role().serving || self.leader.role().term != term {
                return Err(LeadError::NotLeader);
            }
            let now_ms = self.leader.now_ms();
            let (plan, reservation) = self.plan(&lane, now_ms)?;
            if !plan.ranges.is_empty() || plan.first_contact {
                let more = plan.more;
                let received = grant::grant(self, &lane, plan, reservation).await?;
                if !received.messages.is_empty() {
                    return Ok(received);
                }
                tries += 1;
                // Nothing granted: others were quicker, or all was filtered out. Look again, but never spin.
                if more || tries < limits::PLAN_TRIES_MAX {
                    continue;
                }
                tries = 0;
                self.park(&lane, None, now_ms, until, &mut role, term, &mut parked)
                    .await?;
            } else {
                tries = 0;
                self.park(
                    &lane,
                    plan.next_visible_at_ms,
                    now_ms,
                    until,
                    &mut role,
                    term,
                    &mut parked,
                )
                .await?;
            }
            if Instant::now() >= until || *self.leader.stopping.borrow() {
                return Ok(Received::default());
            }
        }
    }

    /// Plans and reserves in one step, so that no two receives propose the same message.
    fn plan(&self, lane: &Arc<Lane>, now_ms: u64) -> Result<(Plan, grant::Reservation), LeadError> {
        let mut reserved = lane.reserved();
        let plan = self.leader.view.plan_receive(&PlanRequest {
            consumer_group: self.consumer_group,
            topic: self.topic,
            client_id: &self.call.client_id,
            attempt_id: self.attempt_id,
            max_messages: self.batch,
            max_bytes: limits::RECEIVE_REPLY_BYTES_MAX,
            filter: &self.filter,
            now_ms,
            start_queue: lane.start_queue.fetch_add(1, Ordering::Relaxed),
            reserved: &reserved,
        })?;
        reserved.add(&plan.ranges);
        if plan.ranges.is_empty() && plan.hindered {
            lane.hindered.store(true, Ordering::Relaxed);
        }
        drop(reserved);
        let reservation = grant::Reservation::new(Arc::clone(lane), plan.ranges.clone());
        Ok((plan, reservation))
    }

    #[allow(clippy::too_many_arguments)] // the state of one loop
    async fn park(
        &self,
        lane: &Arc<Lane>,
        next_visible_at_ms: Option<u64>,
        now_ms: u64,
        until: Instant,
        role: &mut tokio::sync::watch::Receiver<ledgermq_raft_store::Role>,
        term: ledgermq_raft_store::Term,
        parked: &mut Option<Parked>,
    ) -> Result<(), LeadError> {
        if parked.is_none() {
            let place = self.leader.lanes.park(lane);
            *parked = Some(place.ok_or_else(|| Refusal::new(Code::TooManyRequests, "polling full"))?);
        }
        let visible_in = next_visible_at_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms).max(1)));
        let look_again = visible_in.unwrap_or(limits::POLL_RECHECK).min(limits::POLL_RECHECK);
        let wake_at = (Instant::now() + look_again).min(until);
        let mut stopping = self.leader.stopping.clone();
        tokio::select! {
            biased;
            () = leadership_ends(role, term) => {
                mark("poll_moved");
                Err(LeadError::NotLeader)
            }
            () = stops(&mut stopping) => Ok(()),
            () = lane.wake.notified() => Ok(()),
            () = sleep_until(wake_at) => Ok(()),
        }
    }
}
