//! QueryAssignment (grpc.md B.4): every consumer gets the same list; the log shares the load out.

use ledgermq_proto::rocketmq::{QueryAssignmentRequest, QueryAssignmentResponse};

use super::Messaging;
use crate::call;
use crate::refusal::{Refusal, ok};
use crate::routes::shape::{GroupRoute, assignments};
use crate::validate::names;

impl Messaging {
    pub(super) async fn assignment(
        &self,
        request: tonic::Request<QueryAssignmentRequest>,
    ) -> tonic::Response<QueryAssignmentResponse> {
        let language = call::language(request.metadata());
        let answer = self.assignment_checked(&request).await;
        let topic = request.into_inner().topic.unwrap_or_default();
        tonic::Response::new(match answer {
            Ok((groups, fifo)) => QueryAssignmentResponse {
                status: Some(ok()),
                assignments: assignments(language, &topic, &self.routes.for_consumers(groups), fifo),
            },
            Err(refusal) => QueryAssignmentResponse {
                status: Some(refusal.status(language)),
                assignments: Vec::new(),
            },
        })
    }

    async fn assignment_checked(
        &self,
        request: &tonic::Request<QueryAssignmentRequest>,
    ) -> Result<(Vec<GroupRoute>, bool), Refusal> {
        let call = self.read(request)?;
        let request = request.get_ref();
        names::topic(request.topic.as_ref())?;
        let consumer_group = names::consumer_group(request.group.as_ref())?;
        let groups = self.groups_of(&call, request.topic.as_ref()).await?;
        let rules = self.rules(&call, consumer_group).await?;
        Ok((groups, rules.is_some_and(|rules| rules.fifo)))
    }
}
