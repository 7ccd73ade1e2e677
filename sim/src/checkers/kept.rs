//! Where retention has no bound in bytes, and no run is as long as its age, nothing is ever forgotten.

use crate::witness::Snapshot;

/// A replica's word, where all must be kept.
pub fn check(keeps_all: bool, now: &Snapshot) -> Option<String> {
    let cut = now.cut.filter(|cut| keeps_all && *cut > 0)?;
    Some(format!(
        "kept: {} has forgotten the messages of entries up to {cut}, retention has no bound",
        now.replica
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_kept_is_missed() {
        let told = |cut| Snapshot {
            replica: "replica-1".to_owned(),
            cut,
            ..Snapshot::default()
        };
        assert_eq!(check(true, &told(None)), None);
        assert_eq!(check(true, &told(Some(0))), None);
        assert!(check(true, &told(Some(7))).is_some());
        assert_eq!(check(false, &told(Some(7))), None);
    }
}
