//! Where this replica stands with each of its name servers, for reports.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How it stands with one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// A stream is open and was answered.
    pub registered: bool,
    /// Why not; empty where it is, or was not tried yet.
    pub reason: String,
}

/// All name servers of the configuration, by address.
pub struct NameServers(Mutex<BTreeMap<String, Standing>>);

impl NameServers {
    /// None was tried yet.
    pub fn new(addresses: &[String]) -> Self {
        let untried = addresses.iter().map(|address| (address.clone(), Standing::default()));
        Self(Mutex::new(untried.collect()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name server answered.
    pub fn registered(&self, address: &str) {
        self.set(address, true, "");
    }

    /// A name server is lost, or not reached.
    pub fn lost(&self, address: &str, reason: &str) {
        self.set(address, false, reason);
    }

    fn set(&self, address: &str, registered: bool, reason: &str) {
        if let Some(standing) = self.lock().get_mut(address) {
            *standing = Standing {
                registered,
                reason: reason.to_owned(),
            };
        }
    }

    /// How it stands with each, by address.
    pub fn all(&self) -> Vec<(String, Standing)> {
        let all = self.lock();
        all.iter()
            .map(|(address, standing)| (address.clone(), standing.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_strangers_are_none_of_ours() {
        let servers = NameServers::new(&["a:1".to_owned(), "b:1".to_owned()]);
        servers.lost("a:1", "refused");
        servers.registered("b:1");
        servers.registered("c:1");
        let all = servers.all();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].1.registered, all[0].1.reason.as_str()), (false, "refused"));
        servers.lost("b:1", "silent");
        servers.registered("a:1");
        let all: Vec<bool> = servers.all().iter().map(|(_, standing)| standing.registered).collect();
        assert_eq!(all, [true, false]);
    }
}
