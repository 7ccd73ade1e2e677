//! What a replica stands on: disk and clock.

use ledgermq_proto::admin::HealthDisk;

use crate::doctor::finding::{Finding, Severity, bytes};
use crate::doctor::survey::{BrokerGroup, Report};

/// From so much used on an operator is told, in percent.
const FILLING_PERCENT: u64 = 75;
/// From so much used on he must act.
const NEARLY_FULL_PERCENT: u64 = 85;
/// A sync of the log that takes longer than this is slow.
const SLOW_FSYNC_US: u64 = 100_000;
/// Fewer syncs within a minute say nothing.
const FSYNCS_MIN: u64 = 20;
/// A clock may be so far off the median.
const CLOCK_OFF_MS: u64 = 1_000;

pub(super) fn judge(group: &BrokerGroup, found: &mut Vec<Finding>) {
    for report in group.seats.iter().filter_map(|seat| seat.report) {
        let id = report.replica;
        found.extend(disk(report).map(|it| it.at(id)));
        found.extend(refusal(report).map(|it| it.at(id)));
        found.extend(fsync(report).map(|it| it.at(id)));
        found.extend(clock(report).map(|it| it.at(id)));
    }
}

/// How much is used, in percent, rounded up as the broker does.
fn used_percent(disk: &HealthDisk) -> u64 {
    let used = disk.total_bytes.saturating_sub(disk.free_bytes);
    match disk.total_bytes {
        0 => 100,
        total => u64::try_from((u128::from(used) * 100).div_ceil(u128::from(total))).unwrap_or(100),
    }
}

fn disk(report: &Report) -> Option<Finding> {
    let id = report.replica;
    let Some(disk) = &report.disk else {
        let cause = format!("replica {id} cannot read how much room its data folder has");
        let finding = Finding::new(Severity::Warning, "disk-unknown", cause);
        return Some(finding.next("its log says why"));
    };
    let percent = used_percent(disk);
    let state = format!(
        "the disk of replica {id} is used to {percent} %, {} of {} are free",
        bytes(disk.free_bytes),
        bytes(disk.total_bytes)
    );
    let next = "make room or give it a larger disk; retention_bytes and retention_hours bound what its log keeps";
    let finding = if disk.full {
        let cause = format!(
            "{state}: full by disk_full_percent = {}; it does not lead while another with room can, and a write that fails stops it for good",
            disk.full_percent
        );
        Finding::new(Severity::Critical, "disk-full", cause)
    } else if percent >= NEARLY_FULL_PERCENT {
        Finding::new(Severity::Critical, "disk-nearly-full", state)
    } else if percent >= FILLING_PERCENT {
        Finding::new(Severity::Warning, "disk-filling", state)
    } else {
        return None;
    };
    Some(finding.next(next))
}

fn refusal(report: &Report) -> Option<Finding> {
    if report.sends_refused.is_empty() {
        return None;
    }
    let cause = format!("sends answer TOO_MANY_REQUESTS: {}", report.sends_refused);
    let finding = Finding::new(Severity::Critical, "sends-refused", cause);
    Some(finding.next(
        "make room on the full disks or bring the missing replicas back; receives and acknowledgements go on meanwhile",
    ))
}

fn fsync(report: &Report) -> Option<Finding> {
    if report.fsyncs < FSYNCS_MIN || report.fsync_p99_us <= SLOW_FSYNC_US {
        return None;
    }
    let most = match report.fsync_p99_us {
        u64::MAX => "more than 5 s".to_owned(),
        us => format!("up to {} ms", us / 1_000),
    };
    let cause = format!(
        "the disk of replica {} is slow: of {} syncs within a minute, one in a hundred took {most}",
        report.replica, report.fsyncs
    );
    let finding = Finding::new(Severity::Warning, "slow-fsync", cause);
    Some(finding.next("look what else writes to that disk; sends wait for the faster half of the voters only"))
}

fn clock(report: &Report) -> Option<Finding> {
    let offset = report.clock_offset_ms?;
    if offset.unsigned_abs() <= CLOCK_OFF_MS {
        return None;
    }
    let cause = format!(
        "the clock of replica {} is {:.1} s {} the median of the broker group",
        report.replica,
        offset.unsigned_abs() as f64 / 1_000.0,
        if offset > 0 { "ahead of" } else { "behind" }
    );
    let finding = Finding::new(Severity::Warning, "clock-off", cause);
    Some(
        finding.next(
            "set it right and keep it so (NTP); the cluster goes by the median, so one wrong clock moves nothing",
        ),
    )
}
