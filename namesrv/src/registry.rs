//! The table, shared by the streams, and the newest routes that it tells.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use ledgermq_proto::registry::{Report, Routes};
use tokio::{sync::watch, time::Instant};

use crate::{
    Planted, limits,
    table::{ReportError, StreamId, Table},
};

/// A cheap handle; all clones share one table.
#[derive(Clone)]
pub(crate) struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    routes: watch::Sender<Arc<Routes>>,
    ended: watch::Sender<bool>,
    streams: AtomicU64,
}

impl Registry {
    pub(crate) fn new(planted: Planted) -> Self {
        let shared = Shared {
            table: Mutex::new(Table::new(planted)),
            routes: watch::Sender::new(Arc::default()),
            ended: watch::Sender::new(false),
            streams: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A number for a new registration stream.
    pub(crate) fn next_stream(&self) -> StreamId {
        StreamId(self.shared.streams.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn report(&self, stream: StreamId, report: Report) -> Result<(), ReportError> {
        let mut table = self.table();
        if table.on_report(stream, report, Instant::now())? {
            self.tell(&table);
        }
        Ok(())
    }

    pub(crate) fn closed(&self, stream: StreamId) {
        let mut table = self.table();
        if table.on_closed(stream) {
            self.tell(&table);
        }
    }

    /// The newest routes.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        self.shared.routes.borrow().clone()
    }

    /// The routes from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Routes>> {
        self.shared.routes.subscribe()
    }

    /// True once the name server ends: open streams end then.
    pub(crate) fn ended(&self) -> watch::Receiver<bool> {
        self.shared.ended.subscribe()
    }

    pub(crate) fn end(&self) {
        self.shared.ended.send_replace(true);
    }

    /// Lets time pass in the table, until dropped.
    pub(crate) async fn run(self) {
        let mut beat = tokio::time::interval(limits::ROUTES_BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = beat.tick().await;
            let mut table = self.table();
            if table.on_tick(now) {
                self.tell(&table);
            }
        }
    }

    /// Under the table's lock, so that older routes never replace newer ones.
    fn tell(&self, table: &MutexGuard<'_, Table>) {
        self.shared.routes.send_replace(Arc::new(table.routes()));
    }

    /// The table refuses before it changes anything, so it is whole even if a holder of the lock panicked.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Completes once the name server ends.
pub(crate) async fn until(ended: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the end as well.
    let _ = ended.wait_for(|ended| *ended).await;
}
