//! Telemetry (grpc.md B.10): answers each Settings with the merged ones, complete, with status OK (G.5 says which client
//! breaks on which gap); ends when the client half-closes or this process stops.

use std::time::Duration;

use ledgermq_proto::rocketmq::settings::PubSub;
use ledgermq_proto::rocketmq::telemetry_command::Command;
use ledgermq_proto::rocketmq::{
    ClientType, Code, CustomizedBackoff, ExponentialBackoff, Metric, ReconnectEndpointsCommand, RetryPolicy, Settings,
    TelemetryCommand, retry_policy::Strategy,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::Messaging;
use super::rules::Rules;
use crate::call::Call;
use crate::door::stops;
use crate::language::Language;
use crate::limits;
use crate::refusal::{Refusal, ok};
use crate::state::limits::{MAX_ATTEMPTS_DEFAULT, SCHEDULE_MS};
use crate::validate::{names, properties, receive};

/// Attempts of a producer. The Python library takes the next queue of one counter shared by its threads at each try, so
/// three tries may meet the same dead replica.
const PRODUCER_ATTEMPTS: i32 = 3;
const PYTHON_PRODUCER_ATTEMPTS: i32 = 10;

/// What goes back to the client.
pub type Commands = ReceiverStream<Result<TelemetryCommand, tonic::Status>>;

impl Messaging {
    pub(super) fn telemetry(
        &self,
        request: tonic::Request<tonic::Streaming<TelemetryCommand>>,
    ) -> tonic::Response<Commands> {
        let call = self.read(&request);
        let (commands, receiver) = mpsc::channel(4);
        let messaging = self.clone();
        let incoming = request.into_inner();
        tokio::spawn(async move { messaging.converse(call, incoming, commands).await });
        tonic::Response::new(ReceiverStream::new(receiver))
    }

    async fn converse(
        self,
        call: Result<Call, Refusal>,
        mut incoming: tonic::Streaming<TelemetryCommand>,
        commands: mpsc::Sender<Result<TelemetryCommand, tonic::Status>>,
    ) {
        let mut stopping = self.stopping.clone();
        loop {
            let command = tokio::select! {
                biased;
                () = stops(&mut stopping) => {
                    let reconnect = Command::ReconnectEndpointsCommand(ReconnectEndpointsCommand { nonce: "1".into() });
                    let farewell = TelemetryCommand { status: Some(ok()), command: Some(reconnect) };
                    let _left = commands.try_send(Ok(farewell));
                    return;
                }
                () = commands.closed() => return,
                command = incoming.message() => match command {
                    Ok(Some(command)) => command,
                    // Half-closed, or gone.
                    Ok(None) | Err(_) => return,
                },
            };
            let answer = match &call {
                Ok(call) => self.answer(call, command).await,
                Err(refusal) => {
                    let status = Some(refusal.status(Language::Unknown));
                    Some(Ok(TelemetryCommand { status, command: None }))
                }
            };
            let Some(answer) = answer else { continue };
            let last = answer.is_err();
            if commands.send(answer).await.is_err() || last {
                return;
            }
        }
    }

    async fn answer(&self, call: &Call, command: TelemetryCommand) -> Option<Result<TelemetryCommand, tonic::Status>> {
        self.leader().clients.heard(&call.client_id);
        match command.command {
            Some(Command::Settings(settings)) => Some(match self.merged(call, settings).await {
                Ok(settings) => Ok(TelemetryCommand {
                    status: Some(ok()),
                    command: Some(Command::Settings(settings)),
                }),
                // The client opens the stream again.
                Err(refusal) if refusal.code == Code::HaNotAvailable => {
                    Err(tonic::Status::unavailable(refusal.message))
                }
                Err(refusal) => Err(tonic::Status::invalid_argument(refusal.message)),
            }),
            // Answers to commands that this server does not send yet.
            Some(_) | None => None,
        }
    }

    async fn merged(&self, call: &Call, settings: Settings) -> Result<Settings, Refusal> {
        properties::client(&settings.client_properties)?;
        let group = match &settings.pub_sub {
            Some(PubSub::Publishing(publishing)) => {
                for topic in &publishing.topics {
                    names::topic(Some(topic))?;
                }
                None
            }
            Some(PubSub::Subscription(subscription)) => {
                let name = names::consumer_group(subscription.group.as_ref())?;
                for entry in &subscription.subscriptions {
                    names::topic(entry.topic.as_ref())?;
                    match receive::filter(entry.expression.as_ref()) {
                        Err(refusal) if refusal.code != Code::NotImplemented => return Err(refusal),
                        _ => {}
                    }
                }
                // The stream lives for long, what it asks does not.
                let call = Call {
                    request_id: self.leader().request_id(),
                    deadline: Instant::now() + limits::HOLD,
                    ..call.clone()
                };
                self.rules(&call, name).await?
            }
            None => {
                return Err(Refusal::new(
                    Code::BadRequest,
                    "the settings have neither publishing nor subscription",
                ));
            }
        };
        Ok(merge(settings, group.as_ref(), call.language))
    }
}

/// The client's own settings with the server's values in their places (grpc.md B.10).
fn merge(mut settings: Settings, group: Option<&Rules>, language: Language) -> Settings {
    let lite = settings.client_type == Some(ClientType::LitePushConsumer as i32)
        || settings.client_type == Some(ClientType::LiteSimpleConsumer as i32);
    match &mut settings.pub_sub {
        Some(PubSub::Publishing(publishing)) => {
            publishing.max_body_size = limits::BODY_BYTES_MAX as i32;
            publishing.validate_message_type = true;
            let exponential = ExponentialBackoff {
                initial: Some(duration(Duration::from_millis(10))),
                max: Some(duration(Duration::from_secs(1))),
                multiplier: 2.0,
            };
            settings.backoff_policy = Some(RetryPolicy {
                max_attempts: if language == Language::Python {
                    PYTHON_PRODUCER_ATTEMPTS
                } else {
                    PRODUCER_ATTEMPTS
                },
                strategy: Some(Strategy::ExponentialBackoff(exponential)),
            });
        }
        Some(PubSub::Subscription(subscription)) => {
            subscription.fifo = Some(group.is_some_and(|group| group.fifo));
            subscription.receive_batch_size = Some(limits::RECEIVE_BATCH_MAX as i32);
            subscription.long_polling_timeout = Some(duration(limits::POLLING_MAX));
            if lite {
                subscription.lite_subscription_quota = Some(2000);
                subscription.max_lite_topic_size = Some(64);
            }
            let attempts = group.map_or(MAX_ATTEMPTS_DEFAULT, |group| group.max_attempts);
            let schedule = group.map_or(&SCHEDULE_MS[..], |group| &group.schedule_ms);
            let next = schedule.iter().map(|ms| duration(Duration::from_millis(*ms))).collect();
            settings.backoff_policy = Some(RetryPolicy {
                max_attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
                strategy: Some(Strategy::CustomizedBackoff(CustomizedBackoff { next })),
            });
        }
        None => {}
    }
    settings.metric = Some(Metric {
        on: false,
        endpoints: None,
    });
    settings
}

fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: duration.as_secs() as i64,
        nanos: duration.subsec_nanos() as i32,
    }
}

#[cfg(test)]
mod tests {
    use ledgermq_proto::rocketmq::{Publishing, Resource, Subscription};

    use super::*;

    #[test]
    fn a_producer_gets_all_fields_and_its_own() {
        let topics = vec![Resource {
            name: "t".into(),
            ..Resource::default()
        }];
        let own = Settings {
            client_type: Some(ClientType::Producer as i32),
            request_timeout: Some(duration(Duration::from_secs(3))),
            pub_sub: Some(PubSub::Publishing(Publishing {
                topics: topics.clone(),
                ..Publishing::default()
            })),
            ..Settings::default()
        };
        let merged = merge(own.clone(), None, Language::Java);
        let Some(PubSub::Publishing(publishing)) = merged.pub_sub else {
            panic!("another kind")
        };
        assert_eq!((publishing.topics, publishing.max_body_size), (topics, 4 << 20));
        assert!(publishing.validate_message_type);
        assert_eq!(
            (merged.client_type, merged.request_timeout),
            (own.client_type, own.request_timeout)
        );
        let policy = merged.backoff_policy.expect("a policy");
        assert_eq!(policy.max_attempts, 3);
        let Some(Strategy::ExponentialBackoff(backoff)) = policy.strategy else {
            panic!("must be exponential")
        };
        assert_eq!(
            (backoff.initial.map(|d| d.nanos), backoff.max.map(|d| d.seconds)),
            (Some(10_000_000), Some(1))
        );
        assert_eq!(
            merged.metric,
            Some(Metric {
                on: false,
                endpoints: None
            })
        );
        assert_eq!(
            merge(own, None, Language::Python)
                .backoff_policy
                .map(|policy| policy.max_attempts),
            Some(10)
        );
    }

    #[test]
    fn a_consumer_gets_the_schedule() {
        let group = Resource {
            name: "g".into(),
            ..Resource::default()
        };
        let subscription = Subscription {
            group: Some(group.clone()),
            ..Subscription::default()
        };
        let own = Settings {
            client_type: Some(ClientType::PushConsumer as i32),
            pub_sub: Some(PubSub::Subscription(subscription)),
            ..Settings::default()
        };
        let merged = merge(own, None, Language::Java);
        let Some(PubSub::Subscription(subscription)) = merged.pub_sub else {
            panic!("another kind")
        };
        assert_eq!(subscription.group, Some(group));
        assert_eq!(
            (subscription.fifo, subscription.receive_batch_size),
            (Some(false), Some(32))
        );
        assert_eq!(
            subscription.long_polling_timeout.map(|d| (d.seconds, d.nanos)),
            Some((20, 0))
        );
        let policy = merged.backoff_policy.expect("a policy");
        assert_eq!(policy.max_attempts, 17);
        let Some(Strategy::CustomizedBackoff(backoff)) = policy.strategy else {
            panic!("must be customized")
        };
        let seconds: Vec<i64> = backoff.next.iter().map(|d| d.seconds).collect();
        assert_eq!(
            seconds,
            [
                1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200
            ]
        );
    }
}
