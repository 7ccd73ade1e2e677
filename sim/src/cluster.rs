//! The whole broker: broker groups with their machines, name servers, operators, producers and consumers, each a
//! simulated host; they run the code that production runs. All profiles but `log` play here.

mod operator;
pub(crate) mod options;
pub(crate) mod replica;
mod workload;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use self::{
    operator::Operator,
    options::Drawn,
    replica::{CLIENT_PORT, Machine},
    workload::{CONSUMER_GROUP, TOPIC, Workload},
};
use crate::{
    board::{Board, replica_name},
    chaos::{Chaos, OnCrash, Stage},
    fleet::Fleet,
    history::History,
    layout::Layout,
    net::SimNet,
    run::Scene,
    seed::Seed,
    trace::Trace,
    world,
};

const NAME_SERVER_PORT: u16 = 9876;
const PRODUCERS: u64 = 5;
const CONSUMERS: u64 = 2;
/// Sends acknowledged after the healing that count as progress.
const PROGRESS: usize = 30;

struct Judge {
    board: Board,
    fleet: Fleet,
    broker_groups: usize,
    history: History,
    quiet: Arc<AtomicBool>,
}

/// The name of a broker group, counted from 0: `broker-a` is the first.
pub fn broker_group_name(group: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(group % 26).unwrap_or(0));
    format!("broker-{letter}")
}

/// Sets the stage.
pub fn scene(seed: Seed, layout: &Layout, board: &Board, trace: &Trace) -> (Stage<'static>, Box<dyn Scene>) {
    let mut sim = world::build(seed, trace);
    let history = History::new(board.clone());
    let quiet = Arc::new(AtomicBool::new(false));
    let drawn = Drawn::draw(&mut seed.stream("options"));
    trace.tell("options", format!("{layout:?}"));
    trace.tell("options", drawn.story());
    let groups = layout.machines();
    let fleet = Fleet::new(seed, &groups, &layout.broker_groups, drawn.rocks);
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
        history: history.clone(),
        trace: trace.clone(),
        quiet: quiet.clone(),
    };
    for number in 1..=PRODUCERS {
        let workload = workload.clone();
        hosts.push(format!("producer-{number}"));
        // One lane each. h2 forgets reset streams by the real clock, and that moves the order in which the calls of one
        // lost connection fail: with several lanes on a connection, two runs of a seed may differ (docs/simulation.md).
        sim.host(format!("producer-{number}"), move || {
            workload::producer(workload.clone(), number, 1)
        });
    }
    for number in 1..=CONSUMERS {
        let workload = workload.clone();
        hosts.push(format!("consumer-{number}"));
        sim.host(format!("consumer-{number}"), move || {
            workload::consumer(workload.clone(), number)
        });
    }
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
        board: board.clone(),
        fleet,
        broker_groups: layout.broker_groups.len(),
        history,
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

impl Scene for Judge {
    fn healed(&mut self, _stage: &mut Stage<'_>, _chaos: &mut Chaos) {
        self.history.healed();
    }

    fn missing(&self) -> Option<String> {
        let acked = self.history.acked_since_healed();
        if acked < PROGRESS {
            return Some(format!("{acked} sends acknowledged since all faults healed"));
        }
        self.quiet.store(true, Ordering::Relaxed);
        if let Some((count, first)) = self.history.backlog(CONSUMER_GROUP, TOPIC) {
            return Some(format!(
                "{count} acknowledged messages not consumed, {first} among them"
            ));
        }
        (0..self.broker_groups).find_map(|group| self.unlike(group))
    }

    fn judge(&self) -> Vec<String> {
        self.history.judge()
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        self.history.counts()
    }
}

impl Judge {
    /// What differs between the replicas of a broker group, or from what its operator wants.
    fn unlike(&self, group: usize) -> Option<String> {
        let seats = self.fleet.seats(group);
        let applied: Vec<Option<u64>> = seats
            .values()
            .map(|machine| self.board.is_up(*machine).then(|| self.board.applied_index(*machine)))
            .collect();
        if !self.fleet.is_settled(group) {
            return Some(format!(
                "the membership is not as wanted, replicas have applied {applied:?}"
            ));
        }
        let equal = applied.iter().all(|index| index.is_some() && *index == applied[0]);
        (!equal).then(|| format!("replicas {:?} have applied {applied:?}", seats.keys()))
    }
}
