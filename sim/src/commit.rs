//! Which commit is being run, as far as the work tree around the command tells.

use std::process::Command;

/// The short id of the commit that is checked out in the current folder, with `-changed` behind it when the work tree
/// has changes; `unknown` outside of a repository.
pub fn checked_out() -> String {
    let Some(id) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => id,
        _ => format!("{id}-changed"),
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
