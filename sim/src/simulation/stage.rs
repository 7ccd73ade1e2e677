//! Puts a user's simulation on the stage and plays it.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;

use super::{
    App, AppBreak, AppFault, Check, Condition, Simulation, Software, breaks,
    servers::{Ready, servers},
    store::Store,
    view::{Kept, View},
};
use crate::{
    board::Board,
    chaos::{Chaos, Stage},
    faults,
    layout::Layout,
    panics,
    report::Report,
    run::{self, Scene},
    seed::Seed,
    trace::Trace,
    world,
};

/// Simulated milliseconds between two looks at what must always hold.
const LOOK_EVERY_MS: u64 = 100;

/// Runs `simulation`, which is known to be well formed.
pub(super) fn play(simulation: Simulation) -> io::Result<Report> {
    let trace = Trace::open(simulation.trace.as_deref(), simulation.tell)?;
    let layout = simulation.layout();
    let board = Board::of_groups(&layout.machines(), trace.clone());
    let (seed, seconds) = (simulation.seed, simulation.seconds);
    trace.tell("run", format!("seed {} for {seconds} s", seed.0));
    let until_ms = seconds * 1_000;
    run::judged(&board, &trace, |report| {
        let (mut stage, mut scene, plan) = set(simulation, &layout, (&board, &trace), until_ms);
        let mut chaos = Chaos::new(plan.clone());
        report.plan = plan;
        run::act(
            &mut stage,
            &mut scene,
            &mut chaos,
            until_ms,
            &mut report.simulated_seconds,
        );
        report.counts = run::owned(scene.counts());
    })
}

enum End {
    Up(usize),
    Mend(Vec<(usize, usize)>),
}

/// A user's applications and checks.
struct Judge {
    seed: Seed,
    board: Board,
    ready: Ready,
    kept: BTreeMap<String, Kept>,
    calm: Arc<AtomicBool>,
    always: Vec<Check>,
    eventually: Vec<Condition>,
    checks: Vec<Check>,
    plan: VecDeque<AppBreak>,
    ends: BTreeMap<(u64, u64), End>,
    ends_made: u64,
    down: BTreeMap<usize, u64>,
    now: Duration,
}

fn set(
    simulation: Simulation,
    layout: &Layout,
    (board, trace): (&Board, &Trace),
    until_ms: u64,
) -> (Stage<'static>, Judge, Vec<faults::Planned>) {
    let seed = simulation.seed;
    let names: Vec<String> = simulation.broker_groups.iter().map(|(name, _)| name.clone()).collect();
    let mut servers = servers(seed, (layout, &names), simulation.topics, board, trace);
    let calm = Arc::new(AtomicBool::new(false));
    let endpoints = Arc::new(servers.endpoints.clone());
    let mut kept = BTreeMap::new();
    for (name, software) in simulation.apps {
        let seed = seed.child("app", 0).child(&name, 0);
        let keeps = Kept {
            store: Store::new(seed),
            disk: world::disk(seed, 0, 0),
            boots: Arc::default(),
        };
        let app = App {
            name: name.clone(),
            boot: 0,
            seed,
            endpoints: endpoints.clone(),
            store: keeps.store.clone(),
            disk: keeps.disk.clone(),
            calm: calm.clone(),
            board: board.clone(),
            trace: trace.clone(),
        };
        let (boots, ready) = (keeps.boots.clone(), servers.ready.clone());
        servers.stage.hosts.push(name.clone());
        servers.stage.sim.host(name.as_str(), move || {
            host(app.clone(), boots.clone(), ready.clone(), software.clone())
        });
        kept.insert(name, keeps);
    }
    let (plan, app_plan) = plans(&simulation.breaks, seed, &kept, layout, until_ms);
    let scene = Judge {
        seed,
        board: board.clone(),
        ready: servers.ready,
        kept,
        calm,
        always: simulation.always,
        eventually: simulation.eventually,
        checks: simulation.checks,
        plan: app_plan.into(),
        ends: BTreeMap::new(),
        ends_made: 0,
        down: BTreeMap::new(),
        now: Duration::ZERO,
    };
    (servers.stage, scene, plan)
}

/// What is drawn and what the script says, each in order of time.
fn plans(
    breaks: &super::Breaks,
    seed: Seed,
    kept: &BTreeMap<String, Kept>,
    layout: &Layout,
    until_ms: u64,
) -> (Vec<faults::Planned>, Vec<AppBreak>) {
    let (mut plan, mut app_plan) = (breaks.cluster.clone(), breaks.apps.clone());
    if let Some(profile) = breaks.drawn {
        let from_ms = run::WARM_UP_MS;
        plan.extend(faults::plan(seed, profile, layout, from_ms, until_ms));
        let apps: Vec<String> = kept.keys().cloned().collect();
        let (from, until) = (Duration::from_millis(from_ms), Duration::from_millis(until_ms));
        app_plan.extend(breaks::draw(seed, &apps, from, until));
    }
    plan.sort_by_key(|planned| planned.at_ms);
    app_plan.sort_by_key(|planned| planned.at);
    (plan, app_plan)
}

async fn host(app: App, boots: Arc<AtomicU64>, ready: Ready, software: Software) -> turmoil::Result {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    while !ready.is_done() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let boot = boots.fetch_add(1, Ordering::Relaxed);
    let app = App { boot, ..app };
    app.trace(format!("starts, boot {boot}"));
    let ended = AssertUnwindSafe(software(app.clone())).catch_unwind().await;
    match ended {
        Ok(Ok(())) => app.trace("ended"),
        Ok(Err(error)) => app.violation(format!("failed: {error}")),
        Err(panic) => app.violation(format!("panicked: {}", panics::text(panic.as_ref()))),
    }
    Ok(())
}

impl Judge {
    fn view(&self) -> View<'_> {
        View {
            seed: self.seed,
            now: self.now,
            kept: &self.kept,
        }
    }

    fn begin(&mut self, planned: AppBreak, now_ms: u64, stage: &mut Stage<'_>, chaos: &mut Chaos) {
        let Some(host) = stage.hosts.iter().position(|name| *name == planned.app) else {
            return;
        };
        if self.down.contains_key(&host) {
            return;
        }
        let for_ms = u64::try_from(planned.lasting.as_millis()).unwrap_or(u64::MAX);
        let until_ms = now_ms.saturating_add(for_ms);
        let links: Vec<(usize, usize)> = (0..stage.hosts.len())
            .filter(|other| *other != host)
            .flat_map(|other| [(host, other), (other, host)])
            .collect();
        let (mark, said) = match planned.fault {
            AppFault::Kill => ("app_kill", "is killed"),
            AppFault::PowerLoss => ("app_power_loss", "loses power"),
            AppFault::CutOff => ("app_cut_off", "is cut off"),
        };
        stage.board.mark(mark);
        stage
            .trace
            .tell("chaos", format!("{} {said} for {for_ms} ms", planned.app));
        if planned.fault != AppFault::Kill {
            // A machine without power sends no FIN: it is cut off first.
            chaos.cut(stage, &links);
            self.schedule(until_ms, End::Mend(links));
        }
        if planned.fault == AppFault::CutOff {
            return;
        }
        stage.sim.crash(planned.app.as_str());
        if let Some(kept) = self.kept.get(&planned.app) {
            if planned.fault == AppFault::PowerLoss {
                kept.disk.crash();
            } else {
                kept.disk.kill();
            }
        }
        self.down.insert(host, until_ms);
        self.schedule(until_ms, End::Up(host));
    }

    fn schedule(&mut self, at_ms: u64, end: End) {
        self.ends_made += 1;
        self.ends.insert((at_ms, self.ends_made), end);
    }

    fn end(&mut self, end: End, stage: &mut Stage<'_>, chaos: &mut Chaos) {
        match end {
            End::Up(host) => {
                self.down.remove(&host);
                let name = stage.hosts[host].clone();
                stage.trace.tell(&name, "starts");
                stage.sim.bounce(name.as_str());
            }
            End::Mend(links) => chaos.mend(stage, &links),
        }
    }
}

impl Scene for Judge {
    fn step(&mut self, now_ms: u64, stage: &mut Stage<'_>, chaos: &mut Chaos) {
        self.now = Duration::from_millis(now_ms);
        while self.ends.first_key_value().is_some_and(|((at, _), _)| *at <= now_ms) {
            if let Some((_, end)) = self.ends.pop_first() {
                self.end(end, stage, chaos);
            }
        }
        while self
            .plan
            .front()
            .is_some_and(|planned| planned.at.as_millis() <= u128::from(now_ms))
        {
            if let Some(planned) = self.plan.pop_front() {
                self.begin(planned, now_ms, stage, chaos);
            }
        }
        if now_ms.is_multiple_of(LOOK_EVERY_MS) {
            for check in &self.always {
                if let Err(wrong) = check(&self.view()) {
                    self.board.violation(wrong);
                }
            }
        }
    }

    fn healed(&mut self, stage: &mut Stage<'_>, chaos: &mut Chaos) {
        self.plan.clear();
        while let Some((_, end)) = self.ends.pop_first() {
            self.end(end, stage, chaos);
        }
        self.calm.store(true, Ordering::Relaxed);
    }

    fn missing(&self) -> Option<String> {
        if let Some(missing) = self.ready.missing() {
            return Some(missing);
        }
        let view = self.view();
        let missing = self.eventually.iter().find(|(_, holds)| !holds(&view));
        missing.map(|(what, _)| format!("not so: {what}"))
    }

    fn judge(&self) -> Vec<String> {
        let view = self.view();
        self.checks.iter().filter_map(|check| check(&view).err()).collect()
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let boots = |kept: &Kept| kept.boots.load(Ordering::Relaxed);
        vec![
            ("apps", self.kept.len() as u64),
            ("app_starts", self.kept.values().map(boots).sum()),
        ]
    }
}
