//! The routes as told by the brokers' streams: sync, without a clock; time comes with each call.
//!
//! ```text
//!   on_report(stream, report, now) ─┐
//!   on_closed(stream)               ├─▶ Table ─▶ routes(): what every stream and every client is told
//!   on_tick(now)                    ┘
//! ```
//! Invariants:
//! - The term of a broker group never falls; its leader and its topics come from the highest term only.
//! - A replica is alive while the stream that it reported on last is open and was heard within
//!   [`limits::REPORT_SILENCE_MAX`].
//! - Every map is bounded; what nobody reports is forgotten after [`limits::ENTRY_EXPIRY`].

use std::{collections::BTreeMap, sync::Arc};

use ledgermq_proto::registry::{BrokerGroupRoute, ReplicaRoute, Report, Routes, TopicRoute};
use thiserror::Error;
use tokio::time::Instant;

use crate::limits;
use crate::marks::mark;
use crate::planted::{Bug, Planted};

/// Number of a registration stream, never used twice in the life of a name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Why a report is refused. The table is as before.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReportError {
    /// A field breaks its rule.
    #[error("{field} {value:?}: {rule}")]
    Field {
        /// The field's name in the report.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// The table is full.
    #[error("no room for another {what}: the limit is {limit}")]
    Full {
        /// Broker group or replica.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The replica speaks on a newer stream: what comes in late on this one is out of date.
    #[error("replica {replica_id} of broker group {broker_group:?} reports on a newer stream")]
    OlderStream {
        /// Its broker group.
        broker_group: String,
        /// The replica.
        replica_id: u64,
    },
    /// Two clusters use one broker group's name.
    #[error("broker group {broker_group:?} belongs to cluster {owner:?}, not to {other:?}")]
    OtherCluster {
        /// The name that both use.
        broker_group: String,
        /// The cluster whose replicas are alive here.
        owner: String,
        /// The cluster of the refused report.
        other: String,
    },
}

/// All broker groups that were reported.
#[derive(Debug, Default)]
pub struct Table {
    planted: Planted,
    broker_groups: BTreeMap<String, BrokerGroup>,
}

#[derive(Debug)]
struct BrokerGroup {
    cluster_id: String,
    term: u64,
    leader: Option<u64>,
    topics: Topics,
    replicas: BTreeMap<u64, Replica>,
}

type Topics = Arc<[TopicRoute]>;

#[derive(Debug)]
struct Replica {
    client_address: String,
    peer_address: String,
    /// The open stream that it reported on last.
    stream: Option<StreamId>,
    /// The newest stream that it ever reported on.
    newest: Option<StreamId>,
    heard: Instant,
    /// The topics that it named last as leader; on which stream, and their version there.
    topics: Topics,
    topics_told: Option<(StreamId, u64)>,
}

impl Table {
    /// An empty table.
    pub fn new(planted: Planted) -> Self {
        Self {
            planted,
            broker_groups: BTreeMap::new(),
        }
    }

    /// Takes what one replica says of its broker group. True when the routes changed.
    pub fn on_report(&mut self, stream: StreamId, report: Report, now: Instant) -> Result<bool, ReportError> {
        check(&report)?;
        if !self.broker_groups.contains_key(&report.broker_group) {
            room("broker group", self.broker_groups.len(), limits::BROKER_GROUPS_MAX)?;
        }
        let name = report.broker_group.clone();
        let broker_group = self
            .broker_groups
            .entry(name)
            .or_insert_with(|| BrokerGroup::new(&report));
        broker_group.on_report(stream, report, now, self.planted)
    }

    /// The stream ended: the replica that reported on it last is not alive. True when the routes changed.
    pub fn on_closed(&mut self, stream: StreamId) -> bool {
        let replicas = self
            .broker_groups
            .values_mut()
            .flat_map(|broker_group| broker_group.replicas.values_mut());
        let mut changed = false;
        for replica in replicas.filter(|replica| replica.stream == Some(stream)) {
            changed |= replica.close(self.planted);
        }
        changed
    }

    /// Time passed: silent replicas are dead, what nobody reports is forgotten. True when the routes changed.
    pub fn on_tick(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for broker_group in self.broker_groups.values_mut() {
            for replica in broker_group.replicas.values_mut() {
                let silent = now.saturating_duration_since(replica.heard) >= limits::REPORT_SILENCE_MAX;
                if silent && replica.stream.is_some() {
                    mark("silent_replica_dropped");
                    changed |= replica.close(self.planted);
                }
            }
            let before = broker_group.replicas.len();
            broker_group
                .replicas
                .retain(|_, replica| now.saturating_duration_since(replica.heard) < limits::ENTRY_EXPIRY);
            changed |= broker_group.replicas.len() != before;
        }
        self.broker_groups
            .retain(|_, broker_group| !broker_group.replicas.is_empty());
        changed
    }

    /// All routes, ordered by name and number.
    pub fn routes(&self) -> Routes {
        let broker_groups = self
            .broker_groups
            .iter()
            .map(|(name, broker_group)| broker_group.route(name))
            .collect();
        Routes { broker_groups }
    }
}

impl BrokerGroup {
    fn new(first: &Report) -> Self {
        Self {
            cluster_id: first.cluster_id.clone(),
            term: 0,
            leader: None,
            topics: Topics::default(),
            replicas: BTreeMap::new(),
        }
    }

    fn on_report(
        &mut self,
        stream: StreamId,
        report: Report,
        now: Instant,
        planted: Planted,
    ) -> Result<bool, ReportError> {
        let newest = self.replicas.get(&report.replica_id).and_then(|replica| replica.newest);
        if newest.is_some_and(|newest| stream < newest) {
            mark("older_stream_reported");
            return Err(ReportError::OlderStream {
                broker_group: report.broker_group,
                replica_id: report.replica_id,
            });
        }
        let mut changed = self.check_cluster(&report)?;
        if !self.replicas.contains_key(&report.replica_id) {
            room("replica", self.replicas.len(), limits::REPLICAS_MAX)?;
            changed = true;
        }
        let replica = self
            .replicas
            .entry(report.replica_id)
            .or_insert_with(|| Replica::new(now));
        changed |= replica.heard_on(stream, &report, now);

        if report.term < self.term && report.leader.is_some() {
            mark("older_term_reported");
        }
        if report.term > self.term || (report.term < self.term && planted.has(Bug::OldTermRouteAccepted)) {
            (self.term, self.leader) = (report.term, report.leader);
            changed = true;
        } else if report.term == self.term && self.leader.is_none() && report.leader.is_some() {
            self.leader = report.leader;
            changed = true;
        }
        let leads = report.leader == Some(report.replica_id);
        if leads {
            replica.take_topics(report.topics, (stream, report.topics_version));
            if report.term == self.term && self.leader == report.leader && self.topics != replica.topics {
                self.topics = replica.topics.clone();
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Adopts a first or a re-created cluster; refuses a second one beside a living one. True when the entry changed.
    fn check_cluster(&mut self, report: &Report) -> Result<bool, ReportError> {
        if report.cluster_id.is_empty() || report.cluster_id == self.cluster_id {
            return Ok(false);
        }
        if self.cluster_id.is_empty() {
            self.cluster_id.clone_from(&report.cluster_id);
            return Ok(true);
        }
        let others_alive = self
            .replicas
            .iter()
            .any(|(id, replica)| *id != report.replica_id && replica.stream.is_some());
        if others_alive {
            return Err(ReportError::OtherCluster {
                broker_group: report.broker_group.clone(),
                owner: self.cluster_id.clone(),
                other: report.cluster_id.clone(),
            });
        }
        *self = Self::new(report);
        Ok(true)
    }

    fn route(&self, name: &str) -> BrokerGroupRoute {
        let replicas = self.replicas.iter().map(|(id, replica)| ReplicaRoute {
            id: *id,
            client_address: replica.client_address.clone(),
            peer_address: replica.peer_address.clone(),
            alive: replica.stream.is_some(),
        });
        BrokerGroupRoute {
            name: name.to_owned(),
            term: self.term,
            leader: self.leader,
            replicas: replicas.collect(),
            topics: self.topics.to_vec(),
            cluster_id: self.cluster_id.clone(),
        }
    }
}

impl Replica {
    fn new(now: Instant) -> Self {
        Self {
            client_address: String::new(),
            peer_address: String::new(),
            stream: None,
            newest: None,
            heard: now,
            topics: Topics::default(),
            topics_told: None,
        }
    }

    /// It spoke on its newest stream. True when its route changed.
    fn heard_on(&mut self, stream: StreamId, report: &Report, now: Instant) -> bool {
        let was_alive = self.stream.is_some();
        (self.stream, self.newest) = (Some(stream), Some(stream));
        self.heard = now;
        let moved = self.client_address != report.client_address || self.peer_address != report.peer_address;
        if moved {
            self.client_address.clone_from(&report.client_address);
            self.peer_address.clone_from(&report.peer_address);
        }
        moved || !was_alive
    }

    /// An empty list of a version already told on this stream means "as before".
    fn take_topics(&mut self, mut topics: Vec<TopicRoute>, told: (StreamId, u64)) {
        if topics.is_empty() && self.topics_told == Some(told) {
            return;
        }
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        self.topics = topics.into();
        self.topics_told = Some(told);
    }

    /// It is not alive any more. True when its route changed.
    fn close(&mut self, planted: Planted) -> bool {
        if planted.has(Bug::DeadReplicaKept) {
            return false;
        }
        self.stream = None;
        true
    }
}

fn check(report: &Report) -> Result<(), ReportError> {
    name_rule("broker_group", &report.broker_group)?;
    if !report.cluster_id.is_empty() {
        name_rule("cluster_id", &report.cluster_id)?;
    }
    address_rule("client_address", &report.client_address)?;
    address_rule("peer_address", &report.peer_address)?;
    if report.topics.len() > limits::TOPICS_MAX {
        return Err(field(
            "topics",
            report.topics.len().to_string(),
            format!("at most {}", limits::TOPICS_MAX),
        ));
    }
    for topic in &report.topics {
        name_rule("topics.name", &topic.name)?;
        if topic.queues > limits::QUEUES_MAX {
            return Err(field(
                "topics.queues",
                topic.queues.to_string(),
                format!("at most {}", limits::QUEUES_MAX),
            ));
        }
    }
    Ok(())
}

fn name_rule(name: &'static str, value: &str) -> Result<(), ReportError> {
    let legal = !value.is_empty()
        && value.len() <= limits::NAME_CHARACTERS_MAX
        && value.bytes().all(|byte| byte.is_ascii_graphic());
    if legal {
        return Ok(());
    }
    Err(field(
        name,
        shortened(value),
        format!("1 to {} visible characters", limits::NAME_CHARACTERS_MAX),
    ))
}

fn address_rule(name: &'static str, value: &str) -> Result<(), ReportError> {
    let port = value
        .rsplit_once(':')
        .map(|(host, port)| (!host.is_empty(), port.parse::<u16>()));
    if value.len() <= limits::ADDRESS_CHARACTERS_MAX && matches!(port, Some((true, Ok(1..)))) {
        return Ok(());
    }
    Err(field(name, shortened(value), "must be host:port".to_owned()))
}

fn field(field: &'static str, value: String, rule: String) -> ReportError {
    ReportError::Field { field, value, rule }
}

fn shortened(value: &str) -> String {
    value.chars().take(limits::NAME_CHARACTERS_MAX).collect()
}

fn room(what: &'static str, used: usize, limit: usize) -> Result<(), ReportError> {
    if used < limit {
        Ok(())
    } else {
        Err(ReportError::Full { what, limit })
    }
}

#[cfg(test)]
mod tests;
