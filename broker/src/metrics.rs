//! What Prometheus sees: the counters of the verbs, and gauges read from log and state when asked. Served as text on a
//! port of its own.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ledgermq_proto::net::Listener;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::counters::{Build, Consumption};
use crate::leader::Leader;
use crate::limits;
use crate::state::level::VERSION;

/// The text of all metrics.
pub fn text(leader: &Leader) -> Result<String, std::fmt::Error> {
    let status = leader.handle.status();
    let mut registry = Registry::default();
    let metrics = &leader.metrics;
    // The encoder adds _total to counters.
    registry.register(
        "rocketmq_messages_in",
        "Messages stored, duplicates included",
        metrics.messages_in.clone(),
    );
    registry.register(
        "rocketmq_messages_out",
        "Messages handed out",
        metrics.messages_out.clone(),
    );
    let lag: Family<Consumption, Gauge> = Family::default();
    for (consumer_group, topic, messages) in leader.view.lags().into_iter().take(limits::LAG_SERIES_MAX) {
        let labels = Consumption { topic, consumer_group };
        lag.get_or_create(&labels)
            .set(i64::try_from(messages).unwrap_or(i64::MAX));
    }
    registry.register("rocketmq_consumer_lag_messages", "Messages not done", lag);
    let index = |id: Option<ledgermq_raft_store::EntryId>| id.map_or(0, |id| id.index.get());
    let (committed, applied) = (index(status.committed), index(status.applied));
    let disk = leader.room.own();
    let space = disk.map_or_else(Default::default, |disk| disk.space);
    let gauges: [(&str, &str, u64); 12] = [
        ("ledgermq_term", "Term of the broker group", status.term.get()),
        (
            "ledgermq_leader",
            "1 where this replica leads and serves",
            u64::from(leader.role().serving),
        ),
        ("ledgermq_last_index", "Last entry in the log", index(status.last)),
        ("ledgermq_commit_index", "Last entry known committed", committed),
        ("ledgermq_apply_index", "Last entry applied", applied),
        (
            "ledgermq_apply_lag",
            "Entries committed and not applied",
            committed.saturating_sub(applied),
        ),
        (
            "ledgermq_clients",
            "Clients heard within two minutes",
            leader.clients.count() as u64,
        ),
        (
            "ledgermq_poisoned",
            "1 when the log or the core stopped for good",
            u64::from(status.poisoned.is_some()),
        ),
        (
            "ledgermq_disk_total_bytes",
            "Size of the file system of the data folder; 0 while unknown",
            space.total_bytes,
        ),
        (
            "ledgermq_disk_free_bytes",
            "Free bytes of the file system of the data folder",
            space.free_bytes,
        ),
        (
            "ledgermq_disk_full",
            "1 where the disk takes no new messages",
            u64::from(disk.is_some_and(|disk| disk.full)),
        ),
        (
            "ledgermq_sends_refused",
            "1 where this replica leads and refuses sends for want of room",
            u64::from(leader.room.sends_refused().is_some()),
        ),
    ];
    for (name, help, value) in gauges {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    let clock: Gauge = Gauge::default();
    clock.set(status.clock_offset_ms.unwrap_or(0));
    registry.register(
        "ledgermq_clock_offset_ms",
        "Milliseconds by which the wall clock is ahead of the median of the replicas",
        clock,
    );
    let build: Family<Build, Gauge> = Family::default();
    let labels = Build {
        version: VERSION.to_owned(),
        format_level: leader.view.format_level(),
    };
    build.get_or_create(&labels).set(1);
    registry.register("ledgermq_build_info", "Version of the program and its formats", build);
    let elections: Counter = Counter::default();
    elections.inc_by(status.elections);
    registry.register("ledgermq_elections", "New leaders seen since the start", elections);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    let end = text.trim_end().trim_end_matches("# EOF").len();
    text.truncate(end);
    fsync(&mut text, leader)?;
    text.push_str("# EOF\n");
    Ok(text)
}

/// The log's own histogram, in seconds as Prometheus wants.
fn fsync(text: &mut String, leader: &Leader) -> std::fmt::Result {
    writeln!(text, "# HELP ledgermq_fsync_seconds Time of one fdatasync of the log.")?;
    writeln!(text, "# TYPE ledgermq_fsync_seconds histogram")?;
    let mut count = 0;
    let log = leader.handle.log();
    for (upto_us, in_bucket) in log.fsync_histogram() {
        count += in_bucket;
        if upto_us < u64::MAX {
            let upto = upto_us as f64 / 1e6;
            writeln!(text, "ledgermq_fsync_seconds_bucket{{le=\"{upto}\"}} {count}")?;
        }
    }
    writeln!(text, "ledgermq_fsync_seconds_bucket{{le=\"+Inf\"}} {count}")?;
    writeln!(text, "ledgermq_fsync_seconds_sum {}", log.fsync_us() as f64 / 1e6)?;
    writeln!(text, "ledgermq_fsync_seconds_count {count}")
}

/// Answers GET /metrics until dropped.
pub async fn serve(mut listener: Box<dyn Listener>, leader: Arc<Leader>) {
    let open = Arc::new(Semaphore::new(limits::METRICS_CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(limits::ACCEPT_ERROR_PAUSE).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&open).try_acquire_owned() else {
            continue;
        };
        let leader = Arc::clone(&leader);
        tokio::spawn(async move {
            let _permit = permit;
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let leader = Arc::clone(&leader);
                async move { Ok::<_, Infallible>(answer(&request, &leader)) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            let connection = builder
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // A scraper that hangs or breaks off needs no word.
            let _ended = tokio::time::timeout(limits::FIRST_BYTES_TIMEOUT, connection).await;
        });
    }
}

fn answer(request: &Request<Incoming>, leader: &Leader) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics" | "/") => match text(leader) {
            Ok(text) => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                response
                    .headers_mut()
                    .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
                *response.body_mut() = Full::from(text);
            }
            Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        },
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}
