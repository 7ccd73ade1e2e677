//! Which clients were heard of, by this process alone: soft state, bounded, forgotten after 120 s of silence. A client
//! that is unknown here is served all the same.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::time::Instant;

use crate::limits;
use crate::state::identity::client_hash;

/// The registry.
#[derive(Default)]
pub struct Clients {
    /// When each client was last heard, by the hash that leases keep of its id.
    heard: Mutex<BTreeMap<u64, Instant>>,
}

impl Clients {
    /// A client was heard. When too many are remembered, those beyond their expiry go first; if none is, it is not kept.
    pub fn heard(&self, client_id: &str) {
        let now = Instant::now();
        let mut heard = self.lock();
        if heard.len() >= limits::CLIENTS_MAX {
            heard.retain(|_, at| now.saturating_duration_since(*at) < limits::CLIENT_EXPIRY);
        }
        let client = client_hash(client_id);
        if heard.len() < limits::CLIENTS_MAX || heard.contains_key(&client) {
            heard.insert(client, now);
        }
    }

    /// A client said that it goes away.
    pub fn gone(&self, client_id: &str) {
        self.lock().remove(&client_hash(client_id));
    }

    /// Whether a client was heard within the expiry.
    pub fn lives(&self, client: u64) -> bool {
        let heard = self.lock().get(&client).copied();
        heard.is_some_and(|at| Instant::now().saturating_duration_since(at) < limits::CLIENT_EXPIRY)
    }

    /// Clients remembered.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_expire() {
        let clients = Clients::default();
        clients.heard("a");
        assert!(clients.lives(client_hash("a")) && !clients.lives(client_hash("b")));
        tokio::time::advance(limits::CLIENT_EXPIRY).await;
        assert!(!clients.lives(client_hash("a")));
        clients.heard("b");
        clients.gone("b");
        assert!(!clients.lives(client_hash("b")));
        assert_eq!(clients.count(), 1);
    }
}
