//! Leases that renew by themselves (grpc.md D.2): extended while their client lives, given back after three hours,
//! and freed one second after their client went away. The lease id stays, so the client's handle stays valid.

use super::Entry;
use crate::marks::mark;
use crate::state::command::{ReleaseClient, Renew};
use crate::state::identity::{ConsumerGroupId, LeaseId, QueueOffset, TopicId, client_hash};
use crate::state::limits;
use crate::state::outcome::Outcome;
use crate::state::span::{Renewal, Span};

impl Entry<'_> {
    pub(super) fn renew(&mut self, renew: &Renew) -> Outcome {
        let (mut extended, mut returned) = (0, 0);
        let Ok((topic, group)) = self.consumes(&renew.topic, &renew.consumer_group) else {
            return Outcome::Renewed { extended, returned };
        };
        let Some(mut progress) = self.take_progress(topic.id, group.id) else {
            return Outcome::Renewed { extended, returned };
        };
        for due in &renew.spans {
            let Some((first, span)) = progress.span_of(due.queue_id, due.first) else {
                continue;
            };
            let Some(renewal) = span.renewal else { continue };
            if span.lease != due.lease || span.visible_at_ms <= self.now_ms {
                continue;
            }
            let gives_back_at = renewal.since_ms.saturating_add(limits::RENEW_TOTAL_MS);
            let span = if self.now_ms + limits::RENEW_AHEAD_MS >= gives_back_at {
                returned += 1;
                mark("lease_given_back");
                // As if the consumer had refused it: one place further in the schedule than its own refusals.
                let visible_at_ms = self.now_ms + group.delay_ms(span.attempt as usize + 1);
                Span {
                    lease: LeaseId(self.number),
                    visible_at_ms,
                    attempt_id: 0,
                    renewal: None,
                    ..span.clone()
                }
            } else {
                extended += 1;
                mark("lease_renewed");
                let last = limits::RENEW_STRETCHES_MS.len() - 1;
                let stretch = limits::RENEW_STRETCHES_MS[usize::from(renewal.count).min(last)];
                let visible_at_ms = (self.now_ms + stretch).min(gives_back_at);
                let renewal = Some(Renewal {
                    count: renewal.count.saturating_add(1),
                    ..renewal
                });
                Span {
                    visible_at_ms,
                    renewal,
                    ..span.clone()
                }
            };
            progress.cut(due.queue_id, first, span.last, &mut self.changes);
            self.hint_visible(&topic, &group, span.visible_at_ms);
            progress.insert(due.queue_id, first, span, &mut self.changes);
        }
        self.return_progress(progress);
        Outcome::Renewed { extended, returned }
    }

    pub(super) fn release_client(&mut self, release: &ReleaseClient) -> Outcome {
        let Some(group) = self.hot.groups.named(&release.consumer_group).cloned() else {
            return Outcome::ClientReleased { spans: 0 };
        };
        let client = client_hash(&release.client_id);
        let visible_at_ms = self.now_ms + limits::RELEASE_MS;
        let keys: Vec<(TopicId, ConsumerGroupId)> = self
            .hot
            .progress
            .keys()
            .filter(|(_, id)| *id == group.id)
            .copied()
            .collect();
        let mut spans = 0;
        for (topic, id) in keys {
            let Some(mut progress) = self.take_progress(topic, id) else {
                continue;
            };
            let held: Vec<(u32, QueueOffset, Span)> = progress
                .all_spans()
                .filter(|(_, _, span)| span.client == client && span.renewal.is_some())
                .filter(|(_, _, span)| span.visible_at_ms > visible_at_ms)
                .map(|(queue_id, first, span)| (queue_id, first, span.clone()))
                .collect();
            for (queue_id, first, span) in held {
                progress.cut(queue_id, first, span.last, &mut self.changes);
                progress.insert(
                    queue_id,
                    first,
                    Span {
                        visible_at_ms,
                        renewal: None,
                        ..span
                    },
                    &mut self.changes,
                );
                spans += 1;
                mark("lease_freed");
            }
            self.return_progress(progress);
            let topic = self.hot.topics.of(topic).map(|state| state.topic.clone());
            if let Some(topic) = topic.filter(|_| spans > 0) {
                self.hint_visible(&topic, &group, visible_at_ms);
            }
        }
        Outcome::ClientReleased { spans }
    }
}
