//! The known bugs that can be planted in a run, of all crates: how they are named, and what each crate is told.
//!
//! Only the scene looks at the switch, to pass it on when a host starts. Checkers do not know it.

use std::{fmt, str::FromStr};

use ledgermq_broker::planted as of_broker;
use ledgermq_namesrv::planted as of_name_server;
use ledgermq_raft_store::planted as of_log;

/// A bug of one of the crates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Of the replicated log.
    Log(of_log::Bug),
    /// Of the broker.
    Broker(of_broker::Bug),
    /// Of the name server.
    NameServer(of_name_server::Bug),
}

impl Bug {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Bug> {
        let log = of_log::Bug::ALL.into_iter().map(Bug::Log);
        let broker = of_broker::Bug::ALL.into_iter().map(Bug::Broker);
        let name_server = of_name_server::Bug::ALL.into_iter().map(Bug::NameServer);
        log.chain(broker).chain(name_server)
    }

    /// Its name on a command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Bug::Log(bug) => bug.name(),
            Bug::Broker(bug) => bug.name(),
            Bug::NameServer(bug) => bug.name(),
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no bug of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBug(pub String);

impl fmt::Display for UnknownBug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Bug::all().map(Bug::name).collect();
        write!(f, "no bug is named {:?}; there are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownBug {}

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<Bug, UnknownBug> {
        let found = Bug::all().find(|bug| bug.name() == name);
        found.ok_or_else(|| UnknownBug(name.to_owned()))
    }
}

/// What is planted in a run: nothing, or one bug. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plant(pub Option<Bug>);

impl Plant {
    /// What the log is told.
    pub fn log(self) -> of_log::Planted {
        match self.0 {
            Some(Bug::Log(bug)) => of_log::Planted::only(bug),
            _ => of_log::Planted::default(),
        }
    }

    /// What a broker is told, its log included.
    pub fn broker(self) -> of_broker::Planted {
        match self.0 {
            Some(Bug::Broker(bug)) => of_broker::Planted::only(bug),
            _ => {
                let mut planted = of_broker::Planted::default();
                planted.log = self.log();
                planted
            }
        }
    }

    /// What a name server is told.
    pub fn name_server(self) -> of_name_server::Planted {
        match self.0 {
            Some(Bug::NameServer(bug)) => of_name_server::Planted::only(bug),
            _ => of_name_server::Planted::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        let names: BTreeSet<&str> = Bug::all().map(Bug::name).collect();
        assert_eq!(names.len(), Bug::all().count());
        assert!(names.len() >= 20);
        assert!(Bug::all().all(|bug| bug.name().parse() == Ok(bug)));
        assert!("sloth".parse::<Bug>().is_err());
    }

    #[test]
    fn a_bug_is_planted_where_it_belongs() {
        let told = |plant: Plant| (plant.broker(), plant.log(), plant.name_server());
        let nothing = told(Plant::default());
        for bug in Bug::all() {
            let (broker, log, name_server) = told(Plant(Some(bug)));
            let changed = [broker != nothing.0, log != nothing.1, name_server != nothing.2];
            let expected = match bug {
                Bug::Log(_) => [true, true, false],
                Bug::Broker(_) => [true, false, false],
                Bug::NameServer(_) => [false, false, true],
            };
            assert_eq!(changed, expected, "{bug}");
        }
    }
}
