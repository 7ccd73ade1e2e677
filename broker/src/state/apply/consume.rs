//! Deliveries ended, or put off by their consumer. Only the current lease of a message counts, and only until its
//! time is over.

use super::Entry;
use crate::marks::mark;
use crate::planted::Bug;
use crate::state::command::{Ack, ChangeVisibility, GiveBack};
use crate::state::handle::ReceiptHandle;
use crate::state::identity::{LeaseId, RequestId};
use crate::state::limits;
use crate::state::outcome::{ChangeVisibilityError, ConsumeError, InvalidReceiptHandle, Outcome};
use crate::state::progress::Progress;
use crate::state::recent::RequestKind;
use crate::state::span::Span;
use crate::state::topic::Topic;

impl Entry<'_> {
    pub(super) fn ack(&mut self, ack: &Ack) -> Result<Vec<Result<(), InvalidReceiptHandle>>, ConsumeError> {
        let (topic, group) = self.consumes(&ack.topic, &ack.consumer_group)?;
        let Some(mut progress) = self.take_progress(topic.id, group.id) else {
            return Ok(ack.handles.iter().map(|_| Err(InvalidReceiptHandle)).collect());
        };
        let mut results = Vec::with_capacity(ack.handles.len());
        let mut ended = false;
        for handle in &ack.handles {
            let found = self.held(handle, &topic, &progress);
            if let Ok(Some(_)) = found {
                progress.cut(handle.queue_id, handle.offset, handle.offset, &mut self.changes);
                ended = true;
            }
            results.push(found.map(|_| ()));
        }
        self.return_progress(progress);
        if ended && group.fifo {
            // The next of the message group may go now.
            self.hint_visible(&topic, &group, 0);
        }
        Ok(results)
    }

    /// The span that a handle holds; `None` if its message is done already.
    fn held(
        &self,
        handle: &ReceiptHandle,
        topic: &Topic,
        progress: &Progress,
    ) -> Result<Option<Span>, InvalidReceiptHandle> {
        let here = handle.broker_group == self.broker_group && handle.topic == topic.id;
        if !here || handle.queue_id >= topic.queues || handle.offset >= progress.next(handle.queue_id) {
            return Err(InvalidReceiptHandle);
        }
        match progress.span_of(handle.queue_id, handle.offset) {
            None => Ok(None),
            Some((_, span))
                if self.settings.planted.has(Bug::StaleHandleAccepted)
                    || span.lease == handle.lease && span.visible_at_ms > self.now_ms =>
            {
                Ok(Some(Span {
                    last: handle.offset,
                    ..span.clone()
                }))
            }
            Some(_) => {
                mark("stale_handle_refused");
                Err(InvalidReceiptHandle)
            }
        }
    }

    pub(super) fn give_back(&mut self, back: &GiveBack) -> Outcome {
        let mut count = 0;
        let Ok((topic, group)) = self.consumes(&back.topic, &back.consumer_group) else {
            return Outcome::GivenBack { count };
        };
        let Some(mut progress) = self.take_progress(topic.id, group.id) else {
            return Outcome::GivenBack { count };
        };
        let visible_at_ms = self.now_ms + limits::GIVEN_BACK_MS;
        for handle in &back.handles {
            let Ok(Some(span)) = self.held(handle, &topic, &progress) else {
                continue;
            };
            if span.repeated {
                mark("repeated_attempt_kept");
                continue;
            }
            progress.cut(handle.queue_id, handle.offset, handle.offset, &mut self.changes);
            let span = self.put_off(span, visible_at_ms, true);
            progress.insert(handle.queue_id, handle.offset, span, &mut self.changes);
            count += 1;
        }
        self.return_progress(progress);
        if count > 0 {
            self.hint_visible(&topic, &group, visible_at_ms);
        }
        Outcome::GivenBack { count }
    }

    /// A span that nobody holds until then, by a new lease. The next delivery counts one up; after a suspension that gives the
    /// same number again.
    fn put_off(&self, span: Span, visible_at_ms: u64, suspend: bool) -> Span {
        let delivered = if span.suspended { span.attempt + 1 } else { span.attempt };
        let suspended = suspend && delivered > 0;
        Span {
            lease: LeaseId(self.number),
            visible_at_ms,
            attempt: if suspended { delivered - 1 } else { delivered },
            suspended,
            repeated: false,
            attempt_id: 0,
            renewal: None,
            ..span
        }
    }

    pub(super) fn change_visibility(
        &mut self,
        id: RequestId,
        change: &ChangeVisibility,
    ) -> Result<ReceiptHandle, ChangeVisibilityError> {
        let (topic, group) = self.consumes(&change.topic, &change.consumer_group)?;
        let handle = &change.handle;
        if let Some(first) = self.hot.recent.request(id, RequestKind::ChangeVisibility) {
            return Ok(ReceiptHandle {
                lease: LeaseId(first),
                ..handle.clone()
            });
        }
        if !self.hot.recent.has_room_for_request(self.settings.request_ids) {
            return Err(ChangeVisibilityError::RequestWindowFull);
        }
        let Some(mut progress) = self.take_progress(topic.id, group.id) else {
            return Err(InvalidReceiptHandle.into());
        };
        let found = self.held(handle, &topic, &progress);
        let Ok(Some(span)) = found else {
            self.return_progress(progress);
            return Err(InvalidReceiptHandle.into());
        };
        progress.cut(handle.queue_id, handle.offset, handle.offset, &mut self.changes);
        let hidden_ms = match self.settings.planted.has(Bug::VisibleTooEarly) {
            true => 0,
            false => change.invisible_ms,
        };
        let visible_at_ms = self.now_ms.saturating_add(hidden_ms);
        let span = self.put_off(span, visible_at_ms, change.suspend);
        let lease = span.lease;
        progress.insert(handle.queue_id, handle.offset, span, &mut self.changes);
        self.return_progress(progress);
        self.remember(id, RequestKind::ChangeVisibility, lease.0);
        self.hint_visible(&topic, &group, visible_at_ms);
        Ok(ReceiptHandle {
            lease,
            ..handle.clone()
        })
    }
}
