//! The cluster without its clients: machines of the broker groups, name servers, an operator for each broker group.

use std::{future::pending, sync::Arc};

use super::{
    operator::{self, Operator},
    options::Drawn,
    replica::{self, CLIENT_PORT, Machine},
};
use crate::{
    board::{Board, replica_name},
    chaos::{OnCrash, Stage},
    fleet::Fleet,
    history::History,
    layout::Layout,
    net::SimNet,
    plant::Plant,
    seed::Seed,
    trace::Trace,
    witness::{Ground, Witness},
    world,
};

const NAME_SERVER_PORT: u16 = 9876;

/// Puts the cluster on a stage. `names` are those of the broker groups. Answers the brokers' addresses and who watches
/// them as well.
pub fn servers(
    seed: Seed,
    (layout, names): (&Layout, &[String]),
    drawn: &Drawn,
    board: &Board,
    trace: &Trace,
) -> (Stage<'static>, Vec<String>, Witness) {
    let mut sim = world::build(seed, trace);
    trace.tell("options", format!("{layout:?}"));
    trace.tell("options", drawn.story());
    let groups = layout.machines();
    let fleet = Fleet::new(seed, &groups, &layout.broker_groups, drawn.rocks);
    let history = History::new(trace.clone());
    let seen = (fleet.clone(), Ground::of_brokers());
    let witness = Witness::new(board.clone(), history, seen, names.to_vec());
    if drawn.retention_bytes == 0 {
        witness.keep_all();
    }
    let mut hosts = Vec::new();
    let mut on_crash: Vec<OnCrash> = Vec::new();
    for (machine, group) in groups.iter().enumerate() {
        let plan = Machine {
            seed,
            machine,
            fleet: fleet.clone(),
            broker_group: names[*group].clone(),
            name_servers: name_servers(layout),
            drawn: drawn.clone(),
            board: board.clone(),
            witness: witness.clone(),
        };
        hosts.push(replica_name(machine));
        sim.host(replica_name(machine), move || {
            let plan = plan.clone();
            async move { replica::host(plan).await }
        });
        let fleet = fleet.clone();
        on_crash.push(Box::new(move |power| fleet.crash(machine, power)));
    }
    for number in 1..=layout.name_servers {
        let name = name_server_name(number);
        let plant = drawn.plant;
        sim.host(name.as_str(), move || name_server(plant));
        hosts.push(name);
    }
    let endpoint = |machine: usize| format!("{}:{CLIENT_PORT}", replica_name(machine));
    for (group, broker_group) in names.iter().enumerate() {
        let of_group = (0..groups.len()).filter(|machine| groups[*machine] == group);
        let operator = Operator {
            group,
            broker_group: broker_group.clone(),
            endpoints: of_group.map(endpoint).collect(),
            fleet: fleet.clone(),
            board: board.clone(),
            trace: trace.clone(),
        };
        let name = format!("operator-{}", group + 1);
        sim.host(name.as_str(), move || operator::host(operator.clone()));
        hosts.push(name);
    }
    let stage = Stage {
        sim,
        hosts,
        on_crash,
        name_servers: layout.name_servers,
        latency: world::latency(seed),
        fleet,
        board: board.clone(),
        trace: trace.clone(),
    };
    (stage, (0..groups.len()).map(endpoint).collect(), witness)
}

fn name_server_name(number: usize) -> String {
    format!("namesrv-{number}")
}

/// Addresses of the name servers.
pub fn name_servers(layout: &Layout) -> Vec<String> {
    let numbers = 1..=layout.name_servers;
    numbers
        .map(|number| format!("{}:{NAME_SERVER_PORT}", name_server_name(number)))
        .collect()
}

async fn name_server(plant: Plant) -> turmoil::Result {
    let options = ledgermq_namesrv::Options {
        planted: plant.name_server(),
    };
    let listen = format!("0.0.0.0:{NAME_SERVER_PORT}");
    let (_, serving) = ledgermq_namesrv::serve(Arc::new(SimNet), &listen, options, pending()).await?;
    serving.await?;
    Ok(())
}
