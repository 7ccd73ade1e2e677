//! Durations on the command line: `10s`, `500ms`, `2m`, `1h`; a bare number means seconds.

use crate::limits::DURATION_MAX;
use std::time::Duration;

/// Reads one duration; the error is a sentence for the user.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no duration, expected e.g. 10s or 500ms"))?;
    let seconds = match unit.trim() {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        other => return Err(format!("{other:?} is no unit of time, expected ms, s, m or h")),
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err(format!(
            "{text:?} is too long, at most {}h",
            DURATION_MAX.as_secs() / 3600
        )),
    }
}

/// The same, but not nothing.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err(format!("{text:?} is no time at all")),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_positive};
    use std::time::Duration;

    #[test]
    fn reads_the_usual_units() {
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse("7"), Ok(Duration::from_secs(7)));
        assert_eq!(parse("8760h").map(|year| year.as_secs()), Ok(31_536_000));
        assert!(parse("0s").is_ok() && parse_positive("0s").is_err() && parse_positive("1ms").is_ok());
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "s", "-1s", "10 parsecs", "1e9h", "99999999999999999999h", "8761h"] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }
}
