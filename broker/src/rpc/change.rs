//! ChangeInvisibleDuration (grpc.md B.7): a new handle takes the place of the old one, which is echoed on refusal.

use std::sync::Arc;

use ledgermq_proto::rocketmq::{ChangeInvisibleDurationRequest, ChangeInvisibleDurationResponse};

use super::Messaging;
use super::ack::own;
use crate::call::{self, Call};
use crate::language::Language;
use crate::leader::{Leader, Verb, unexpected};
use crate::refusal::{LeadError, Refusal, ok};
use crate::state::command::{Action, ChangeVisibility};
use crate::state::outcome::{InvalidReceiptHandle, Outcome};
use crate::validate::{names, receive};

/// The verb between doors.
pub struct Change;

impl Messaging {
    pub(super) async fn change(
        &self,
        request: tonic::Request<ChangeInvisibleDurationRequest>,
    ) -> tonic::Response<ChangeInvisibleDurationResponse> {
        let language = call::language(request.metadata());
        let answer = match self.read(&request) {
            Ok(call) => self.change_checked(&call, request.get_ref()).await,
            Err(refusal) => Err(refusal),
        };
        tonic::Response::new(answer.unwrap_or_else(|refusal| ChangeInvisibleDurationResponse {
            status: Some(refusal.status(language)),
            receipt_handle: request.into_inner().receipt_handle,
        }))
    }

    async fn change_checked(
        &self,
        call: &Call,
        request: &ChangeInvisibleDurationRequest,
    ) -> Result<ChangeInvisibleDurationResponse, Refusal> {
        names::topic(request.topic.as_ref())?;
        names::consumer_group(request.group.as_ref())?;
        receive::changed_invisible_ms(request.invisible_duration.as_ref())?;
        self.door.call::<Change>(call, request).await
    }
}

impl Verb for Change {
    const NAME: &'static str = "ChangeInvisibleDuration";
    type Request = ChangeInvisibleDurationRequest;
    type Reply = ChangeInvisibleDurationResponse;

    async fn lead(
        leader: &Arc<Leader>,
        call: &Call,
        request: &ChangeInvisibleDurationRequest,
    ) -> Result<ChangeInvisibleDurationResponse, LeadError> {
        let topic = names::topic(request.topic.as_ref())?;
        let consumer_group = names::consumer_group(request.group.as_ref())?;
        let asked_ms = receive::changed_invisible_ms(request.invisible_duration.as_ref())?;
        let handle = own(leader, &request.receipt_handle).ok_or(InvalidReceiptHandle)?;
        let invisible_ms = match call.language {
            Language::Node if asked_ms == 0 => policy_ms(leader, consumer_group),
            _ => asked_ms,
        };
        let change = ChangeVisibility {
            consumer_group: consumer_group.to_owned(),
            topic: topic.to_owned(),
            handle,
            invisible_ms,
            suspend: request.suspend.unwrap_or_default(),
        };
        match leader
            .propose(call.request_id, Action::ChangeVisibility(change))
            .await?
        {
            Outcome::VisibilityChanged(handle) => Ok(ChangeInvisibleDurationResponse {
                status: Some(ok()),
                receipt_handle: handle?.to_string(),
            }),
            other => Err(unexpected(&other)),
        }
    }
}

/// Node's push consumer cannot read the schedule and asks for 0 (grpc.md G.6): the first delay of the schedule keeps it
/// from redelivering in a hot loop.
fn policy_ms(leader: &Leader, consumer_group: &str) -> u64 {
    leader
        .view
        .consumer_group(consumer_group)
        .map_or(1000, |group| group.delay_ms(0))
}
