//! Committed means durable on a majority: at any moment the newest entry that a replica calls committed lies, synced, on the
//! disks of most voters. Looked up on the simulated disks, as a loss of power now would leave them.

use crate::witness::DiskLook;

/// `committed` is the newest committed entry that any replica of the broker group knows of, `voters` what lies on the
/// disk of each voter; `None` for one that can't be looked at, or lost something by a fault that destroys: it counts for
/// the entry.
pub fn check(committed: u64, voters: &[(String, Option<&DiskLook>)]) -> Option<String> {
    let holds = |look: &DiskLook| {
        let purged = look.purged.is_some_and(|(_, index)| index >= committed);
        purged || look.entries.contains_key(&committed)
    };
    let durable = voters.iter().filter(|(_, look)| look.is_none_or(holds)).count();
    if committed == 0 || durable > voters.len() / 2 {
        return None;
    }
    let lacking = voters.iter().filter(|(_, look)| !look.is_none_or(holds));
    let lacking: Vec<String> = lacking
        .map(|(name, look)| {
            let end = look.and_then(|look| look.entries.keys().next_back());
            format!("{name} ends at {end:?}")
        })
        .collect();
    Some(format!(
        "durable_quorum: entry {committed} is committed and durable on {durable} of {} voters: {}",
        voters.len(),
        lacking.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn look(last: u64) -> DiskLook {
        DiskLook {
            entries: (1..=last).map(|index| (index, (1, 0))).collect::<BTreeMap<_, _>>(),
            ..DiskLook::default()
        }
    }

    fn voters<'a>(looks: &[Option<&'a DiskLook>]) -> Vec<(String, Option<&'a DiskLook>)> {
        looks.iter().map(|look| ("a voter".to_owned(), *look)).collect()
    }

    #[test]
    fn a_minority_is_seen() {
        let (long, short) = (look(9), look(8));
        assert_eq!(check(9, &voters(&[Some(&long), Some(&long), Some(&short)])), None);
        assert_eq!(check(9, &voters(&[Some(&long), None, Some(&short)])), None);
        assert!(check(9, &voters(&[Some(&long), Some(&short), Some(&short)])).is_some());
        let purged = DiskLook {
            purged: Some((1, 12)),
            ..DiskLook::default()
        };
        assert_eq!(check(9, &voters(&[Some(&long), Some(&purged), Some(&short)])), None);
        assert!(check(9, &voters(&[Some(&short)])).is_some());
    }
}
