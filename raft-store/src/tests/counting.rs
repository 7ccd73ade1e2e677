//! A machine whose state is one number, folded over all that it applied; what is flushed of it outlives a crash.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::watch;

use crate::draws::Draws;
use crate::machine::{Applied, Export, ExportPart, Machine, MachineError};
use crate::types::{EntryId, LogIndex};

/// Parts of an export.
const PARTS: u8 = 4;

/// The state behind an entry, from the state before it.
pub fn fold(before: u64, id: EntryId, commands: &[(u32, Bytes)]) -> u64 {
    let mut crc = 0;
    for (slot, command) in commands {
        crc = crc32c::crc32c_append(crc, &slot.to_le_bytes());
        crc = crc32c::crc32c_append(crc, command);
    }
    Draws::new(before ^ id.index.get() << 40 ^ id.term.get() << 32 ^ u64::from(crc)).draw()
}

/// What is remembered.
#[derive(Clone, Default)]
pub struct Remembered {
    /// How far it has come.
    pub applied: Option<Applied>,
    /// An installed export is of this entry: entries up to it change nothing.
    pub covered: Option<EntryId>,
    /// All that was applied.
    pub fold: u64,
    /// Parts installed so far, while an installation has begun and not ended.
    half: Option<u8>,
}

impl Remembered {
    /// The entry as of which the state is.
    pub fn as_of(&self) -> Option<EntryId> {
        self.applied.as_ref().map(|applied| applied.id).max(self.covered)
    }
}

/// The machine; a clone is the same.
#[derive(Clone)]
pub struct Counting {
    live: Arc<Mutex<Remembered>>,
    durable: Arc<Mutex<Remembered>>,
    released: Arc<watch::Sender<LogIndex>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panicked")
}

impl Counting {
    /// One that has applied nothing.
    pub fn new() -> Counting {
        Counting {
            live: Arc::default(),
            durable: Arc::default(),
            released: Arc::new(watch::Sender::new(LogIndex(0))),
        }
    }

    /// What is remembered now.
    pub fn live(&self) -> Remembered {
        lock(&self.live).clone()
    }

    /// Makes all of it durable.
    pub fn flush(&self) {
        let live = self.live();
        *lock(&self.durable) = live;
    }

    /// How far the durable state has come.
    pub fn flushed(&self) -> Option<EntryId> {
        lock(&self.durable).applied.as_ref().map(|applied| applied.id)
    }

    /// Lets go of the entries up to this one, which the durable state has reached.
    pub fn release(&self, upto: LogIndex) {
        self.released.send_replace(upto);
    }

    /// The process is gone: only what was flushed is left.
    pub fn crash(&self) {
        let durable = lock(&self.durable).clone();
        *lock(&self.live) = durable;
    }

    fn step(&self, id: EntryId, commands: &[(u32, Bytes)], membership: Option<Bytes>) -> Result<(), MachineError> {
        let mut live = lock(&self.live);
        let before = live.applied.take();
        let next = before.as_ref().map_or(LogIndex(0), |applied| applied.id.index.next());
        if id.index != next {
            return Err(MachineError::new(format!("entry {id} comes where {next} is due")));
        }
        if live.covered.is_none_or(|covered| covered.index < id.index) {
            live.fold = fold(live.fold, id, commands);
        }
        let membership = membership
            .or(before.map(|applied| applied.membership))
            .unwrap_or_default();
        live.applied = Some(Applied { id, membership });
        Ok(())
    }
}

impl Machine for Counting {
    type Outcome = ();

    fn applied(&self) -> Option<Applied> {
        self.live().applied
    }

    fn apply(&mut self, id: EntryId, commands: &[(u32, Bytes)]) -> Result<Vec<()>, MachineError> {
        self.step(id, commands, None)?;
        Ok(vec![(); commands.len()])
    }

    fn apply_blank(&mut self, id: EntryId) -> Result<(), MachineError> {
        self.step(id, &[], None)
    }

    fn apply_membership(&mut self, id: EntryId, membership: Bytes) -> Result<(), MachineError> {
        self.step(id, &[], Some(membership))
    }

    fn view(&mut self) -> Result<Arc<dyn Export>, MachineError> {
        let live = self.live();
        let id = live.as_of().ok_or_else(|| MachineError::new("nothing is applied"))?;
        Ok(Arc::new(Copy { id, fold: live.fold }))
    }

    fn install_begin(&mut self) -> Result<(), MachineError> {
        *lock(&self.live) = Remembered {
            half: Some(0),
            ..Remembered::default()
        };
        self.flush();
        Ok(())
    }

    fn install_part(&mut self, part: Bytes) -> Result<(), MachineError> {
        let mut live = lock(&self.live);
        let (id, number, fold) = read_part(part).ok_or_else(|| MachineError::new("a part is damaged"))?;
        if live.half != Some(number) || live.covered.is_some_and(|covered| covered != id) {
            return Err(MachineError::new("a part is missing, or of another export"));
        }
        (live.covered, live.fold, live.half) = (Some(id), fold, Some(number + 1));
        Ok(())
    }

    fn install_finish(&mut self, label: Applied) -> Result<(), MachineError> {
        let mut live = lock(&self.live);
        if live.half != Some(PARTS) {
            return Err(MachineError::new("parts are missing"));
        }
        (live.applied, live.half) = (Some(label), None);
        drop(live);
        self.flush();
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.live().half.is_none()
    }

    fn released(&self) -> watch::Receiver<LogIndex> {
        self.released.subscribe()
    }

    fn level(&self) -> watch::Receiver<u32> {
        watch::channel(1).1
    }
}

/// A copy of the state as of one entry.
pub struct Copy {
    /// The entry.
    pub id: EntryId,
    /// The state.
    pub fold: u64,
}

/// Bytes that follow from the state, so that parts have some length.
fn filler(fold: u64, number: u8) -> Vec<u8> {
    vec![fold as u8 ^ number; (fold >> (8 * number) & 0x3ff) as usize]
}

fn read_part(mut part: Bytes) -> Option<(EntryId, u8, u64)> {
    let id = EntryId::new(part.try_get_u64().ok()?, part.try_get_u64().ok()?);
    let (number, fold) = (part.try_get_u8().ok()?, part.try_get_u64().ok()?);
    (number < PARTS && part == filler(fold, number)).then_some((id, number, fold))
}

impl Export for Copy {
    fn id(&self) -> EntryId {
        self.id
    }

    fn read(&self, from: &[u8], _bytes_max: usize) -> Result<ExportPart, MachineError> {
        let number = from.first().copied().unwrap_or(0);
        let mut bytes = BytesMut::new();
        bytes.put_u64(self.id.term.get());
        bytes.put_u64(self.id.index.get());
        bytes.put_u8(number);
        bytes.put_u64(self.fold);
        bytes.put_slice(&filler(self.fold, number));
        Ok(ExportPart {
            bytes: bytes.freeze(),
            next: (number + 1 < PARTS).then(|| Bytes::from(vec![number + 1])),
        })
    }
}

/// The entry and the state that a copy tells of, read to its end.
pub fn told(export: &dyn Export) -> (EntryId, u64) {
    let mut place = Bytes::new();
    for number in 0..PARTS {
        let part = export.read(&place, 1).expect("is read");
        let (id, said, fold) = read_part(part.bytes).expect("is intact");
        assert_eq!(said, number);
        match part.next {
            Some(next) => place = next,
            None => return (id, fold),
        }
    }
    panic!("an export without an end");
}
