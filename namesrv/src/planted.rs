//! Known bugs of the name server behind a switch, for proving that the simulation's checkers see them.
//!
//! The switch is passed in with [`crate::Options`]. Without the feature `planted-bugs`, and outside of this crate's own
//! tests, it has no content and [`Planted::has`] is always false, so that the product has no trace of the bugs. Each is one
//! changed branch of production code.

/// A bug that can be planted. The comment says what is then wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A report of an older term replaces what a newer one said.
    OldTermRouteAccepted,
    /// A replica whose stream has ended, or that is silent, stays alive in the routes.
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
    fn one_is_planted_or_none() {
        for bug in Bug::ALL {
            assert!(Planted::only(bug).has(bug) && !Planted::default().has(bug));
        }
    }
}
