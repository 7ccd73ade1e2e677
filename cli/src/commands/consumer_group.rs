//! `ledgermq consumer-group create|list|describe`.

use crate::admin::Target;
use crate::broker_groups::ask_each;
use crate::failure::Failure;
use crate::output::{Table, json_line, line_out};
use clap::{Args, Subcommand, ValueEnum};
use ledgermq_proto::admin;
use serde::Serialize;
use std::collections::BTreeMap;
use tonic::Code;

/// The flags.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Create a consumer group
    Create {
        /// The consumer group's name
        name: String,
        /// Messages of a message group are received in order, one after the other
        #[arg(long)]
        fifo: bool,
        /// Deliveries of a message before it goes to the dead-letter topic [default: 17]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        max_attempts: Option<u32>,
        /// Where it starts in a topic that it has not read yet [default: the broker's]
        #[arg(long, value_enum)]
        from: Option<StartFrom>,
        #[command(flatten)]
        target: Target,
    },
    /// List all consumer groups
    List {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Show a consumer group and its progress in every queue
    Describe {
        /// The consumer group's name
        name: String,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
}

/// Where a new consumer group starts.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "lower")]
enum StartFrom {
    Earliest,
    Latest,
}

impl StartFrom {
    fn word(self) -> &'static str {
        match self {
            StartFrom::Earliest => "earliest",
            StartFrom::Latest => "latest",
        }
    }
}

/// One consumer group, as `--json` prints it.
#[derive(Serialize)]
struct ConsumerGroupLine {
    name: String,
    fifo: bool,
    max_attempts: u32,
    from: String,
}

impl From<admin::ConsumerGroup> for ConsumerGroupLine {
    fn from(it: admin::ConsumerGroup) -> ConsumerGroupLine {
        ConsumerGroupLine {
            name: it.name,
            fifo: it.fifo,
            max_attempts: it.max_attempts,
            from: it.from,
        }
    }
}

#[derive(Serialize)]
struct ConsumerGroupList {
    consumer_groups: Vec<ConsumerGroupLine>,
}

#[derive(Serialize)]
struct Description {
    #[serde(flatten)]
    consumer_group: ConsumerGroupLine,
    progress: Vec<ProgressLine>,
}

#[derive(Serialize)]
struct ProgressLine {
    topic: String,
    broker_group: String,
    queue_id: u32,
    done_offset: u64,
    next_offset: u64,
    end_offset: u64,
    in_flight: u64,
    lag: u64,
}

impl From<admin::QueueProgress> for ProgressLine {
    fn from(it: admin::QueueProgress) -> ProgressLine {
        ProgressLine {
            topic: it.topic,
            broker_group: it.broker_group,
            queue_id: it.queue_id,
            done_offset: it.done_offset,
            next_offset: it.next_offset,
            end_offset: it.end_offset,
            in_flight: it.in_flight,
            lag: it.lag,
        }
    }
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Create {
            name,
            fifo,
            max_attempts,
            from,
            target,
        } => {
            let request = admin::CreateConsumerGroupRequest {
                name,
                fifo,
                max_attempts: max_attempts.unwrap_or(0),
                from: from.map(StartFrom::word).unwrap_or_default().to_owned(),
            };
            create(&target, request).await
        }
        Verb::List { json, target } => list(&target, json).await,
        Verb::Describe { name, json, target } => describe(&target, name, json).await,
    }
}

async fn create(target: &Target, request: admin::CreateConsumerGroupRequest) -> Result<(), Failure> {
    let name = request.name.clone();
    ask_each(target, "create consumer group", Code::AlreadyExists, async |admin| {
        admin.create_consumer_group(request.clone()).await
    })
    .await?;
    line_out(&format!("consumer group {name} created"))
}

async fn list(target: &Target, json: bool) -> Result<(), Failure> {
    let request = admin::ListConsumerGroupsRequest {};
    let responses = ask_each(target, "list consumer groups", Code::NotFound, async |admin| {
        admin.list_consumer_groups(request).await
    })
    .await?;
    // The same consumer group in several broker groups is one consumer group.
    let by_name: BTreeMap<String, ConsumerGroupLine> = responses
        .into_iter()
        .flat_map(|response| response.consumer_groups)
        .map(|it| (it.name.clone(), ConsumerGroupLine::from(it)))
        .collect();
    let consumer_groups: Vec<ConsumerGroupLine> = by_name.into_values().collect();
    if json {
        return json_line(&ConsumerGroupList { consumer_groups });
    }
    let mut table = Table::new(&["CONSUMER GROUP", "FIFO", "MAX ATTEMPTS", "FROM"]);
    for it in consumer_groups {
        table.row(vec![it.name, it.fifo.to_string(), it.max_attempts.to_string(), it.from]);
    }
    table.print()
}

async fn describe(target: &Target, name: String, json: bool) -> Result<(), Failure> {
    let request = admin::DescribeConsumerGroupRequest { name };
    let responses = ask_each(target, "describe consumer group", Code::NotFound, async |admin| {
        admin.describe_consumer_group(request.clone()).await
    })
    .await?;
    let first = responses
        .first()
        .and_then(|response| response.consumer_group.clone())
        .unwrap_or_default();
    let consumer_group = ConsumerGroupLine::from(first);
    let progress: Vec<ProgressLine> = responses
        .into_iter()
        .flat_map(|response| response.progress)
        .map(ProgressLine::from)
        .collect();
    if json {
        return json_line(&Description {
            consumer_group,
            progress,
        });
    }
    line_out(&format!(
        "consumer group {}: fifo {}, at most {} attempts, from {}",
        consumer_group.name, consumer_group.fifo, consumer_group.max_attempts, consumer_group.from
    ))?;
    let mut table = Table::new(&[
        "TOPIC",
        "BROKER GROUP",
        "QUEUE",
        "DONE",
        "NEXT",
        "END",
        "IN FLIGHT",
        "LAG",
    ]);
    for it in progress {
        let numbers = [
            u64::from(it.queue_id),
            it.done_offset,
            it.next_offset,
            it.end_offset,
            it.in_flight,
            it.lag,
        ];
        let mut cells = vec![it.topic, it.broker_group];
        cells.extend(numbers.iter().map(u64::to_string));
        table.row(cells);
    }
    table.print()
}
