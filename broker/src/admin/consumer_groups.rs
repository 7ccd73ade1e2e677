//! Consumer groups of the command line: create, list, describe.

use std::sync::Arc;

use ledgermq_proto::admin as wire;
use ledgermq_proto::rocketmq::{Code, Resource};
use tonic::{Response, Status};

use super::Administration;
use crate::call::Call;
use crate::leader::{Leader, Verb, unexpected};
use crate::refusal::{LeadError, Refusal, grpc};
use crate::state::command::{self, Action};
use crate::state::limits::MAX_ATTEMPTS_DEFAULT;
use crate::state::outcome::{CreateConsumerGroupError, Outcome};
use crate::state::topic::{ConsumeFrom, ConsumerGroup};
use crate::validate::names;

/// Most deliveries that may be asked for.
const MAX_ATTEMPTS_LIMIT: u32 = 1000;

/// Makes a consumer group.
pub struct CreateConsumerGroup;
/// All consumer groups.
pub struct ListConsumerGroups;
/// One consumer group and how far it is.
pub struct DescribeConsumerGroup;

pub(super) async fn create(
    admin: &Administration,
    mut request: wire::CreateConsumerGroupRequest,
) -> Result<Response<wire::CreateConsumerGroupResponse>, Status> {
    let resource = Resource {
        name: request.name.clone(),
        ..Resource::default()
    };
    names::consumer_group(Some(&resource)).map_err(|refusal| grpc(&refusal))?;
    if request.max_attempts == 0 {
        request.max_attempts = MAX_ATTEMPTS_DEFAULT;
    }
    if request.max_attempts > MAX_ATTEMPTS_LIMIT {
        let asked = request.max_attempts;
        return Err(Status::invalid_argument(format!(
            "max_attempts is {asked}, it must be 1 to {MAX_ATTEMPTS_LIMIT}"
        )));
    }
    if request.from.is_empty() {
        request.from = word(admin.door.leader.consume_from()).to_owned();
    }
    if from_of(&request.from).is_none() {
        return Err(Status::invalid_argument(format!(
            "from is {:?}, it must be earliest or latest",
            request.from
        )));
    }
    admin
        .ask::<CreateConsumerGroup>(&request)
        .await
        .map_err(|status| match status.code() {
            tonic::Code::InvalidArgument if status.message().ends_with(" exists") => {
                Status::already_exists(status.message())
            }
            _ => status,
        })
}

fn from_of(word: &str) -> Option<ConsumeFrom> {
    match word {
        "earliest" => Some(ConsumeFrom::Earliest),
        "latest" => Some(ConsumeFrom::Latest),
        _ => None,
    }
}

fn word(from: ConsumeFrom) -> &'static str {
    match from {
        ConsumeFrom::Earliest => "earliest",
        ConsumeFrom::Latest => "latest",
    }
}

fn wire(group: &ConsumerGroup) -> wire::ConsumerGroup {
    wire::ConsumerGroup {
        name: group.name.clone(),
        fifo: group.fifo,
        max_attempts: group.max_attempts,
        from: word(group.from).to_owned(),
    }
}

impl Verb for CreateConsumerGroup {
    const NAME: &'static str = "Admin/CreateConsumerGroup";
    type Request = wire::CreateConsumerGroupRequest;
    type Reply = wire::CreateConsumerGroupResponse;

    async fn lead(leader: &Arc<Leader>, call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        let from = from_of(&request.from)
            .ok_or_else(|| Refusal::new(Code::BadRequest, format!("unknown start {:?}", request.from)))?;
        let create = command::CreateConsumerGroup {
            name: request.name.clone(),
            fifo: request.fifo,
            max_attempts: request.max_attempts,
            from,
        };
        match leader
            .propose(call.request_id, Action::CreateConsumerGroup(create))
            .await?
        {
            Outcome::ConsumerGroupCreated(Ok(_)) => Ok(wire::CreateConsumerGroupResponse {}),
            Outcome::ConsumerGroupCreated(Err(CreateConsumerGroupError::Exists(group)))
                if wire(&group) == wire_of(request) =>
            {
                Ok(wire::CreateConsumerGroupResponse {})
            }
            Outcome::ConsumerGroupCreated(Err(error)) => Err(error.into()),
            other => Err(unexpected(&other)),
        }
    }
}

fn wire_of(request: &wire::CreateConsumerGroupRequest) -> wire::ConsumerGroup {
    wire::ConsumerGroup {
        name: request.name.clone(),
        fifo: request.fifo,
        max_attempts: request.max_attempts,
        from: request.from.clone(),
    }
}

impl Verb for ListConsumerGroups {
    const NAME: &'static str = "Admin/ListConsumerGroups";
    type Request = wire::ListConsumerGroupsRequest;
    type Reply = wire::ListConsumerGroupsResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, _request: &Self::Request) -> Result<Self::Reply, LeadError> {
        let groups = leader.view.consumer_groups();
        Ok(wire::ListConsumerGroupsResponse {
            consumer_groups: groups.iter().map(|group| wire(group)).collect(),
        })
    }
}

impl Verb for DescribeConsumerGroup {
    const NAME: &'static str = "Admin/DescribeConsumerGroup";
    type Request = wire::DescribeConsumerGroupRequest;
    type Reply = wire::DescribeConsumerGroupResponse;

    async fn lead(leader: &Arc<Leader>, _call: &Call, request: &Self::Request) -> Result<Self::Reply, LeadError> {
        let name = &request.name;
        let group = leader
            .view
            .consumer_group(name)
            .ok_or_else(|| Refusal::new(Code::ConsumerGroupNotFound, format!("consumer group {name} not found")))?;
        let mut progress = Vec::new();
        for topic in leader.view.topics() {
            for queue in leader.view.progress(name, &topic.name).unwrap_or_default() {
                progress.push(wire::QueueProgress {
                    topic: topic.name.clone(),
                    broker_group: leader.broker_group.clone(),
                    queue_id: queue.queue_id,
                    done_offset: queue.floor.0,
                    next_offset: queue.next.0,
                    end_offset: queue.end.0,
                    in_flight: queue.not_done,
                    lag: queue.lag(),
                });
            }
        }
        Ok(wire::DescribeConsumerGroupResponse {
            consumer_group: Some(wire(&group)),
            progress,
        })
    }
}
