//! The route of a topic: its queues, and the doors of the broker groups that hold them.

use std::{
    collections::BTreeMap,
    hash::Hasher as _,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use ledgermq_proto::rocketmq::{MessageQueue, Permission};
use siphasher::sip::SipHasher24;
use tokio::sync::Mutex;

use crate::{
    door::{AddressBook, Doors},
    error::Error,
    limits,
};

/// One message queue and where to reach it.
pub(crate) struct RouteQueue {
    pub(crate) wire: MessageQueue,
    pub(crate) broker_name: String,
    pub(crate) doors: Arc<Doors>,
}

/// What the servers said of a topic. Never changed: a newer one replaces it.
pub(crate) struct Route {
    queues: Vec<RouteQueue>,
    writable: Vec<usize>,
    readable: Vec<usize>,
}

impl Route {
    /// Checks what a server answered. Queues of one broker name share their doors when the endpoints are equal.
    pub(crate) fn new(topic: &str, book: &AddressBook, answer: Vec<MessageQueue>) -> Result<Self, Error> {
        let mut doors: Vec<(Vec<u8>, Arc<Doors>)> = Vec::new();
        let mut route = Self {
            queues: Vec::new(),
            writable: Vec::new(),
            readable: Vec::new(),
        };
        for wire in answer {
            let broker = wire
                .broker
                .as_ref()
                .ok_or_else(|| Error::protocol(topic, "a queue without a broker"))?;
            let endpoints = broker
                .endpoints
                .as_ref()
                .ok_or_else(|| Error::protocol(topic, "a broker without endpoints"))?;
            let key = prost::Message::encode_to_vec(endpoints);
            let known = doors
                .iter()
                .find(|(known, _)| *known == key)
                .map(|(_, doors)| doors.clone());
            let shared = match known {
                Some(shared) => shared,
                None => {
                    let new = Arc::new(book.doors(endpoints)?);
                    doors.push((key, new.clone()));
                    new
                }
            };
            let number = route.queues.len();
            match wire.permission() {
                Permission::Read => route.readable.push(number),
                Permission::Write => route.writable.push(number),
                Permission::ReadWrite => {
                    route.readable.push(number);
                    route.writable.push(number);
                }
                Permission::None | Permission::Unspecified => {}
            }
            route.queues.push(RouteQueue {
                broker_name: broker.name.clone(),
                wire,
                doors: shared,
            });
        }
        if route.queues.is_empty() {
            return Err(Error::protocol(topic, "a route without queues"));
        }
        Ok(route)
    }

    pub(crate) fn queues(&self) -> &[RouteQueue] {
        &self.queues
    }

    /// The queue for a message: by its message group, or by turn.
    pub(crate) fn writable(&self, message_group: Option<&str>, turn: usize) -> Option<&RouteQueue> {
        let count = self.writable.len();
        let choice = match message_group {
            _ if count == 0 => return None,
            Some(message_group) => {
                let mut hasher = SipHasher24::new();
                hasher.write(message_group.as_bytes());
                usize::try_from(hasher.finish() % count as u64).ok()?
            }
            None => turn % count,
        };
        self.queues.get(self.writable[choice])
    }

    /// A queue to receive from, by turn.
    pub(crate) fn readable(&self, turn: usize) -> Option<&RouteQueue> {
        let count = self.readable.len();
        if count == 0 {
            None
        } else {
            self.queues.get(self.readable[turn % count])
        }
    }
}

/// A topic in use.
pub(crate) struct Topic {
    pub(crate) name: String,
    route: RwLock<Option<Arc<Route>>>,
    /// Held while the route is asked, so that it is asked once.
    pub(crate) asking: Mutex<()>,
    turn: AtomicUsize,
}

impl Topic {
    pub(crate) fn route(&self) -> Option<Arc<Route>> {
        self.route.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn put(&self, route: Option<Arc<Route>>) {
        *self.route.write().unwrap_or_else(PoisonError::into_inner) = route;
    }

    /// Counts up at each call.
    pub(crate) fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

/// All topics in use.
pub(crate) struct Topics {
    start: usize,
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
}

impl Topics {
    pub(crate) fn new(start: usize) -> Self {
        Self {
            start,
            topics: RwLock::default(),
        }
    }

    pub(crate) fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        if let Some(known) = self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(known.clone());
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if topics.len() >= limits::TOPICS_MAX && !topics.contains_key(name) {
            return Err(Error::invalid(name, format!("more than {} topics", limits::TOPICS_MAX)));
        }
        let new = || {
            Arc::new(Topic {
                name: name.to_owned(),
                route: RwLock::new(None),
                asking: Mutex::new(()),
                turn: AtomicUsize::new(self.start),
            })
        };
        Ok(topics.entry(name.to_owned()).or_insert_with(new).clone())
    }

    /// Those with a route, ordered by name.
    pub(crate) fn routed(&self) -> Vec<Arc<Topic>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics
            .values()
            .filter(|topic| topic.route().is_some())
            .cloned()
            .collect()
    }
}
