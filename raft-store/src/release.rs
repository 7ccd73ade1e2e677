//! What a replica tells the others of the program it runs: so a leader knows what all of them can take.

use crate::limits;

/// The program that a replica runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The highest level of the machine's state that it supports, from 1. What a level means is the machine's matter.
    pub level: u32,
    /// The program's version, for people; empty when it tells none.
    pub version: String,
}

impl Release {
    /// As another replica told it. The first release told neither, and supports level 1.
    pub(crate) fn told(level: u32, version: &str) -> Release {
        Release {
            level: level.max(1),
            version: version.chars().take(limits::VERSION_CHARS_MAX).collect(),
        }
    }

    /// The version in words.
    pub(crate) fn name(&self) -> String {
        match self.version.is_empty() {
            true => "a release that does not tell its version".to_owned(),
            false => format!("version {}", self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_tells_nothing_supports_the_first_level() {
        let silent = Release::told(0, "");
        assert_eq!((silent.level, silent.version.as_str()), (1, ""));
        assert_eq!(Release::told(7, "0.2.0").level, 7);
        let long = "ä".repeat(limits::VERSION_CHARS_MAX + 1);
        assert_eq!(
            Release::told(1, &long).version.chars().count(),
            limits::VERSION_CHARS_MAX
        );
    }
}
