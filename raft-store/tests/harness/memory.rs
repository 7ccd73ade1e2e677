//! A machine that remembers every command, and what of it outlives a crash.

use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ledgermq_raft_store::{Applied, EntryId, Export, ExportPart, LogIndex, Machine, MachineError};
use tokio::sync::watch;

/// What a machine remembers.
#[derive(Clone, Default)]
pub struct Remembered {
    pub applied: Option<Applied>,
    /// An installed export is of this entry: what comes up to it changes nothing.
    covered: Option<EntryId>,
    /// An installation has begun and not ended.
    half: bool,
    /// Every command with its entry and slot.
    pub commands: Vec<(EntryId, u32, Bytes)>,
}

/// Remembers every command. What is flushed outlives a crash.
#[derive(Clone, Default)]
pub struct Memory {
    live: Arc<Mutex<Remembered>>,
    durable: Arc<Mutex<Remembered>>,
    released: Arc<watch::Sender<LogIndex>>,
    level: Arc<watch::Sender<u32>>,
}

impl Memory {
    pub fn live(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.live.lock().expect("no panic")
    }

    /// Makes what is remembered durable, and lets go of the entries up to `upto`.
    pub fn release(&self, upto: LogIndex) {
        *self.durable.lock().expect("no panic") = self.live().clone();
        self.released.send_replace(upto);
    }

    /// What the state demands of a new member from now on.
    pub fn demand(&self, level: u32) {
        self.level.send_replace(level);
    }

    pub fn crash(&self) {
        *self.live() = self.durable.lock().expect("no panic").clone();
    }

    fn step(&self, id: EntryId) {
        let mut live = self.live();
        if let Some(applied) = &live.applied {
            assert_eq!(id.index, applied.id.index.next(), "entries come in order, each once");
        }
        let membership = live
            .applied
            .take()
            .map(|applied| applied.membership)
            .unwrap_or_default();
        live.applied = Some(Applied { id, membership });
    }
}

impl Machine for Memory {
    type Outcome = u64;

    fn applied(&self) -> Option<Applied> {
        self.live().applied.clone()
    }

    fn apply(&mut self, id: EntryId, commands: &[(u32, Bytes)]) -> Result<Vec<u64>, MachineError> {
        self.step(id);
        let mut live = self.live();
        if live.covered.is_some_and(|covered| id.index <= covered.index) {
            return Ok(vec![0; commands.len()]);
        }
        let first = live.commands.len() as u64;
        live.commands
            .extend(commands.iter().map(|(slot, bytes)| (id, *slot, bytes.clone())));
        Ok((first..first + commands.len() as u64).collect())
    }

    fn apply_blank(&mut self, id: EntryId) -> Result<(), MachineError> {
        self.step(id);
        Ok(())
    }

    fn apply_membership(&mut self, id: EntryId, membership: Bytes) -> Result<(), MachineError> {
        self.step(id);
        self.live().applied = Some(Applied { id, membership });
        Ok(())
    }

    fn view(&mut self) -> Result<Arc<dyn Export>, MachineError> {
        let live = self.live();
        let applied = live
            .applied
            .as_ref()
            .ok_or_else(|| MachineError::new("nothing is applied"))?;
        Ok(Arc::new(Copy {
            id: applied.id,
            commands: live.commands.clone(),
        }))
    }

    fn install_begin(&mut self) -> Result<(), MachineError> {
        *self.live() = Remembered {
            half: true,
            ..Remembered::default()
        };
        *self.durable.lock().expect("no panic") = self.live().clone();
        Ok(())
    }

    fn install_part(&mut self, mut part: Bytes) -> Result<(), MachineError> {
        let mut live = self.live();
        live.covered = Some(EntryId::new(part.get_u64_le(), part.get_u64_le()));
        while part.has_remaining() {
            let id = EntryId::new(part.get_u64_le(), part.get_u64_le());
            let (slot, length) = (part.get_u32_le(), part.get_u32_le() as usize);
            live.commands.push((id, slot, part.split_to(length)));
        }
        Ok(())
    }

    fn install_finish(&mut self, label: Applied) -> Result<(), MachineError> {
        let mut live = self.live();
        (live.applied, live.half) = (Some(label), false);
        *self.durable.lock().expect("no panic") = live.clone();
        Ok(())
    }

    fn is_whole(&self) -> bool {
        !self.live().half
    }

    fn released(&self) -> watch::Receiver<LogIndex> {
        self.released.subscribe()
    }

    fn level(&self) -> watch::Receiver<u32> {
        self.level.subscribe()
    }
}

/// All commands as of one entry; the place of a part is the number of its first command.
struct Copy {
    id: EntryId,
    commands: Vec<(EntryId, u32, Bytes)>,
}

impl Export for Copy {
    fn id(&self) -> EntryId {
        self.id
    }

    fn read(&self, from: &[u8], bytes_max: usize) -> Result<ExportPart, MachineError> {
        let mut at = from.try_into().map_or(0, u32::from_le_bytes) as usize;
        let mut out = BytesMut::new();
        out.put_u64_le(self.id.term.get());
        out.put_u64_le(self.id.index.get());
        while let Some((id, slot, bytes)) = self.commands.get(at).filter(|_| out.len() < bytes_max) {
            out.put_u64_le(id.term.get());
            out.put_u64_le(id.index.get());
            out.put_u32_le(*slot);
            out.put_u32_le(bytes.len() as u32);
            out.put_slice(bytes);
            at += 1;
        }
        let next = (at < self.commands.len()).then(|| Bytes::copy_from_slice(&(at as u32).to_le_bytes()));
        Ok(ExportPart {
            bytes: out.freeze(),
            next,
        })
    }
}
