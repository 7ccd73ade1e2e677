//! How a run of the whole broker is judged: what must have come about once all is mended, and the checkers over its
//! history.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    chaos::{Chaos, Stage},
    checkers,
    history::History,
    marks::lapsed,
    run::Scene,
    witness::Witness,
};

/// Sends acknowledged after the healing that count as progress.
const PROGRESS: usize = 20;

/// The judge of profiles with the whole broker.
pub struct Judge {
    /// What clients did.
    pub history: History,
    /// What was seen of the replicas.
    pub witness: Witness,
    /// Tells the clients to begin nothing new.
    pub quiet: Arc<AtomicBool>,
}

impl Scene for Judge {
    fn step(&mut self, now_ms: u64, _stage: &mut Stage<'_>, _chaos: &mut Chaos) {
        self.witness.step(now_ms);
    }

    fn healed(&mut self, _stage: &mut Stage<'_>, _chaos: &mut Chaos) {
        self.history.healed();
    }

    fn missing(&self) -> Option<String> {
        let acked = self.history.acked_since_healed();
        if acked < PROGRESS {
            return Some(format!("{acked} sends acknowledged since all faults healed"));
        }
        self.quiet.store(true, Ordering::Relaxed);
        if let Some((count, first)) = self.history.backlog() {
            return Some(format!("{count} messages not consumed, {first} among them"));
        }
        self.witness.unsettled().or_else(|| self.witness.audit())
    }

    fn judge(&self) -> Vec<String> {
        let events = self.history.events();
        let mut wrong = checkers::of_clients(&events);
        wrong.extend(checkers::did_nothing(&events));
        let board = self.witness.board();
        for _ in 0..lapsed::over_elections(&events, &board.elections()) {
            board.mark("lease_expired_across_election");
        }
        wrong
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut counts = checkers::counts(&self.history.events());
        counts.extend(self.witness.counts());
        counts
    }

    fn history(&self) -> Option<String> {
        Some(self.history.lines())
    }
}
