//! Where work that blocks on the disk runs: a bounded pool in production, inline in the simulation.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::limits;

/// The seam.
#[derive(Clone)]
pub enum Blocking {
    /// On the calling task: deterministic.
    Inline,
    /// On the runtime's blocking threads, at most so many at once.
    Pool(Arc<Semaphore>),
}

impl Blocking {
    /// The pool of production.
    pub fn pool() -> Self {
        Self::Pool(Arc::new(Semaphore::new(limits::BLOCKING_JOBS_MAX)))
    }

    /// Runs `work`; None when it panicked or the runtime ends.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        match self {
            Self::Inline => Some(work()),
            Self::Pool(permits) => {
                let permit = Arc::clone(permits).acquire_owned().await.ok()?;
                #[expect(clippy::disallowed_methods, reason = "this is the seam")]
                let job = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    work()
                });
                job.await.ok()
            }
        }
    }
}
