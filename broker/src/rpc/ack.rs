//! AckMessage (grpc.md B.6): each entry has a result of its own; the overall status is their common one.

use std::sync::Arc;

use ledgermq_proto::rocketmq::{AckMessageRequest, AckMessageResponse, AckMessageResultEntry, Code, Status};

use super::Messaging;
use crate::call::{self, Call};
use crate::leader::{Leader, Verb, unexpected};
use crate::limits;
use crate::refusal::{LeadError, Refusal, ok, overall};
use crate::state::command::{self, Action};
use crate::state::handle::ReceiptHandle;
use crate::state::outcome::{InvalidReceiptHandle, Outcome};
use crate::validate::names;

/// The verb between doors.
pub struct Ack;

impl Messaging {
    pub(super) async fn ack(&self, request: tonic::Request<AckMessageRequest>) -> tonic::Response<AckMessageResponse> {
        let language = call::language(request.metadata());
        let answer = match self.read(&request) {
            Ok(call) => self.ack_checked(&call, request.get_ref()).await,
            Err(refusal) => Err(refusal),
        };
        tonic::Response::new(answer.unwrap_or_else(|refusal| AckMessageResponse {
            status: Some(refusal.status(language)),
            entries: Vec::new(),
        }))
    }

    async fn ack_checked(&self, call: &Call, request: &AckMessageRequest) -> Result<AckMessageResponse, Refusal> {
        names::topic(request.topic.as_ref())?;
        names::consumer_group(request.group.as_ref())?;
        let (count, limit) = (request.entries.len(), limits::ACK_ENTRIES_MAX);
        if count > limit {
            return Err(Refusal::new(
                Code::PayloadTooLarge,
                format!("{count} entries, at most {limit} are allowed"),
            ));
        }
        self.door.call::<Ack>(call, request).await
    }
}

impl Verb for Ack {
    const NAME: &'static str = "AckMessage";
    type Request = AckMessageRequest;
    type Reply = AckMessageResponse;

    async fn lead(
        leader: &Arc<Leader>,
        call: &Call,
        request: &AckMessageRequest,
    ) -> Result<AckMessageResponse, LeadError> {
        let topic = names::topic(request.topic.as_ref())?;
        let consumer_group = names::consumer_group(request.group.as_ref())?;
        let handles: Vec<Option<ReceiptHandle>> = request
            .entries
            .iter()
            .map(|entry| own(leader, &entry.receipt_handle))
            .collect();
        let valid: Vec<ReceiptHandle> = handles.iter().flatten().cloned().collect();
        let mut results = if valid.is_empty() {
            Vec::new().into_iter()
        } else {
            let ack = command::Ack {
                consumer_group: consumer_group.to_owned(),
                topic: topic.to_owned(),
                handles: valid,
            };
            match leader.propose(call.request_id, Action::Ack(ack)).await? {
                Outcome::Acked(results) => results?.into_iter(),
                other => return Err(unexpected(&other)),
            }
        };
        let invalid = || Refusal::from(InvalidReceiptHandle).status(call.language);
        let status = |handle: &Option<ReceiptHandle>| -> Status {
            match handle.as_ref().and_then(|_| results.next()) {
                Some(Ok(())) => ok(),
                Some(Err(_)) | None => invalid(),
            }
        };
        let statuses: Vec<Status> = handles.iter().map(status).collect();
        Ok(AckMessageResponse {
            status: Some(overall(statuses.iter())),
            entries: request
                .entries
                .iter()
                .zip(statuses)
                .map(|(entry, status)| AckMessageResultEntry {
                    message_id: entry.message_id.clone(),
                    receipt_handle: entry.receipt_handle.clone(),
                    status: Some(status),
                })
                .collect(),
        })
    }
}

/// The handle in a text, if it is one of this broker group.
pub(super) fn own(leader: &Leader, text: &str) -> Option<ReceiptHandle> {
    text.parse()
        .ok()
        .filter(|handle: &ReceiptHandle| handle.broker_group == leader.broker_group)
}
