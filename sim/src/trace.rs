//! The trace of a run: every event of interest, in order, with its simulated time, and a rolling hash over all of it.
//!
//! ```text
//!   17 2.104000 replica-2 role term=3 leader serving
//!   #hash 1000 8f0a1b…            every 1,000 events: where two runs part can be bisected
//!   #end 48211 5c77e2…            last line
//! ```
//! Two runs of one seed must write the same bytes. Nothing enters a trace that comes from outside the simulation (real
//! time, addresses in memory, the order of a hash map).

use std::{
    collections::VecDeque,
    fmt::Display,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{files, limits};

/// Who tells what the seed drew of the world and its configuration.
pub const OPTIONS: &str = "options";

/// Handle to the trace of a run; clones write to the same trace.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    file: Option<BufWriter<File>>,
    events: u64,
    hash: u64,
    last: VecDeque<String>,
    drawn: Vec<String>,
    /// Simulated time of the harness, used when no host is running.
    now: Duration,
    /// Print what the story tells, as it happens.
    tell: bool,
}

impl Trace {
    /// A trace that is kept as a hash and a tail only, or also written to `file`. With `tell`, the story is printed.
    pub fn open(file: Option<&Path>, tell: bool) -> io::Result<Trace> {
        let file = file.map(files::create).transpose()?.map(BufWriter::new);
        let inner = Inner {
            file,
            events: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            last: VecDeque::new(),
            drawn: Vec::new(),
            now: Duration::ZERO,
            tell,
        };
        Ok(Trace(Arc::new(Mutex::new(inner))))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the trace what time it is outside of all hosts.
    pub fn set_now(&self, now: Duration) {
        self.inner().now = now;
    }

    /// Simulated time since the start of the run.
    pub fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_else(|| self.inner().now)
    }

    /// Records an event of `who`.
    pub fn event(&self, who: &str, what: impl Display) {
        let now = self.now();
        self.inner().write(now, who, &what.to_string());
    }

    /// Records an event that belongs to the story told to the reader as well: a fault, an election, a verdict.
    pub fn tell(&self, who: &str, what: impl Display) {
        let now = self.now();
        let what = what.to_string();
        let mut inner = self.inner();
        inner.write(now, who, &what);
        if who == OPTIONS && inner.drawn.len() < limits::DRAWN_LINES_MAX {
            inner.drawn.push(what.clone());
        }
        if inner.tell {
            println!("[{:>8.3} s] {who:<10} {what}", now.as_secs_f64());
        }
    }

    /// What the seed drew of the world: the story told by `options`.
    pub fn drawn(&self) -> Vec<String> {
        self.inner().drawn.clone()
    }

    /// Ends the trace: writes the last line and flushes. Returns the number of events and the hash over all of them.
    pub fn finish(&self) -> io::Result<(u64, u64)> {
        let mut inner = self.inner();
        let (events, hash) = (inner.events, inner.hash);
        if let Some(mut file) = inner.file.take() {
            writeln!(file, "#end {events} {hash:016x}")?;
            file.flush()?;
        }
        Ok((events, hash))
    }

    /// The last events, oldest first.
    pub fn tail(&self) -> Vec<String> {
        self.inner().last.iter().cloned().collect()
    }
}

impl Inner {
    fn write(&mut self, now: Duration, who: &str, what: &str) {
        self.events += 1;
        let line = format!("{} {:.6} {who} {what}", self.events, now.as_secs_f64());
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let (events, hash) = (self.events, self.hash);
        if let Some(file) = &mut self.file {
            // A trace that cannot be written shows at `finish` and in the comparison of two traces.
            let _ = writeln!(file, "{line}");
            if events.is_multiple_of(limits::TRACE_HASH_EVERY) {
                let _ = writeln!(file, "#hash {events} {hash:016x}");
            }
        }
        if self.last.len() == limits::TRACE_TAIL {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}
