//! The leader's side of every verb: what a replica does with a call once it leads, be the call its own or another door's.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ledgermq_proto::rocketmq::Code;
use ledgermq_raft_store::{Handle, LogIndex, ReplicaId, Role};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::blocking::Blocking;
use crate::call::Call;
use crate::clients::Clients;
use crate::config::{Config, ConsumeFrom};
use crate::counters::Metrics;
use crate::lanes::Lanes;
use crate::limits;
use crate::planted::Planted;
use crate::refusal::{LeadError, Refusal};
use crate::room::Room;
use crate::state::command::{Action, Command, CreateConsumerGroup, CreateTopic};
use crate::state::identity::RequestId;
use crate::state::machine::StateMachine;
use crate::state::outcome::{CreateConsumerGroupError, CreateTopicError, Outcome};
use crate::state::topic::{self, ConsumerGroup, Topic, TopicKind};
use crate::state::view::View;

/// A call that the leader answers, wherever it came in.
pub trait Verb: Send + Sync + 'static {
    /// Its name between doors; never reused.
    const NAME: &'static str;
    /// What is asked, validated by the door.
    type Request: prost::Message + Default + 'static;
    /// What is answered; what is refused travels beside it.
    type Reply: prost::Message + Default + 'static;

    /// The answer where a refusal says that an earlier try, whose outcome nobody heard, was done. Verbs that are commands need
    /// none: apply answers a repeat as it did first.
    fn done_before(_refusal: &Refusal) -> Option<Self::Reply> {
        None
    }

    /// Does it. Called only where the replica leads; must be safe to drop at every await, and to repeat with the same
    /// request id.
    fn lead(
        leader: &Arc<Leader>,
        call: &Call,
        request: &Self::Request,
    ) -> impl Future<Output = Result<Self::Reply, LeadError>> + Send;
}

/// What the verbs need of a replica.
pub struct Leader {
    /// The replica's number.
    pub id: ReplicaId,
    /// Its broker group.
    pub broker_group: String,
    /// host:port as clients are told.
    pub client_address: String,
    /// The log.
    pub handle: Handle<StateMachine>,
    /// The state.
    pub view: View,
    /// Where polls park.
    pub lanes: Arc<Lanes>,
    /// Clients heard of here.
    pub clients: Clients,
    /// Where body reads run.
    pub blocking: Blocking,
    /// Counters.
    pub metrics: Metrics,
    /// Tells parked polls to end.
    pub stopping: watch::Receiver<bool>,
    /// Room on the disks.
    pub room: Room,
    /// When a probe was last committed.
    pub last_probe: LastProbe,
    /// A replica silent for so long counts as away, milliseconds.
    pub away_after_ms: u64,
    /// A bug on purpose.
    pub planted: Planted,
    role: watch::Receiver<Role>,
    ids: RequestIds,
    round_robin: AtomicU32,
    settings: Settings,
}

struct Settings {
    auto_create_topics: bool,
    auto_create_consumer_groups: bool,
    default_queues: u32,
    consume_from: ConsumeFrom,
}

/// The parts of a replica that [`Leader::new`] puts together.
pub struct Parts {
    /// host:port as clients are told.
    pub client_address: String,
    /// The log.
    pub handle: Handle<StateMachine>,
    /// The state.
    pub view: View,
    /// Where polls park.
    pub lanes: Arc<Lanes>,
    /// Where body reads run.
    pub blocking: Blocking,
    /// Counters.
    pub metrics: Metrics,
    /// Tells parked polls to end.
    pub stopping: watch::Receiver<bool>,
    /// Root of the request ids.
    pub seed: u64,
    /// A bug on purpose.
    pub planted: Planted,
}

impl Leader {
    /// The leader's side of a replica that may or may not lead.
    pub fn new(config: &Config, parts: Parts) -> Self {
        Self {
            id: ReplicaId(config.replica_id),
            broker_group: config.broker_group.clone(),
            client_address: parts.client_address,
            role: parts.handle.role(),
            handle: parts.handle,
            view: parts.view,
            lanes: parts.lanes,
            clients: Clients::default(),
            blocking: parts.blocking,
            metrics: parts.metrics,
            stopping: parts.stopping,
            room: Room::new(config.disk_full_percent),
            last_probe: LastProbe::default(),
            away_after_ms: config.away_after_ms(),
            planted: parts.planted,
            ids: RequestIds::new(parts.seed),
            round_robin: AtomicU32::new(0),
            settings: Settings {
                auto_create_topics: config.auto_create_topics,
                auto_create_consumer_groups: config.auto_create_consumer_groups,
                default_queues: config.default_queues,
                consume_from: config.consume_from,
            },
        }
    }

    /// The replica's role at the moment.
    pub fn role(&self) -> Role {
        *self.role.borrow()
    }

    /// The replica's role and its changes.
    pub fn role_watch(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Unix milliseconds as the broker group agrees on them; not before log time.
    pub fn now_ms(&self) -> u64 {
        self.handle.cluster_clock(self.view.log_time_ms())
    }

    /// A request id of this process.
    pub fn request_id(&self) -> RequestId {
        self.ids.next()
    }

    /// The next number of the round-robin over queues.
    pub fn next_round(&self) -> u32 {
        self.round_robin.fetch_add(1, Ordering::Relaxed)
    }

    /// Proposes an action and answers its outcome once it is applied here.
    pub async fn propose(&self, request_id: RequestId, action: Action) -> Result<Outcome, LeadError> {
        Ok(self.propose_at(request_id, action).await?.1)
    }

    /// The same, and the entry that the action went into.
    pub async fn propose_at(&self, request_id: RequestId, action: Action) -> Result<(LogIndex, Outcome), LeadError> {
        let command = Command {
            stamp_ms: self.now_ms(),
            request_id,
            action,
        };
        let bytes = command.encode();
        drop(command);
        let proposed = self.handle.propose(bytes).await?;
        Ok((proposed.id.index, proposed.outcome))
    }

    /// The topic, made now if it may be.
    pub async fn topic(&self, call: &Call, name: &str) -> Result<Arc<Topic>, LeadError> {
        if let Some(topic) = self.view.topic(name) {
            return Ok(topic);
        }
        if !self.settings.auto_create_topics || name.starts_with(topic::DEAD_LETTER_PREFIX) {
            return Err(Refusal::new(Code::TopicNotFound, format!("topic {name} not found")).into());
        }
        let create = CreateTopic {
            name: name.to_owned(),
            kind: TopicKind::Mixed,
            queues: self.settings.default_queues,
        };
        match self
            .propose(derived(call.request_id, 1), Action::CreateTopic(create))
            .await?
        {
            Outcome::TopicCreated(Ok(topic) | Err(CreateTopicError::Exists(topic))) => Ok(topic),
            Outcome::TopicCreated(Err(error)) => Err(error.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// The consumer group, made now if it may be.
    pub async fn consumer_group(&self, call: &Call, name: &str) -> Result<Arc<ConsumerGroup>, LeadError> {
        if let Some(group) = self.view.consumer_group(name) {
            return Ok(group);
        }
        if !self.settings.auto_create_consumer_groups {
            return Err(Refusal::new(Code::ConsumerGroupNotFound, format!("consumer group {name} not found")).into());
        }
        let create = CreateConsumerGroup {
            name: name.to_owned(),
            fifo: false,
            max_attempts: crate::state::limits::MAX_ATTEMPTS_DEFAULT,
            from: self.consume_from(),
        };
        match self
            .propose(derived(call.request_id, 2), Action::CreateConsumerGroup(create))
            .await?
        {
            Outcome::ConsumerGroupCreated(Ok(group) | Err(CreateConsumerGroupError::Exists(group))) => Ok(group),
            Outcome::ConsumerGroupCreated(Err(error)) => Err(error.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// Where a consumer group starts unless it is told.
    pub fn consume_from(&self) -> topic::ConsumeFrom {
        match self.settings.consume_from {
            ConsumeFrom::Earliest => topic::ConsumeFrom::Earliest,
            ConsumeFrom::Latest => topic::ConsumeFrom::Latest,
        }
    }

    /// Queues of a topic unless it is told.
    pub fn default_queues(&self) -> u32 {
        self.settings.default_queues
    }
}

/// An outcome of another command than the one proposed: a bug, answered as unknown.
pub fn unexpected(outcome: &Outcome) -> LeadError {
    tracing::error!(?outcome, "outcome of another command");
    Refusal::new(Code::InternalServerError, "the outcome is of another command").into()
}

/// The id of a further command of the same call: one request id answers one command only.
pub fn derived(request_id: RequestId, step: u8) -> RequestId {
    let mut bytes = request_id.0;
    bytes[0] ^= step;
    RequestId(bytes)
}

/// Request ids: a random half that tells processes apart, and a counter. The first byte is left to [`derived`].
struct RequestIds {
    half: [u8; 7],
    next: AtomicU64,
}

impl RequestIds {
    fn new(seed: u64) -> Self {
        let mixed = (seed ^ 0x7265_7175_6573_7473)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_le_bytes();
        let half = [mixed[1], mixed[2], mixed[3], mixed[4], mixed[5], mixed[6], mixed[7]];
        Self {
            half,
            next: AtomicU64::new(1),
        }
    }

    fn next(&self) -> RequestId {
        let mut bytes = [0; 16];
        bytes[1..8].copy_from_slice(&self.half);
        bytes[8..].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        RequestId(bytes)
    }
}

/// When a probe was last committed here as leader: the doors of a broker group share one.
#[derive(Default)]
pub struct LastProbe(Mutex<Option<Instant>>);

impl LastProbe {
    /// Whether it was so recently that the next one can do without an entry.
    pub fn fresh(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < limits::PROBE_INTERVAL / 2)
    }

    /// One was committed now.
    pub fn committed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}
