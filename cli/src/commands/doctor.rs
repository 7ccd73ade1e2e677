//! `ledgermq doctor`: what is wrong with the cluster, why, and what to do next.

use std::path::PathBuf;
use std::sync::Arc;

use crate::admin::Target;
use crate::commands::log;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::gather::gather;
use crate::doctor::judge::judge;
use crate::doctor::survey::Survey;
use crate::failure::{Failure, Kind};
use crate::output::{json_line, line_out};
use clap::Args;
use ledgermq_proto::net::TcpNet;
use serde::Serialize;

/// The flags.
#[derive(Args)]
#[command(
    after_help = "Exit code 0: nothing is critical (there may be warnings); 4: something is; 5: no replica answered.\n\
    Example: ledgermq doctor --endpoints 10.0.0.1:8081\n\
    Example, on a machine whose broker refuses to start: ledgermq doctor --data-dir /var/lib/ledgermq"
)]
pub struct Arguments {
    /// Only this broker group
    #[arg(long)]
    broker_group: Option<String>,
    /// Check the log in this data folder of this machine as well; its broker must be stopped
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What `--json` prints. Its keys are a promise to scripts.
#[derive(Serialize)]
struct Document<'a> {
    /// healthy, warnings, critical, unanswered.
    verdict: &'static str,
    /// The worst first.
    findings: &'a [Finding],
    /// Who answered.
    replicas: Vec<Replica<'a>>,
    /// Addresses that gave no report.
    unanswered: Vec<Unanswered<'a>>,
}

#[derive(Serialize)]
struct Replica<'a> {
    broker_group: &'a str,
    id: u64,
    address: &'a str,
    role: &'a str,
    term: u64,
    ready: bool,
    version: &'a str,
    incarnation: String,
}

#[derive(Serialize)]
struct Unanswered<'a> {
    address: &'a str,
    reason: &'a str,
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let folder = arguments.data_dir.as_deref().map(log::examine).transpose()?;
    let endpoints = arguments.target.endpoints.addresses();
    let mut survey = gather(Arc::new(TcpNet), endpoints).await;
    survey.folder = folder;
    let only = arguments.broker_group.as_deref();
    if let Some(name) = only
        && !survey.answers.is_empty()
        && !survey.group_names().contains(name)
    {
        return Err(Failure::new(
            Kind::NotFound,
            format!("nobody knows broker group {name}"),
        ));
    }
    let findings = judge(&survey, only);
    if arguments.json {
        json_line(&document(&survey, &findings))?;
    } else {
        findings.iter().try_for_each(print)?;
        line_out(&summary(&survey, &findings))?;
    }
    verdict(&survey, &findings)
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

/// Nobody answered, and nothing else was found: everything about the cluster is open.
fn is_unanswered(survey: &Survey, findings: &[Finding]) -> bool {
    let certain = findings
        .iter()
        .any(|it| it.severity == Severity::Critical && it.code != "no-answer");
    survey.answers.is_empty() && !certain
}

fn document<'a>(survey: &'a Survey, findings: &'a [Finding]) -> Document<'a> {
    let worst = findings.iter().map(|finding| finding.severity).max();
    Document {
        verdict: match worst {
            _ if is_unanswered(survey, findings) => "unanswered",
            Some(Severity::Critical) => "critical",
            Some(Severity::Warning) => "warnings",
            Some(Severity::Ok) | None => "healthy",
        },
        findings,
        replicas: survey
            .answers
            .iter()
            .map(|it| Replica {
                broker_group: &it.report.broker_group,
                id: it.report.replica,
                address: &it.address,
                role: &it.report.role,
                term: it.report.term,
                ready: it.report.ready,
                version: &it.report.version,
                incarnation: format!("{:016x}", it.report.incarnation),
            })
            .collect(),
        unanswered: survey
            .silent
            .iter()
            .map(|(address, reason)| Unanswered { address, reason })
            .collect(),
    }
}

fn print(finding: &Finding) -> Result<(), Failure> {
    line_out(&format!(
        "{:<8}  {}  {}",
        finding.severity.word(),
        finding.whom(),
        finding.code
    ))?;
    line_out(&format!("  {}", finding.cause))?;
    if !finding.next.is_empty() {
        line_out(&format!("  next: {}", finding.next))?;
    }
    match &finding.command {
        Some(command) => line_out(&format!("    {command}")),
        None => Ok(()),
    }
}

fn summary(survey: &Survey, findings: &[Finding]) -> String {
    format!(
        "{} critical, {} warnings; {} reports, {} addresses gave none",
        count(findings, Severity::Critical),
        count(findings, Severity::Warning),
        survey.answers.len(),
        survey.silent.len()
    )
}

fn verdict(survey: &Survey, findings: &[Finding]) -> Result<(), Failure> {
    if is_unanswered(survey, findings) {
        return Err(Failure::new(Kind::Unavailable, "no replica answered"));
    }
    let critical = findings.iter().filter(|finding| finding.severity == Severity::Critical);
    let kinds: Vec<&str> = critical.map(|finding| finding.code).collect();
    match kinds.len() {
        0 => Ok(()),
        count => Err(Failure::new(
            Kind::Refused,
            format!("{count} critical finding(s): {}", kinds.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::survey::Answer;

    fn verdict_of(severities: &[(Severity, &'static str)], answers: usize) -> (Option<Kind>, &'static str) {
        let survey = Survey {
            answers: vec![Answer::default(); answers],
            ..Survey::default()
        };
        let findings: Vec<Finding> = severities
            .iter()
            .map(|(severity, code)| Finding::new(*severity, code, "x"))
            .collect();
        let word = document(&survey, &findings).verdict;
        (verdict(&survey, &findings).err().map(|failure| failure.kind()), word)
    }

    #[test]
    fn the_exit_code_is_of_the_worst() {
        use Severity::{Critical, Ok, Warning};
        assert_eq!(verdict_of(&[(Ok, "healthy")], 1), (None, "healthy"));
        assert_eq!(
            verdict_of(&[(Warning, "learner"), (Ok, "log-whole")], 1),
            (None, "warnings")
        );
        let critical = (Some(Kind::Refused), "critical");
        assert_eq!(verdict_of(&[(Critical, "poisoned"), (Warning, "learner")], 1), critical);
        let unanswered = (Some(Kind::Unavailable), "unanswered");
        assert_eq!(verdict_of(&[(Critical, "no-answer"), (Ok, "log-whole")], 0), unanswered);
        assert_eq!(
            verdict_of(&[(Critical, "corrupt-log"), (Critical, "no-answer")], 0),
            critical
        );
        assert_eq!(
            verdict_of(&[(Critical, "no-answer")], 1),
            critical,
            "one broker group of two"
        );
    }
}
