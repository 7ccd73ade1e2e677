//! Which broker groups there are and which of their replicas live: from the name servers' pushes, and for the own broker
//! group from its membership and its leader. Works while every name server is away: what was known stays known.
//! Learners are in no route: a client's door is a voter.

pub mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use ledgermq_proto::registry::{BrokerGroupRoute, Routes as Pushed};
use ledgermq_raft_store::{Member, Role};
use tokio::sync::watch;

use self::shape::{GroupRoute, ReplicaAddress};
use crate::state::topic::{Topic, TopicKind};

/// Routes as this replica knows them.
pub struct Routes {
    broker_group: String,
    /// The members of the own broker group.
    members: watch::Receiver<Vec<Member>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Other broker groups, by name; the highest term of each.
    others: BTreeMap<String, BrokerGroupRoute>,
    /// Replicas of the own broker group that its leader hears; None while unknown.
    alive: Option<BTreeSet<u64>>,
}

impl Routes {
    /// Knows the own broker group's members, through all their changes, and nothing else yet.
    pub fn new(broker_group: &str, members: watch::Receiver<Vec<Member>>) -> Self {
        Self {
            broker_group: broker_group.to_owned(),
            members,
            known: Mutex::default(),
        }
    }

    /// Takes what a name server pushed. A lower term than known is ignored.
    pub fn pushed(&self, pushed: Pushed) {
        let mut known = self.lock();
        for group in pushed.broker_groups {
            let stale = known.others.get(&group.name).is_some_and(|old| old.term > group.term);
            if group.name != self.broker_group && !stale {
                known.others.insert(group.name.clone(), group);
            }
        }
    }

    /// Takes what the leader of the own broker group says of its replicas.
    pub fn leader_hears(&self, alive: BTreeSet<u64>) {
        self.lock().alive = Some(alive);
    }

    /// The voters of the own broker group, by number.
    fn own_replicas(&self) -> Vec<ReplicaAddress> {
        let members = self.members.borrow();
        let voters = members.iter().filter(|member| member.voter);
        let addresses = voters.map(|member| ReplicaAddress {
            id: member.id.get(),
            address: member.client_address.clone(),
        });
        addresses.collect()
    }

    /// The broker groups that hold a topic: the own one with `own`, and those that the name servers told.
    pub fn of_topic(&self, name: &str, own: Option<(TopicKind, u32)>, role: Role) -> Vec<GroupRoute> {
        let known = self.lock();
        let mut groups: Vec<GroupRoute> = known
            .others
            .values()
            .filter_map(|group| {
                let topic = group.topics.iter().find(|topic| topic.name == name)?;
                let mut replicas: Vec<ReplicaAddress> = group
                    .replicas
                    .iter()
                    .map(|replica| ReplicaAddress {
                        id: replica.id,
                        address: replica.client_address.clone(),
                    })
                    .collect();
                replicas.sort_by_key(|replica| replica.id);
                Some(GroupRoute {
                    name: group.name.clone(),
                    leader: group.leader,
                    alive: group
                        .replicas
                        .iter()
                        .filter(|replica| replica.alive)
                        .map(|replica| replica.id)
                        .collect(),
                    replicas,
                    queues: topic.queues,
                    kind: kind_of(&topic.r#type).unwrap_or(TopicKind::Mixed),
                })
            })
            .collect();
        if let Some((kind, queues)) = own {
            let replicas = self.own_replicas();
            groups.push(GroupRoute {
                name: self.broker_group.clone(),
                leader: role.leader.map(|leader| leader.get()),
                alive: known
                    .alive
                    .clone()
                    .unwrap_or_else(|| replicas.iter().map(|replica| replica.id).collect()),
                replicas,
                queues,
                kind,
            });
        }
        groups.retain(|group| !group.replicas.is_empty() && group.queues > 0);
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups
    }

    /// What is known of other broker groups.
    pub fn others(&self) -> Vec<BrokerGroupRoute> {
        self.lock().others.values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The word of a topic's type in the registry and in administration.
pub fn kind_of(word: &str) -> Option<TopicKind> {
    Some(match word {
        "normal" => TopicKind::Normal,
        "fifo" => TopicKind::Fifo,
        "delay" => TopicKind::Delay,
        "transaction" => TopicKind::Transaction,
        "mixed" => TopicKind::Mixed,
        _ => return None,
    })
}

/// A topic as routes need it.
pub fn described(topic: &Topic) -> (TopicKind, u32) {
    (topic.kind, topic.queues)
}
