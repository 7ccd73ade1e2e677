//! Which broker groups there are and which of their replicas live: from the name servers' pushes, and for the own broker
//! group from its membership and its leader. Works while every name server is away: what was known stays known.
//! Learners are in no route: a client's door is a voter.

pub mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use ledgermq_proto::registry::{BrokerGroupRoute, Routes as Pushed};
use ledgermq_raft_store::{Member, Role};
use tokio::sync::watch;
use tokio::time::Instant;

use self::shape::{GroupRoute, ReplicaAddress};
use crate::limits;
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
    /// When each of them was last among those.
    alive_at: BTreeMap<u64, Instant>,
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
        let (mut known, now) = (self.lock(), Instant::now());
        known
            .alive_at
            .retain(|_, at| now.duration_since(*at) < limits::ASSIGNMENT_GRACE);
        known.alive_at.extend(alive.iter().map(|id| (*id, now)));
        known.alive = Some(alive);
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

    /// The same for consumers: a replica of the own broker group that died a moment ago still counts, since a consumer that
    /// loses an assignment forgets the messages that it has in hand.
    pub fn for_consumers(&self, mut groups: Vec<GroupRoute>) -> Vec<GroupRoute> {
        let known = self.lock();
        let own = groups.iter_mut().find(|group| group.name == self.broker_group);
        if let Some(own) = own {
            let lately = known
                .alive_at
                .iter()
                .filter(|(_, at)| at.elapsed() < limits::ASSIGNMENT_GRACE);
            own.alive.extend(lately.map(|(id, _)| *id));
        }
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

#[cfg(test)]
mod tests {
    use ledgermq_raft_store::ReplicaId;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_died_keeps_its_assignments_for_a_while() {
        let member = |id| Member {
            id: ReplicaId(id),
            incarnation: id,
            peer_address: format!("peer-{id}:1"),
            client_address: format!("client-{id}:1"),
            voter: true,
        };
        let (_members, follow) = watch::channel(vec![member(1), member(2)]);
        let routes = Routes::new("broker-a", follow);
        routes.leader_hears([1, 2].into());
        routes.leader_hears([1].into());
        let groups = || routes.of_topic("t", Some((TopicKind::Fifo, 4)), Role::default());
        let alive = |groups: Vec<GroupRoute>| groups[0].alive.iter().copied().collect::<Vec<u64>>();
        assert_eq!(alive(groups()), [1], "senders leave it out at once");
        assert_eq!(alive(routes.for_consumers(groups())), [1, 2]);
        tokio::time::advance(limits::ASSIGNMENT_GRACE).await;
        assert_eq!(alive(routes.for_consumers(groups())), [1]);
    }
}
