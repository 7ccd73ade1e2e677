//! The simulation for application teams: their own code as hosts beside a cluster, broken from a seed or by a script,
//! judged by their own checks.
//!
//! ```no_run
//! use std::time::Duration;
//! use ledgermq_client::{Message, Producer};
//! use ledgermq_sim::simulation::{Breaks, Profile, Simulation};
//!
//! fn main() -> Result<(), ledgermq_sim::simulation::Error> {
//!     Simulation::new(7)
//!         .broker_group("broker-a", 3)
//!         .topic("orders", 4)
//!         .app("shop", |app| async move {
//!             let producer = Producer::start(app.client())?;
//!             while !app.calm() {
//!                 // A send may fail while the cluster is broken; an error that is returned ends the run as a failure.
//!                 if let Ok(receipt) = producer.send(Message::new("orders", "an order")).await {
//!                     app.store().put(&receipt.message_id, "sent").await?;
//!                 }
//!             }
//!             Ok(())
//!         })
//!         .breaks(Breaks::random(Profile::Quick))
//!         .for_seconds(20)
//!         .check(|world| match world.store("shop") {
//!             Some(store) if !store.scan("").is_empty() => Ok(()),
//!             _ => Err("nothing was sent".to_owned()),
//!         })
//!         .run()?;
//!     Ok(())
//! }
//! ```
//! [`program`] makes a command-line program of such a simulation. docs/simulation.md goes through it step by step.

mod app;
mod breaks;
mod program;
mod servers;
mod stage;
mod store;
mod view;
mod wrong;

use std::{future::Future, path::PathBuf, pin::Pin, rc::Rc};

use thiserror::Error;

/// The traits behind [`App::disk`].
pub use ledgermq_raft_store::disk;

pub use self::{
    app::App,
    breaks::{AppBreak, AppFault, Breaks},
    program::{Program, program},
    store::{Full, Store, Transaction},
    view::View,
};
pub use crate::{
    faults::{Fault, Moment, Rot, Target},
    run::Profile,
};
use crate::{layout::Layout, report::Report, seed::Seed};

/// How an application ends: well, or with any error.
pub type Result = std::result::Result<(), Box<dyn std::error::Error>>;

type Software = Rc<dyn Fn(App) -> Pin<Box<dyn Future<Output = Result>>>>;
type Check = Box<dyn Fn(&View<'_>) -> std::result::Result<(), String>>;
type Condition = (String, Box<dyn Fn(&View<'_>) -> bool>);

/// A simulation to be run: a cluster, applications, what goes wrong, and what must hold.
pub struct Simulation {
    seed: Seed,
    seconds: u64,
    name_servers: usize,
    broker_groups: Vec<(String, usize)>,
    topics: Vec<Topic>,
    apps: Vec<(String, Software)>,
    breaks: Breaks,
    always: Vec<Check>,
    eventually: Vec<Condition>,
    checks: Vec<Check>,
    trace: Option<PathBuf>,
    tell: bool,
    again: Option<String>,
}

/// A topic that is there before the applications start.
#[derive(Clone, Debug)]
struct Topic {
    name: String,
    queues: u32,
    kind: &'static str,
}

/// Why a simulation has no good end.
#[derive(Error)]
pub enum Error {
    /// The simulation cannot be built like this.
    #[error("{0}")]
    Wrong(String),
    /// The trace cannot be written.
    #[error("trace: {0}")]
    Trace(#[from] std::io::Error),
    /// Something that must hold did not.
    #[error("{}", violated(.seed, .report, .again))]
    Violated {
        /// The seed of the run.
        seed: u64,
        /// What was found, and how the run went.
        report: Box<Report>,
        /// The command that runs it again, when it is known.
        again: Option<String>,
    },
}

// What a test or `main` prints of an error is `Debug`: the same sentences as `Display`.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

fn violated(seed: &u64, report: &Report, again: &Option<String>) -> String {
    let mut text = String::from("last events:\n");
    for event in &report.tail {
        text.push_str(&format!("    {event}\n"));
    }
    for violation in &report.violations {
        text.push_str(&format!("VIOLATION {violation}\n"));
    }
    text.push_str(&format!("FAIL seed {seed}"));
    if let Some(again) = again {
        text.push_str(&format!(": {again}"));
    }
    text
}

impl Simulation {
    /// A simulation of `seed`: 30 simulated seconds, one name server, nothing else yet.
    pub fn new(seed: u64) -> Simulation {
        Simulation {
            seed: Seed(seed),
            seconds: 30,
            name_servers: 1,
            broker_groups: Vec::new(),
            topics: Vec::new(),
            apps: Vec::new(),
            breaks: Breaks::none(),
            always: Vec::new(),
            eventually: Vec::new(),
            checks: Vec::new(),
            trace: None,
            tell: false,
            again: None,
        }
    }

    /// Adds a broker group of 1 to [`crate::limits::REPLICAS_MAX`] replicas. At least one is needed.
    pub fn broker_group(mut self, name: &str, replicas: usize) -> Simulation {
        self.broker_groups.push((name.to_owned(), replicas));
        self
    }

    /// How many name servers there are: 1 to [`crate::limits::NAME_SERVERS_MAX`].
    pub fn name_servers(mut self, count: usize) -> Simulation {
        self.name_servers = count;
        self
    }

    /// Adds a topic for normal messages with so many queues in each broker group. It is there before applications start.
    pub fn topic(self, name: &str, queues: u32) -> Simulation {
        self.topic_of(name, queues, "normal")
    }

    /// Adds a topic for messages with message groups, which are received in the order of their sends.
    pub fn fifo_topic(self, name: &str, queues: u32) -> Simulation {
        self.topic_of(name, queues, "fifo")
    }

    fn topic_of(mut self, name: &str, queues: u32, kind: &'static str) -> Simulation {
        let name = name.to_owned();
        self.topics.push(Topic { name, queues, kind });
        self
    }

    /// Adds an application on a host of its own. `software` is called at every start of the host: at first when the
    /// cluster serves and the topics are there, and after every crash that the breaks bring. An application that returns
    /// has ended well; one that returns an error, or panics, is a violation. Beside it runs whatever it spawns.
    pub fn app<F, Fut>(mut self, name: &str, software: F) -> Simulation
    where
        F: Fn(App) -> Fut + 'static,
        Fut: Future<Output = Result> + 'static,
    {
        let software: Software = Rc::new(move |app| Box::pin(software(app)));
        self.apps.push((name.to_owned(), software));
        self
    }

    /// What goes wrong; nothing without it.
    pub fn breaks(mut self, breaks: Breaks) -> Simulation {
        self.breaks = breaks;
        self
    }

    /// Simulated seconds until everything is healed: 1 to [`crate::limits::SECONDS_MAX`].
    pub fn for_seconds(mut self, seconds: u64) -> Simulation {
        self.seconds = seconds;
        self
    }

    /// What must hold at any time: asked every 100 simulated milliseconds.
    pub fn always(mut self, check: impl Fn(&View<'_>) -> std::result::Result<(), String> + 'static) -> Simulation {
        self.always.push(Box::new(check));
        self
    }

    /// What must come to hold within 90 simulated seconds after everything is healed. The run ends as soon as all of these
    /// hold; without any it ends with the healing.
    pub fn eventually(mut self, what: &str, holds: impl Fn(&View<'_>) -> bool + 'static) -> Simulation {
        self.eventually.push((what.to_owned(), Box::new(holds)));
        self
    }

    /// What must hold at the end.
    pub fn check(mut self, check: impl Fn(&View<'_>) -> std::result::Result<(), String> + 'static) -> Simulation {
        self.checks.push(Box::new(check));
        self
    }

    /// Writes every event to `file`.
    pub fn trace(mut self, file: impl Into<PathBuf>) -> Simulation {
        self.trace = Some(file.into());
        self
    }

    /// Prints the story while it happens: options, faults, elections, what the applications tell.
    pub fn tell(mut self) -> Simulation {
        self.tell = true;
        self
    }

    /// The command that runs this again, shown with a violation; `{seed}` in it stands for the seed.
    pub fn run_again(mut self, command: &str) -> Simulation {
        self.again = Some(command.replace("{seed}", &self.seed.0.to_string()));
        self
    }

    /// Runs the simulation to its end. Run one in a process where a seed must run the same way again: some libraries count
    /// things for as long as the process lives ([`program`] does it so).
    pub fn run(self) -> std::result::Result<Report, Error> {
        let (seed, again) = (self.seed.0, self.again.clone());
        let report = self.report()?;
        if report.passed() {
            return Ok(report);
        }
        Err(Error::Violated {
            seed,
            report: Box::new(report),
            again,
        })
    }

    /// The same, but a violation is part of the report.
    pub fn report(self) -> std::result::Result<Report, Error> {
        self.wrong().map_err(Error::Wrong)?;
        Ok(stage::play(self)?)
    }

    /// A machine without a replica stands beside each broker group: a lost one is replaced there.
    fn layout(&self) -> Layout {
        Layout {
            broker_groups: self.broker_groups.iter().map(|(_, replicas)| *replicas).collect(),
            spares: 1,
            name_servers: self.name_servers,
        }
    }
}

#[cfg(test)]
mod tests;
