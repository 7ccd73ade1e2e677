//! The registry's calls: a broker's stream of reports, answered with the routes on each change and on a beat.

use std::sync::Arc;

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use ledgermq_proto::registry::{ListRoutesRequest, Report, Routes, registry_server};
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use crate::{
    limits,
    registry::{Registry, until},
    table::{ReportError, StreamId},
};

#[tonic::async_trait]
impl registry_server::Registry for Registry {
    type RegisterStream = BoxStream<'static, Result<Routes, Status>>;

    async fn register(&self, request: Request<Streaming<Report>>) -> Result<Response<Self::RegisterStream>, Status> {
        let registration = Registration::open(self.clone(), request.into_inner());
        let routes = stream::unfold(Some(registration), |registration| async move {
            let mut registration = registration?;
            match registration.next().await {
                Ok(Some(routes)) => Some((Ok(Routes::clone(&routes)), Some(registration))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(routes.boxed()))
    }

    async fn list_routes(&self, _: Request<ListRoutesRequest>) -> Result<Response<Routes>, Status> {
        Ok(Response::new(Routes::clone(&self.routes())))
    }
}

/// One open stream. Dropping it says so to the table.
struct Registration {
    registry: Registry,
    stream: StreamId,
    reports: Streaming<Report>,
    routes: watch::Receiver<Arc<Routes>>,
    ended: watch::Receiver<bool>,
    beat: Interval,
    heard: Instant,
    named: bool,
}

impl Registration {
    fn open(registry: Registry, reports: Streaming<Report>) -> Self {
        let mut routes = registry.subscribe();
        routes.mark_changed();
        let mut beat = interval(limits::ROUTES_BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        Self {
            stream: registry.next_stream(),
            ended: registry.ended(),
            heard: Instant::now(),
            named: false,
            registry,
            reports,
            routes,
            beat,
        }
    }

    /// The next routes to tell; None ends the stream.
    async fn next(&mut self) -> Result<Option<Arc<Routes>>, Status> {
        loop {
            tokio::select! {
                biased;
                () = until(&mut self.ended) => return Ok(None),
                report = self.reports.message() => match report {
                    Ok(Some(report)) => self.on_report(report)?,
                    Ok(None) | Err(_) => return Ok(None),
                },
                _ = sleep_until(self.heard + limits::REPORT_SILENCE_MAX) => {
                    return Err(Status::deadline_exceeded("no report in time"));
                }
                changed = self.routes.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                    self.beat.reset();
                    return Ok(Some(self.routes.borrow_and_update().clone()));
                }
                _ = self.beat.tick() => return Ok(Some(self.routes.borrow_and_update().clone())),
            }
        }
    }

    fn on_report(&mut self, report: Report) -> Result<(), Status> {
        self.heard = Instant::now();
        if !self.named {
            self.named = true;
            let (broker_group, replica) = (&report.broker_group, report.replica_id);
            info!(
                broker_group,
                replica,
                address = report.client_address,
                "replica registers"
            );
        }
        self.registry.report(self.stream, report).map_err(|error| {
            warn!(%error, "report refused");
            refusal(&error)
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.closed(self.stream);
    }
}

fn refusal(error: &ReportError) -> Status {
    match error {
        ReportError::Field { .. } => Status::invalid_argument(error.to_string()),
        ReportError::Full { .. } => Status::resource_exhausted(error.to_string()),
        ReportError::OlderStream { .. } => Status::aborted(error.to_string()),
        ReportError::OtherCluster { .. } => Status::failed_precondition(error.to_string()),
    }
}
