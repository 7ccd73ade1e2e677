//! A replica host: the whole broker on simulated seams, opened again at every start.

use std::{future::pending, sync::Arc};

use ledgermq_broker::{KvSource, Seams, Spawn, config::Config, kv::memory::MemoryKv, open};
use ledgermq_raft_store::{disk::FaultyDisk, seeded};

use crate::{
    board::{Board, replica_name},
    net::SimNet,
    plant::Plant,
    seed::Seed,
    witness::{self, Witness},
    world,
};

/// Port for clients.
pub const CLIENT_PORT: u16 = 8081;
/// Port for the other replicas.
pub const PEER_PORT: u16 = 9090;

/// Everything a replica needs to start, again and again.
#[derive(Clone)]
pub struct Replica {
    /// The run's seed.
    pub seed: Seed,
    /// A bug on purpose.
    pub plant: Plant,
    /// Which replica, from 0.
    pub replica: usize,
    /// Its disk.
    pub disk: FaultyDisk,
    /// What its state has flushed.
    pub kv: MemoryKv,
    /// Its configuration.
    pub config: String,
    /// Where its role is shown.
    pub board: Board,
    /// Who looks at it, if anybody does.
    pub witness: Option<Witness>,
}

/// The host's software.
pub async fn host(plan: Replica) -> turmoil::Result {
    let boot = plan.board.boot(plan.replica);
    let seed = plan.seed.child(&replica_name(plan.replica), boot);
    seeded(seed.derive("raft"), serve(plan, seed)).await
}

async fn serve(plan: Replica, seed: Seed) -> turmoil::Result {
    let config = Config::from_toml(&plan.config)?;
    let seams = Seams {
        net: Arc::new(SimNet),
        disk: Arc::new(plan.disk),
        kv: KvSource::Memory(plan.kv),
        wall_clock: Arc::new(world::unix_ms),
        seed: seed.derive("own"),
        spawn: Spawn::Here,
        planted: plan.plant.broker(),
    };
    let broker_group = config.broker_group.clone();
    let (broker, driver) = open(config, seams).await?;
    if let Some(witness) = plan.witness {
        let name = replica_name(plan.replica);
        tokio::spawn(witness::watch(witness, name, broker_group, broker.clone()));
    }
    tokio::spawn(world::observe(plan.board, plan.replica, broker.handle().clone()));
    drop(broker);
    driver.run(pending()).await?;
    Ok(())
}
