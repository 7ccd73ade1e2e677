//! The clerk: makes topics and consumer groups, has the replicas hash their state now and then, and asks everybody for the
//! routes once all is calm.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ledgermq_client::Admin;
use ledgermq_proto::{
    admin::{CreateConsumerGroupRequest, CreateTopicRequest, DescribeClusterRequest, ProposeDigestRequest},
    net::{ChannelOptions, Net, channel},
    registry::{ListRoutesRequest, registry_client::RegistryClient},
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::Host;
use crate::{checkers::routes::Told, fleet::PASSING_TOPIC, history::What, net::SimNet};

/// A name server's address, and the client that reaches it.
type Registry = (String, RegistryClient<tonic::transport::Channel>);

const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Looks until replicas that did not hash their states are asked again.
const HASH_AGAIN: u64 = 8;

pub(super) async fn clerk(host: Host) -> turmoil::Result {
    let net: Arc<dyn Net> = Arc::new(SimNet);
    let admin = Admin::new(&net, &host.workload.endpoints);
    set_up(&host, &admin).await;
    host.ready.store(true, Ordering::Relaxed);
    let life = Host::next(&host.lives);
    let mut draws = host.draws(life);
    let doors: Vec<(String, Admin)> = host
        .workload
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.clone(), Admin::new(&net, std::slice::from_ref(endpoint))))
        .collect();
    let registries: Vec<Registry> = host
        .workload
        .name_servers
        .iter()
        .map(|address| {
            let channel = channel(net.clone(), address, ChannelOptions::default());
            (address.clone(), RegistryClient::new(channel))
        })
        .collect();
    let mut digest_in = draws.between(4, 10);
    let mut hash_in: u64 = 0;
    loop {
        if host.is_calm() {
            sleep(LOOK_EVERY).await;
            let told = ask_routes(&host, &doors, &registries).await;
            host.workload.witness.told(told);
            // A replica may have started over what it was asked.
            let to_compare = host.workload.witness.to_compare();
            hash_in = match hash_in.checked_sub(1) {
                Some(later) => later,
                None if to_compare.is_empty() => 0,
                None => {
                    for broker_group in to_compare {
                        propose_digest(&host, &admin, broker_group).await;
                    }
                    HASH_AGAIN
                }
            };
            continue;
        }
        sleep(Duration::from_secs(1)).await;
        host.workload.witness.told_meanwhile(&ask_registries(&registries).await);
        digest_in -= 1;
        if digest_in == 0 {
            digest_in = draws.between(4, 10);
            for broker_group in host.workload.witness.broker_groups() {
                propose_digest(&host, &admin, broker_group).await;
            }
        }
    }
}

async fn propose_digest(host: &Host, admin: &Admin, broker_group: String) {
    let request = ProposeDigestRequest {
        broker_group: broker_group.clone(),
    };
    match admin.propose_digest(request).await {
        Ok(answer) => {
            host.workload.witness.asked_to_hash(&broker_group, answer.index);
            host.tell(&format!("digest of entry {}", answer.index));
        }
        Err(status) => host.tell(&format!("digest: {}", status.message())),
    }
}

/// Makes what the others need, again and again until it is there.
async fn set_up(host: &Host, admin: &Admin) {
    for (name, kind) in host.mix.topics() {
        let request = CreateTopicRequest {
            name: name.to_owned(),
            r#type: kind.to_owned(),
            queues: host.mix.queues,
        };
        until_there(host, name, || admin.create_topic(request.clone())).await;
    }
    for group in host.mix.groups() {
        let request = CreateConsumerGroupRequest {
            name: group.consumer_group.clone(),
            fifo: group.fifo,
            max_attempts: u32::try_from(group.max_attempts).unwrap_or(0),
            from: "earliest".to_owned(),
        };
        until_there(host, &group.consumer_group, || {
            admin.create_consumer_group(request.clone())
        })
        .await;
        host.workload.history.record(What::Group(group));
    }
}

async fn until_there<T, F: Future<Output = Result<T, Status>>>(host: &Host, name: &str, make: impl Fn() -> F) {
    loop {
        match make().await {
            Ok(_) => return host.tell(&format!("made {name}")),
            Err(status) if status.code() == Code::AlreadyExists => return,
            Err(status) => host.tell(&format!("{name}: {}", status.message())),
        }
        sleep(Duration::from_millis(150)).await;
    }
}

/// What those name servers say that answer.
async fn ask_registries(registries: &[Registry]) -> Vec<Told> {
    let mut told = Vec::new();
    for registry in registries {
        told.extend(ask_registry(registry).await.unwrap_or_default());
    }
    told
}

async fn ask_registry((by, client): &Registry) -> Option<Vec<Told>> {
    let mut client = client.clone();
    let answer = timeout(PATIENCE, client.list_routes(ListRoutesRequest {})).await;
    let groups = answer.ok()?.ok()?.into_inner().broker_groups.into_iter();
    let told = groups.map(|group| Told {
        by: by.clone(),
        broker_group: group.name,
        term: group.term,
        leader: group.leader,
        alive: Some(group.replicas.iter().filter(|it| it.alive).map(|it| it.id).collect()),
        topics: group
            .topics
            .into_iter()
            .map(|topic| topic.name)
            .filter(|topic| !topic.starts_with(PASSING_TOPIC))
            .collect(),
    });
    Some(told.collect())
}

/// What everybody says of every broker group.
async fn ask_routes(host: &Host, doors: &[(String, Admin)], registries: &[Registry]) -> Vec<Told> {
    // Spare machines have no replica.
    let seated = host.workload.witness.seated_hosts();
    let is_seated = |door: &str| door.split(':').next().is_some_and(|name| seated.contains(name));
    let groups = host.workload.witness.broker_groups();
    let mut told = Vec::new();
    for (by, admin) in doors.iter().filter(|(by, _)| is_seated(by)) {
        told.extend(whole(&groups, by, ask_door(by, admin).await));
    }
    for registry in registries {
        told.extend(whole(&groups, &registry.0, ask_registry(registry).await));
    }
    told
}

async fn ask_door(by: &str, admin: &Admin) -> Option<Vec<Told>> {
    let answer = timeout(PATIENCE, admin.describe_cluster(DescribeClusterRequest {})).await;
    let groups = answer.ok()?.ok()?.broker_groups.into_iter();
    let told = groups.map(|group| Told {
        by: by.to_owned(),
        broker_group: group.name,
        term: group.term,
        leader: group.leader,
        alive: None,
        topics: BTreeSet::new(),
    });
    Some(told.collect())
}

/// An answer, and of the broker groups that it leaves out that nothing is known of them.
fn whole(broker_groups: &[String], by: &str, answer: Option<Vec<Told>>) -> Vec<Told> {
    let by = match answer {
        Some(_) => by.to_owned(),
        None => format!("{by}, which does not answer,"),
    };
    let mut told = answer.unwrap_or_default();
    for broker_group in broker_groups {
        if !told.iter().any(|told| told.broker_group == *broker_group) {
            told.push(Told {
                by: by.clone(),
                broker_group: broker_group.clone(),
                term: 0,
                leader: None,
                alive: None,
                topics: BTreeSet::new(),
            });
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_leaves_out_counts_as_not_known() {
        let groups = ["a".to_owned(), "b".to_owned()];
        let of_a = |term| {
            whole(&groups[..1], "door", None)
                .into_iter()
                .map(move |told| Told { term, ..told })
        };
        let told = whole(&groups, "door", Some(of_a(7).collect()));
        let terms: Vec<(&str, u64)> = told
            .iter()
            .map(|told| (told.broker_group.as_str(), told.term))
            .collect();
        assert_eq!(terms, [("a", 7), ("b", 0)]);
        assert_eq!(whole(&groups, "door", Some(Vec::new())).len(), 2);
        let silent = whole(&groups, "door", None);
        assert!(silent.iter().all(|told| told.by.contains("does not answer")));
    }
}
