//! What a client keeps up at each address: a Telemetry stream with its Settings, and heartbeats.
//!
//! A lost stream is opened again after a second. Neither is needed to send or to receive: failures are not reported.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use ledgermq_proto::rocketmq::{
    ClientType, FilterExpression, FilterType, HeartbeatRequest, Language, NotifyClientTerminationRequest, Publishing,
    Settings, Subscription, SubscriptionEntry, TelemetryCommand, Ua, settings::PubSub, telemetry_command::Command,
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{calls::Calls, door::Address, limits, route::Topic};

/// What a client tells the servers that it is.
pub(crate) enum Role {
    Producer,
    SimpleConsumer {
        consumer_group: String,
        /// Filter expression of each topic.
        subscriptions: BTreeMap<String, String>,
    },
}

impl Role {
    fn client_type(&self) -> ClientType {
        match self {
            Self::Producer => ClientType::Producer,
            Self::SimpleConsumer { .. } => ClientType::SimpleConsumer,
        }
    }

    fn consumer_group(&self) -> Option<&str> {
        match self {
            Self::Producer => None,
            Self::SimpleConsumer { consumer_group, .. } => Some(consumer_group),
        }
    }
}

/// The filter that an expression of tags means: `*` or `a || b`.
pub(crate) fn tag_filter(expression: &str) -> FilterExpression {
    FilterExpression {
        r#type: FilterType::Tag.into(),
        expression: expression.to_owned(),
    }
}

/// One session for each address of the routes.
pub(crate) struct Sessions {
    member: Arc<Member>,
    tasks: Mutex<BTreeMap<String, AbortHandle>>,
}

/// What each session tells.
struct Member {
    calls: Arc<Calls>,
    role: Role,
    /// Names of the topics in use; a change is told to every server.
    topics: watch::Sender<Vec<String>>,
}

impl Sessions {
    pub(crate) fn new(calls: Arc<Calls>, role: Role) -> Self {
        let member = Member {
            calls,
            role,
            topics: watch::Sender::new(Vec::new()),
        };
        Self {
            member: Arc::new(member),
            tasks: Mutex::default(),
        }
    }

    /// Opens sessions at addresses that are new in the routes, ends those at addresses that left.
    pub(crate) fn keep(&self, topics: &[Arc<Topic>]) {
        let mut wanted = BTreeMap::new();
        for route in topics.iter().filter_map(|topic| topic.route()) {
            for address in route.queues().iter().flat_map(|queue| queue.doors.addresses()) {
                wanted
                    .entry(address.authority().to_owned())
                    .or_insert_with(|| address.clone());
            }
        }
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        self.member.topics.send_if_modified(|known| {
            let changed = *known != names;
            if changed {
                *known = names;
            }
            changed
        });
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|authority, task| {
            let keep = wanted.contains_key(authority);
            if !keep {
                task.abort();
            }
            keep
        });
        if self.member.calls.is_closed() {
            return;
        }
        for (authority, address) in wanted {
            tasks
                .entry(authority)
                .or_insert_with(|| tokio::spawn(run(self.member.clone(), address)).abort_handle());
        }
    }

    /// Ends them all, without a farewell.
    pub(crate) fn end(&self) {
        for task in std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner)).into_values() {
            task.abort();
        }
    }

    /// Tells every server that this client ends.
    pub(crate) async fn farewell(&self) {
        let Member { calls, role, .. } = &*self.member;
        let authorities: Vec<String> = self
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect();
        let group = role.consumer_group().map(|name| calls.resource(name));
        let farewells = authorities.iter().filter_map(|authority| {
            let mut stub = calls.book.address(authority).ok()?.stub();
            let request = calls.request(
                NotifyClientTerminationRequest { group: group.clone() },
                limits::SHUTDOWN_GRACE,
            );
            Some(async move { stub.notify_client_termination(request).await.map(drop) })
        });
        // Who does not hear it forgets the client when its heartbeats stay away.
        let _ = timeout(limits::SHUTDOWN_GRACE, futures::future::join_all(farewells)).await;
    }
}

impl Member {
    fn settings(&self) -> TelemetryCommand {
        let pub_sub = match &self.role {
            Role::Producer => PubSub::Publishing(Publishing {
                topics: self
                    .topics
                    .borrow()
                    .iter()
                    .map(|name| self.calls.resource(name))
                    .collect(),
                ..Default::default()
            }),
            Role::SimpleConsumer {
                consumer_group,
                subscriptions,
            } => PubSub::Subscription(Subscription {
                group: Some(self.calls.resource(consumer_group)),
                subscriptions: subscriptions
                    .iter()
                    .map(|(topic, expression)| SubscriptionEntry {
                        topic: Some(self.calls.resource(topic)),
                        expression: Some(tag_filter(expression)),
                    })
                    .collect(),
                long_polling_timeout: limits::LONG_POLL_MAX.try_into().ok(),
                ..Default::default()
            }),
        };
        let settings = Settings {
            client_type: Some(self.role.client_type().into()),
            access_point: Some(self.calls.access_point()),
            request_timeout: self.calls.options.attempt_timeout.try_into().ok(),
            user_agent: Some(Ua {
                language: Language::Rust.into(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                platform: std::env::consts::OS.to_owned(),
                hostname: String::new(),
            }),
            pub_sub: Some(pub_sub),
            ..Default::default()
        };
        TelemetryCommand {
            status: None,
            command: Some(Command::Settings(settings)),
        }
    }
}

async fn run(member: Arc<Member>, address: Arc<Address>) {
    let telemetry = async {
        loop {
            telemetry(&member, &address).await;
            sleep(limits::TELEMETRY_REOPEN).await;
        }
    };
    tokio::select! {
        biased;
        () = telemetry => {}
        () = heartbeats(&member, &address) => {}
    }
}

/// Holds one Telemetry stream until it is lost.
async fn telemetry(member: &Member, address: &Address) {
    let deadline = member.calls.options.attempt_timeout;
    let mut topics = member.topics.subscribe();
    let (commands, stream) = mpsc::channel(4);
    if commands.try_send(member.settings()).is_err() {
        return;
    }
    let mut stub = address.stub();
    let opening = stub.telemetry(member.calls.endless(ReceiverStream::new(stream)));
    let Ok(Ok(opened)) = timeout(deadline, opening).await else {
        return;
    };
    let mut replies = opened.into_inner();
    loop {
        tokio::select! {
            biased;
            reply = replies.message() => match reply {
                Ok(Some(TelemetryCommand { command: Some(Command::ReconnectEndpointsCommand(_)), .. })) => return,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            },
            changed = topics.changed() => {
                let told = timeout(deadline, commands.send(member.settings())).await;
                if changed.is_err() || !matches!(told, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}

async fn heartbeats(member: &Member, address: &Address) {
    let mut beat = interval(limits::HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let heartbeat = HeartbeatRequest {
            group: member.role.consumer_group().map(|name| member.calls.resource(name)),
            client_type: member.role.client_type().into(),
        };
        let deadline = member.calls.options.attempt_timeout;
        let request = member.calls.request(heartbeat, deadline);
        if let Ok(Err(status)) = timeout(deadline, address.stub().heartbeat(request)).await {
            tracing::debug!(address = address.authority(), %status, "heartbeat failed");
        }
    }
}
