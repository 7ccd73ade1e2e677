//! One run of one seed: build the scene, let faults and workload go on, heal everything, demand progress, judge.
//!
//! ```text
//!   0 s        3 s                     seconds            seconds + LIVENESS_BOUND
//!   ├─ warm-up ─┼─ faults + workload ───┼─ all healed: caught up? ─┤
//! ```

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{
    board::{Board, Forbidden},
    chaos::{Chaos, Stage},
    cluster, counting,
    faults::{self, Planned},
    files,
    layout::Layout,
    limits, marks, panics,
    plant::Plant,
    replay,
    report::Report,
    seed::Seed,
    trace::Trace,
};

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// What goes wrong in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Nothing.
    None,
    /// What the seed draws.
    Drawn,
    /// This list, in order of time, which the file holds ([`crate::replay`]).
    Planned(Vec<Planned>, PathBuf),
}

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where everything follows from.
    pub seed: Seed,
    /// What is run.
    pub profile: Profile,
    /// Simulated seconds until everything heals; 1 to [`limits::SECONDS_MAX`].
    pub seconds: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// One client of each kind that cannot be missed, instead of those that the seed draws.
    pub few_clients: bool,
    /// A mark that counts as a violation.
    pub forbid: Option<Forbidden>,
    /// The replay file that all of this was read from.
    pub replay: Option<PathBuf>,
    /// Where to write the trace.
    pub trace: Option<PathBuf>,
    /// Where to write the history of the clients (docs/history.md).
    pub history: Option<PathBuf>,
    /// Print the story.
    pub tell: bool,
    /// A bug on purpose.
    pub plant: Plant,
}

impl RunOptions {
    /// A run of `seed` as its profile has it, without a trace.
    pub fn new(seed: Seed, profile: Profile) -> RunOptions {
        RunOptions {
            seed,
            profile,
            seconds: profile.seconds(),
            faults: Faults::Drawn,
            few_clients: false,
            forbid: None,
            replay: None,
            trace: None,
            history: None,
            tell: false,
            plant: Plant::default(),
        }
    }

    /// Profile and seed, as files of a run are named.
    pub fn name(&self) -> String {
        format!("{}-{}", self.profile.name(), self.seed.0)
    }

    /// The arguments of `ledgermq-sim` that run the same again, without those that only say what is shown.
    pub fn arguments(&self) -> Vec<String> {
        if let Some(file) = &self.replay {
            return vec!["replay".to_owned(), file.display().to_string()];
        }
        let (seed, seconds) = (self.seed.0.to_string(), self.seconds.to_string());
        let mut arguments: Vec<String> = ["run", "--seed", &seed, "--profile", self.profile.name()]
            .map(str::to_owned)
            .into();
        arguments.extend(["--seconds", &seconds].map(str::to_owned));
        arguments.extend(self.changed());
        arguments
    }

    /// What makes this another run than the one that its seed and profile stand for, as arguments; empty where nothing does.
    pub fn unlike_its_profile(&self) -> String {
        let mut arguments = self.changed();
        if self.seconds != self.profile.seconds() {
            arguments.splice(0..0, ["--seconds".to_owned(), self.seconds.to_string()]);
        }
        arguments.join(" ")
    }

    /// The arguments but for the seed, the profile and the seconds.
    fn changed(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        match &self.faults {
            Faults::Drawn => {}
            Faults::None => arguments.push("--no-faults".to_owned()),
            Faults::Planned(_, file) => {
                arguments.extend(["--plan".to_owned(), file.display().to_string()]);
            }
        }
        if let Plant(Some(bug)) = self.plant {
            arguments.extend(["--plant".to_owned(), bug.to_string()]);
        }
        if self.few_clients {
            arguments.push("--few-clients".to_owned());
        }
        if let Some(forbidden) = &self.forbid {
            arguments.extend(["--forbid".to_owned(), forbidden.to_string()]);
        }
        arguments
    }

    /// What goes wrong, as a list.
    pub fn plan(&self, layout: &Layout) -> Vec<Planned> {
        match &self.faults {
            Faults::None => Vec::new(),
            Faults::Drawn => faults::plan(self.seed, self.profile, layout, WARM_UP_MS, self.seconds * 1_000),
            Faults::Planned(plan, _) => plan.clone(),
        }
    }

    /// The layout of its cluster.
    pub fn layout(&self) -> Layout {
        Layout::draw(self.seed, self.profile)
    }

    /// The command that runs this again.
    pub fn command(&self) -> String {
        format!("ledgermq-sim {}", self.arguments().join(" "))
    }
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
pub const WARM_UP_MS: u64 = 3_000;

/// Milliseconds between two looks at whether the cluster has caught up.
const LOOK_EVERY_MS: u128 = 100;

/// Runs one seed to its end. One process should run one seed (docs/simulation.md tells why).
pub fn run(options: &RunOptions) -> anyhow::Result<Report> {
    let layout = options.layout();
    if let Faults::Planned(plan, file) = &options.faults {
        replay::fit(plan, &layout, options.seconds, file)?;
    }
    let trace = Trace::open(options.trace.as_deref(), options.tell)?;
    let board = Board::of_groups(&layout.machines(), trace.clone());
    if let Some(forbidden) = &options.forbid {
        board.forbid(forbidden.clone());
    }
    trace.tell(
        "run",
        format!(
            "seed {} profile {} for {} s",
            options.seed.0,
            options.profile.name(),
            options.seconds
        ),
    );
    let mut history = None;
    let report = judged(&board, &trace, |report| {
        history = play(options, &layout, (&board, &trace), report);
    })?;
    if let (Some(file), Some(lines)) = (&options.history, history) {
        files::write(file, lines)?;
    }
    Ok(report)
}

/// Plays, and makes a report of it: violations, marks and the tail of the trace are filled in, a panic is a violation.
pub fn judged(board: &Board, trace: &Trace, play: impl FnOnce(&mut Report)) -> io::Result<Report> {
    let mut report = Report::default();
    panics::listen();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| marks::counted(board, || play(&mut report)))) {
        let words = panics::first().unwrap_or_else(|| panics::text(panic.as_ref()));
        board.violation(format!("panic: {words}"));
    }
    report.violations = board.violations();
    report.marks = owned(board.marks());
    report.drawn = trace.drawn();
    if !report.passed() {
        report.tail = trace.tail();
        report.tail.extend(board.lines());
    }
    (report.events, report.hash) = trace.finish()?;
    Ok(report)
}

/// Counts as a report has them.
pub fn owned(counts: impl IntoIterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    let counts = counts.into_iter();
    counts.map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Answers the history of the clients, if it is wanted.
fn play(
    options: &RunOptions,
    layout: &Layout,
    (board, trace): (&Board, &Trace),
    report: &mut Report,
) -> Option<String> {
    let (mut stage, mut scene) = match options.profile {
        Profile::Log => counting::scene(options.seed, options.plant, board, trace),
        _ => cluster::scene(options.seed, (layout, options.plant, options.few_clients), board, trace),
    };
    let until_ms = options.seconds * 1_000;
    report.plan = options.plan(layout);
    let mut chaos = Chaos::new(report.plan.clone());
    act(
        &mut stage,
        scene.as_mut(),
        &mut chaos,
        until_ms,
        &mut report.simulated_seconds,
    );
    report.counts = owned(scene.counts());
    options.history.is_some().then(|| scene.history()).flatten()
}

/// Lets a scene play until it is judged, or until the first violation. `simulated_seconds` is kept up to date, so that
/// it is right after a panic as well.
pub fn act(
    stage: &mut Stage<'_>,
    scene: &mut dyn Scene,
    chaos: &mut Chaos,
    until_ms: u64,
    simulated_seconds: &mut f64,
) {
    let mut step = |stage: &mut Stage<'_>, scene: &mut dyn Scene, chaos: &mut Chaos| -> bool {
        let now = stage.sim.elapsed();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        *simulated_seconds = now.as_secs_f64();
        stage.trace.set_now(now);
        chaos.step(now_ms, stage);
        scene.step(now_ms, stage, chaos);
        if let Err(error) = stage.sim.step() {
            stage.board.violation(format!("a host stopped: {error}"));
        }
        stage.board.violations().is_empty()
    };
    while stage.sim.elapsed().as_millis() < u128::from(until_ms) {
        if !step(stage, scene, chaos) {
            return;
        }
    }
    chaos.heal(stage);
    scene.healed(stage, chaos);
    let deadline = stage.sim.elapsed() + limits::LIVENESS_BOUND;
    loop {
        if !step(stage, scene, chaos) {
            return;
        }
        // Looking through the whole history takes time: not at every step.
        if !stage.sim.elapsed().as_millis().is_multiple_of(LOOK_EVERY_MS) {
            continue;
        }
        match scene.missing() {
            None => {
                stage.trace.tell("run", "caught up");
                break;
            }
            Some(missing) if stage.sim.elapsed() > deadline => {
                let bound = limits::LIVENESS_BOUND.as_secs();
                stage
                    .board
                    .violation(format!("not caught up {bound} s after all faults healed: {missing}"));
                break;
            }
            Some(_) => {}
        }
    }
    for violation in scene.judge() {
        stage.board.violation(violation);
    }
}
