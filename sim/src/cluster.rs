//! The whole broker: broker groups with their machines, name servers, operators, producers and consumers, each a
//! simulated host; they run the code that production runs. All profiles but `log` play here.

mod operator;
pub mod options;
mod replica;
pub mod servers;
mod workload;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use self::{
    options::Drawn,
    workload::{CONSUMER_GROUP, TOPIC, Workload},
};
use crate::{
    board::Board,
    chaos::{Chaos, Stage},
    fleet::Fleet,
    history::History,
    layout::Layout,
    run::Scene,
    seed::Seed,
    trace::Trace,
};

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
pub fn scene(
    seed: Seed,
    (layout, few_clients): (&Layout, bool),
    board: &Board,
    trace: &Trace,
) -> (Stage<'static>, Box<dyn Scene>) {
    let (producers, consumers) = if few_clients { (1, 1) } else { (PRODUCERS, CONSUMERS) };
    let drawn = Drawn::draw(&mut seed.stream("options"));
    let names: Vec<String> = (0..layout.broker_groups.len()).map(broker_group_name).collect();
    let (mut stage, endpoints) = servers::servers(seed, (layout, &names), &drawn, board, trace);
    let history = History::new(board.clone());
    let quiet = Arc::new(AtomicBool::new(false));
    let workload = Workload {
        seed,
        endpoints,
        history: history.clone(),
        trace: trace.clone(),
        quiet: quiet.clone(),
    };
    for number in 1..=producers {
        let workload = workload.clone();
        stage.hosts.push(format!("producer-{number}"));
        // One lane each. h2 forgets reset streams by the real clock, and that moves the order in which the calls of one
        // lost connection fail: with several lanes on a connection, two runs of a seed may differ (docs/simulation.md).
        stage.sim.host(format!("producer-{number}"), move || {
            workload::producer(workload.clone(), number, 1)
        });
    }
    for number in 1..=consumers {
        let workload = workload.clone();
        stage.hosts.push(format!("consumer-{number}"));
        stage.sim.host(format!("consumer-{number}"), move || {
            workload::consumer(workload.clone(), number)
        });
    }
    let judge = Judge {
        board: board.clone(),
        fleet: stage.fleet.clone(),
        broker_groups: layout.broker_groups.len(),
        history,
        quiet,
    };
    (stage, Box::new(judge))
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
