//! Rules of ReceiveMessage and ChangeInvisibleDuration (grpc.md B.0, B.5, B.7).

use std::time::Duration;

use ledgermq_proto::rocketmq::{Code, FilterExpression, FilterType, ReceiveMessageRequest};
use tokio::time::Instant;

use crate::call;
use crate::limits;
use crate::refusal::Refusal;
use crate::state::plan::Filter;

/// The tags a consumer wants; empty means all messages.
pub type Tags = Vec<String>;

/// Reads a filter expression. SQL is not there yet.
pub fn filter(expression: Option<&FilterExpression>) -> Result<Tags, Refusal> {
    let Some(expression) = expression else {
        return Ok(Tags::new());
    };
    let text = expression.expression.trim();
    if expression.r#type == FilterType::Sql as i32 {
        if text.is_empty() {
            return Err(Refusal::new(
                Code::IllegalFilterExpression,
                "the SQL expression is empty",
            ));
        }
        return Err(Refusal::not_implemented("a SQL filter"));
    }
    if expression.r#type != FilterType::Tag as i32 && expression.r#type != FilterType::Unspecified as i32 {
        let text = format!("unknown filter type {}", expression.r#type);
        return Err(Refusal::new(Code::IllegalFilterExpression, text));
    }
    if text.is_empty() || text == "*" {
        return Ok(Tags::new());
    }
    let tags: Tags = text
        .split("||")
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned)
        .collect();
    if tags.is_empty() {
        return Err(Refusal::new(
            Code::IllegalFilterExpression,
            format!("the expression {text:?} names no tag"),
        ));
    }
    Ok(tags)
}

/// The plan's filter for these tags.
pub fn plan_filter(tags: &Tags) -> Filter {
    if tags.is_empty() {
        Filter::All
    } else {
        Filter::tags(tags.iter().map(String::as_str))
    }
}

/// How long the received messages stay invisible, in milliseconds.
pub fn invisible_ms(request: &ReceiveMessageRequest) -> Result<u64, Refusal> {
    if request.auto_renew {
        return Ok(limits::AUTO_RENEW_INVISIBLE_MS);
    }
    let asked = request
        .invisible_duration
        .as_ref()
        .map(milliseconds)
        .unwrap_or_default();
    bounded(asked, limits::INVISIBLE_MS_MIN)
}

/// When a message becomes visible again by ChangeInvisibleDuration, in milliseconds; 0 = at once.
pub fn changed_invisible_ms(duration: Option<&prost_types::Duration>) -> Result<u64, Refusal> {
    bounded(duration.map(milliseconds).unwrap_or_default(), 0)
}

fn bounded(asked: i64, low: u64) -> Result<u64, Refusal> {
    match u64::try_from(asked) {
        Ok(ms) if (low..=limits::INVISIBLE_MS_MAX).contains(&ms) => Ok(ms),
        _ => {
            let high = limits::INVISIBLE_MS_MAX;
            let text = format!("the invisible duration is {asked} ms, it must be {low} to {high} ms");
            Err(Refusal::new(Code::IllegalInvisibleTime, text))
        }
    }
}

/// Until when a poll may wait (grpc.md B.5): the asked time within 5 to 20 s, less when the client's deadline is near.
pub fn poll_until(
    asked: Option<&prost_types::Duration>,
    client_deadline: Option<Instant>,
    client_version: &str,
    now: Instant,
) -> Result<Instant, Refusal> {
    let left = client_deadline.map(|deadline| deadline.saturating_duration_since(now));
    let asked = match (asked, left) {
        (Some(asked), _) => Duration::from_millis(u64::try_from(milliseconds(asked)).unwrap_or_default()),
        (None, Some(left)) => left.saturating_sub(Duration::from_millis(1500)),
        (None, None) => limits::POLLING_MAX,
    };
    let polling = asked.clamp(limits::POLLING_MIN, limits::POLLING_MAX);
    let (Some(deadline), Some(left)) = (client_deadline, left) else {
        return Ok(now + polling);
    };
    if polling > left && left < limits::POLLING_MIN {
        let code = if at_least_5_0_3(client_version) {
            Code::IllegalPollingTime
        } else {
            Code::BadRequest
        };
        let text = format!("the deadline leaves {} ms for a poll of at least 5 s", left.as_millis());
        return Err(Refusal::new(code, text));
    }
    Ok((now + polling).min(call::before(deadline, now)))
}

fn at_least_5_0_3(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    match (
        numbers.next().flatten(),
        numbers.next().flatten(),
        numbers.next().flatten(),
    ) {
        (Some(major), minor, patch) => (major, minor.unwrap_or(0), patch.unwrap_or(0)) >= (5, 0, 3),
        _ => false,
    }
}

/// A protobuf duration in milliseconds.
pub fn milliseconds(duration: &prost_types::Duration) -> i64 {
    duration
        .seconds
        .saturating_mul(1000)
        .saturating_add(i64::from(duration.nanos) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn expression(r#type: FilterType, text: &str) -> Option<FilterExpression> {
        Some(FilterExpression {
            r#type: r#type as i32,
            expression: text.into(),
        })
    }

    #[test]
    fn filters() {
        for all in [
            None,
            expression(FilterType::Tag, ""),
            expression(FilterType::Unspecified, " * "),
        ] {
            assert_eq!(filter(all.as_ref()), Ok(vec![]));
        }
        assert_eq!(
            filter(expression(FilterType::Tag, " a || b").as_ref()),
            Ok(vec!["a".into(), "b".into()])
        );
        for (bad, code) in [
            (expression(FilterType::Tag, "||"), Code::IllegalFilterExpression),
            (expression(FilterType::Sql, " "), Code::IllegalFilterExpression),
            (expression(FilterType::Sql, "a > 1"), Code::NotImplemented),
        ] {
            assert_eq!(filter(bad.as_ref()).expect_err("bad").code, code);
        }
    }

    #[test]
    fn invisible_times() {
        let receive = |invisible_duration, auto_renew| {
            invisible_ms(&ReceiveMessageRequest {
                invisible_duration,
                auto_renew,
                ..Default::default()
            })
        };
        assert_eq!(receive(seconds(10), false), Ok(10_000));
        assert_eq!(receive(seconds(1), true), Ok(60_000));
        for bad in [None, seconds(9), seconds(43_201), seconds(-1)] {
            assert_eq!(receive(bad, false).expect_err("bad").code, Code::IllegalInvisibleTime);
        }
        assert_eq!(changed_invisible_ms(seconds(0).as_ref()), Ok(0));
        for bad in [seconds(-1), seconds(43_201)] {
            assert_eq!(
                changed_invisible_ms(bad.as_ref()).expect_err("bad").code,
                Code::IllegalInvisibleTime
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn polling_times() {
        let now = Instant::now();
        let at = |ms| Some(now + Duration::from_millis(ms));
        let until = |asked: Option<prost_types::Duration>, deadline, version| {
            poll_until(asked.as_ref(), deadline, version, now).map(|at| (at - now).as_millis())
        };
        assert_eq!(until(seconds(30), None, ""), Ok(20_000));
        assert_eq!(until(seconds(1), at(10_000), ""), Ok(5_000));
        assert_eq!(until(seconds(20), at(10_000), ""), Ok(9_700));
        assert_eq!(until(None, at(9_500), ""), Ok(8_000));
        assert_eq!(
            until(seconds(20), at(4_000), "5.1.2").expect_err("short").code,
            Code::IllegalPollingTime
        );
        assert_eq!(
            until(seconds(20), at(4_000), "5.0.2").expect_err("short").code,
            Code::BadRequest
        );
        assert_eq!(
            until(seconds(20), at(4_000), "").expect_err("short").code,
            Code::BadRequest
        );
    }
}
