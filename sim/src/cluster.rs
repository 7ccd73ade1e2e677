//! The whole broker: broker groups with their machines, name servers, operators, producers and consumers, each a
//! simulated host; they run the code that production runs. All profiles but `log` play here.

mod operator;
mod options;
mod replica;

use std::{
    future::pending,
    sync::{Arc, atomic::AtomicBool},
};

use self::{
    operator::Operator,
    options::Drawn,
    replica::{CLIENT_PORT, Machine},
};
use crate::{
    board::{Board, replica_name},
    chaos::{OnCrash, Stage},
    clients::{self, Workload},
    fleet::Fleet,
    history::History,
    judge::Judge,
    layout::Layout,
    net::SimNet,
    run::Scene,
    seed::Seed,
    trace::Trace,
    witness::Witness,
    world,
};

const NAME_SERVER_PORT: u16 = 9876;

/// The name of a broker group, counted from 0: `broker-a` is the first.
pub fn broker_group_name(group: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(group % 26).unwrap_or(0));
    format!("broker-{letter}")
}

/// Sets the stage.
pub fn scene(seed: Seed, layout: &Layout, board: &Board, trace: &Trace) -> (Stage<'static>, Box<dyn Scene>) {
    let mut sim = world::build(seed, trace);
    let history = History::new(trace.clone());
    let quiet = Arc::new(AtomicBool::new(false));
    let drawn = Drawn::draw(&mut seed.stream("options"));
    trace.tell("options", format!("{layout:?}"));
    trace.tell("options", drawn.story());
    let groups = layout.machines();
    let fleet = Fleet::new(seed, &groups, &layout.broker_groups, drawn.rocks);
    let group_names = (0..layout.broker_groups.len()).map(broker_group_name).collect();
    let witness = Witness::new(board.clone(), history.clone(), fleet.clone(), group_names);
    let name_servers: Vec<String> = (1..=layout.name_servers).map(|n| format!("namesrv-{n}")).collect();
    let mut hosts = Vec::new();
    let mut on_crash: Vec<OnCrash> = Vec::new();
    for (machine, group) in groups.iter().enumerate() {
        let plan = Machine {
            seed,
            machine,
            fleet: fleet.clone(),
            broker_group: broker_group_name(*group),
            name_servers: name_servers
                .iter()
                .map(|name| format!("{name}:{NAME_SERVER_PORT}"))
                .collect(),
            drawn: drawn.clone(),
            board: board.clone(),
            witness: Some(witness.clone()),
        };
        hosts.push(replica_name(machine));
        sim.host(replica_name(machine), move || {
            let plan = plan.clone();
            async move { replica::host(plan).await }
        });
        let fleet = fleet.clone();
        on_crash.push(Box::new(move |power| fleet.crash(machine, power)));
    }
    for name in &name_servers {
        hosts.push(name.clone());
        sim.host(name.as_str(), name_server);
    }
    let endpoint = |machine| format!("{}:{CLIENT_PORT}", replica_name(machine));
    for group in 0..layout.broker_groups.len() {
        let of_group = (0..groups.len()).filter(|machine| groups[*machine] == group);
        let operator = Operator {
            group,
            broker_group: broker_group_name(group),
            endpoints: of_group.map(endpoint).collect(),
            fleet: fleet.clone(),
            board: board.clone(),
            trace: trace.clone(),
        };
        let name = format!("operator-{}", group + 1);
        sim.host(name.as_str(), move || operator::host(operator.clone()));
        hosts.push(name);
    }
    let workload = Workload {
        seed,
        endpoints: (0..groups.len()).map(endpoint).collect(),
        name_servers: name_servers
            .iter()
            .map(|name| format!("{name}:{NAME_SERVER_PORT}"))
            .collect(),
        history: history.clone(),
        witness: witness.clone(),
        trace: trace.clone(),
        quiet: quiet.clone(),
    };
    clients::hosts(&mut sim, &mut hosts, &workload);
    let stage = Stage {
        sim,
        hosts,
        on_crash,
        name_servers: layout.name_servers,
        latency: world::latency(seed),
        fleet: fleet.clone(),
        board: board.clone(),
        trace: trace.clone(),
    };
    let judge = Judge {
        history,
        witness,
        quiet,
    };
    (stage, Box::new(judge))
}

async fn name_server() -> turmoil::Result {
    let listen = format!("0.0.0.0:{NAME_SERVER_PORT}");
    let (_, serving) = ledgermq_namesrv::serve(Arc::new(SimNet), &listen, pending()).await?;
    serving.await?;
    Ok(())
}
