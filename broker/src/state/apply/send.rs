//! Messages stored: the whole batch or nothing. A message that was stored within the window answers its first
//! place, also when only some of a batch are such.

use super::Entry;
use crate::marks::mark;
use crate::state::command::Send;
use crate::state::identity::{TopicId, send_hash};
use crate::state::outcome::{SendError, SendResult};
use crate::state::plan::RecordLocation;
use crate::state::record::RecordHead;
use crate::state::run::RunRecord;

/// What is known of a message before anything is stored.
struct Checked {
    queue_id: u32,
    hash: u128,
    record: RunRecord,
}

impl Entry<'_> {
    pub(super) fn send(&mut self, send: &Send, slot: u32, command_length: usize) -> Result<Vec<SendResult>, SendError> {
        let (topic, checked) = self.check_send(send, slot, command_length)?;
        let new = checked
            .iter()
            .filter(|message| self.hot.recent.send(message.hash).is_none())
            .count();
        if !self.hot.recent.has_room_for_sends(new, self.settings.dedupe_ids) {
            return Err(SendError::DedupeWindowFull);
        }
        let mut results = Vec::with_capacity(checked.len());
        for message in checked {
            // Looked up again, because a batch may hold a message twice.
            if let Some((queue_id, offset)) = self.hot.recent.send(message.hash) {
                mark("dedupe_hit");
                results.push(SendResult {
                    queue_id,
                    offset,
                    duplicate: true,
                });
                continue;
            }
            let offset = self.append(topic, message.queue_id, message.record);
            self.hot.recent.add_send(message.hash, message.queue_id, offset);
            results.push(SendResult {
                queue_id: message.queue_id,
                offset,
                duplicate: false,
            });
        }
        Ok(results)
    }

    fn check_send(&self, send: &Send, slot: u32, command_length: usize) -> Result<(TopicId, Vec<Checked>), SendError> {
        let topic = &self
            .hot
            .topics
            .named(&send.topic)
            .ok_or(SendError::TopicNotFound)?
            .topic;
        let mut checked = Vec::with_capacity(send.messages.len());
        for (message, place) in send.messages.iter().zip(send.record_places(command_length)) {
            let head = RecordHead::read(&message.record).map_err(|_| SendError::BadRecord)?;
            // The reference checks the first message alone, and a batch is of one type (grpc.md B.3, 4).
            if checked.is_empty() && !topic.takes(head.message_type) {
                return Err(SendError::MessageTypeConflict {
                    kind: topic.kind,
                    message_type: head.message_type,
                });
            }
            if message.queue_id >= topic.queues {
                return Err(SendError::QueueNotFound {
                    queue_id: message.queue_id,
                });
            }
            let length = u32::try_from(message.record.len()).map_err(|_| SendError::BadRecord)?;
            checked.push(Checked {
                queue_id: message.queue_id,
                hash: send_hash(
                    &send.client_id,
                    topic.id,
                    head.message_id,
                    head.body_length,
                    head.body_crc,
                ),
                record: RunRecord {
                    location: RecordLocation {
                        index: self.id.index,
                        slot: slot + place,
                        length,
                    },
                    tag: head.tag_hash,
                    message_group: head.message_group_hash,
                    store_time_ms: self.now_ms,
                },
            });
        }
        Ok((topic.id, checked))
    }
}
