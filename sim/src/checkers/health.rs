//! Health agrees with the truth: no replica calls itself ready while its broker group has had no leader for long, and once
//! all is mended every replica is ready.

use std::collections::BTreeMap;

use crate::witness::Snapshot;

/// A broker probes once a second and gives up after two missed probes; this is well beyond, seconds.
const NOTICED_AFTER: f64 = 8.0;

/// When each broker group was last seen to have a serving leader.
#[derive(Debug, Default)]
pub struct Health {
    served: BTreeMap<String, f64>,
}

impl Health {
    /// A replica's word; what contradicts it.
    pub fn see(&mut self, now: &Snapshot) -> Option<String> {
        let served = self.served.entry(now.broker_group.clone()).or_insert(0.0);
        if now.serving {
            *served = now.at;
        }
        let since = now.at - *served;
        (now.ready && since > NOTICED_AFTER).then(|| {
            format!(
                "health: {} is ready at {:.3} s, and nobody has led {} for {since:.1} s",
                now.replica, now.at, now.broker_group
            )
        })
    }
}

/// Replicas that are not ready though all is mended.
pub fn not_ready<'a>(replicas: impl Iterator<Item = &'a Snapshot>) -> Option<String> {
    let unready: Vec<&str> = replicas
        .filter(|replica| !replica.ready)
        .map(|replica| replica.replica.as_str())
        .collect();
    (!unready.is_empty()).then(|| format!("{} not ready", unready.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_without_a_leader_is_seen() {
        let word = |at: f64, serving, ready| Snapshot {
            replica: "r".to_owned(),
            at,
            serving,
            ready,
            ..Snapshot::default()
        };
        let mut health = Health::default();
        assert_eq!(health.see(&word(1.0, true, true)), None);
        assert_eq!(health.see(&word(4.0, false, true)), None);
        assert_eq!(health.see(&word(20.0, false, false)), None);
        assert!(health.see(&word(20.0, false, true)).is_some());
        assert_eq!(health.see(&word(21.0, true, true)), None);
        assert_eq!(not_ready([word(1.0, true, true)].iter()), None);
        assert!(not_ready([word(1.0, true, false)].iter()).is_some());
    }
}
