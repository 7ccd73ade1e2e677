//! Replay files: a run written down, its faults as a list, so that faults can be taken out without moving anything else.
//!
//! ```json
//! {
//!   "version": 1,
//!   "commit": "9c3779d",
//!   "seed": 17,
//!   "profile": "quick",
//!   "seconds": 12,
//!   "violation": "p3-17 was acknowledged at orders/1@12 and never received",
//!   "faults": [
//!     { "at_ms": 4100, "for_ms": 700, "fault": { "power_loss": "leader" } },
//!     { "at_ms": 9000, "for_ms": 50, "fault": { "split": [0, 2] } }
//!   ]
//! }
//! ```
//! `commit` and `violation` say where the file comes from; they change nothing. A plan (`run --plan`) is the list alone.
//! docs/simulation.md describes every field.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    board::Forbidden,
    faults::{Fault, Planned, Target},
    layout::Layout,
    limits,
    plant::{Bug, Plant, UnknownBug},
    run::{Faults, Profile, RunOptions},
    seed::Seed,
};

/// The version of the format that this program writes and reads.
pub const VERSION: u32 = 1;

/// A run written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// [`VERSION`].
    pub version: u32,
    /// The commit of the program that wrote the file.
    pub commit: String,
    /// Where everything but the faults follows from.
    pub seed: u64,
    /// What is run.
    pub profile: Profile,
    /// Simulated seconds until everything heals.
    pub seconds: u64,
    /// The name of a known bug that is planted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plant: Option<String>,
    /// As [`RunOptions::few_clients`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub few_clients: bool,
    /// A mark that counts as a violation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbid: Option<Forbidden>,
    /// What the run found when the file was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violation: Option<String>,
    /// What goes wrong, in order of time.
    pub faults: Vec<Planned>,
}

/// Why a file cannot be run.
#[derive(Debug, Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error("{}: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {what}", file.display())]
    Wrong {
        /// The file.
        file: PathBuf,
        /// What is wrong, with line and column where the text is.
        what: String,
    },
}

impl Replay {
    /// What `options` do, with `faults` as the list.
    pub fn of(options: &RunOptions, commit: &str, faults: Vec<Planned>, violation: Option<String>) -> Replay {
        Replay {
            version: VERSION,
            commit: commit.to_owned(),
            seed: options.seed.0,
            profile: options.profile,
            seconds: options.seconds,
            plant: options.plant.0.map(|bug| bug.to_string()),
            few_clients: options.few_clients,
            forbid: options.forbid.clone(),
            violation,
            faults,
        }
    }

    /// Reads a replay file and checks every value.
    pub fn read(file: &Path) -> Result<Replay, Error> {
        let replay: Replay = parse(file)?;
        let wrong = |what: String| Error::Wrong {
            file: file.to_owned(),
            what,
        };
        if replay.version != VERSION {
            return Err(wrong(format!(
                "version {}: this program reads {VERSION}",
                replay.version
            )));
        }
        seconds(replay.seconds).map_err(wrong)?;
        check(&replay.faults).map_err(wrong)?;
        replay.bug().map_err(wrong)?;
        replay
            .forbid
            .clone()
            .map(Forbidden::checked)
            .transpose()
            .map_err(wrong)?;
        Ok(replay)
    }

    /// The planted bug; an error when no bug has this name.
    fn bug(&self) -> Result<Option<Bug>, String> {
        let name = self.plant.as_deref();
        name.map(|name| name.parse().map_err(|unknown: UnknownBug| unknown.to_string()))
            .transpose()
    }

    /// Writes the file.
    pub fn write(&self, file: &Path) -> Result<(), Error> {
        let failed = |error| Error::File {
            file: file.to_owned(),
            error,
        };
        let mut text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        text.push('\n');
        fs::write(file, text).map_err(failed)
    }

    /// The run, which names `file` as where it comes from.
    pub fn options(&self, file: &Path) -> RunOptions {
        RunOptions {
            seconds: self.seconds,
            faults: Faults::Planned(self.faults.clone(), file.to_owned()),
            plant: Plant(self.bug().ok().flatten()),
            few_clients: self.few_clients,
            forbid: self.forbid.clone(),
            replay: Some(file.to_owned()),
            ..RunOptions::new(Seed(self.seed), self.profile)
        }
    }
}

/// Reads a plan: a list of faults alone.
pub fn read_plan(file: &Path) -> Result<Vec<Planned>, Error> {
    let plan: Vec<Planned> = parse(file)?;
    check(&plan).map_err(|what| Error::Wrong {
        file: file.to_owned(),
        what,
    })?;
    Ok(plan)
}

/// Refuses a plan with a fault against something that the layout does not have, or one that begins when a run of so many
/// seconds is over: it would never happen.
pub fn fit(plan: &[Planned], layout: &Layout, seconds: u64, file: &Path) -> Result<(), Error> {
    let wrong = |(nth, planned): (usize, &Planned)| {
        let what = if !fits(planned.fault, layout) {
            format!("not in this cluster: {layout:?}")
        } else if planned.at_ms >= seconds * 1_000 {
            format!("begins after the end of the run, {seconds} s")
        } else {
            return None;
        };
        Some(format!("fault {}: {planned}: {what}", nth + 1))
    };
    match plan.iter().enumerate().find_map(wrong) {
        Some(what) => Err(Error::Wrong {
            file: file.to_owned(),
            what,
        }),
        None => Ok(()),
    }
}

/// Whether all machines, broker groups and name servers that a fault names are in the layout.
pub fn fits(fault: Fault, layout: &Layout) -> bool {
    let (machines, groups) = (layout.machines().len(), layout.broker_groups.len());
    let target_fits = |target| match target {
        Target::Leader => true,
        Target::LeaderOf(group) => group < groups,
        Target::Replica(machine) => machine < machines,
    };
    if let Some(target) = fault.target() {
        return target_fits(target);
    }
    match fault {
        // A profile without name servers draws the fault all the same.
        Fault::NameServerCut(which) => which < layout.name_servers.max(1),
        Fault::Split(a, b) | Fault::Hold(a, b) => a < machines && b < machines,
        Fault::Transfer(machine) => machine < machines,
        Fault::RollingRestart(group) | Fault::Grow(group) | Fault::Shrink(group) => group < groups,
        _ => true,
    }
}

/// Refuses a length of a run that is out of bounds.
pub fn seconds(seconds: u64) -> Result<(), String> {
    if (1..=limits::SECONDS_MAX).contains(&seconds) {
        return Ok(());
    }
    Err(format!("1 to {} seconds, not {seconds}", limits::SECONDS_MAX))
}

fn parse<T: DeserializeOwned>(file: &Path) -> Result<T, Error> {
    let failed = |error| Error::File {
        file: file.to_owned(),
        error,
    };
    let mut text = String::new();
    let opened = File::open(file).map_err(failed)?;
    opened
        .take(limits::FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    serde_json::from_str(&text).map_err(|error| Error::Wrong {
        file: file.to_owned(),
        what: error.to_string(),
    })
}

fn check(plan: &[Planned]) -> Result<(), String> {
    if plan.len() > limits::PLAN_FAULTS_MAX {
        return Err(format!(
            "{} faults are more than {}",
            plan.len(),
            limits::PLAN_FAULTS_MAX
        ));
    }
    for (nth, planned) in plan.iter().enumerate() {
        bounds(planned).map_err(|wrong| format!("fault {}: {planned}: {wrong}", nth + 1))?;
    }
    match plan.windows(2).position(|pair| pair[0].at_ms > pair[1].at_ms) {
        Some(nth) => Err(format!("fault {}: begins before the one above it", nth + 2)),
        None => Ok(()),
    }
}

/// Refuses a fault with a number out of bounds.
pub fn bounds(planned: &Planned) -> Result<(), String> {
    const MS_MAX: u64 = limits::SECONDS_MAX * 1_000;
    let mut numbers = vec![("at_ms", planned.at_ms, MS_MAX), ("for_ms", planned.for_ms, MS_MAX)];
    match planned.fault {
        Fault::Ambush(_, wait_ms) => numbers.push(("the wait", wait_ms, MS_MAX)),
        Fault::Slow(_, ms) | Fault::SlowSync(_, ms) => numbers.push(("the time", ms, MS_MAX)),
        Fault::Clock(_, jump_ms, drift_ppm) => {
            numbers.push(("the jump", jump_ms.unsigned_abs(), limits::CLOCK_JUMP_MS_MAX));
            numbers.push(("the drift", drift_ppm.unsigned_abs(), limits::CLOCK_DRIFT_PPM_MAX));
        }
        _ => {}
    }
    match numbers.into_iter().find(|(_, number, max)| number > max) {
        Some((name, number, max)) => Err(format!("{name} is {number}, at most {max}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Moment, Rot};

    fn sample() -> Replay {
        let planned = |at_ms, fault| Planned {
            at_ms,
            for_ms: 700,
            fault,
        };
        Replay {
            version: VERSION,
            commit: "9c3779d".to_owned(),
            seed: u64::MAX,
            profile: Profile::Quick,
            seconds: 12,
            plant: Some(Bug::all().next().expect("a bug").to_string()),
            few_clients: true,
            forbid: None,
            violation: Some("lost".to_owned()),
            faults: vec![
                planned(4_100, Fault::PowerLoss(Target::Leader)),
                planned(4_100, Fault::Blackout),
                planned(9_000, Fault::Split(0, 2)),
            ],
        }
    }

    fn in_a_file(name: &str, text: &str) -> PathBuf {
        let file = std::env::temp_dir().join(format!("ledgermq-sim-replay-{name}-{}", std::process::id()));
        fs::write(&file, text).expect("written");
        file
    }

    #[test]
    fn what_is_written_is_read() {
        let file = in_a_file("round", "");
        let with_a_mark = Replay {
            forbid: "kill=2".parse().ok(),
            ..sample()
        };
        with_a_mark.write(&file).expect("written");
        assert_eq!(Replay::read(&file).expect("read"), with_a_mark);
        sample().write(&file).expect("written");
        assert_eq!(Replay::read(&file).expect("read"), sample());
        let options = sample().options(&file);
        assert_eq!(options.arguments(), ["replay".to_owned(), file.display().to_string()]);
        fs::remove_file(file).expect("removed");
    }

    #[test]
    fn unknown_fields_and_wrong_values_are_refused_with_their_place() {
        let good = serde_json::to_string_pretty(&sample()).expect("JSON");
        let cases = [
            ("\"version\": 1", "\"version\": 2", "version 2"),
            ("\"seed\"", "\"sead\"", "sead"),
            ("\"quick\"", "\"quicker\"", "quicker"),
            ("\"seconds\": 12", "\"seconds\": 0", "1 to"),
            ("\"seconds\": 12", "\"seconds\": -3", "-3"),
            ("\"power_loss\"", "\"power_cut\"", "power_cut"),
            ("\"at_ms\": 9000", "\"at_ms\": 90", "begins before"),
            ("\"for_ms\": 700", "\"for_ms\": 700, \"times\": 2", "times"),
            (
                "\"for_ms\": 700",
                "\"for_ms\": 43200001",
                "for_ms is 43200001, at most 43200000",
            ),
            (
                "\"violation\":",
                "\"forbid\": { \"mark\": \"kill\", \"times\": 0 },\n\"violation\":",
                "not 0 times",
            ),
            (
                "\"violation\":",
                "\"forbid\": { \"mark\": \"kil\", \"times\": 1 },\n\"violation\":",
                "no mark is named \"kil\"",
            ),
            ("\"commit\": \"9c3779d\",", "", "commit"),
            ("\"plant\": \"", "\"plant\": \"no-", "no bug is named"),
        ];
        for (nth, (from, to, says)) in cases.into_iter().enumerate() {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good, "{from}");
            let file = in_a_file(&format!("wrong-{nth}"), &text);
            let error = Replay::read(&file).expect_err(to).to_string();
            assert!(error.contains(says), "{to}: {error}");
            fs::remove_file(file).expect("removed");
        }
        assert!(Replay::read(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn faults_are_written_as_the_docs_have_it() {
        let docs = include_str!("../../docs/simulation.md");
        let (_, from) = docs.split_once("| what it takes | faults |").expect("the table");
        let (table, _) = from.split_once("\n\n").expect("its end");
        let examples = table.split('`').filter(|text| text.starts_with(['"', '{']));
        let read: Vec<Fault> = examples
            .map(|example| serde_json::from_str(example).expect(example))
            .collect();
        assert_eq!(read.len(), 10, "{read:?}");
        assert!(read.contains(&Fault::Clock(Target::Leader, -3_000, 100)), "{read:?}");
        assert!(read.contains(&Fault::Flip(Target::Replica(1), Rot::Log, 7)), "{read:?}");
    }

    #[test]
    fn numbers_of_faults_have_bounds() {
        let wrong = |at_ms, for_ms, fault| bounds(&Planned { at_ms, for_ms, fault });
        let leader = Target::Leader;
        assert_eq!(wrong(1, 1, Fault::Clock(leader, -3_600_000, -1_000_000)), Ok(()));
        for (fault, says) in [
            (Fault::Ambush(Moment::Roll, u64::MAX), "the wait"),
            (Fault::Slow(leader, u64::MAX), "the time"),
            (Fault::SlowSync(leader, u64::MAX), "the time"),
            (Fault::Clock(leader, i64::MIN, 0), "the jump"),
            (Fault::Clock(leader, 0, 1_000_001), "the drift"),
        ] {
            assert!(wrong(1, 1, fault).is_err_and(|error| error.contains(says)), "{fault:?}");
        }
        assert!(wrong(u64::MAX, 1, Fault::Blackout).is_err());
        assert!(wrong(1, u64::MAX, Fault::Blackout).is_err());
    }

    #[test]
    fn a_plan_against_absent_replicas_is_refused() {
        let file = Path::new("plan.json");
        let layout = |replicas| Layout {
            broker_groups: vec![replicas],
            spares: 0,
            name_servers: 1,
        };
        assert!(fit(&sample().faults, &layout(3), 10, file).is_ok());
        for (replicas, seconds, says) in [
            (2, 10, "fault 3"),
            (3, 9, "fault 3"),
            (3, 4, "after the end of the run, 4 s"),
        ] {
            let error = fit(&sample().faults, &layout(replicas), seconds, file)
                .expect_err(says)
                .to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
