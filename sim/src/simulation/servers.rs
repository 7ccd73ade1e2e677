//! The cluster of a user's simulation: name servers, brokers, and the operator who makes broker groups and topics.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ledgermq_client::Admin;
use ledgermq_proto::{
    admin::{BootstrapRequest, CreateTopicRequest, Member},
    net::Net,
};

use super::Topic;
use crate::{
    board::{Board, replica_name},
    chaos::{OnCrash, Stage},
    cluster::{
        options::Drawn,
        replica::{self, CLIENT_PORT, Machine, PEER_PORT},
    },
    fleet::Fleet,
    layout::Layout,
    net::SimNet,
    seed::Seed,
    trace::Trace,
    world,
};

const NAME_SERVER_PORT: u16 = 9876;

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub seed: Seed,
    pub broker_groups: &'a [(String, usize)],
    pub layout: &'a Layout,
    pub name_servers: usize,
    pub topics: Vec<Topic>,
}

/// What serves.
pub(super) struct Servers {
    /// The hosts so far; replicas come first.
    pub stage: Stage<'static>,
    /// The brokers' addresses.
    pub endpoints: Vec<String>,
    /// Set once broker groups and topics are made.
    pub ready: Arc<AtomicBool>,
}

/// Puts the cluster on the stage.
pub(super) fn servers(wanted: Wanted<'_>, board: &Board, trace: &Trace) -> Servers {
    let Wanted { seed, name_servers, .. } = wanted;
    let mut sim = world::build(seed, trace);
    let (mut hosts, mut endpoints) = (Vec::new(), Vec::new());
    let mut on_crash: Vec<OnCrash> = Vec::new();
    let mut groups = Vec::new();
    let machines = wanted.layout.machines();
    let fleet = Fleet::new(seed, &machines, &wanted.layout.broker_groups, false);
    for (machine, group) in machines.iter().enumerate() {
        let name = replica_name(machine);
        let plan = Machine {
            seed,
            machine,
            fleet: fleet.clone(),
            broker_group: wanted.broker_groups[*group].0.clone(),
            name_servers: (1..=name_servers)
                .map(|number| format!("{}:{NAME_SERVER_PORT}", name_server_name(number)))
                .collect(),
            drawn: Drawn::usual(),
            board: board.clone(),
        };
        sim.host(name.as_str(), move || {
            let plan = plan.clone();
            async move { replica::host(plan).await }
        });
        let fleet = fleet.clone();
        on_crash.push(Box::new(move |power| fleet.crash(machine, power)));
        endpoints.push(format!("{name}:{CLIENT_PORT}"));
        hosts.push(name);
    }
    for (group, (broker_group, _)) in wanted.broker_groups.iter().enumerate() {
        let member = |(id, machine): (&u64, &usize)| {
            let name = replica_name(*machine);
            Member {
                id: *id,
                peer_address: format!("{name}:{PEER_PORT}"),
                client_address: format!("{name}:{CLIENT_PORT}"),
            }
        };
        groups.push(BootstrapRequest {
            broker_group: broker_group.clone(),
            members: fleet.seats(group).iter().map(member).collect(),
        });
    }
    for number in 1..=name_servers {
        hosts.push(name_server_name(number));
        sim.host(name_server_name(number), name_server);
    }
    let ready = Arc::new(AtomicBool::new(false));
    let operator = Operator {
        groups,
        topics: wanted.topics,
        ready: ready.clone(),
        trace: trace.clone(),
    };
    hosts.push("operator".to_owned());
    sim.host("operator", move || operator.clone().work());
    let stage = Stage {
        sim,
        hosts,
        on_crash,
        name_servers,
        latency: world::latency(seed),
        fleet,
        board: board.clone(),
        trace: trace.clone(),
    };
    Servers {
        stage,
        endpoints,
        ready,
    }
}

fn name_server_name(number: usize) -> String {
    format!("namesrv-{number}")
}

async fn name_server() -> turmoil::Result {
    let listen = format!("0.0.0.0:{NAME_SERVER_PORT}");
    let (_, serving) = ledgermq_namesrv::serve(Arc::new(SimNet), &listen, pending()).await?;
    serving.await?;
    Ok(())
}

/// Bootstraps the broker groups, makes the topics; what fails is tried again.
#[derive(Clone)]
struct Operator {
    groups: Vec<BootstrapRequest>,
    topics: Vec<Topic>,
    ready: Arc<AtomicBool>,
    trace: Trace,
}

impl Operator {
    async fn work(self) -> turmoil::Result {
        for group in &self.groups {
            let admin = Self::admin(group);
            let what = format!("bootstrap {}", group.broker_group);
            self.until_done(&what, || admin.bootstrap(group.clone())).await;
        }
        for group in &self.groups {
            let admin = Self::admin(group);
            for topic in &self.topics {
                let request = CreateTopicRequest {
                    name: topic.name.clone(),
                    r#type: topic.kind.to_owned(),
                    queues: topic.queues,
                };
                let what = format!("topic {} in {}", topic.name, group.broker_group);
                self.until_done(&what, || admin.create_topic(request.clone())).await;
            }
        }
        self.ready.store(true, Ordering::Relaxed);
        self.trace.tell("operator", "broker groups and topics are ready");
        Ok(())
    }

    fn admin(group: &BootstrapRequest) -> Admin {
        let net: Arc<dyn Net> = Arc::new(SimNet);
        let endpoints: Vec<String> = group
            .members
            .iter()
            .map(|member| member.client_address.clone())
            .collect();
        Admin::new(&net, &endpoints)
    }

    /// Calls until it took effect; that it was done before is as good.
    async fn until_done<T, F>(&self, what: &str, call: impl Fn() -> F)
    where
        F: Future<Output = Result<T, tonic::Status>>,
    {
        const PAUSE: Duration = Duration::from_millis(200);
        loop {
            match call().await {
                Ok(_) => return self.trace.event("operator", format!("{what}: done")),
                Err(status) if status.code() == tonic::Code::AlreadyExists => {
                    return self.trace.event("operator", format!("{what}: done before"));
                }
                Err(status) => self.trace.event("operator", format!("{what}: {}", status.message())),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
