//! What of a simulation cannot be built, found before anything runs: names, counts, faults that would hit nobody.

use std::{collections::BTreeSet, time::Duration};

use ledgermq_broker::{config, state::limits::QUEUES_PER_TOPIC};
use ledgermq_proto::names::{self, BadTopic};

use super::{AppBreak, Simulation, Topic, servers};
use crate::{limits, replay};

type Checked = Result<(), String>;

impl Simulation {
    /// The first thing that is wrong, in words.
    pub(super) fn wrong(&self) -> Checked {
        within("name servers", self.name_servers, limits::NAME_SERVERS_MAX)?;
        self.broker_groups_are_right()?;
        self.topics_are_right()?;
        self.apps_are_right()?;
        replay::seconds(self.seconds)?;
        self.breaks_are_right()
    }

    fn broker_groups_are_right(&self) -> Checked {
        within("broker groups", self.broker_groups.len(), limits::BROKER_GROUPS_MAX)?;
        no_two("broker group", self.broker_groups.iter().map(|(name, _)| name))?;
        for (name, replicas) in &self.broker_groups {
            config::name("broker group", name).map_err(|wrong| wrong.to_string())?;
            within("replicas", *replicas, limits::REPLICAS_MAX)
                .map_err(|wrong| format!("broker group {name:?}: {wrong}"))?;
        }
        Ok(())
    }

    /// The brokers would refuse such a topic again and again, and no application would ever start.
    fn topics_are_right(&self) -> Checked {
        let names = self.topics.iter().map(|topic| &topic.name);
        no_two("topic", names)?;
        for Topic { name, queues, .. } in &self.topics {
            let of_it = |wrong: String| format!("topic {name:?}: {wrong}");
            names::topic(name).map_err(|BadTopic(wrong)| of_it(wrong))?;
            within("queues", *queues, QUEUES_PER_TOPIC).map_err(of_it)?;
        }
        Ok(())
    }

    fn apps_are_right(&self) -> Checked {
        if self.apps.len() > limits::APPS_MAX {
            let (max, count) = (limits::APPS_MAX, self.apps.len());
            return Err(format!("at most {max} applications, not {count}"));
        }
        no_two("application", self.apps.iter().map(|(name, _)| name))?;
        for (name, _) in &self.apps {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if !(1..=limits::HOST_NAME_BYTES_MAX).contains(&name.len()) || !name.chars().all(legal) {
                let max = limits::HOST_NAME_BYTES_MAX;
                return Err(format!(
                    "application {name:?}: a name has 1 to {max} lower-case letters, digits and hyphens"
                ));
            }
            let first = name.split('-').next().unwrap_or_default();
            if ["replica", "namesrv", "operator", servers::SETUP].contains(&first) {
                return Err(format!("application {name:?}: hosts of the cluster are called so"));
            }
        }
        Ok(())
    }

    fn breaks_are_right(&self) -> Checked {
        let faults = self.breaks.cluster.len() + self.breaks.apps.len();
        if faults > limits::PLAN_FAULTS_MAX {
            return Err(format!("{faults} faults, at most {}", limits::PLAN_FAULTS_MAX));
        }
        let layout = self.layout();
        for planned in &self.breaks.cluster {
            let wrong = |wrong: String| format!("{planned}: {wrong}");
            replay::bounds(planned).map_err(wrong)?;
            if !replay::fits(planned.fault, &layout) {
                return Err(wrong("there is no such replica".to_owned()));
            }
            self.begins_in_time(Duration::from_millis(planned.at_ms))
                .map_err(wrong)?;
        }
        for planned in &self.breaks.apps {
            let wrong = |wrong: String| format!("{planned}: {wrong}");
            self.app_break_is_right(planned).map_err(wrong)?;
        }
        Ok(())
    }

    fn app_break_is_right(&self, planned: &AppBreak) -> Checked {
        if !self.apps.iter().any(|(app, _)| *app == planned.app) {
            return Err("there is no such application".to_owned());
        }
        if planned.lasting > Duration::from_secs(limits::SECONDS_MAX) {
            return Err(format!("it lasts for at most {} s", limits::SECONDS_MAX));
        }
        self.begins_in_time(planned.at)
    }

    /// A later one would never happen.
    fn begins_in_time(&self, at: Duration) -> Checked {
        match at < Duration::from_secs(self.seconds) {
            true => Ok(()),
            false => Err(format!("begins after the end of the run, {} s", self.seconds)),
        }
    }
}

fn within<N: Copy + PartialOrd + From<u8> + std::fmt::Display>(what: &str, count: N, max: N) -> Checked {
    match (N::from(1)..=max).contains(&count) {
        true => Ok(()),
        false => Err(format!("1 to {max} {what}, not {count}")),
    }
}

fn no_two<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Checked {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(format!("{what} {name:?}: there are two"));
        }
    }
    Ok(())
}
