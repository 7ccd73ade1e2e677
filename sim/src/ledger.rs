//! The seed ledger: which seeds were run, on which commit, what they found, and what became of that.
//!
//! One line of JSON a soak and profile, appended by `soak --ledger FILE`; `fate` is written by people:
//!
//! ```json
//! {"date":"2026-11-24","commit":"9c3779d","profile":"quick","first_seed":1,"last_seed":400,"seeds":400,"simulated_seconds":9200,"violations":[{"seed":17,"what":"…","fate":"fixed in 5d1c2e0"}]}
//! ```

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{files, run::Profile};

/// The fate of a violation that nobody has looked at.
pub const OPEN: &str = "open";

/// The seeds of one profile in one soak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Day of the soak's begin, UTC: `2026-11-24`.
    pub date: String,
    /// What was run; `-changed` behind it when the work tree had changes.
    pub commit: String,
    /// What was run.
    pub profile: Profile,
    /// The flags that made these other runs than those that seed and profile stand for, as `--seconds 8 --few-clients`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub options: String,
    /// The first seed.
    pub first_seed: u64,
    /// The last seed that was run to its end.
    pub last_seed: u64,
    /// Seeds run.
    pub seeds: u64,
    /// Simulated seconds of all of them.
    pub simulated_seconds: u64,
    /// What was found.
    pub violations: Vec<Found>,
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// The first violation.
    pub what: String,
    /// [`OPEN`], or what became of it.
    pub fate: String,
}

/// All lines of a ledger; a file that is not there is an empty one.
pub fn read(file: &Path) -> io::Result<Vec<Line>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|error| files::named(file, error))?,
    };
    let wrong = |nth: usize, error: serde_json::Error| {
        let what = format!("{}, line {}: {error}", file.display(), nth + 1);
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(nth, line)| serde_json::from_str(line).map_err(|error| wrong(nth, error)))
        .collect()
}

/// Appends lines.
pub fn append(file: &Path, lines: &[Line]) -> io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    if let Some(folder) = file.parent() {
        files::create_folder(folder)?;
    }
    let write = || {
        let mut opened = OpenOptions::new().create(true).append(true).open(file)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_all()
    };
    write().map_err(|error| files::named(file, error))
}

/// The first seed above all that `profile` has run with these flags.
pub fn next_seed(lines: &[Line], profile: Profile, options: &str) -> u64 {
    let same = |line: &&Line| line.profile == profile && line.options == options;
    let last = lines.iter().filter(same);
    last.map(|line| line.last_seed.saturating_add(1)).max().unwrap_or(1)
}

/// The day of a unix time, UTC: `2026-11-24`.
pub fn day(unix_seconds: u64) -> String {
    // Days since 0000-03-01, then eras of 400 years, as the civil calendar has them.
    let days = unix_seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (unix_seconds, day_then) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_599, "2025-12-31"),
            (1_767_225_600, "2026-01-01"),
        ] {
            assert_eq!(day(unix_seconds), day_then);
        }
    }

    #[test]
    fn a_ledger_grows_and_a_broken_line_is_named() {
        let file = std::env::temp_dir().join(format!("ledgermq-sim-ledger-{}", std::process::id()));
        assert_eq!(read(&file).expect("empty"), []);
        let line = |profile, first_seed, last_seed| Line {
            date: day(0),
            commit: "9c3779d".to_owned(),
            profile,
            options: if first_seed == 5 { "--few-clients" } else { "" }.to_owned(),
            first_seed,
            last_seed,
            seeds: last_seed - first_seed + 1,
            simulated_seconds: 60,
            violations: vec![Found {
                seed: last_seed,
                what: "lost \"it\"".to_owned(),
                fate: OPEN.to_owned(),
            }],
        };
        let (one, two) = (line(Profile::Log, 1, 10), line(Profile::Quick, 5, 7));
        append(&file, std::slice::from_ref(&one)).expect("appended");
        append(&file, std::slice::from_ref(&two)).expect("appended");
        let lines = read(&file).expect("read");
        assert_eq!(lines, [one, two]);
        assert_eq!(next_seed(&lines, Profile::Log, ""), 11);
        assert_eq!(next_seed(&lines, Profile::Quick, "--few-clients"), 8);
        assert_eq!(next_seed(&lines, Profile::Quick, ""), 1);
        fs::write(&file, "\n{}\n").expect("written");
        let error = read(&file).expect_err("broken").to_string();
        assert!(error.contains("line 2"), "{error}");
        fs::remove_file(file).expect("removed");
    }
}
