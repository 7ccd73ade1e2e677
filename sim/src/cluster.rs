//! The whole broker: broker groups with their machines, name servers, operators, producers and consumers, each a
//! simulated host; they run the code that production runs. All profiles but `log` play here.

mod operator;
pub mod options;
mod replica;
pub mod servers;

use std::sync::{Arc, atomic::AtomicBool};

use ledgermq_broker::state::level::FORMAT_LEVEL;

use self::options::Drawn;
use crate::{
    board::Board,
    chaos::Stage,
    clients::{self, Workload},
    judge::Judge,
    layout::Layout,
    plant::Plant,
    run::Scene,
    seed::Seed,
    trace::Trace,
};

/// The name of a broker group, counted from 0: `broker-a` is the first.
pub fn broker_group_name(group: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(group % 26).unwrap_or(0));
    format!("broker-{letter}")
}

/// Sets the stage.
pub fn scene(
    seed: Seed,
    (layout, plant, few_clients): (&Layout, Plant, bool),
    board: &Board,
    trace: &Trace,
) -> (Stage<'static>, Box<dyn Scene>) {
    let drawn = Drawn {
        plant,
        ..Drawn::draw(&mut seed.stream("options"))
    };
    let names: Vec<String> = (0..layout.broker_groups.len()).map(broker_group_name).collect();
    let (mut stage, endpoints, witness) = servers::servers(seed, (layout, &names), &drawn, board, trace);
    let history = witness.history().clone();
    if drawn.begins_below(FORMAT_LEVEL) {
        for name in &names {
            history.format_level(name, 1);
        }
    }
    let quiet = Arc::new(AtomicBool::new(false));
    let workload = Workload {
        seed,
        endpoints,
        name_servers: servers::name_servers(layout),
        history: history.clone(),
        witness: witness.clone(),
        trace: trace.clone(),
        quiet: quiet.clone(),
    };
    clients::hosts(&mut stage.sim, &mut stage.hosts, &workload, few_clients);
    let judge = Judge {
        history,
        witness,
        quiet,
    };
    (stage, Box::new(judge))
}
