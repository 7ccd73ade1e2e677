//! A finding: how bad, of whom, the cause in one sentence, and the next step.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, with less safety than one may think; look at it when there is time.
    Warning,
    /// Something is broken, or is about to be: act.
    Critical,
}

impl Severity {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// Every kind of finding; docs/operations.md describes each. A name is never reused for something else.
#[cfg(test)]
pub const CODES: &[&str] = &[
    "address-differs",
    "address-taken",
    "apply-lag",
    "clock-off",
    "corrupt-entry",
    "corrupt-log",
    "disk-filling",
    "disk-full",
    "disk-nearly-full",
    "disk-unknown",
    "durability-differs",
    "even-voters",
    "folder-in-use",
    "format-level-mismatch",
    "healthy",
    "joint-membership",
    "leader-not-serving",
    "learner",
    "link-broken",
    "log-warning",
    "log-whole",
    "memory-quorum",
    "name-server-lacks-group",
    "name-server-misses-replica",
    "name-server-old-leader",
    "name-server-unreachable",
    "no-answer",
    "no-leader",
    "no-quorum",
    "no-redundancy",
    "not-bootstrapped",
    "not-ready",
    "not-registered",
    "other-cluster",
    "peer-refuses",
    "poisoned",
    "removed-replica",
    "replica-refuses",
    "replica-unreachable",
    "replica-unreachable-from-here",
    "replication-lag",
    "sends-refused",
    "slow-fsync",
    "stale-leader",
    "two-leaders",
    "version-mismatch",
    "waiting-replica",
    "wiped-replica",
];

/// One finding. Its keys in JSON are a promise to scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What kind, for scripts.
    pub code: &'static str,
    /// Of which broker group; null where it is of none.
    pub broker_group: Option<String>,
    /// Of which replica; null where it is of none.
    pub replica: Option<u64>,
    /// What else it is about: a name server's address or a folder; null where it is of a broker group or replica.
    pub subject: Option<String>,
    /// The cause, one sentence.
    pub cause: String,
    /// What to do, in words; empty where there is nothing to do.
    pub next: String,
    /// The same as a command, where one does it. Words in capitals are to be filled in.
    pub command: Option<String>,
}

impl Finding {
    /// A finding of nobody yet.
    pub fn new(severity: Severity, code: &'static str, cause: impl Into<String>) -> Finding {
        Finding {
            severity,
            code,
            broker_group: None,
            replica: None,
            subject: None,
            cause: cause.into(),
            next: String::new(),
            command: None,
        }
    }

    /// Of a broker group.
    pub fn of(mut self, broker_group: &str) -> Finding {
        self.broker_group = Some(broker_group.to_owned());
        self
    }

    /// Of a replica of it.
    pub fn at(mut self, replica: u64) -> Finding {
        self.replica = Some(replica);
        self
    }

    /// About something else.
    pub fn about(mut self, subject: impl Into<String>) -> Finding {
        self.subject = Some(subject.into());
        self
    }

    /// What to do.
    pub fn next(mut self, next: impl Into<String>) -> Finding {
        self.next = next.into();
        self
    }

    /// What to do, as a command.
    pub fn command(mut self, command: impl Into<String>) -> Finding {
        self.command = Some(command.into());
        self
    }

    /// Whom it is of, for people.
    pub fn whom(&self) -> String {
        match (&self.broker_group, self.replica, &self.subject) {
            (_, _, Some(subject)) => subject.clone(),
            (Some(group), Some(replica), None) => format!("{group}/{replica}"),
            (Some(group), None, None) => group.clone(),
            (None, _, None) => "cluster".to_owned(),
        }
    }
}

/// The worst first; those as bad by broker group, of the whole group before those of its replicas.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        let place = |it: &Finding| (it.broker_group.clone(), it.replica, it.subject.clone(), it.code);
        b.severity.cmp(&a.severity).then_with(|| place(a).cmp(&place(b)))
    });
}

/// So many milliseconds, for people.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// So many bytes, for people.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{bytes} bytes"),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first_and_a_group_before_its_replicas() {
        let finding = |severity, code, replica: Option<u64>| {
            let it = Finding::new(severity, code, "x").of("g");
            replica.map_or(it.clone(), |id| it.at(id))
        };
        let mut findings = vec![
            finding(Severity::Ok, "healthy", None),
            finding(Severity::Warning, "learner", Some(3)),
            finding(Severity::Critical, "poisoned", Some(2)),
            finding(Severity::Critical, "no-quorum", None),
        ];
        sort(&mut findings);
        let codes: Vec<&str> = findings.iter().map(|it| it.code).collect();
        assert_eq!(codes, ["no-quorum", "poisoned", "learner", "healthy"]);
        assert_eq!(
            (findings[0].whom(), findings[1].whom()),
            ("g".to_owned(), "g/2".to_owned())
        );
    }

    #[test]
    fn spans_and_sizes_are_short() {
        assert_eq!(
            [900, 12_300, 150_000, 7_200_000].map(span),
            ["900 ms", "12 s", "2 min", "2 h"]
        );
        assert_eq!([5, 5 << 20, 3 << 29].map(bytes), ["5 bytes", "5 MiB", "1.5 GiB"]);
    }
}
