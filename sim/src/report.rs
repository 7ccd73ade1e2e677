//! How a run ended, and the same as JSON: what a child process hands to the command that started it
//! (`run --report FILE`), and what the folder of failing seeds keeps.

use std::{collections::BTreeMap, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{faults::Planned, files};

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What went wrong; empty for a pass.
    pub violations: Vec<String>,
    /// What the seed drew of the world and its configuration, as lines.
    pub drawn: Vec<String>,
    /// Counts of the workload.
    pub counts: BTreeMap<String, u64>,
    /// Counts of faults and rare branches.
    pub marks: BTreeMap<String, u64>,
    /// Simulated seconds.
    pub simulated_seconds: f64,
    /// Events in the trace.
    pub events: u64,
    /// Hash over the trace.
    pub hash: u64,
    /// The faults that were planned, drawn or given.
    pub plan: Vec<Planned>,
    /// The last events and the replicas, for a failure; empty for a pass.
    pub tail: Vec<String>,
}

impl Report {
    /// Nothing went wrong.
    pub fn passed(&self) -> bool {
        self.violations.is_empty()
    }

    /// Writes the report to `file`.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        files::write(file, serde_json::to_vec(self)?)
    }

    /// Reads what [`Report::write`] wrote.
    pub fn read(file: &Path) -> io::Result<Report> {
        serde_json::from_slice(&files::read(file)?).map_err(|error| files::named(file, error.into()))
    }
}

/// A violation without its numbers: two runs with the same kind found the same thing, as far as a program can tell.
pub fn kind(violation: &str) -> String {
    let mut kind = String::new();
    for c in violation.chars() {
        if !c.is_ascii_digit() {
            kind.push(c);
        } else if !kind.ends_with('#') {
            kind.push('#');
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn a_kind_has_no_numbers() {
        assert_eq!(kind("p3-17 at 4/2@900"), kind("p1-2 at 0/0@1"));
        assert_ne!(kind("p3-17 lost"), kind("p3-17 twice"));
        assert_eq!(kind("replica-1 stopped"), "replica-# stopped");
    }
}
