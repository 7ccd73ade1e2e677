//! One run of one seed: build the scene, let faults and workload go on, heal everything, demand progress, judge.
//!
//! ```text
//!   0 s        3 s                     seconds            seconds + LIVENESS_BOUND
//!   ├─ warm-up ─┼─ faults + workload ───┼─ all healed: caught up? ─┤
//! ```

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Duration,
};

use crate::{
    board::Board,
    chaos::{Chaos, Stage},
    cluster, counting, faults,
    layout::Layout,
    limits,
    seed::Seed,
    trace::Trace,
};

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// raft-store alone with a counting machine.
    Log,
    /// The whole broker, 20 simulated seconds.
    Quick,
    /// The whole broker, 60 simulated seconds.
    Default,
    /// As `default`, mostly faults of disks.
    Disk,
    /// As `default`, mostly faults of the network.
    Network,
    /// As `default`, mostly replicas that come and go.
    Membership,
    /// As `default`, mostly losses of power.
    Power,
}

impl Profile {
    /// Simulated seconds of faults, unless asked otherwise.
    pub const fn seconds(self) -> u64 {
        match self {
            Profile::Log => 30,
            Profile::Quick => 20,
            Profile::Default | Profile::Disk | Profile::Network | Profile::Membership | Profile::Power => 60,
        }
    }

    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Log => "log",
            Profile::Quick => "quick",
            Profile::Default => "default",
            Profile::Disk => "disk",
            Profile::Network => "network",
            Profile::Membership => "membership",
            Profile::Power => "power",
        }
    }
}

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where everything follows from.
    pub seed: Seed,
    /// What is run.
    pub profile: Profile,
    /// Simulated seconds until everything heals.
    pub seconds: u64,
    /// Whether anything goes wrong at all.
    pub faults: bool,
    /// Where to write the trace.
    pub trace: Option<PathBuf>,
    /// Where to write the history of the clients (docs/history.md).
    pub history: Option<PathBuf>,
    /// Print the story.
    pub tell: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Report {
    /// What went wrong; empty for a pass.
    pub violations: Vec<String>,
    /// Counts of the workload, in the order to be shown.
    pub counts: Vec<(&'static str, u64)>,
    /// Counts of faults and rare branches.
    pub marks: Vec<(&'static str, u64)>,
    /// Simulated seconds.
    pub simulated: f64,
    /// Events in the trace.
    pub events: u64,
    /// Hash over the trace.
    pub hash: u64,
    /// The last events and the replicas, for a failure.
    pub tail: Vec<String>,
}

/// What a profile puts on the stage, and how it is judged.
pub trait Scene {
    /// What the scene does by itself at `now_ms`, before the hosts run.
    fn step(&mut self, _now_ms: u64, _stage: &mut Stage<'_>, _chaos: &mut Chaos) {}
    /// Everything is healed; what comes from here on counts as progress.
    fn healed(&mut self, stage: &mut Stage<'_>, chaos: &mut Chaos);
    /// What is still missing before the cluster counts as caught up; `None` when nothing is.
    fn missing(&self) -> Option<String>;
    /// The checks over the whole history.
    fn judge(&self) -> Vec<String>;
    /// Counts for the report.
    fn counts(&self) -> Vec<(&'static str, u64)>;
    /// The history of the clients as lines of JSON (docs/history.md), where there is one.
    fn history(&self) -> Option<String> {
        None
    }
}

/// Milliseconds before the first fault.
const WARM_UP_MS: u64 = 3_000;

/// Milliseconds between two looks at whether the cluster has caught up.
const LOOK_EVERY_MS: u128 = 100;

/// Runs one seed to its end. One process should run one seed (docs/simulation.md tells why).
pub fn run(options: &RunOptions) -> anyhow::Result<Report> {
    let trace = Trace::open(options.trace.as_deref(), options.tell)?;
    let layout = Layout::draw(options.seed, options.profile);
    let board = Board::of_groups(&layout.machines(), trace.clone());
    trace.tell(
        "run",
        format!(
            "seed {} profile {} for {} s",
            options.seed.0,
            options.profile.name(),
            options.seconds
        ),
    );
    let mut counts = Vec::new();
    let mut simulated = Duration::ZERO;
    let mut history = None;
    let played = catch_unwind(AssertUnwindSafe(|| {
        history = play(options, &layout, (&board, &trace), &mut counts, &mut simulated);
    }));
    if let Err(panic) = played {
        board.violation(format!("panic: {}", panic_text(panic.as_ref())));
    }
    if let (Some(file), Some(lines)) = (&options.history, history) {
        std::fs::write(file, lines)?;
    }
    let mut tail = trace.tail();
    tail.extend(board.lines());
    let (events, hash) = trace.finish()?;
    Ok(Report {
        violations: board.violations(),
        counts,
        marks: board.marks().into_iter().collect(),
        simulated: simulated.as_secs_f64(),
        events,
        hash,
        tail,
    })
}

fn play(
    options: &RunOptions,
    layout: &Layout,
    (board, trace): (&Board, &Trace),
    counts: &mut Vec<(&'static str, u64)>,
    simulated: &mut Duration,
) -> Option<String> {
    let (mut stage, mut scene) = match options.profile {
        Profile::Log => counting::scene(options.seed, board, trace),
        _ => cluster::scene(options.seed, layout, board, trace),
    };
    let until_ms = options.seconds * 1_000;
    let plan = if options.faults {
        faults::plan(options.seed, options.profile, layout, WARM_UP_MS, until_ms)
    } else {
        Vec::new()
    };
    let mut chaos = Chaos::new(plan);
    let mut step = |stage: &mut Stage<'_>, scene: &mut dyn Scene, chaos: &mut Chaos| -> bool {
        let now = stage.sim.elapsed();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        *simulated = now;
        stage.trace.set_now(now);
        chaos.step(now_ms, stage);
        scene.step(now_ms, stage, chaos);
        if let Err(error) = stage.sim.step() {
            stage.board.violation(format!("a host stopped: {error}"));
        }
        stage.board.violations().is_empty()
    };
    while stage.sim.elapsed().as_millis() < u128::from(until_ms) {
        if !step(&mut stage, scene.as_mut(), &mut chaos) {
            *counts = scene.counts();
            return wanted(options, scene.as_ref());
        }
    }
    chaos.heal(&mut stage);
    scene.healed(&mut stage, &mut chaos);
    let deadline = stage.sim.elapsed() + limits::LIVENESS_BOUND;
    loop {
        if !step(&mut stage, scene.as_mut(), &mut chaos) {
            *counts = scene.counts();
            return wanted(options, scene.as_ref());
        }
        // Looking through the whole history takes time: not at every step.
        if !stage.sim.elapsed().as_millis().is_multiple_of(LOOK_EVERY_MS) {
            continue;
        }
        match scene.missing() {
            None => break,
            Some(missing) if stage.sim.elapsed() > deadline => {
                let bound = limits::LIVENESS_BOUND.as_secs();
                board.violation(format!("not caught up {bound} s after all faults healed: {missing}"));
                break;
            }
            Some(_) => {}
        }
    }
    trace.tell("run", "caught up");
    for violation in scene.judge() {
        board.violation(violation);
    }
    *counts = scene.counts();
    wanted(options, scene.as_ref())
}

/// The history of the clients, if it is wanted.
fn wanted(options: &RunOptions, scene: &dyn Scene) -> Option<String> {
    options.history.is_some().then(|| scene.history()).flatten()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

/// The command that runs this again.
pub fn command(options: &RunOptions) -> String {
    let faults = if options.faults { "" } else { " --no-faults" };
    let (seed, profile, seconds) = (options.seed.0, options.profile.name(), options.seconds);
    format!("ledgermq-sim run --seed {seed} --profile {profile} --seconds {seconds}{faults}")
}
