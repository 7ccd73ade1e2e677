//! From a survey to findings: pure, one file a subject.

mod folder;
mod machine;
mod name_server;
mod progress;
mod quorum;
mod seat;
mod setup;
mod stranger;

#[cfg(test)]
mod tests;

use super::finding::{Finding, Severity, sort};
use super::survey::Survey;

/// All findings, the worst first; those of one broker group and of what concerns all where one is named.
pub fn judge(survey: &Survey, only: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if survey.answers.is_empty() {
        findings.push(nobody(survey));
    }
    let names = survey.group_names();
    for name in names.into_iter().filter(|name| only.is_none_or(|only| only == *name)) {
        let group = survey.group(name);
        let mut found = Vec::new();
        quorum::judge(&group, &mut found);
        setup::judge(&group, &mut found);
        seat::judge(&group, &mut found);
        stranger::judge(&group, &mut found);
        machine::judge(&group, &mut found);
        progress::judge(&group, &mut found);
        name_server::judge(survey, &group, &mut found);
        if found.is_empty() {
            found.push(healthy(&group));
        }
        findings.extend(found.into_iter().map(|finding| finding.of(name)));
    }
    name_server::judge_all(survey, &mut findings);
    folder::judge(survey, &mut findings);
    sort(&mut findings);
    findings
}

fn nobody(survey: &Survey) -> Finding {
    let asked: Vec<String> = survey
        .silent
        .iter()
        .map(|(address, why)| format!("{address} ({why})"))
        .collect();
    Finding::new(
        Severity::Critical,
        "no-answer",
        format!("no replica answers; asked: {}", asked.join(", ")),
    )
    .next("start the brokers, or name others with --endpoints; a broker that refuses to start says why on stderr, and its log can be checked on its machine")
    .command("ledgermq doctor --data-dir DIR")
}

fn healthy(group: &super::survey::BrokerGroup) -> Finding {
    let (members, voters) = (group.seats.len(), group.voters().count());
    let leader = group
        .leader()
        .map_or("a leader that did not answer here".to_owned(), |it| {
            format!("replica {} in term {}", it.replica, it.term)
        });
    let learners = match members - voters {
        0 => String::new(),
        count => format!(" and {count} learners"),
    };
    let cause = format!("led by {leader}; {voters} voters{learners}, all well");
    Finding::new(Severity::Ok, "healthy", cause)
}
