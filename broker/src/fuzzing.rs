//! Doors for the fuzz targets in `fuzz/`: each takes any bytes, and panics when a promise of a format is broken.

use std::sync::Arc;

use bytes::Bytes;
use ledgermq_raft_store::{EntryId, Machine};

use crate::log_tools;
use crate::state::command::Command;
use crate::state::effects::NoEffects;
use crate::state::handle::ReceiptHandle;
use crate::state::kv::memory::MemoryKv;
use crate::state::kv::{Batch, Change, Family, Kv};
use crate::state::machine::{Settings, StateMachine};
use crate::state::record::{Record, RecordHead};

/// A command as it is proposed.
pub fn command(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(command) = Command::decode(&bytes) {
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
    let _ = (log_tools::commands(&bytes, true), log_tools::commands(&bytes, false));
}

/// A record as it is stored.
pub fn record(bytes: &[u8]) {
    let head = RecordHead::read(bytes);
    if let Ok(record) = Record::decode(Bytes::copy_from_slice(bytes)) {
        assert!(head.is_ok(), "the whole is readable, its head is not");
        assert_eq!(Record::decode(record.encode()), Ok(record));
    }
}

/// A receipt handle as a client sends it.
pub fn receipt_handle(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(handle) = text.parse::<ReceiptHandle>() {
        assert_eq!(handle.to_string().parse::<ReceiptHandle>(), Ok(handle));
    }
}

fn settings() -> Settings {
    Settings {
        dedupe_ids: 64,
        request_ids: 64,
        cached_records: 64,
        ..Settings::default()
    }
}

/// A store with any pairs: a state opens on it or says why not. `family, length of the key, length of the value, key,
/// value` again and again.
pub fn stored_state(bytes: &[u8]) {
    let mut batch = Batch::default();
    let mut rest = bytes;
    while let [family, key, value, tail @ ..] = rest {
        let (key, tail) = tail.split_at(usize::from(*key).min(tail.len()));
        let (value, tail) = tail.split_at(usize::from(*value).min(tail.len()));
        let family = Family::ALL[usize::from(*family) % Family::ALL.len()];
        batch.changes.push(Change::Put(family, key.to_vec(), value.to_vec()));
        rest = tail;
    }
    let kv = Arc::new(MemoryKv::new());
    kv.write(batch).expect("memory takes all");
    if let Ok((_, view)) = StateMachine::open(kv, "broker-a", settings(), Arc::new(NoEffects)) {
        let _ = (view.topics().len(), view.lags(), view.digest());
    }
}

/// Entries with any commands: the state applies them or stops, and never panics. `length: u16, command` again and again;
/// the first byte of each says whether it begins a new entry.
pub fn applied(bytes: &[u8]) {
    let opened = StateMachine::open(Arc::new(MemoryKv::new()), "broker-a", settings(), Arc::new(NoEffects));
    let Ok((mut machine, view)) = opened else { return };
    let (mut rest, mut index) = (bytes, 0);
    while let [low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])) % 1024;
        let (command, tail) = tail.split_at(length.min(tail.len()));
        rest = tail;
        let slot = 8;
        if machine
            .apply(EntryId::new(1, index), &[(slot, Bytes::copy_from_slice(command))])
            .is_err()
        {
            break;
        }
        index += 1;
    }
    let _ = (view.lags(), view.digest());
}

/// Parts of an export from another replica: `length: u16, part` again and again.
pub fn export_part(bytes: &[u8]) {
    let opened = StateMachine::open(Arc::new(MemoryKv::new()), "broker-a", settings(), Arc::new(NoEffects));
    let Ok((mut machine, _)) = opened else { return };
    if machine.install_begin().is_err() {
        return;
    }
    let mut rest = bytes;
    while let [low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (part, tail) = tail.split_at(length.min(tail.len()));
        rest = tail;
        for part in [part.to_vec(), with_checksum(part)] {
            let _ = machine.install_part(Bytes::from(part));
        }
    }
}

/// A part with length and checksum put right, as its header has them at 24 and 28, over what is before and behind.
fn with_checksum(part: &[u8]) -> Vec<u8> {
    let mut part = part.to_vec();
    if part.len() >= 32 {
        let length = u32::try_from(part.len() - 32).unwrap_or(u32::MAX);
        part[24..28].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&part[..28]), &part[32..]);
        part[28..32].copy_from_slice(&checksum.to_le_bytes());
    }
    part
}
