//! A machine for replicas: waits until it has a seat, then runs the whole broker on simulated seams, opened again at
//! every start.

use std::{sync::Arc, time::Duration};

use ledgermq_broker::{Broker, Driver, OpenBrokerError, Seams, Spawn, config::Config, open};
use ledgermq_raft_store::seeded;

use super::options::Drawn;
use crate::{
    board::{Board, replica_name},
    fleet::{Fleet, Seat, Stop},
    seed::Seed,
    witness::{self, Witness},
    world,
};

/// Port for clients.
pub const CLIENT_PORT: u16 = 8081;
/// Port for the other replicas.
pub const PEER_PORT: u16 = 9090;

const SEAT_LOOK: Duration = Duration::from_millis(50);
const STOP_LOOK: Duration = Duration::from_millis(20);

/// Everything a machine needs to start, again and again.
#[derive(Clone)]
pub struct Machine {
    /// The run's seed.
    pub seed: Seed,
    /// Which machine, from 0.
    pub machine: usize,
    /// Who has a seat.
    pub fleet: Fleet,
    /// The name of its broker group.
    pub broker_group: String,
    /// Where name servers are.
    pub name_servers: Vec<String>,
    /// What the run drew of the configuration.
    pub drawn: Drawn,
    /// Where its role is shown.
    pub board: Board,
    /// Who looks at it.
    pub witness: Witness,
}

/// The host's software. It never ends by itself: turmoil would leave its sockets open.
pub async fn host(plan: Machine) -> turmoil::Result {
    let seat = loop {
        match plan.fleet.seat(plan.machine) {
            Some(seat) => break seat,
            None => tokio::time::sleep(SEAT_LOOK).await,
        }
    };
    let boot = plan.board.boot(plan.machine);
    let seed = plan.seed.child(&replica_name(plan.machine), boot);
    let first_level = plan.drawn.first_levels.get(plan.machine).copied();
    // An operator brings later ones with the release that the others run.
    let older = boot == 0 && plan.fleet.is_founder(plan.machine);
    let level = first_level.filter(|_| older).unwrap_or_default();
    if level > 0 {
        plan.board.mark("older_release");
    }
    let stop = seeded(seed.derive("raft"), serve(&plan, seat, level, seed)).await;
    plan.fleet.stopped(plan.machine, stop);
    std::future::pending().await
}

async fn serve(plan: &Machine, seat: Seat, level: u32, seed: Seed) -> Stop {
    let (broker, driver) = match opened(plan, seat, level, seed).await {
        Ok(opened) => opened,
        Err(error) => return Stop::Refused(error.to_string()),
    };
    tokio::spawn(world::observe(
        plan.board.clone(),
        plan.machine,
        broker.handle().clone(),
    ));
    let (witness, group) = (plan.witness.clone(), plan.broker_group.clone());
    tokio::spawn(witness::watch(witness, plan.machine, group, broker.clone()));
    tokio::spawn(watch_queues(plan.board.clone(), broker));
    match driver.run(asked_to_stop(plan.fleet.clone(), plan.machine)).await {
        Ok(()) => Stop::Asked,
        Err(error) => Stop::Failed(error.to_string()),
    }
}

async fn opened(plan: &Machine, seat: Seat, level: u32, seed: Seed) -> Result<(Broker, Driver), OpenBrokerError> {
    let clock = plan.fleet.clock(plan.machine);
    let seams = Seams {
        net: Arc::new(plan.fleet.net(plan.machine)),
        disk: Arc::new(seat.disk),
        kv: seat.store.source(),
        wall_clock: Arc::new(move || clock.unix_ms()),
        seed: seed.derive("own"),
        spawn: Spawn::Here,
        tuning: plan.drawn.tuning,
        planted: plan.drawn.plant.broker(),
    };
    open(config(plan, seat.id, level)?, seams).await
}

fn config(plan: &Machine, id: u64, level: u32) -> Result<Config, OpenBrokerError> {
    let name = replica_name(plan.machine);
    let text = format!(
        r#"broker_group = "{}"
replica_id = {id}
listen = "0.0.0.0:{CLIENT_PORT}"
peer_listen = "0.0.0.0:{PEER_PORT}"
advertise = "{name}:{CLIENT_PORT}"
peer_advertise = "{name}:{PEER_PORT}"
data_dir = "/data"
name_servers = {:?}
format_level_max = {level}
{}
"#,
        plan.broker_group, plan.name_servers, plan.drawn.settings
    );
    let checked = Config::from_toml(&text).map_err(|error| OpenBrokerError::State(error.to_string()))?;
    // Smaller than an operator may have them: rolls, recycling, cuts and snapshots within a minute.
    Ok(Config {
        segment_bytes: plan.drawn.segment_bytes,
        retention_bytes: plan.drawn.retention_bytes,
        ..checked
    })
}

/// Resolves when the machine's replica is asked to stop in good order.
async fn asked_to_stop(fleet: Fleet, machine: usize) {
    while !fleet.is_asked_to_stop(machine) {
        tokio::time::sleep(STOP_LOOK).await;
    }
}

/// Tells the board which messages retention let go of.
async fn watch_queues(board: Board, broker: Broker) {
    const EVERY: Duration = Duration::from_millis(500);
    let view = broker.view().clone();
    drop(broker);
    loop {
        for topic in view.topics() {
            for (queue, bounds) in (0..).zip(view.queue_bounds(&topic.name).into_iter().flatten()) {
                let first = i64::try_from(bounds.first.get()).unwrap_or(i64::MAX);
                board.queue_starts(&topic.name, queue, first);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
