//! What a replica says of itself is in order: it applied no more than it knows committed and its log holds, but for the moment
//! until its core has said so, or an installed snapshot's log begins anew; nothing it says goes back while it runs; on its
//! disks purged <= let go <= durably applied <= durable end of the log.

use crate::witness::{DiskLook, Snapshot};

/// Longest time that what is applied may be ahead, seconds: an installed snapshot waits for a few syncs of a slow disk.
const AHEAD_MAX: f64 = 10.0;

/// Since when what a replica applied is beyond what it calls committed, or the end of its log; one that has nothing yet says
/// nothing.
pub fn ahead_since(before: Option<&Snapshot>, now: &Snapshot) -> Option<f64> {
    let bound = now.last.into_iter().chain(now.committed).min();
    let is_ahead = now.applied.zip(bound).is_some_and(|(applied, bound)| applied > bound);
    let before = before.filter(|before| before.boot == now.boot);
    is_ahead.then(|| before.and_then(|before| before.ahead_since).unwrap_or(now.at))
}

/// Compares a replica's word with its last one of the same start.
pub fn check(before: Option<&Snapshot>, now: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = &now.replica;
    let ahead = now.ahead_since.map_or(0.0, |since| now.at - since);
    if ahead > AHEAD_MAX {
        wrong.push(format!(
            "marks: {name} applied entry {:?}, committed is {:?} and the end of its log {:?}, for {ahead:.1} s",
            now.applied, now.committed, now.last
        ));
    }
    let Some(before) = before.filter(|before| before.boot == now.boot) else {
        return wrong;
    };
    let pairs = [
        ("term", before.term, now.term),
        ("applied", before.applied.unwrap_or(0), now.applied.unwrap_or(0)),
        ("committed", before.committed.unwrap_or(0), now.committed.unwrap_or(0)),
        ("cut", before.cut.unwrap_or(0), now.cut.or(before.cut).unwrap_or(0)),
    ];
    for (what, had, has) in pairs {
        if has < had {
            wrong.push(format!("marks: {name} went back from {what} {had} to {has}"));
        }
    }
    wrong
}

/// The order on a replica's disks.
pub fn check_disk(replica: &str, look: &DiskLook) -> Option<String> {
    let end = look.entries.keys().next_back().copied();
    let end = end.max(look.purged.map(|(_, index)| index)).unwrap_or(0);
    let purged = look.purged.map_or(0, |(_, index)| index);
    let (applied, cut) = look.state?;
    let ordered = purged <= applied && cut <= applied && applied <= end;
    (!ordered).then(|| {
        format!("marks: on the disks of {replica} purged {purged}, cut {cut}, applied {applied}, end of the log {end}")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn snapshot(term: u64, committed: u64, applied: u64) -> Snapshot {
        Snapshot {
            replica: "replica-1".to_owned(),
            term,
            last: Some(20),
            committed: Some(committed),
            applied: Some(applied),
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_goes_back_or_runs_ahead_is_seen() {
        let before = snapshot(3, 10, 9);
        assert!(check(Some(&before), &snapshot(3, 10, 10)).is_empty());
        assert_eq!(check(Some(&before), &snapshot(2, 10, 9)).len(), 1);
        assert_eq!(check(Some(&before), &snapshot(3, 10, 8)).len(), 1);
        let ahead = |at, ahead_since| Snapshot {
            at,
            ahead_since,
            ..snapshot(3, 30, 21)
        };
        assert_eq!(ahead_since(None, &snapshot(3, 10, 11)), Some(0.0));
        assert_eq!(ahead_since(None, &ahead(4.0, None)), Some(4.0));
        assert_eq!(ahead_since(Some(&ahead(4.0, Some(4.0))), &ahead(9.0, None)), Some(4.0));
        assert_eq!(ahead_since(Some(&ahead(4.0, Some(4.0))), &snapshot(3, 30, 20)), None);
        assert!(check(None, &ahead(9.0, Some(4.0))).is_empty());
        assert_eq!(check(None, &ahead(15.0, Some(4.0))).len(), 1);
        let restarted = Snapshot {
            boot: 1,
            ..snapshot(2, 4, 4)
        };
        assert!(check(Some(&before), &restarted).is_empty());
    }

    #[test]
    fn a_state_ahead_of_its_log_is_seen() {
        let look = |applied| DiskLook {
            purged: Some((1, 4)),
            entries: BTreeMap::from([(5, (1, 0)), (6, (1, 0))]),
            state: Some((applied, 3)),
            ..DiskLook::default()
        };
        assert_eq!(check_disk("r", &look(6)), None);
        assert!(check_disk("r", &look(7)).is_some());
        assert!(check_disk("r", &look(2)).is_some(), "purged beyond the state");
    }
}
