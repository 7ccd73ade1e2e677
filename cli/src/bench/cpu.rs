//! Processor time of processes, read from /proc (Linux).

use crate::failure::{Failure, Kind};
use std::collections::BTreeSet;
use std::path::Path;

/// The unit of utime and stime in /proc/PID/stat: fixed for user space on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time (user and system, all threads) that these processes have used so far.
pub fn seconds(pids: &BTreeSet<u32>) -> Result<f64, Failure> {
    let mut ticks = 0;
    for pid in pids {
        let file = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&file).map_err(|error| Failure::local(&file, error))?;
        ticks += ticks_of(&text).ok_or_else(|| Failure::new(Kind::Local, format!("{file}: not understood")))?;
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// utime + stime: the 14th and 15th field. The second is the program's name in parentheses, which may hold spaces.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The pids in what `ledgermq dev` printed: `replica <broker group>/<id> pid <pid> …`.
pub fn pids_in_dev_lines(file: &Path) -> Result<BTreeSet<u32>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::local(file.display(), error))?;
    let replica_lines = text.lines().filter_map(|line| line.strip_prefix("replica "));
    let pids: BTreeSet<u32> = replica_lines
        .filter_map(|line| {
            line.split_whitespace()
                .skip_while(|word| *word != "pid")
                .nth(1)?
                .parse()
                .ok()
        })
        .collect();
    if pids.is_empty() {
        return Err(Failure::new(
            Kind::Refused,
            format!("{}: no line of `ledgermq dev` in it", file.display()),
        ));
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::{pids_in_dev_lines, seconds, ticks_of};
    use std::collections::BTreeSet;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_passed_over() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(ticks_of(stat), Some(300));
    }

    #[test]
    fn this_process_has_used_some_time() {
        assert!(seconds(&BTreeSet::from([std::process::id()])).expect("/proc") >= 0.0);
        assert!(seconds(&BTreeSet::from([u32::MAX])).is_err());
    }

    #[test]
    fn pids_come_from_the_lines_of_dev() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("dev.out");
        std::fs::write(
            &file,
            "replica broker-a/1 pid 12 access-point a:1 config c\nready a:1\n",
        )
        .expect("written");
        assert_eq!(pids_in_dev_lines(&file).expect("found"), BTreeSet::from([12]));
        std::fs::write(&file, "ready a:1\n").expect("written");
        assert!(pids_in_dev_lines(&file).is_err());
    }
}
