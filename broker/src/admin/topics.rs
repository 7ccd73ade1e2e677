//! Topics of the command line: create, list, describe, delete.

use std::sync::Arc;

use ledgermq_proto::admin as wire;
use ledgermq_proto::rocketmq::{Code, Resource};
use tonic::{Response, Status};

use super::Administration;
use crate::call::Call;
use crate::leader::{Leader, Verb, unexpected};
use crate::refusal::{LeadError, Refusal, grpc};
use crate::routes::kind_of;
use crate::state::command::{self, Action};
use crate::state::outcome::{CreateTopicError, Outcome};
use crate::state::topic::Topic;
use crate::validate::names;

/// Makes a topic.
pub struct CreateTopic;
/// Removes a topic.
pub struct DeleteTopic;
/// All topics.
pub struct ListTopics;
/// One topic and its queues.
pub struct DescribeTopic;

pub(super) async fn create(
    admin: &Administration,
    mut request: wire::CreateTopicRequest,
) -> Result<Response<wire::CreateTopicResponse>, Status> {
    checked(&request.name).map_err(|refusal| grpc(&refusal))?;
    if request.r#type.is_empty() {
        request.r#type = "mixed".to_owned();
    }
    if kind_of(&request.r#type).is_none() {
        let text = format!(
            "type is {:?}, it must be normal, fifo, delay, transaction or mixed",
            request.r#type
        );
        return Err(Status::invalid_argument(text));
    }
    if request.queues == 0 {
        request.queues = admin.door.leader.default_queues();
    }
    admin
        .ask::<CreateTopic>(&request)
        .await
        .map_err(|status| match status.code() {
            tonic::Code::InvalidArgument if status.message().ends_with(" exists") => {
                Status::already_exists(status.message())
            }
            _ => status,
        })
}

fn checked(name: &str) -> Result<(), Refusal> {
    let resource = Resource {
        name: name.to_owned(),
        ..Resource::default()
    };
    names::topic(Some(&resource)).map(|_| ())
}

fn wire(topic: &Topic) -> wire::Topic {
    wire::Topic {
        name: topic.name.clone(),
        r#type: topic.kind.to_string(),
        queues: topic.queues,
    }
}

fn not_found(name: &str) -> LeadError {
    Refusal::new(Code::TopicNotFound, format!("topic {name} not found")).into()
}

impl Verb for CreateTopic {
    const NAME: &'static str = "Admin/CreateTopic";
    type Request = wire::CreateTopicRequest;
    type Reply = wire::CreateTopicResponse;

    async fn lead(leader: &Arc<Leader>, call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        let kind = kind_of(&request.r#type)
            .ok_or_else(|| Refusal::new(Code::BadRequest, format!("unknown topic type {:?}", request.r#type)))?;
        let create = command::CreateTopic {
            name: request.name.clone(),
            kind,
            queues: request.queues,
        };
        match leader.propose(call.request_id, Action::CreateTopic(create)).await? {
            Outcome::TopicCreated(Ok(_)) => Ok(wire::CreateTopicResponse {}),
            // Creation is idempotent: the same again is success.
            Outcome::TopicCreated(Err(CreateTopicError::Exists(topic)))
                if topic.kind == kind && topic.queues == request.queues =>
            {
                Ok(wire::CreateTopicResponse {})
            }
            Outcome::TopicCreated(Err(error)) => Err(error.into()),
            other => Err(unexpected(&other)),
        }
    }
}

impl Verb for DeleteTopic {
    const NAME: &'static str = "Admin/DeleteTopic";
    type Request = wire::DeleteTopicRequest;
    type Reply = wire::DeleteTopicResponse;

    async fn lead(leader: &Arc<Leader>, call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        let delete = Action::DeleteTopic {
            name: request.name.clone(),
        };
        match leader.propose(call.request_id, delete).await? {
            Outcome::TopicDeleted(Ok(())) => Ok(wire::DeleteTopicResponse {}),
            Outcome::TopicDeleted(Err(_)) if leader.view.topic(&request.name).is_none() => {
                Err(not_found(&request.name))
            }
            Outcome::TopicDeleted(Err(error)) => Err(error.into()),
            other => Err(unexpected(&other)),
        }
    }
}

impl Verb for ListTopics {
    const NAME: &'static str = "Admin/ListTopics";
    type Request = wire::ListTopicsRequest;
    type Reply = wire::ListTopicsResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, _request: &Self::Request) -> Result<Self::Reply, LeadError> {
        Ok(wire::ListTopicsResponse {
            topics: leader.view.topics().iter().map(|topic| wire(topic)).collect(),
        })
    }
}

impl Verb for DescribeTopic {
    const NAME: &'static str = "Admin/DescribeTopic";
    type Request = wire::DescribeTopicRequest;
    type Reply = wire::DescribeTopicResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        let name = &request.name;
        let topic = leader.view.topic(name).ok_or_else(|| not_found(name))?;
        let bounds = leader.view.queue_bounds(name).ok_or_else(|| not_found(name))?;
        let queues = bounds.into_iter().zip(0..).map(|(bounds, queue_id)| wire::TopicQueue {
            broker_group: leader.broker_group.clone(),
            queue_id,
            first_offset: bounds.first.0,
            next_offset: bounds.end.0,
        });
        Ok(wire::DescribeTopicResponse {
            topic: Some(wire(&topic)),
            queues: queues.collect(),
        })
    }
}
