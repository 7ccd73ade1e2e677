//! What clients do while the cluster is broken. How many there are, what they do and how often is drawn for each run; each
//! makes one call at a time, and everything they mean to do and are told goes into the history.
//!
//! ```text
//!   clerk ──▶ topics and consumer groups, hashes of the state, in the end the routes
//!   producers ─▶ orders (normal) · payments (message groups) · events (both)
//!                  │ billing: simple consumers     │ ledger, in order: push and simple     │ retry: gives up, dead letters
//!                  └ visitors: come and go                                                 └ undertaker reads them
//! ```
//! Client libraries are drawn as well (`x-mq-language`), so routes of every shape are used.

mod clerk;
mod consumer;
mod producer;
mod push;
mod simple;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use ledgermq_client::Options;
use turmoil::Sim;

use crate::{
    history::{Group, History, What},
    net::SimNet,
    seed::{Draws, Seed},
    trace::Trace,
    witness::Witness,
    world,
};

/// Normal messages.
pub const ORDERS: &str = "orders";
/// Messages in message groups.
pub const PAYMENTS: &str = "payments";
/// Both.
pub const EVENTS: &str = "events";
/// A simple consumer group that consumes all of [`ORDERS`] and [`EVENTS`].
pub const BILLING: &str = "billing";
/// A FIFO consumer group that consumes all of [`PAYMENTS`].
pub const LEDGER: &str = "ledger";
/// A consumer group on [`ORDERS`] that gives up on messages.
pub const RETRY: &str = "retry";
/// Consumes the dead letters of [`RETRY`].
pub const UNDERTAKER: &str = "undertaker";
/// A consumer group on [`ORDERS`] whose consumers come and go.
pub const VISITORS: &str = "visitors";

/// Client libraries as they call themselves; none is another one that nobody knows.
const LANGUAGES: &[&str] = &["RUST", "JAVA", "PYTHON", "GO", "CPP", "HTTP", "DOTNET", "PHP", "none"];

/// Simulated hosts of the clients. No fault tells one client from another, and a host costs time at every step, alone and by
/// its links to all others.
const APPLICATIONS: usize = 2;

/// What clients need.
#[derive(Clone)]
pub struct Workload {
    /// The run's seed.
    pub seed: Seed,
    /// Access points of the brokers, `host:port`.
    pub endpoints: Vec<String>,
    /// Addresses of the name servers, `host:port`.
    pub name_servers: Vec<String>,
    /// What is told.
    pub history: History,
    /// What was seen of the replicas.
    pub witness: Witness,
    /// The trace.
    pub trace: Trace,
    /// Nothing new is begun once it is set.
    pub quiet: Arc<AtomicBool>,
}

/// What this run drew of the clients.
#[derive(Clone, Debug)]
struct Mix {
    producers: u64,
    ordered_producers: u64,
    /// Longest pause between two sends of a producer, milliseconds.
    pause_ms_max: u64,
    events: bool,
    billing: u64,
    pushes: u64,
    simple_in_order: bool,
    retry: bool,
    retry_attempts: i64,
    visitors: bool,
    queues: u32,
    message_groups: u64,
}

impl Mix {
    fn draw(seed: Seed) -> Mix {
        let mut draws = seed.stream("clients");
        Mix {
            producers: draws.between(1, 3),
            ordered_producers: draws.between(1, 2),
            pause_ms_max: draws.pick(&[150, 300, 600, 1_000]),
            events: draws.percent(50),
            billing: draws.between(1, 2),
            pushes: draws.between(1, 2),
            simple_in_order: draws.percent(40),
            retry: draws.percent(60),
            retry_attempts: draws.pick(&[1, 2, 3]),
            visitors: draws.percent(50),
            queues: draws.pick(&[1, 2, 4]),
            message_groups: draws.between(1, 6),
        }
    }

    /// One client of each kind that cannot be missed; what they do stays as it is.
    fn few(self) -> Mix {
        Mix {
            producers: 1,
            ordered_producers: 1,
            billing: 1,
            pushes: 1,
            simple_in_order: false,
            retry: false,
            visitors: false,
            ..self
        }
    }

    fn topics(&self) -> Vec<(&'static str, &'static str)> {
        let mut topics = vec![(ORDERS, "normal"), (PAYMENTS, "fifo")];
        if self.events {
            topics.push((EVENTS, "mixed"));
        }
        topics
    }

    fn groups(&self) -> Vec<Group> {
        let group = |name: &str, fifo, max_attempts, consumes: &[&str]| Group {
            consumer_group: name.to_owned(),
            fifo,
            max_attempts,
            consumes: consumes.iter().map(|topic| (*topic).to_owned()).collect(),
        };
        let billed: &[&str] = if self.events { &[ORDERS, EVENTS] } else { &[ORDERS] };
        let mut groups = vec![group(BILLING, false, 17, billed), group(LEDGER, true, 17, &[PAYMENTS])];
        if self.retry {
            groups.push(group(RETRY, false, self.retry_attempts, &[ORDERS]));
            groups.push(group(UNDERTAKER, false, 17, &[]));
        }
        if self.visitors {
            groups.push(group(VISITORS, false, 17, &[]));
        }
        groups
    }
}

/// A client: what survives its death is shared between its lives.
#[derive(Clone)]
struct Host {
    workload: Workload,
    mix: Mix,
    name: String,
    number: u64,
    /// Topics and consumer groups are there.
    ready: Arc<AtomicBool>,
    lives: Arc<Mutex<u64>>,
    /// Messages named so far.
    named: Arc<Mutex<u64>>,
    /// What a consumer is about to be told of its messages: nobody will hear it if its life ends now.
    open: Arc<Mutex<Vec<What>>>,
}

impl Host {
    /// Counts up with each call, over all lives of the host.
    fn next(count: &Mutex<u64>) -> u64 {
        let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        *count
    }

    fn is_calm(&self) -> bool {
        self.workload.quiet.load(Ordering::Relaxed)
    }

    async fn wait_until_ready(&self) {
        while !self.ready.load(Ordering::Relaxed) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// The draws of one life.
    fn draws(&self, life: u64) -> Draws {
        self.workload.seed.child(&self.name, life).stream("workload")
    }

    /// Options of the client of one life; each has a client id of its own, as a restarted process does.
    fn options(&self, life: u64, language: &str) -> Options {
        let seed = self.workload.seed.child(&self.name, life).derive("client");
        let client_id = format!("{}@{life}@1", self.name);
        let endpoints = self.workload.endpoints.clone();
        let mut options = Options::new(Arc::new(SimNet), endpoints, &client_id, Arc::new(world::unix_ms), seed);
        options.language = language.to_owned();
        options.placement = true;
        options
    }

    fn tell(&self, text: &str) {
        self.workload.trace.event(&self.name, text);
    }
}

/// Puts the clients on the stage, on [`APPLICATIONS`] hosts whose names go to the end of `hosts`. `few`: one of each kind
/// that cannot be missed, instead of those that the seed draws.
pub fn hosts(sim: &mut Sim<'static>, hosts: &mut Vec<String>, workload: &Workload, few: bool) {
    let drawn = Mix::draw(workload.seed);
    let mix = if few { drawn.few() } else { drawn };
    workload.trace.tell("options", format!("{mix:?}"));
    let ready = Arc::new(AtomicBool::new(false));
    let mut clients: Vec<Client> = Vec::new();
    let mut put = |role: &str, number: u64, play: fn(Host) -> Playing| {
        let host = Host {
            workload: workload.clone(),
            mix: mix.clone(),
            name: format!("{role}-{number}"),
            number,
            ready: ready.clone(),
            lives: Arc::default(),
            named: Arc::default(),
            open: Arc::default(),
        };
        clients.push((host, play));
    };
    put("clerk", 1, |host| Box::pin(clerk::clerk(host)));
    for number in 1..=mix.producers {
        put("producer", number, |host| Box::pin(producer::producer(host)));
    }
    for number in 1..=mix.ordered_producers {
        // Their numbers are those of their messages: no producer has the same.
        put("cashier", mix.producers + number, |host| {
            Box::pin(producer::in_order(host))
        });
    }
    for number in 1..=mix.billing {
        put("billing", number, |host| Box::pin(simple::billing(host)));
    }
    for number in 1..=mix.pushes {
        put("ledger", number, |host| Box::pin(push::ledger(host)));
    }
    if mix.simple_in_order {
        put("auditor", 1, |host| Box::pin(simple::auditor(host)));
    }
    if mix.retry {
        put("retry", 1, |host| Box::pin(simple::retry(host)));
        put("undertaker", 1, |host| Box::pin(simple::undertaker(host)));
    }
    if mix.visitors {
        put("visitor", 1, |host| Box::pin(simple::visitor(host)));
    }
    for application in 0..APPLICATIONS {
        let of_it: Vec<Client> = clients
            .iter()
            .skip(application)
            .step_by(APPLICATIONS)
            .cloned()
            .collect();
        let name = format!("app-{}", application + 1);
        hosts.push(name.clone());
        sim.host(name, move || play_all(of_it.clone()));
    }
}

/// A client, and what it does.
type Client = (Host, fn(Host) -> Playing);

async fn play_all(clients: Vec<Client>) -> turmoil::Result {
    let mut playing = tokio::task::JoinSet::new();
    for (host, play) in clients {
        playing.spawn_local(play(host));
    }
    while let Some(ended) = playing.join_next().await {
        ended??;
    }
    Ok(())
}

type Playing = std::pin::Pin<Box<dyn Future<Output = turmoil::Result>>>;
