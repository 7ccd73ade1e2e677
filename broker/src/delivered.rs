//! What this door has handed to consumers whose leases renew by themselves.
//!
//! A reply can be lost on its last way: the door dies, the connection breaks. The client then knows nothing of messages that
//! are leased to it, and while it lives a lease that is simply renewed would hide them for hours. So the first renewal is the
//! word of the door that wrote the reply to its end; without it the lease runs out and the messages are handed out again.
//!
//! That the last byte was written says little: it may lie in a buffer, on a line that is dead already. So the connection must
//! outlive the reply for [`limits::ARRIVAL_AFTER`]: until then a ping behind the reply was answered, or the connection was closed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::call::ConnectionEnd;
use crate::limits;
use crate::marks::mark;
use crate::state::handle::ReceiptHandle;
use crate::state::identity::{LeaseId, QueueOffset};

/// Messages that follow each other in a queue, handed out by one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The queue.
    pub queue_id: u32,
    /// The first.
    pub first: QueueOffset,
    /// The last.
    pub last: QueueOffset,
    /// The lease.
    pub lease: LeaseId,
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Who got it.
    pub client_id: String,
    /// For which consumer group.
    pub consumer_group: String,
    /// Of which topic.
    pub topic: String,
    /// What was in it.
    pub stretches: Vec<Stretch>,
}

/// A reply that was written to its end.
pub struct Reply {
    at: Instant,
    connection: ConnectionEnd,
    /// What was in it.
    pub delivery: Delivery,
}

/// The replies of the last minute; when there are too many the oldest are forgotten, and their leases run out.
#[derive(Default)]
pub struct Delivered {
    replies: Mutex<VecDeque<Reply>>,
}

/// The messages of these handles as few stretches.
pub fn stretches(handles: impl Iterator<Item = ReceiptHandle>) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for handle in handles {
        let one = Stretch {
            queue_id: handle.queue_id,
            first: handle.offset,
            last: handle.offset,
            lease: handle.lease,
        };
        match stretches.last_mut() {
            Some(before)
                if (before.queue_id, before.lease, before.last.next()) == (one.queue_id, one.lease, one.first) =>
            {
                before.last = one.last;
            }
            _ => stretches.push(one),
        }
    }
    stretches
}

impl Delivered {
    fn replies(&self) -> MutexGuard<'_, VecDeque<Reply>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reply was written to its end on this connection.
    pub fn note(&self, delivery: Delivery, connection: ConnectionEnd) {
        let mut replies = self.replies();
        if replies.len() >= limits::DELIVERIES_MAX {
            replies.pop_front();
        }
        replies.push_back(Reply {
            at: Instant::now(),
            connection,
            delivery,
        });
    }

    /// The replies that arrived, and whose leases need their first renewal now, the oldest first.
    pub fn due(&self) -> VecDeque<Reply> {
        let mut replies = self.replies();
        let mut due = VecDeque::new();
        while replies
            .front()
            .is_some_and(|reply| reply.at.elapsed() >= limits::CONFIRM_AFTER)
            && let Some(reply) = replies.pop_front()
        {
            if reply.connection.is_after(reply.at + limits::ARRIVAL_AFTER) {
                due.push_back(reply);
            } else {
                mark("arrival_doubted");
            }
        }
        due
    }

    /// Replies that are due and that nobody could be told of, the oldest first: they are due again, as long as their leases last.
    pub fn put_back(&self, untold: VecDeque<Reply>) {
        let mut replies = self.replies();
        let lasting = untold
            .into_iter()
            .rev()
            .filter(|reply| reply.at.elapsed() < limits::CONFIRM_UNTIL);
        for reply in lasting {
            if replies.len() < limits::DELIVERIES_MAX {
                replies.push_front(reply);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::state::identity::TopicId;

    fn handle(queue_id: u32, offset: u64, lease: u64) -> ReceiptHandle {
        ReceiptHandle {
            broker_group: "broker-a".to_owned(),
            topic: TopicId(1),
            queue_id,
            offset: QueueOffset(offset),
            lease: LeaseId(lease),
        }
    }

    fn taken(delivered: &Delivered) -> Vec<Delivery> {
        delivered.due().into_iter().map(|reply| reply.delivery).collect()
    }

    #[test]
    fn messages_in_a_row_are_one_stretch() {
        let handles = [(1, 5, 9), (1, 6, 9), (1, 8, 9), (2, 9, 9), (2, 10, 8)];
        let found = stretches(
            handles
                .into_iter()
                .map(|(queue_id, offset, lease)| handle(queue_id, offset, lease)),
        );
        let found: Vec<_> = found.iter().map(|s| (s.queue_id, s.first.0, s.last.0)).collect();
        assert_eq!(found, [(1, 5, 6), (1, 8, 8), (2, 9, 9), (2, 10, 10)]);
    }

    #[tokio::test(start_paused = true)]
    async fn replies_are_due_once_and_bounded() {
        let delivered = Delivered::default();
        let delivery = |number: usize| Delivery {
            client_id: number.to_string(),
            consumer_group: "cg".to_owned(),
            topic: "t".to_owned(),
            stretches: Vec::new(),
        };
        delivered.note(delivery(0), ConnectionEnd::default());
        assert!(delivered.due().is_empty());
        tokio::time::advance(limits::CONFIRM_AFTER).await;
        delivered.note(delivery(1), ConnectionEnd::default());
        let due = delivered.due();
        assert_eq!(due.len(), 1);
        delivered.put_back(due);
        assert_eq!(taken(&delivered), [delivery(0)], "again");
        assert!(delivered.due().is_empty());
        (2..limits::DELIVERIES_MAX + 2).for_each(|number| delivered.note(delivery(number), ConnectionEnd::default()));
        tokio::time::advance(limits::CONFIRM_AFTER).await;
        let due = taken(&delivered);
        assert_eq!((due.len(), due.first()), (limits::DELIVERIES_MAX, Some(&delivery(2))));
        delivered.note(delivery(3), ConnectionEnd::default());
        tokio::time::advance(limits::CONFIRM_AFTER).await;
        let due = delivered.due();
        tokio::time::advance(limits::CONFIRM_UNTIL.saturating_sub(limits::CONFIRM_AFTER)).await;
        delivered.put_back(due);
        assert!(delivered.due().is_empty(), "too late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_arrived_when_its_connection_outlives_it() {
        let delivered = Delivered::default();
        let delivery = |client_id: &str| Delivery {
            client_id: client_id.to_owned(),
            consumer_group: "cg".to_owned(),
            topic: "t".to_owned(),
            stretches: Vec::new(),
        };
        let [dead, broke, closed, open] = [(); 4].map(|()| ConnectionEnd::default());
        dead.now();
        tokio::time::advance(Duration::from_millis(1)).await;
        for (client_id, connection) in [("dead", &dead), ("broke", &broke), ("closed", &closed), ("open", &open)] {
            delivered.note(delivery(client_id), connection.clone());
        }
        tokio::time::advance(limits::ARRIVAL_AFTER).await;
        broke.now();
        tokio::time::advance(Duration::from_millis(1)).await;
        closed.now();
        tokio::time::advance(limits::CONFIRM_AFTER).await;
        assert_eq!(taken(&delivered), [delivery("closed"), delivery("open")]);
        assert!(delivered.due().is_empty());
    }
}
