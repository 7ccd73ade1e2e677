//! The name servers know who is alive: none calls a replica alive that fell silent long ago.

use std::collections::BTreeMap;

use super::routes::Told;
use crate::limits;

/// When each replica of each broker group was last seen running, seconds.
#[derive(Debug, Default)]
pub struct Living(BTreeMap<(String, u64), f64>);

impl Living {
    /// A replica runs.
    pub fn runs(&mut self, broker_group: &str, id: u64, at: f64) {
        match self.0.get_mut(&(broker_group.to_owned(), id)) {
            Some(last) => *last = at.max(*last),
            None => _ = self.0.insert((broker_group.to_owned(), id), at),
        }
    }

    /// What a name server tells at a time.
    pub fn see(&self, told: &Told, at: f64) -> Vec<String> {
        let gone = told.alive.iter().flatten().filter_map(|id| {
            let last = self.0.get(&(told.broker_group.clone(), *id))?;
            (last + limits::CALLED_ALIVE_MAX < at).then_some((id, last))
        });
        gone.map(|(id, last)| {
            format!(
                "living: {} calls replica {id} of {} alive at {at:.3} s, it last ran at {last:.3} s",
                told.by, told.broker_group
            )
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_dead_that_are_called_alive_are_seen() {
        let mut living = Living::default();
        living.runs("a", 1, 10.0);
        living.runs("a", 2, 10.0);
        living.runs("a", 2, 50.0);
        let told = |broker_group: &str, alive: &[u64]| Told {
            by: "namesrv".to_owned(),
            broker_group: broker_group.to_owned(),
            term: 1,
            leader: None,
            alive: Some(alive.iter().copied().collect()),
            topics: BTreeSet::new(),
        };
        assert_eq!(living.see(&told("a", &[1, 2]), 12.0).len(), 0, "not long ago");
        assert_eq!(living.see(&told("a", &[1, 2]), 50.0).len(), 1);
        assert_eq!(living.see(&told("a", &[2]), 50.0).len(), 0);
        assert_eq!(living.see(&told("b", &[1]), 50.0).len(), 0, "another broker group");
    }
}
