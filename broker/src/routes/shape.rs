//! Routes in the shape that makes each client library's own retry reach another live replica (design.md section 5,
//! grpc.md F). All of them are doors to the same log, so the shape never decides where a message goes.
//!
//! ```text
//!   Java, Rust         each queue: all live replicas in one Endpoints, the leader first
//!   Python, Go, C++    each queue: one address; the replicas take turns over the queues
//!   Node, C#, others   a broker name for each replica, with queue 0 and one address
//! ```
//! The order is stable. A replica that died is left out, unless nobody would be left.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ledgermq_proto::rocketmq::{
    Address, AddressScheme, Assignment, Broker, Endpoints, MessageQueue, MessageType, Permission, Resource,
};

use crate::language::Language;
use crate::state::topic::TopicKind;

/// Parts a broker group's name from a replica's number where each replica has a broker name.
const REPLICA_MARK: &str = ".r";

/// One replica and where clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaAddress {
    /// Its number.
    pub id: u64,
    /// host:port.
    pub address: String,
}

/// One broker group that holds the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRoute {
    /// Its name.
    pub name: String,
    /// Its leader, if known.
    pub leader: Option<u64>,
    /// Its members by number; not empty.
    pub replicas: Vec<ReplicaAddress>,
    /// Those that live.
    pub alive: BTreeSet<u64>,
    /// Queues of the topic here, at least 1.
    pub queues: u32,
    /// What the topic takes.
    pub kind: TopicKind,
}

impl GroupRoute {
    /// Live replicas by number; all when none is known to live.
    fn live(&self) -> Vec<&ReplicaAddress> {
        let live: Vec<_> = self
            .replicas
            .iter()
            .filter(|replica| self.alive.contains(&replica.id))
            .collect();
        if live.is_empty() {
            self.replicas.iter().collect()
        } else {
            live
        }
    }

    /// The replica whose turn it is at a queue: the same one for as long as it lives.
    fn turn(&self, queue_id: u32) -> &ReplicaAddress {
        let count = self.replicas.len();
        let first = queue_id as usize % count;
        let mut turns = (0..count).map(|step| &self.replicas[(first + step) % count]);
        turns
            .find(|replica| self.alive.contains(&replica.id))
            .unwrap_or(&self.replicas[first])
    }

    fn leader_first(&self) -> Vec<&ReplicaAddress> {
        let mut live = self.live();
        live.sort_by_key(|replica| Some(replica.id) != self.leader);
        live
    }

    fn broker(&self, name: String, addresses: &[&ReplicaAddress]) -> Broker {
        Broker {
            name,
            id: 0,
            endpoints: Some(endpoints(addresses)),
        }
    }
}

enum Shape {
    AllInOne,
    TakingTurns,
    NamePerReplica,
}

fn shape(language: Language) -> Shape {
    match language {
        Language::Java | Language::Rust => Shape::AllInOne,
        Language::Python | Language::Golang | Language::Cpp => Shape::TakingTurns,
        Language::Node | Language::DotNet | Language::Php | Language::Unknown => Shape::NamePerReplica,
    }
}

/// The answer to QueryRoute; broker groups interleave (grpc.md F.3.4).
pub fn queues(language: Language, topic: &Resource, groups: &[GroupRoute]) -> Vec<MessageQueue> {
    let queue = |group: &GroupRoute, id: u32, broker: Broker| MessageQueue {
        topic: Some(topic.clone()),
        id: id as i32,
        permission: Permission::ReadWrite as i32,
        broker: Some(broker),
        accept_message_types: accepted(group.kind),
    };
    let mut found: Vec<(u32, MessageQueue)> = Vec::new();
    for group in groups {
        match shape(language) {
            Shape::AllInOne => {
                let broker = group.broker(group.name.clone(), &group.leader_first());
                found.extend((0..group.queues).map(|id| (id, queue(group, id, broker.clone()))));
            }
            Shape::TakingTurns => found.extend((0..group.queues).map(|id| {
                let broker = group.broker(group.name.clone(), &[group.turn(id)]);
                (id, queue(group, id, broker))
            })),
            Shape::NamePerReplica => found.extend(group.live().into_iter().enumerate().map(|(place, replica)| {
                let broker = group.broker(replica_name(group, replica), &[replica]);
                (place as u32, queue(group, 0, broker))
            })),
        }
    }
    found.sort_by_key(|(id, _)| *id);
    found.into_iter().map(|(_, queue)| queue).collect()
}

/// The answer to QueryAssignment (grpc.md B.4): every queue for a FIFO consumer group, else "any queue" (-1).
pub fn assignments(language: Language, topic: &Resource, groups: &[GroupRoute], fifo: bool) -> Vec<Assignment> {
    let assign = |id: i32, broker: Broker| Assignment {
        message_queue: Some(MessageQueue {
            topic: Some(topic.clone()),
            id,
            permission: Permission::ReadWrite as i32,
            broker: Some(broker),
            accept_message_types: Vec::new(),
        }),
    };
    if fifo {
        let each = queues(language, topic, groups).into_iter();
        return each.filter_map(|queue| Some(assign(queue.id, queue.broker?))).collect();
    }
    let mut found = Vec::new();
    for group in groups {
        match shape(language) {
            Shape::AllInOne => found.push(assign(-1, group.broker(group.name.clone(), &group.leader_first()))),
            Shape::TakingTurns => {
                let live = group.live().into_iter();
                found.extend(live.map(|replica| assign(-1, group.broker(group.name.clone(), &[replica]))));
            }
            Shape::NamePerReplica => {
                let live = group.live().into_iter();
                found.extend(live.map(|replica| assign(-1, group.broker(replica_name(group, replica), &[replica]))));
            }
        }
    }
    found
}

fn replica_name(group: &GroupRoute, replica: &ReplicaAddress) -> String {
    format!("{}{REPLICA_MARK}{}", group.name, replica.id)
}

fn accepted(kind: TopicKind) -> Vec<i32> {
    let types: &[MessageType] = match kind {
        TopicKind::Normal => &[MessageType::Normal],
        TopicKind::Fifo => &[MessageType::Fifo],
        TopicKind::Delay => &[MessageType::Delay],
        TopicKind::Transaction => &[MessageType::Transaction],
        TopicKind::Mixed => &[
            MessageType::Normal,
            MessageType::Fifo,
            MessageType::Delay,
            MessageType::Transaction,
        ],
    };
    types.iter().map(|message_type| *message_type as i32).collect()
}

/// Several addresses only where all are IPs of one kind; a name stands alone (grpc.md F.1).
fn endpoints(replicas: &[&ReplicaAddress]) -> Endpoints {
    let parsed: Vec<(String, i32)> = replicas.iter().map(|replica| split(&replica.address)).collect();
    let all = |test: fn(&str) -> bool| parsed.iter().all(|(host, _)| test(host));
    let (scheme, count) = if all(|host| host.parse::<Ipv4Addr>().is_ok()) {
        (AddressScheme::IPv4, parsed.len())
    } else if all(|host| host.parse::<Ipv6Addr>().is_ok()) {
        (AddressScheme::IPv6, parsed.len())
    } else {
        (AddressScheme::DomainName, 1)
    };
    let addresses = parsed
        .into_iter()
        .take(count)
        .map(|(host, port)| Address { host, port })
        .collect();
    Endpoints {
        scheme: scheme as i32,
        addresses,
    }
}

fn split(address: &str) -> (String, i32) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.parse().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(hosts: &[&str], alive: &[u64]) -> GroupRoute {
        let replicas = hosts.iter().zip(1..).map(|(host, id)| ReplicaAddress {
            id,
            address: format!("{host}:80"),
        });
        GroupRoute {
            name: "broker-a".into(),
            leader: Some(2),
            replicas: replicas.collect(),
            alive: alive.iter().copied().collect(),
            queues: 4,
            kind: TopicKind::Mixed,
        }
    }

    fn said(queues: Vec<MessageQueue>) -> Vec<String> {
        let line = |queue: MessageQueue| {
            let broker = queue.broker.expect("a broker");
            assert_eq!((broker.id, queue.permission), (0, Permission::ReadWrite as i32));
            let endpoints = broker.endpoints.expect("endpoints");
            let hosts: Vec<_> = endpoints.addresses.into_iter().map(|address| address.host).collect();
            format!("{}/{} {}", broker.name, queue.id, hosts.join(","))
        };
        queues.into_iter().map(line).collect()
    }

    fn assigned(assignments: Vec<Assignment>) -> Vec<String> {
        said(
            assignments
                .into_iter()
                .filter_map(|assignment| assignment.message_queue)
                .collect(),
        )
    }

    const HOSTS: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

    #[test]
    fn java_gets_all_replicas_leader_first() {
        let route = queues(Language::Java, &Resource::default(), &[group(&HOSTS, &[1, 2, 3])]);
        assert_eq!(route.len(), 4);
        assert_eq!(route[0].accept_message_types, [1, 2, 3, 4]);
        assert_eq!(said(route)[3], "broker-a/3 10.0.0.2,10.0.0.1,10.0.0.3");
        let one = queues(Language::Rust, &Resource::default(), &[group(&HOSTS, &[1, 3])]);
        assert_eq!(said(one)[0], "broker-a/0 10.0.0.1,10.0.0.3");
    }

    #[test]
    fn python_gets_turns_and_a_death_moves_only_its_queues() {
        let topic = Resource::default();
        let route = said(queues(Language::Python, &topic, &[group(&HOSTS, &[1, 2, 3])]));
        let expected = [
            "broker-a/0 10.0.0.1",
            "broker-a/1 10.0.0.2",
            "broker-a/2 10.0.0.3",
            "broker-a/3 10.0.0.1",
        ];
        assert_eq!(route, expected);
        let route = said(queues(Language::Golang, &topic, &[group(&HOSTS, &[1, 3])]));
        let expected = [
            "broker-a/0 10.0.0.1",
            "broker-a/1 10.0.0.3",
            "broker-a/2 10.0.0.3",
            "broker-a/3 10.0.0.1",
        ];
        assert_eq!(route, expected);
        let any = assigned(assignments(Language::Cpp, &topic, &[group(&HOSTS, &[1, 3])], false));
        assert_eq!(any, ["broker-a/-1 10.0.0.1", "broker-a/-1 10.0.0.3"]);
        assert_eq!(
            assignments(Language::Cpp, &topic, &[group(&HOSTS, &[1])], true).len(),
            4
        );
    }

    #[test]
    fn node_gets_a_name_for_each_replica() {
        let route = said(queues(Language::Node, &Resource::default(), &[group(&HOSTS, &[1, 3])]));
        assert_eq!(route, ["broker-a.r1/0 10.0.0.1", "broker-a.r3/0 10.0.0.3"]);
    }

    #[test]
    fn never_empty_and_names_stand_alone() {
        let topic = Resource::default();
        assert_eq!(queues(Language::Unknown, &topic, &[group(&HOSTS, &[])]).len(), 3);
        let named = queues(Language::Java, &topic, &[group(&["one", "two"], &[1, 2])]);
        let endpoints = named[0]
            .broker
            .clone()
            .and_then(|broker| broker.endpoints)
            .expect("endpoints");
        assert_eq!(
            (endpoints.scheme, endpoints.addresses.len()),
            (AddressScheme::DomainName as i32, 1)
        );
        assert_eq!(
            super::endpoints(&[&ReplicaAddress {
                id: 1,
                address: "[::1]:8081".into()
            }])
            .scheme,
            2
        );
    }

    #[test]
    fn broker_groups_interleave() {
        let mut other = group(&HOSTS, &[1, 2, 3]);
        other.name = "broker-b".into();
        let route = said(queues(
            Language::Java,
            &Resource::default(),
            &[group(&HOSTS, &[1]), other],
        ));
        assert!(
            route[0].starts_with("broker-a/0") && route[1].starts_with("broker-b/0"),
            "{route:?}"
        );
    }
}
