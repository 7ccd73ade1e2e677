//! The data folder of this machine.

use crate::doctor::finding::{Finding, Severity};
use crate::doctor::survey::{Folder, Survey};

pub(super) fn judge(survey: &Survey, found: &mut Vec<Finding>) {
    let Some(folder) = &survey.folder else { return };
    found.extend(
        findings(folder)
            .into_iter()
            .map(|it| owned(folder, it.about(format!("log {}", folder.log)))),
    );
}

fn owned(folder: &Folder, finding: Finding) -> Finding {
    match &folder.owner {
        Some((group, id)) => finding.of(group).at(*id),
        None => finding,
    }
}

fn findings(folder: &Folder) -> Vec<Finding> {
    if folder.is_running {
        let cause = "a broker runs on this folder, so its log was not read; what the broker finds, it reports itself";
        return vec![Finding::new(Severity::Ok, "folder-in-use", cause)];
    }
    let corrupt = folder.damages.iter().filter(|(is_corrupt, _)| *is_corrupt);
    let mut found: Vec<Finding> = corrupt.map(|(_, words)| corruption(folder, words)).collect();
    if let (Some(last), more @ 1..) = (found.last_mut(), folder.more) {
        last.cause = format!("{}; and {more} more", last.cause);
    }
    let warnings = folder.damages.iter().filter(|(is_corrupt, _)| !is_corrupt);
    found.extend(warnings.map(|(_, words)| {
        let finding = Finding::new(Severity::Warning, "log-warning", words.clone());
        finding.next("nothing acknowledged is concerned: start the replica")
    }));
    if found.is_empty() {
        let cause = format!("whole: {} entries in {} segments", folder.entries, folder.segments);
        found.push(Finding::new(Severity::Ok, "log-whole", cause));
    }
    found
}

fn corruption(folder: &Folder, words: &str) -> Finding {
    let (group, id) = match &folder.owner {
        Some((group, id)) => (group.as_str(), id.to_string()),
        None => ("BROKER_GROUP", "OLD".to_owned()),
    };
    Finding::new(Severity::Critical, "corrupt-log", words)
        .next("move the folder away, never cut it; give the replica an unused number and an empty folder, start it, and replace the old number")
        .command(format!(
            "ledgermq replica replace --broker-group {group} --old {id} --id ID --peer-address HOST:PORT --client-address HOST:PORT"
        ))
}
