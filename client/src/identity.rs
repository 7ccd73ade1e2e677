//! Names that a client makes up: message ids and request ids. Both come from the seed, the client's name and counters.
//!
//! A message id is 17 bytes as 34 upper-case hex digits (grpc.md C.1):
//! ```text
//!   byte   0    1        7     9             13          17
//!          01   client   pid   seconds       sequence
//!               of the name    since 2021    big endian
//! ```

use std::{
    fmt::Write as _,
    hash::Hasher as _,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use siphasher::sip::SipHasher24;

/// 2021-01-01 00:00:00 UTC in unix seconds.
const EPOCH_SECONDS: u64 = 1_609_459_200;
const VERSION: u8 = 1;

/// Unique for each client name, seed and process.
#[derive(Debug)]
pub(crate) struct Identity {
    client: u64,
    process_id: u32,
    messages: AtomicU32,
    requests: AtomicU64,
}

impl Identity {
    pub(crate) fn new(client_id: &str, seed: u64, process_id: u32) -> Self {
        let mut hasher = SipHasher24::new_with_keys(seed, u64::from(process_id));
        hasher.write(client_id.as_bytes());
        Self {
            client: hasher.finish(),
            process_id,
            messages: AtomicU32::new(0),
            requests: AtomicU64::new(0),
        }
    }

    /// Where this client starts in a list that all clients walk.
    pub(crate) fn start(&self) -> usize {
        usize::from(self.client.to_le_bytes()[0])
    }

    /// A message id that no other message has.
    pub(crate) fn message_id(&self, unix_ms: u64) -> String {
        let sequence = self.messages.fetch_add(1, Ordering::Relaxed);
        let seconds = (unix_ms / 1_000).saturating_sub(EPOCH_SECONDS);
        let mut bytes = [0; 17];
        bytes[0] = VERSION;
        bytes[1..7].copy_from_slice(&self.client.to_be_bytes()[2..]);
        bytes[7..9].copy_from_slice(&self.process_id.to_be_bytes()[2..]);
        bytes[9..13].copy_from_slice(&seconds.to_be_bytes()[4..]);
        bytes[13..].copy_from_slice(&sequence.to_be_bytes());
        hex(&bytes)
    }

    /// A request id that no other call of this client has.
    pub(crate) fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut text = String::with_capacity(32);
        // Writing to a String does not fail.
        let _ = write!(text, "{:016x}{number:016x}", self.client);
        text
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn message_ids_have_their_form_and_differ() {
        let identity = Identity::new("host@1", 7, 0x1_abcd);
        let ids: BTreeSet<String> = (0..1_000).map(|_| identity.message_id(1_700_000_000_000)).collect();
        assert_eq!(ids.len(), 1_000);
        for id in &ids {
            assert_eq!(id.len(), 34);
            assert!(
                id.bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)),
                "{id}"
            );
            assert!(id.starts_with("01"));
            assert_eq!(&id[14..18], "ABCD", "the low bytes of the process id");
            assert_eq!(&id[18..26], format!("{:08X}", 1_700_000_000 - EPOCH_SECONDS));
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_names_and_another_client_others() {
        let one = Identity::new("host@1", 7, 1);
        let same = Identity::new("host@1", 7, 1);
        assert_eq!(one.message_id(5), same.message_id(5));
        assert_eq!(one.request_id(), same.request_id());
        assert_ne!(one.request_id(), one.request_id());
        let other = Identity::new("host@2", 7, 1);
        assert_ne!(Identity::new("host@1", 7, 1).message_id(5), other.message_id(5));
    }
}
