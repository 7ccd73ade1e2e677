//! Marks: names of faults and rare branches that a run reached, counted.
//!
//! ```text
//!   product: mark("segment_rolled") ─▶ trace event, target ledgermq::mark ─▶ [`counted`] ─▶ board ─▶ report, soak
//!   harness: board.mark("kill") ────────────────────────────────────────────────────────────┘
//! ```
//! [`ALL`] lists every mark with what it means, so that a soak can tell which were never reached. A test holds the list
//! and the sources together.

mod all;
pub mod lapsed;

use std::fmt;

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

pub use self::all::ALL;
use crate::board::Board;

/// The target of the product's marks.
const TARGET: &str = "ledgermq::mark";

/// The names of all marks.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|(name, _)| *name).collect()
}

/// The mark of this name, if it is listed.
pub fn listed(name: &str) -> Option<&'static str> {
    let at = ALL.binary_search_by(|(listed, _)| (*listed).cmp(name)).ok()?;
    Some(ALL[at].0)
}

/// Runs `work` while the product's marks are counted on the board. Everything else is logged as before.
pub fn counted<T>(board: &Board, work: impl FnOnce() -> T) -> T {
    let before = tracing::dispatcher::get_default(Dispatch::clone);
    let counting = Dispatch::new(Counting {
        board: board.clone(),
        before,
    });
    tracing::dispatcher::with_default(&counting, work)
}

/// Counts marks, and passes everything else on.
struct Counting {
    board: Board,
    before: Dispatch,
}

struct Name(Option<&'static str>);

impl Visit for Name {
    fn record_str(&mut self, _field: &Field, value: &str) {
        self.0 = listed(value);
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}

fn is_mark(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET
}

impl Subscriber for Counting {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_mark(metadata) {
            Interest::always()
        } else if self.before.is::<tracing::subscriber::NoSubscriber>() {
            Interest::never()
        } else {
            self.before.register_callsite(metadata)
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_mark(metadata) || self.before.enabled(metadata)
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.before.new_span(span)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        self.before.record(span, values);
    }

    fn record_follows_from(&self, span: &span::Id, follows: &span::Id) {
        self.before.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        if !is_mark(event.metadata()) {
            return self.before.event(event);
        }
        let mut name = Name(None);
        event.record(&mut name);
        // A name that is not listed shows in the test below.
        if let Some(name) = name.0 {
            self.board.mark(name);
        }
    }

    fn enter(&self, span: &span::Id) {
        self.before.enter(span);
    }

    fn exit(&self, span: &span::Id) {
        self.before.exit(span);
    }

    fn clone_span(&self, span: &span::Id) -> span::Id {
        self.before.clone_span(span)
    }

    fn try_close(&self, span: span::Id) -> bool {
        self.before.try_close(span)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;
    use crate::trace::Trace;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// All sources that run in the simulation, those of the marks left out.
    fn texts() -> Vec<String> {
        // Tests run in the folder of their package.
        let root = Path::new("..");
        let mut files = Vec::new();
        for crate_name in ["raft-store", "broker", "namesrv", "sim"] {
            sources(&root.join(crate_name).join("src"), &mut files);
        }
        let own = |file: &&PathBuf| file.ends_with("sim/src/marks.rs") || file.ends_with("sim/src/marks/all.rs");
        files
            .iter()
            .filter(|file| !own(file))
            .map(|file| fs::read_to_string(file).expect("a source"))
            .collect()
    }

    #[test]
    fn every_mark_is_listed_and_every_listed_mark_is_somewhere() {
        assert!(ALL.is_sorted_by(|one, other| one.0 < other.0), "by name, each once");
        assert!(ALL.len() >= 40);
        let texts = texts();
        for text in &texts {
            for (at, found) in text.match_indices("mark(\"") {
                let name = text[at + found.len()..].split('"').next().expect("a name");
                assert_eq!(listed(name), Some(name), "{name} is not listed");
            }
        }
        for (name, _) in ALL {
            let quoted = format!("\"{name}\"");
            assert!(texts.iter().any(|text| text.contains(&quoted)), "{name} is nowhere");
        }
    }

    #[test]
    fn marks_are_counted_while_the_work_runs() {
        let board = Board::new(1, Trace::open(None, false).expect("no file"));
        let mark = |name: &'static str| tracing::trace!(target: "ledgermq::mark", name);
        mark("segment_rolled");
        let answer = counted(&board, || {
            mark("segment_rolled");
            mark("segment_rolled");
            mark("nothing of the kind");
            tracing::error!("this is no mark");
            7
        });
        mark("segment_rolled");
        assert_eq!(answer, 7);
        assert_eq!(board.marks().into_iter().collect::<Vec<_>>(), [("segment_rolled", 2)]);
    }
}
