//! Addresses and the connections to them. Every replica of a broker group is a door to it: calls stay at one door while it
//! works and move to the next one when it fails.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use ledgermq_proto::{
    net::channel,
    rocketmq::{Endpoints, messaging_service_client::MessagingServiceClient},
};
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::{error::Error, limits, options::Options};

/// The generated client of the public protocol over one connection; cheap to clone.
pub(crate) type Stub = MessagingServiceClient<Channel>;

/// One address with its connections.
pub(crate) struct Address {
    authority: String,
    stubs: Vec<Stub>,
    next: AtomicUsize,
    /// Milliseconds since the book's birth until which it is avoided because it did not answer; 0 when it is well.
    avoided_until: AtomicU64,
    /// The same because it answered that it can't help now; what else it answers says nothing of that.
    unfit_until: AtomicU64,
}

/// How a try at a door went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It answered.
    Answer,
    /// It answered that it can't do it now, and another door perhaps can.
    Unfit,
    /// It did not answer.
    Nothing,
}

impl Address {
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// A connection, each in turn.
    pub(crate) fn stub(&self) -> Stub {
        let turn = if self.stubs.len() == 1 {
            0
        } else {
            self.next.fetch_add(1, Ordering::Relaxed)
        };
        self.stubs[turn % self.stubs.len()].clone()
    }

    fn is_well(&self, now_ms: u64) -> bool {
        let until = [&self.avoided_until, &self.unfit_until].map(|until| until.load(Ordering::Relaxed));
        until.iter().all(|until| *until <= now_ms)
    }

    fn answered(&self) {
        if self.avoided_until.load(Ordering::Relaxed) != 0 {
            self.avoided_until.store(0, Ordering::Relaxed);
        }
    }
}

/// All addresses that a client knows, each connected once.
pub(crate) struct AddressBook {
    options: Options,
    born: Instant,
    addresses: Mutex<BTreeMap<String, Arc<Address>>>,
}

impl AddressBook {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            born: Instant::now(),
            addresses: Mutex::default(),
        }
    }

    /// The address, new or known. Fails when there are too many in use.
    pub(crate) fn address(&self, authority: &str) -> Result<Arc<Address>, Error> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = addresses.get(authority) {
            return Ok(known.clone());
        }
        if addresses.len() >= limits::ADDRESSES_MAX {
            return Err(Error::protocol(
                "",
                format!("more than {} addresses", limits::ADDRESSES_MAX),
            ));
        }
        let stubs = (0..self.options.channels_per_address).map(|_| {
            let channel = channel(self.options.net.clone(), authority, self.options.channel.clone());
            MessagingServiceClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX)
        });
        let address = Arc::new(Address {
            authority: authority.to_owned(),
            stubs: stubs.collect(),
            next: AtomicUsize::new(0),
            avoided_until: AtomicU64::new(0),
            unfit_until: AtomicU64::new(0),
        });
        addresses.insert(authority.to_owned(), address.clone());
        Ok(address)
    }

    /// The doors that a server named.
    pub(crate) fn doors(&self, endpoints: &Endpoints) -> Result<Doors, Error> {
        let mut addresses = Vec::with_capacity(endpoints.addresses.len());
        for named in endpoints.addresses.iter().take(limits::ADDRESSES_MAX) {
            let bare_ipv6 = named.host.contains(':') && !named.host.starts_with('[');
            let authority = if bare_ipv6 {
                format!("[{}]:{}", named.host, named.port)
            } else {
                format!("{}:{}", named.host, named.port)
            };
            addresses.push(self.address(&authority)?);
        }
        Doors::new(addresses).ok_or_else(|| Error::protocol("", "endpoints without an address"))
    }

    /// The doors at the configured access points.
    pub(crate) fn access_points(&self) -> Result<Doors, Error> {
        let addresses: Result<Vec<_>, _> = self.options.endpoints.iter().map(|text| self.address(text)).collect();
        Doors::new(addresses?).ok_or_else(|| Error::invalid("", "no endpoints"))
    }

    /// Takes note of how a call to the door went. One that failed is passed over.
    pub(crate) fn note(&self, doors: &Doors, door: usize, heard: Heard) {
        let address = &doors.addresses[door];
        let until = self.now_ms().saturating_add(millis(limits::ISOLATION));
        match heard {
            Heard::Answer => return address.answered(),
            Heard::Unfit => {
                address.answered();
                address.unfit_until.store(until, Ordering::Relaxed);
            }
            Heard::Nothing => address.avoided_until.store(until, Ordering::Relaxed),
        }
        doors.pass_over(door);
    }

    /// Forgets the addresses that no route names any more, and closes their connections.
    pub(crate) fn forget_unused(&self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.retain(|_, address| Arc::strong_count(address) > 1);
    }

    /// Milliseconds of the client's life.
    pub(crate) fn now_ms(&self) -> u64 {
        millis(self.born.elapsed()).saturating_add(1)
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The addresses of one broker group's replicas, best first; never empty.
pub(crate) struct Doors {
    addresses: Vec<Arc<Address>>,
    preferred: AtomicUsize,
}

impl Doors {
    fn new(addresses: Vec<Arc<Address>>) -> Option<Self> {
        (!addresses.is_empty()).then(|| Self {
            addresses,
            preferred: AtomicUsize::new(0),
        })
    }

    pub(crate) fn addresses(&self) -> &[Arc<Address>] {
        &self.addresses
    }

    /// The door for the next try: the preferred one, or the next after it that neither failed lately nor was tried last.
    pub(crate) fn pick(&self, now_ms: u64, tried: Option<usize>) -> usize {
        let count = self.addresses.len();
        let preferred = self.preferred.load(Ordering::Relaxed);
        let turns = || (0..count).map(|step| (preferred + step) % count);
        let other = |door: &usize| count == 1 || Some(*door) != tried;
        let best = turns().find(|door| other(door) && self.addresses[*door].is_well(now_ms));
        // All failed lately: walk on from the last one.
        best.unwrap_or_else(|| tried.map_or(preferred, |door| (door + 1) % count))
    }

    fn pass_over(&self, door: usize) {
        let next = (door + 1) % self.addresses.len();
        // Another call passed over it already: then it is as it should be.
        let _ = self
            .preferred
            .compare_exchange(door, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use ledgermq_proto::net::TcpNet;
    use ledgermq_proto::rocketmq;

    use super::*;

    fn three() -> (AddressBook, Doors) {
        let options = Options::new(
            Arc::new(TcpNet),
            vec!["127.0.0.1:1".to_owned()],
            "test",
            Arc::new(|| 0),
            0,
        );
        let book = AddressBook::new(options);
        let addresses = (1..=3).map(|port| rocketmq::Address {
            host: "127.0.0.1".to_owned(),
            port,
        });
        let endpoints = Endpoints {
            scheme: 1,
            addresses: addresses.collect(),
        };
        let doors = book.doors(&endpoints).expect("three doors");
        (book, doors)
    }

    #[tokio::test]
    async fn calls_stay_at_a_door_until_it_fails() {
        let (book, doors) = three();
        assert_eq!(doors.pick(book.now_ms(), None), 0);
        assert_eq!(doors.pick(book.now_ms(), None), 0);
        book.note(&doors, 0, Heard::Nothing);
        assert_eq!(doors.pick(book.now_ms(), Some(0)), 1);
        assert_eq!(
            doors.pick(book.now_ms(), None),
            1,
            "the next call does not ask the failed one"
        );
        book.note(&doors, 1, Heard::Nothing);
        assert_eq!(doors.pick(book.now_ms(), Some(1)), 2);
        book.note(&doors, 2, Heard::Nothing);
        assert_eq!(doors.pick(book.now_ms(), Some(2)), 0, "all failed: around once more");
        book.note(&doors, 1, Heard::Answer);
        assert_eq!(doors.pick(book.now_ms(), Some(0)), 1, "one answers again");
    }

    #[tokio::test]
    async fn a_door_that_can_not_help_is_passed_over_whatever_else_it_answers() {
        let (book, doors) = three();
        book.note(&doors, 0, Heard::Unfit);
        book.note(&doors, 0, Heard::Answer);
        let again = Doors::new(doors.addresses().to_vec()).expect("a new route");
        assert_eq!(again.pick(book.now_ms(), None), 1);
        assert_eq!(
            again.pick(book.now_ms() + millis(limits::ISOLATION) + 1, None),
            0,
            "not for good"
        );
    }

    #[tokio::test]
    async fn addresses_that_no_route_names_are_forgotten() {
        let (book, doors) = three();
        let kept = doors.addresses()[2].clone();
        drop(doors);
        book.forget_unused();
        let known: Vec<String> = book.addresses.lock().expect("whole").keys().cloned().collect();
        assert_eq!(known, ["127.0.0.1:3"]);
        assert!(Arc::ptr_eq(&kept, &book.address("127.0.0.1:3").expect("known")));
    }

    #[tokio::test]
    async fn an_address_is_connected_once() {
        let (book, doors) = three();
        let again = book.address("127.0.0.1:2").expect("known");
        assert!(Arc::ptr_eq(&again, &doors.addresses()[1]));
        let ipv6 = Endpoints {
            scheme: 2,
            addresses: vec![rocketmq::Address {
                host: "::1".to_owned(),
                port: 9,
            }],
        };
        assert_eq!(
            book.doors(&ipv6).expect("one door").addresses()[0].authority(),
            "[::1]:9"
        );
        assert!(book.doors(&Endpoints::default()).is_err());
    }
}
