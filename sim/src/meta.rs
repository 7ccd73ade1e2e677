//! Same seed twice: two processes run one seed, their traces must be equal byte by byte.
//!
//! Two processes, because a few counters of the libraries underneath (tokio's task ids) live as long as the process.

use std::{io, ops::ControlFlow};

use crate::{
    children::{Children, Ended, Job},
    files,
    run::RunOptions,
};

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

/// Runs `options` twice, at a time where `children` may run two, and compares. Traces are kept in the folder of `children`,
/// named after the seed, while they are compared and after a difference.
pub fn meta(children: &Children, options: &RunOptions) -> io::Result<Meta> {
    let traces = [1, 2].map(|nth| children.folder.join(format!("{}-{nth}.trace", options.name())));
    for trace in &traces {
        // What an earlier comparison left must not be taken for what this one wrote.
        files::remove(trace)?;
    }
    let jobs = traces.iter().map(|trace| Job {
        name: trace.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        arguments: [
            options.arguments(),
            vec!["--trace".to_owned(), trace.display().to_string()],
        ]
        .concat(),
    });
    let (mut hangs, mut violation) = (false, false);
    children.run_all(jobs, |_, _, ended| {
        hangs |= matches!(ended, Ended::Hung);
        violation |= ended.violation().is_some();
        if hangs {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    if hangs {
        return Ok(Meta::Hangs);
    }
    let [one, two] = &traces;
    let (first, second) = (files::read(one)?, files::read(two)?);
    let (first, second) = (String::from_utf8_lossy(&first), String::from_utf8_lossy(&second));
    if let Some(difference) = difference(&first, &second) {
        let (one, two) = (one.display(), two.display());
        return Ok(Meta::Differs(format!("{difference}\n  traces: {one} {two}")));
    }
    if violation {
        return Ok(Meta::Violation);
    }
    for trace in &traces {
        files::remove(trace)?;
    }
    Ok(Meta::Same(first.lines().count()))
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
