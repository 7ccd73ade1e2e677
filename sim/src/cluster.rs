//! Profiles `quick` and `default`: the whole broker. Three replicas of one broker group, a name server, an operator who
//! bootstraps, producers and consumers, each a simulated host; they run the code that production runs.

pub(crate) mod replica;

use std::{
    future::pending,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use ledgermq_broker::kv::memory::MemoryKv;
use ledgermq_client::Admin;
use ledgermq_proto::{
    admin::{BootstrapRequest, Member},
    net::Net,
};

use self::replica::{CLIENT_PORT, PEER_PORT, Replica};
use crate::{
    board::{Board, replica_name},
    chaos::{OnCrash, Stage},
    clients::{self, Workload},
    history::History,
    judge::Judge,
    net::SimNet,
    plant::Plant,
    run::Scene,
    seed::{Draws, Seed},
    trace::Trace,
    witness::Witness,
    world,
};

/// Replicas of the broker group.
pub const REPLICAS: usize = 3;
const BROKER_GROUP: &str = "broker-a";
const NAME_SERVER: &str = "namesrv";
const NAME_SERVER_PORT: u16 = 9876;

/// Sets the stage.
pub fn scene(seed: Seed, plant: Plant, board: &Board, trace: &Trace) -> (Stage<'static>, Box<dyn Scene>) {
    let mut sim = world::build(seed, trace);
    let history = History::new(trace.clone());
    let witness = Witness::new(board.clone(), history.clone());
    let quiet = Arc::new(AtomicBool::new(false));
    let mut hosts = Vec::new();
    let mut on_crash: Vec<OnCrash> = Vec::new();
    let mut options = seed.stream("options");
    let settings = settings(&mut options);
    trace.tell("options", settings.replace('\n', " "));
    for replica in 0..REPLICAS {
        let (disk, kv) = (world::disk(seed, replica), MemoryKv::new());
        let plan = Replica {
            seed,
            plant,
            replica,
            disk: disk.clone(),
            kv: kv.clone(),
            config: config(replica, &settings),
            board: board.clone(),
            witness: Some(witness.clone()),
        };
        let id = replica as u64 + 1;
        witness.add(&replica_name(replica), BROKER_GROUP, id, disk.clone(), Some(kv.clone()));
        let seen_by = witness.clone();
        hosts.push(replica_name(replica));
        sim.host(replica_name(replica), move || replica::host(plan.clone()));
        on_crash.push(Box::new(move |power| {
            seen_by.down(&replica_name(replica));
            kv.crash();
            if power {
                disk.crash();
            } else {
                disk.kill();
            }
        }));
    }
    let workload = Workload {
        seed,
        endpoints: (0..REPLICAS)
            .map(|replica| format!("{}:{CLIENT_PORT}", replica_name(replica)))
            .collect(),
        name_servers: vec![format!("{NAME_SERVER}:{NAME_SERVER_PORT}")],
        history: history.clone(),
        witness: witness.clone(),
        trace: trace.clone(),
        quiet: quiet.clone(),
    };
    hosts.push(NAME_SERVER.to_owned());
    sim.host(NAME_SERVER, move || name_server(plant));
    hosts.push("operator".to_owned());
    let (endpoints, told) = (workload.endpoints.clone(), trace.clone());
    sim.host("operator", move || bootstrap(endpoints.clone(), told.clone()));
    clients::hosts(&mut sim, &mut hosts, &workload);
    let stage = Stage {
        sim,
        hosts,
        on_crash,
        board: board.clone(),
        trace: trace.clone(),
    };
    (
        stage,
        Box::new(Judge {
            history,
            witness,
            quiet,
        }),
    )
}

/// What this run draws of the configuration.
fn settings(options: &mut Draws) -> String {
    let segment_bytes: u64 = options.pick(&[1 << 20, 4 << 20]);
    let tail_cache_bytes: u64 = options.pick(&[1 << 20, 8 << 20]);
    format!("segment_bytes = {segment_bytes}\ntail_cache_bytes = {tail_cache_bytes}")
}

fn config(replica: usize, settings: &str) -> String {
    let (id, name) = (replica + 1, replica_name(replica));
    format!(
        r#"broker_group = "{BROKER_GROUP}"
replica_id = {id}
listen = "0.0.0.0:{CLIENT_PORT}"
peer_listen = "0.0.0.0:{PEER_PORT}"
advertise = "{name}:{CLIENT_PORT}"
peer_advertise = "{name}:{PEER_PORT}"
data_dir = "/data"
name_servers = ["{NAME_SERVER}:{NAME_SERVER_PORT}"]
{settings}
"#
    )
}

async fn name_server(plant: Plant) -> turmoil::Result {
    let listen = format!("0.0.0.0:{NAME_SERVER_PORT}");
    let options = ledgermq_namesrv::Options {
        planted: plant.name_server(),
    };
    let (_, serving) = ledgermq_namesrv::serve(Arc::new(SimNet), &listen, options, pending()).await?;
    serving.await?;
    Ok(())
}

/// Bootstraps the broker group; a failure is tried again, as an operator would.
async fn bootstrap(endpoints: Vec<String>, trace: Trace) -> turmoil::Result {
    let net: Arc<dyn Net> = Arc::new(SimNet);
    let admin = Admin::new(&net, &endpoints);
    let member = |replica| {
        let name = replica_name(replica);
        Member {
            id: replica as u64 + 1,
            peer_address: format!("{name}:{PEER_PORT}"),
            client_address: format!("{name}:{CLIENT_PORT}"),
        }
    };
    let request = BootstrapRequest {
        broker_group: BROKER_GROUP.to_owned(),
        members: (0..REPLICAS).map(member).collect(),
    };
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        match admin.bootstrap(request.clone()).await {
            Ok(answer) => {
                trace.tell("operator", format!("bootstrapped cluster {}", answer.cluster_id));
                return Ok(());
            }
            Err(status)
                if matches!(
                    status.code(),
                    tonic::Code::AlreadyExists | tonic::Code::FailedPrecondition
                ) =>
            {
                trace.event("operator", format!("bootstrapped before: {}", status.message()));
                return Ok(());
            }
            Err(status) => trace.event("operator", format!("bootstrap: {}", status.message())),
        }
    }
}
