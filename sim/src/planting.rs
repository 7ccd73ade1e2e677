//! Proof that the checkers see: each known bug is planted and looked for, seed after seed, one process a seed, until a
//! checker finds it. The same seed must pass without the bug, or what was found is something else.

use std::{cell::Cell, io, ops::ControlFlow};

use ledgermq_broker::planted as of_broker;
use ledgermq_namesrv::planted as of_name_server;
use ledgermq_raft_store::planted as of_log;
use serde::Serialize;

use crate::{
    children::{Children, Ended, Job},
    plant::{Bug, Plant},
    run::{Profile, RunOptions},
    seed::Seed,
};

/// How one bug was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The bug's name.
    pub bug: String,
    /// The profile that ran.
    pub profile: Profile,
    /// Simulated seconds of faults of each seed.
    pub seconds: u64,
    /// Seeds until it was found, or all that were tried.
    pub seeds: u64,
    /// The seed that found it.
    pub seed: Option<u64>,
    /// What the checker said.
    pub said: String,
    /// Seeds that fail without the bug as well, and so prove nothing.
    pub fail_without: Vec<u64>,
}

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The profile; each bug's own, if there is none.
    pub profile: Option<Profile>,
    /// Simulated seconds of faults; the profile's own, if there are none.
    pub seconds: Option<u64>,
    /// The first seed.
    pub from: u64,
    /// The most seeds; positive.
    pub seeds: u64,
}

/// The bugs that are looked for unless some are named: all but one that no world reached. A vote that is durable before the
/// entries in front of it matters while the old leader still counts on the voter, for the milliseconds of one sync; the
/// random histories of the storage see it at once.
pub fn looked_for() -> impl Iterator<Item = Bug> {
    Bug::all().filter(|bug| *bug != Bug::Log(of_log::Bug::VoteBeforeAppends))
}

/// The profile in which a bug is looked for unless asked otherwise: the cheapest one in which it can show.
pub const fn profile(bug: Bug) -> Profile {
    match bug {
        Bug::Log(of_log::Bug::SyncRetried) => Profile::Disk,
        Bug::Log(of_log::Bug::LeaseTimerOnLocalClock) => Profile::Default,
        // A replica that is added begins with a snapshot.
        Bug::Broker(
            of_broker::Bug::SnapshotWithoutLeases
            | of_broker::Bug::SkipUntilIgnored
            | of_broker::Bug::ProgressNotExported,
        ) => Profile::Membership,
        Bug::Log(_) => Profile::Log,
        Bug::Broker(
            of_broker::Bug::DedupeWindowNotStored
            | of_broker::Bug::FifoLockLost
            | of_broker::Bug::AttemptsNotStored
            | of_broker::Bug::ReleasedBeforeFlush,
        ) => Profile::Power,
        Bug::Broker(
            of_broker::Bug::AnswerBeforeCommit
            | of_broker::Bug::DedupeForgetsEarly
            | of_broker::Bug::StaleLeaderGrants
            | of_broker::Bug::RepeatedRequestApplied
            | of_broker::Bug::VisibleTooEarly,
        )
        | Bug::NameServer(of_name_server::Bug::OldTermRouteAccepted) => Profile::Quick,
        // A replica must be gone for longer than `quick` lasts.
        Bug::Broker(_) | Bug::NameServer(of_name_server::Bug::DeadReplicaKept) => Profile::Default,
    }
}

impl Search {
    fn options(&self, bug: Bug, seed: u64, plant: Plant) -> RunOptions {
        let options = RunOptions::new(Seed(seed), self.profile.unwrap_or(profile(bug)));
        RunOptions {
            seconds: self.seconds.unwrap_or(options.seconds),
            plant,
            ..options
        }
    }

    fn job(&self, bug: Bug, seed: u64, plant: Plant) -> Job {
        let with = if plant.0.is_some() { "with" } else { "without" };
        Job {
            arguments: self.options(bug, seed, plant).arguments(),
            name: format!("{bug}-{seed}-{with}"),
        }
    }

    /// Looks for one bug.
    pub fn look(&self, children: &Children, bug: Bug) -> io::Result<Line> {
        let options = self.options(bug, self.from, Plant(Some(bug)));
        let mut line = Line {
            bug: bug.to_string(),
            profile: options.profile,
            seconds: options.seconds,
            seeds: self.seeds,
            seed: None,
            said: String::new(),
            fail_without: Vec::new(),
        };
        let end = self.from.saturating_add(self.seeds);
        let mut from = self.from;
        while let Some((seed, said)) = self.first(children, bug, from..end)? {
            if children
                .run(self.job(bug, seed, Plant::default()))?
                .violation()
                .is_none()
            {
                line.seeds = seed - self.from + 1;
                (line.seed, line.said) = (Some(seed), said);
                break;
            }
            line.fail_without.push(seed);
            from = seed + 1;
        }
        Ok(line)
    }

    /// The first of these seeds that finds the bug, and what it says.
    fn first(&self, children: &Children, bug: Bug, seeds: std::ops::Range<u64>) -> io::Result<Option<(u64, String)>> {
        let (from, best) = (seeds.start, Cell::new(u64::MAX));
        // A later seed may end before an earlier one: those that run are waited for, but no new one is begun.
        let jobs = seeds
            .take_while(|seed| *seed < best.get())
            .map(|seed| self.job(bug, seed, Plant(Some(bug))));
        let mut found = None;
        children.run_all(jobs, |nth, _, ended| {
            let seed = from + nth as u64;
            // A run that hangs on a busy machine tells nothing of the bug.
            let told = ended.violation().filter(|_| !matches!(ended, Ended::Hung));
            if let Some(what) = told.filter(|_| seed < best.get()) {
                best.set(seed);
                found = Some((seed, what.to_owned()));
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}
