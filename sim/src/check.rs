//! `ledgermq-sim check`: the checkers of clients' histories over one that was recorded, by a simulation or by real
//! processes with the official client.

use std::{fs, io, path::Path};

use crate::{
    checkers,
    history::{self, Event},
};

/// What came of it.
#[derive(Debug)]
pub struct Checked {
    /// Events in the history.
    pub events: usize,
    /// Counts of what is in it.
    pub counts: Vec<(&'static str, u64)>,
    /// What is wrong; empty when all holds.
    pub wrong: Vec<String>,
}

/// Why a history can't be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It can't be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A line is none of a history.
    #[error("{path}: {reason}")]
    Line {
        /// The file.
        path: String,
        /// Which line, and why.
        reason: String,
    },
    /// There is nothing in it.
    #[error("{0}: no events: a history is a file of JSON lines, or a folder with files *.jsonl")]
    Empty(String),
}

/// Reads a history, one file or all `*.jsonl` of a folder put together in order of time, and checks it.
pub fn check(path: &Path) -> Result<Checked, CheckError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| CheckError::Io { path, source }
    };
    let mut files = Vec::new();
    if fs::metadata(path).map_err(failed(path))?.is_dir() {
        for entry in fs::read_dir(path).map_err(failed(path))? {
            let file = entry.map_err(failed(path))?.path();
            if file.extension().is_some_and(|extension| extension == "jsonl") {
                files.push(file);
            }
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let mut events: Vec<Event> = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).map_err(failed(file))?;
        events.extend(history::parse(&text).map_err(|reason| CheckError::Line {
            path: file.display().to_string(),
            reason,
        })?);
    }
    if events.is_empty() {
        return Err(CheckError::Empty(path.display().to_string()));
    }
    events.sort_by(|one, other| one.t.total_cmp(&other.t));
    let mut wrong = checkers::of_clients(&events);
    wrong.extend(checkers::did_nothing(&events));
    Ok(Checked {
        events: events.len(),
        counts: checkers::counts(&events),
        wrong,
    })
}
