//! The machines: what each of them is made of, which replica runs on it, and what the operators are to do with them.
//!
//! A machine is a simulated host with a disk, a wall clock and a network of its own. A *seat* is a replica on a machine:
//! its number, and the folder it was born with. A wiped machine has no seat; an operator gives it a new one under a new
//! number, and brings that into the membership. A seat is looked for by the machine itself, so seating starts a replica.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ledgermq_broker::{
    KvSource,
    kv::{memory::MemoryKv, rocks::RocksMemory},
};
use ledgermq_raft_store::disk::FaultyDisk;

use crate::{clock::MachineClock, net::MachineNet, seed::Seed, world};

/// What a replica's state is kept in.
#[derive(Clone)]
pub enum Store {
    /// Ordered maps.
    Memory(MemoryKv),
    /// RocksDB on files in memory.
    Rocks(RocksMemory),
}

impl Store {
    /// An empty store.
    pub fn new(rocks: bool) -> Store {
        match rocks.then(RocksMemory::new) {
            Some(Ok(memory)) => Store::Rocks(memory),
            _ => Store::Memory(MemoryKv::new()),
        }
    }

    /// What a broker is told.
    pub fn source(&self) -> KvSource {
        match self {
            Store::Memory(kv) => KvSource::Memory(kv.clone()),
            Store::Rocks(memory) => KvSource::RocksInMemory(memory.clone()),
        }
    }

    /// The process died: what was not flushed is gone. RocksDB lost it when its handles were dropped.
    fn crash(&self) {
        if let Store::Memory(kv) = self {
            kv.crash();
        }
    }
}

/// A replica on a machine.
#[derive(Clone)]
pub struct Seat {
    /// Its number in its broker group.
    pub id: u64,
    /// Its disk.
    pub disk: FaultyDisk,
    /// Its state.
    pub store: Store,
}

/// Why a replica is not running although its machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was asked to.
    Asked,
    /// It did not open: its folder can't be used as it is.
    Refused(String),
    /// It stopped by itself.
    Failed(String),
}

/// How names of topics begin that are made and deleted while the run goes on.
pub const PASSING_TOPIC: &str = "extra-";

/// What an operator is asked to do once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Hand the leadership to the replica on this machine.
    Transfer(usize),
    /// Make a topic.
    CreateTopic(String),
    /// Remove it.
    DeleteTopic(String),
}

struct Machine {
    group: usize,
    clock: MachineClock,
    net: MachineNet,
    seat: Option<Seat>,
    asked_to_stop: bool,
}

#[derive(Default)]
struct Group {
    /// Voters that the operator aims at, and those he aims at when nothing is going on.
    wanted: usize,
    usual: usize,
    next_id: u64,
    /// Numbers whose replica is to leave although it lives.
    leaving: BTreeSet<u64>,
    orders: VecDeque<Order>,
    /// Numbers that were seen in the membership, and the highest term of a leader who told it.
    known: BTreeSet<u64>,
    term: u64,
    /// The membership is as wanted.
    settled: bool,
}

struct Inner {
    seed: Seed,
    rocks: bool,
    machines: Vec<Machine>,
    groups: BTreeMap<usize, Group>,
    stopped: Vec<(usize, Stop)>,
    retired: Vec<usize>,
}

/// Handle to the fleet; clones share it.
#[derive(Clone)]
pub struct Fleet(Arc<Mutex<Inner>>);

impl Fleet {
    /// Machines with the broker groups `groups`; the first `wanted` of each broker group have replicas 1 to `wanted`.
    pub fn new(seed: Seed, groups: &[usize], wanted: &[usize], rocks: bool) -> Fleet {
        let mut draws = seed.stream("clocks");
        let machines = groups.iter().map(|group| Machine {
            group: *group,
            clock: MachineClock::new(draws.between(0, 40) as i64 - 20),
            net: MachineNet::default(),
            seat: None,
            asked_to_stop: false,
        });
        let numbered = |(group, wanted): (usize, &usize)| {
            let group_state = Group {
                wanted: *wanted,
                usual: *wanted,
                next_id: 1,
                ..Group::default()
            };
            (group, group_state)
        };
        let fleet = Fleet(Arc::new(Mutex::new(Inner {
            seed,
            rocks,
            machines: machines.collect(),
            groups: wanted.iter().enumerate().map(numbered).collect(),
            stopped: Vec::new(),
            retired: Vec::new(),
        })));
        for (group, wanted) in wanted.iter().enumerate() {
            for _ in 0..*wanted {
                fleet.take_seat(group, &BTreeSet::new());
            }
        }
        fleet
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many machines there are.
    pub fn len(&self) -> usize {
        self.inner().machines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The broker group of a machine.
    pub fn group_of(&self, machine: usize) -> usize {
        self.inner().machines[machine].group
    }

    /// The wall clock of a machine.
    pub fn clock(&self, machine: usize) -> MachineClock {
        self.inner().machines[machine].clock.clone()
    }

    /// The network of a machine.
    pub fn net(&self, machine: usize) -> MachineNet {
        self.inner().machines[machine].net.clone()
    }

    /// How long a sync takes at most on a machine whose disk is well.
    pub fn sync_delay(&self, machine: usize) -> std::time::Duration {
        world::sync_delay(self.inner().seed, machine)
    }

    /// The replica on a machine.
    pub fn seat(&self, machine: usize) -> Option<Seat> {
        self.inner().machines[machine].seat.clone()
    }

    /// Whether the replica on a machine is one of those that the broker group began with.
    pub fn is_founder(&self, machine: usize) -> bool {
        let inner = self.inner();
        let machine = &inner.machines[machine];
        let founders = inner.groups.get(&machine.group).map_or(0, |group| group.usual);
        machine.seat.as_ref().is_some_and(|seat| seat.id <= founders as u64)
    }

    /// The machines of a broker group that have a replica, with its number.
    pub fn seats(&self, group: usize) -> BTreeMap<u64, usize> {
        let inner = self.inner();
        let machines = inner.machines.iter().enumerate();
        let seated = machines.filter(|(_, machine)| machine.group == group);
        seated
            .filter_map(|(index, machine)| machine.seat.as_ref().map(|seat| (seat.id, index)))
            .collect()
    }

    /// All machines that have a replica.
    pub fn seated(&self) -> Vec<usize> {
        let inner = self.inner();
        let machines = inner.machines.iter().enumerate();
        machines
            .filter(|(_, machine)| machine.seat.is_some())
            .map(|(index, _)| index)
            .collect()
    }

    /// Gives a replica with a new number and an empty folder to a machine of the broker group that has none and is not
    /// among `busy`.
    pub fn take_seat(&self, group: usize, busy: &BTreeSet<usize>) -> Option<(usize, u64)> {
        let mut inner = self.inner();
        let free = |(index, machine): &(usize, &Machine)| {
            machine.group == group && machine.seat.is_none() && !busy.contains(index)
        };
        let (index, _) = inner.machines.iter().enumerate().find(free)?;
        let numbers = inner.groups.get_mut(&group)?;
        let id = numbers.next_id;
        numbers.next_id += 1;
        let disk = world::disk(inner.seed, index, id);
        let store = Store::new(inner.rocks);
        let machine = &mut inner.machines[index];
        machine.seat = Some(Seat { id, disk, store });
        // Who sets a machine up sets its clock: nobody counted on the right ones without this machine.
        machine.clock.mend();
        Some((index, id))
    }

    /// The replica of a machine lost memory and, with `power`, what was not synced.
    pub fn crash(&self, machine: usize, power: bool) {
        let mut inner = self.inner();
        let machine = &mut inner.machines[machine];
        machine.asked_to_stop = false;
        if let Some(seat) = &machine.seat {
            seat.store.crash();
            match power {
                true => seat.disk.crash(),
                false => seat.disk.kill(),
            }
        }
    }

    /// A machine loses its replica's folder, for ever. The machine must be down, or be restarted.
    pub fn wipe(&self, machine: usize) {
        let mut inner = self.inner();
        let emptied = &mut inner.machines[machine];
        // What was asked of the replica that is gone is not asked of the next one.
        (emptied.seat, emptied.asked_to_stop) = (None, false);
        let group = emptied.group;
        inner.unsettle(group);
    }

    /// The replica on a machine has left its broker group: the machine is to be restarted without it.
    pub fn retire(&self, machine: usize) {
        self.wipe(machine);
        self.inner().retired.push(machine);
    }

    /// Machines to restart since the last question.
    pub fn take_retired(&self) -> Vec<usize> {
        std::mem::take(&mut self.inner().retired)
    }

    /// Asks the replica on a machine to stop in good order.
    pub fn ask_to_stop(&self, machine: usize) {
        self.inner().machines[machine].asked_to_stop = true;
    }

    /// Whether it was asked to.
    pub fn is_asked_to_stop(&self, machine: usize) -> bool {
        self.inner().machines[machine].asked_to_stop
    }

    /// The replica on a machine does not run any more.
    pub fn stopped(&self, machine: usize, stop: Stop) {
        self.inner().stopped.push((machine, stop));
    }

    /// What stopped since the last question.
    pub fn take_stopped(&self) -> Vec<(usize, Stop)> {
        std::mem::take(&mut self.inner().stopped)
    }

    /// How many voters the operator of a broker group aims at.
    pub fn wanted(&self, group: usize) -> usize {
        self.inner().groups.get(&group).map_or(0, |group| group.wanted)
    }

    /// How many voters it has when nothing is going on.
    pub fn usual(&self, group: usize) -> usize {
        self.inner().groups.get(&group).map_or(0, |group| group.usual)
    }

    /// Changes what he aims at.
    pub fn want(&self, group: usize, voters: usize) {
        let mut inner = self.inner();
        if let Some(state) = inner.groups.get_mut(&group) {
            state.wanted = voters;
        }
        inner.unsettle(group);
    }

    /// The living replica `id` is to be replaced.
    pub fn leave(&self, group: usize, id: u64) {
        let mut inner = self.inner();
        if let Some(state) = inner.groups.get_mut(&group) {
            state.leaving.insert(id);
        }
        inner.unsettle(group);
    }

    /// Whether it is.
    pub fn is_leaving(&self, group: usize, id: u64) -> bool {
        let inner = self.inner();
        inner
            .groups
            .get(&group)
            .is_some_and(|state| state.leaving.contains(&id))
    }

    /// The leader of `term` named these members. Answers the seated replicas that were members and are none any more;
    /// nothing when a leader of a later term has spoken before.
    pub fn note_members(&self, group: usize, term: u64, members: &[u64]) -> Option<Vec<u64>> {
        let seats = self.seats(group);
        let mut inner = self.inner();
        let state = inner.groups.get_mut(&group)?;
        if term < state.term {
            return None;
        }
        state.term = term;
        let parted = state
            .known
            .iter()
            .filter(|id| seats.contains_key(id) && !members.contains(id));
        let parted = parted.copied().collect();
        state.known.extend(members);
        Some(parted)
    }

    /// Gives an order to the operator of a broker group.
    pub fn order(&self, group: usize, order: Order) {
        if let Some(state) = self.inner().groups.get_mut(&group) {
            state.orders.push_back(order);
        }
    }

    /// An order that he could not carry out yet.
    pub fn order_first(&self, group: usize, order: Order) {
        if let Some(state) = self.inner().groups.get_mut(&group) {
            state.orders.push_front(order);
        }
    }

    /// His next order.
    pub fn next_order(&self, group: usize) -> Option<Order> {
        self.inner().groups.get_mut(&group)?.orders.pop_front()
    }

    /// The operator has looked: the membership is as wanted, or not.
    pub fn set_settled(&self, group: usize, settled: bool) {
        if let Some(state) = self.inner().groups.get_mut(&group) {
            state.settled = settled;
        }
    }

    /// Whether the membership is as wanted.
    pub fn is_settled(&self, group: usize) -> bool {
        self.inner().groups.get(&group).is_some_and(|group| group.settled)
    }
}

impl Inner {
    fn unsettle(&mut self, group: usize) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.settled = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_machine_comes_back_under_a_new_number() {
        let fleet = Fleet::new(Seed(1), &[0, 0, 0, 0], &[3], false);
        assert_eq!(fleet.seats(0), BTreeMap::from([(1, 0), (2, 1), (3, 2)]));
        fleet.set_settled(0, true);
        fleet.ask_to_stop(1);
        fleet.wipe(1);
        assert!(!fleet.is_asked_to_stop(1), "it was asked of the one before");
        assert!(!fleet.is_settled(0));
        assert!(fleet.is_founder(0) && !fleet.is_founder(1), "it has no replica");
        assert_eq!(fleet.take_seat(0, &BTreeSet::from([1])), Some((3, 4)));
        assert!(!fleet.is_founder(3), "it came later");
        assert_eq!(fleet.take_seat(0, &BTreeSet::new()), Some((1, 5)));
        assert_eq!(fleet.take_seat(0, &BTreeSet::new()), None);
        fleet.retire(0);
        assert_eq!(fleet.take_retired(), [0]);
        assert_eq!(fleet.seated(), [1, 2, 3]);
        assert_eq!(fleet.note_members(0, 2, &[3, 4]), Some(vec![]));
        assert_eq!(fleet.note_members(0, 2, &[4]), Some(vec![3]));
        assert_eq!(fleet.note_members(0, 1, &[3, 4]), None, "an old leader");
    }
}
