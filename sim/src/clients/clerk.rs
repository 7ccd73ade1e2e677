//! The clerk: makes topics and consumer groups, has the replicas hash their state now and then, and asks everybody for the
//! routes once all is calm.

use std::{
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
use crate::{checkers::routes::Told, history::What, net::SimNet};

/// A name server's address, and the client that reaches it.
type Registry = (String, RegistryClient<tonic::transport::Channel>);

const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(300);

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
    loop {
        if host.is_calm() {
            sleep(LOOK_EVERY).await;
            let told = ask_routes(&host, &doors, &registries).await;
            host.workload.witness.told(told);
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
    match admin.propose_digest(ProposeDigestRequest { broker_group }).await {
        Ok(answer) => host.tell(&format!("digest of entry {}", answer.index)),
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
        alive: group.replicas.iter().filter(|it| it.alive).map(|it| it.id).collect(),
    });
    Some(told.collect())
}

async fn ask_routes(host: &Host, doors: &[(String, Admin)], registries: &[Registry]) -> Vec<Told> {
    let mut told = Vec::new();
    // Spare machines have no replica.
    let seated = host.workload.witness.seated_hosts();
    let is_seated = |door: &str| door.split(':').next().is_some_and(|name| seated.contains(name));
    let silent = |by: &str| {
        let groups = host.workload.witness.broker_groups().into_iter();
        let by = format!("{by}, which does not answer,");
        groups.map(move |broker_group| Told {
            by: by.clone(),
            broker_group,
            term: 0,
            leader: None,
            alive: Vec::new(),
        })
    };
    for (by, admin) in doors.iter().filter(|(by, _)| is_seated(by)) {
        match timeout(PATIENCE, admin.describe_cluster(DescribeClusterRequest {})).await {
            Ok(Ok(answer)) => told.extend(answer.broker_groups.into_iter().map(|group| Told {
                by: by.clone(),
                broker_group: group.name,
                term: group.term,
                leader: group.leader,
                alive: Vec::new(),
            })),
            _ => told.extend(silent(by)),
        }
    }
    for registry in registries {
        match ask_registry(registry).await {
            Some(answer) => told.extend(answer),
            None => told.extend(silent(&registry.0)),
        }
    }
    told
}
