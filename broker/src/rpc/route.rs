//! QueryRoute (grpc.md B.1): the topic's queues in the shape that suits the client's library. A topic that is not there
//! yet is made first, where that is allowed.

use std::sync::Arc;

use ledgermq_proto::rocketmq::{Code, QueryRouteRequest, QueryRouteResponse, Resource};

use super::Messaging;
use crate::call::{self, Call};
use crate::leader::{Leader, Verb};
use crate::refusal::{LeadError, Refusal, ok};
use crate::routes::shape::{GroupRoute, queues};
use crate::routes::{described, kind_of};
use crate::validate::names;

/// Makes sure that the leader has a topic.
pub struct EnsureTopic;

/// Which one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TopicName {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// What it is like.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TopicShape {
    /// The word of its type.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// Its queues.
    #[prost(uint32, tag = "2")]
    pub queues: u32,
}

impl Messaging {
    pub(super) async fn route(
        &self,
        request: tonic::Request<QueryRouteRequest>,
    ) -> tonic::Response<QueryRouteResponse> {
        let language = call::language(request.metadata());
        let answer = match self.read(&request) {
            Ok(call) => self.groups_of(&call, request.get_ref().topic.as_ref()).await,
            Err(refusal) => Err(refusal),
        };
        let topic = request.into_inner().topic.unwrap_or_default();
        tonic::Response::new(match answer {
            Ok(groups) => QueryRouteResponse {
                status: Some(ok()),
                message_queues: queues(language, &topic, &groups),
            },
            Err(refusal) => QueryRouteResponse {
                status: Some(refusal.status(language)),
                message_queues: Vec::new(),
            },
        })
    }

    /// The broker groups of a topic; never empty.
    pub(super) async fn groups_of(&self, call: &Call, topic: Option<&Resource>) -> Result<Vec<GroupRoute>, Refusal> {
        let name = names::topic(topic)?;
        let leader = self.leader();
        let role = leader.role();
        let own = leader.view.topic(name).map(|topic| described(&topic));
        let mut groups = self.routes.of_topic(name, own, role);
        if own.is_none() && groups.is_empty() {
            let shape = self
                .door
                .call::<EnsureTopic>(call, &TopicName { name: name.to_owned() })
                .await?;
            let kind =
                kind_of(&shape.kind).ok_or_else(|| Refusal::new(Code::InternalServerError, "unknown topic type"))?;
            groups = self.routes.of_topic(name, Some((kind, shape.queues)), leader.role());
        }
        if groups.is_empty() {
            return Err(Refusal::no_leader());
        }
        Ok(groups)
    }
}

impl Verb for EnsureTopic {
    const NAME: &'static str = "EnsureTopic";
    type Request = TopicName;
    type Reply = TopicShape;

    async fn lead(leader: &Arc<Leader>, call: &Call, request: &TopicName) -> Result<TopicShape, LeadError> {
        let topic = leader.topic(call, &request.name).await?;
        Ok(TopicShape {
            kind: topic.kind.to_string(),
            queues: topic.queues,
        })
    }
}
