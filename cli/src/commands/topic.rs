//! `ledgermq topic create|list|describe|delete`.

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
    /// Create a topic
    Create {
        /// The topic's name
        name: String,
        /// Which messages it takes
        #[arg(long = "type", value_enum, default_value_t = Type::Normal)]
        kind: Type,
        /// Message queues in each broker group
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
        queues: u32,
        #[command(flatten)]
        target: Target,
    },
    /// List all topics
    List {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Show a topic and its queues
    Describe {
        /// The topic's name
        name: String,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a topic with its messages
    Delete {
        /// The topic's name
        name: String,
        #[command(flatten)]
        target: Target,
    },
}

/// The message types of a topic.
#[derive(Clone, Copy, ValueEnum)]
enum Type {
    Normal,
    Fifo,
    Delay,
    Transaction,
    Mixed,
}

impl Type {
    fn word(self) -> &'static str {
        match self {
            Type::Normal => "normal",
            Type::Fifo => "fifo",
            Type::Delay => "delay",
            Type::Transaction => "transaction",
            Type::Mixed => "mixed",
        }
    }
}

/// One topic, as `--json` prints it.
#[derive(Serialize)]
struct TopicLine {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    queues: u32,
}

impl From<admin::Topic> for TopicLine {
    fn from(topic: admin::Topic) -> TopicLine {
        TopicLine {
            name: topic.name,
            kind: topic.r#type,
            queues: topic.queues,
        }
    }
}

#[derive(Serialize)]
struct TopicList {
    topics: Vec<TopicLine>,
}

#[derive(Serialize)]
struct Description {
    #[serde(flatten)]
    topic: TopicLine,
    message_queues: Vec<QueueLine>,
}

#[derive(Serialize)]
struct QueueLine {
    broker_group: String,
    queue_id: u32,
    first_offset: u64,
    next_offset: u64,
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Create {
            name,
            kind,
            queues,
            target,
        } => create(&target, name, kind, queues).await,
        Verb::List { json, target } => list(&target, json).await,
        Verb::Describe { name, json, target } => describe(&target, name, json).await,
        Verb::Delete { name, target } => delete(&target, name).await,
    }
}

async fn create(target: &Target, name: String, kind: Type, queues: u32) -> Result<(), Failure> {
    let request = admin::CreateTopicRequest {
        name: name.clone(),
        r#type: kind.word().to_owned(),
        queues,
    };
    ask_each(target, "create topic", Code::AlreadyExists, async |admin| {
        admin.create_topic(request.clone()).await
    })
    .await?;
    line_out(&format!("topic {name} created: type {}, {queues} queues", kind.word()))
}

async fn list(target: &Target, json: bool) -> Result<(), Failure> {
    let request = admin::ListTopicsRequest {};
    let responses = ask_each(target, "list topics", Code::NotFound, async |admin| {
        admin.list_topics(request).await
    })
    .await?;
    // The same topic in several broker groups is one topic.
    let by_name: BTreeMap<String, TopicLine> = responses
        .into_iter()
        .flat_map(|response| response.topics)
        .map(|topic| (topic.name.clone(), TopicLine::from(topic)))
        .collect();
    let topics: Vec<TopicLine> = by_name.into_values().collect();
    if json {
        return json_line(&TopicList { topics });
    }
    let mut table = Table::new(&["TOPIC", "TYPE", "QUEUES"]);
    for topic in topics {
        table.row(vec![topic.name, topic.kind, topic.queues.to_string()]);
    }
    table.print()
}

async fn describe(target: &Target, name: String, json: bool) -> Result<(), Failure> {
    let request = admin::DescribeTopicRequest { name };
    let responses = ask_each(target, "describe topic", Code::NotFound, async |admin| {
        admin.describe_topic(request.clone()).await
    })
    .await?;
    let topic = responses
        .first()
        .and_then(|response| response.topic.clone())
        .unwrap_or_default();
    let topic = TopicLine::from(topic);
    let message_queues: Vec<QueueLine> = responses
        .into_iter()
        .flat_map(|response| response.queues)
        .map(|queue| QueueLine {
            broker_group: queue.broker_group,
            queue_id: queue.queue_id,
            first_offset: queue.first_offset,
            next_offset: queue.next_offset,
        })
        .collect();
    if json {
        return json_line(&Description { topic, message_queues });
    }
    line_out(&format!(
        "topic {}: type {}, {} queues",
        topic.name, topic.kind, topic.queues
    ))?;
    let mut table = Table::new(&["BROKER GROUP", "QUEUE", "FIRST OFFSET", "NEXT OFFSET"]);
    for queue in message_queues {
        table.row(vec![
            queue.broker_group,
            queue.queue_id.to_string(),
            queue.first_offset.to_string(),
            queue.next_offset.to_string(),
        ]);
    }
    table.print()
}

async fn delete(target: &Target, name: String) -> Result<(), Failure> {
    let request = admin::DeleteTopicRequest { name: name.clone() };
    ask_each(target, "delete topic", Code::NotFound, async |admin| {
        admin.delete_topic(request.clone()).await
    })
    .await?;
    line_out(&format!("topic {name} deleted"))
}
