//! Same seed twice: two processes run one seed, their traces must be equal byte by byte.
//!
//! Two processes, because a few counters of the libraries underneath (tokio's task ids) live as long as the process.

use std::{
    fs, io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::{limits, run::RunOptions};

/// What two runs of one seed showed.
#[derive(Debug)]
pub enum Meta {
    /// Same trace, no violation. The number of lines compared.
    Same(usize),
    /// Same trace, and both runs found a violation.
    Violation,
    /// The traces differ; here is where.
    Differs(String),
    /// A run did not end in time.
    Hangs,
}

/// Runs `options` twice with `binary` and compares; traces are kept in `folder`, named after the seed.
pub fn meta(binary: &Path, options: &RunOptions, folder: &Path) -> io::Result<Meta> {
    fs::create_dir_all(folder)?;
    let name = |n: u8| folder.join(format!("{}-{}-{n}.trace", options.profile.name(), options.seed.0));
    let (first, second) = (name(1), name(2));
    let mut children = [spawn(binary, options, &first)?, spawn(binary, options, &second)?];
    let Some(status) = wait(&mut children)? else {
        return Ok(Meta::Hangs);
    };
    let (one, two) = (fs::read_to_string(&first)?, fs::read_to_string(&second)?);
    if let Some(difference) = difference(&one, &two) {
        return Ok(Meta::Differs(format!(
            "{difference}\n  traces: {} {}",
            first.display(),
            second.display()
        )));
    }
    if status.iter().any(|status| !status.success()) {
        return Ok(Meta::Violation);
    }
    let lines = one.lines().count();
    for path in [first, second] {
        fs::remove_file(path)?;
    }
    Ok(Meta::Same(lines))
}

fn spawn(binary: &Path, options: &RunOptions, trace: &Path) -> io::Result<Child> {
    Command::new(binary)
        .args(options.arguments())
        .arg("--quiet")
        .arg("--trace")
        .arg(trace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Waits for both; `None` when the watchdog ended them.
fn wait(children: &mut [Child; 2]) -> io::Result<Option<Vec<ExitStatus>>> {
    const POLL: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        let mut ended = Vec::new();
        for child in children.iter_mut() {
            ended.extend(child.try_wait()?);
        }
        if ended.len() == children.len() {
            return Ok(Some(ended));
        }
        if waited > limits::RUN_WALL_BOUND {
            for child in children.iter_mut() {
                child.kill()?;
                child.wait()?;
            }
            return Ok(None);
        }
        std::thread::sleep(POLL);
        waited += POLL;
    }
}

/// The first line in which two traces differ, with the lines before it.
pub fn difference(one: &str, two: &str) -> Option<String> {
    if one == two {
        return None;
    }
    const BEFORE: usize = 5;
    let mut before: Vec<&str> = Vec::new();
    let (mut ones, mut twos) = (one.lines(), two.lines());
    loop {
        let (a, b) = (ones.next(), twos.next());
        if a != b || a.is_none() {
            let start = before.len().saturating_sub(BEFORE);
            let mut text = before[start..]
                .iter()
                .map(|line| format!("    {line}\n"))
                .collect::<String>();
            text.push_str(&format!(
                "  1 {}\n  2 {}",
                a.unwrap_or("(ended)"),
                b.unwrap_or("(ended)")
            ));
            return Some(text);
        }
        before.extend(a);
    }
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn the_first_difference_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        let shown = difference("a\nb\nc\n", "a\nb\nd\n").expect("they differ");
        assert!(shown.contains("1 c") && shown.contains("2 d"), "{shown}");
        assert!(difference("a\n", "a\nb\n").is_some());
    }
}
