//! Known bugs of the name server behind a switch, for proving that the simulation's checkers see them.
//!
//! The switch is passed in with [`crate::Options`]. Without the feature `planted-bugs`, and outside of this crate's own
//! tests, it has no content and [`Planted::has`] is always false, so that the product has no trace of the bugs. Each is one
//! changed branch of production code.

use std::fmt;
use std::str::FromStr;

/// A bug that can be planted. The comment says what is then wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A report of an older term replaces what a newer one said.
    OldTermRouteAccepted,
    /// A replica whose stream has ended stays alive in the routes.
    DeadReplicaKept,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 2] = [Bug::OldTermRouteAccepted, Bug::DeadReplicaKept];

    /// Its name on a command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Bug::OldTermRouteAccepted => "old-term-route-accepted",
            Bug::DeadReplicaKept => "dead-replica-kept",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no bug of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no bug is named {0:?}")]
pub struct UnknownBug(pub String);

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<Bug, UnknownBug> {
        let found = Bug::ALL.into_iter().find(|bug| bug.name() == name);
        found.ok_or_else(|| UnknownBug(name.to_owned()))
    }
}

/// Which bug is planted: none, or with the feature `planted-bugs` one. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(any(test, feature = "planted-bugs"))]
    bug: Option<Bug>,
}

impl Planted {
    /// This one.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub const fn only(bug: Bug) -> Planted {
        Planted { bug: Some(bug) }
    }

    /// Whether this bug is planted.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Never: this build has no bug that could be planted.
    #[cfg(not(any(test, feature = "planted-bugs")))]
    #[inline(always)]
    pub const fn has(self, _bug: Bug) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for bug in Bug::ALL {
            assert_eq!(bug.name().parse(), Ok(bug));
            assert!(Planted::only(bug).has(bug) && !Planted::default().has(bug));
        }
        assert_eq!("sloth".parse::<Bug>(), Err(UnknownBug("sloth".to_owned())));
    }
}
