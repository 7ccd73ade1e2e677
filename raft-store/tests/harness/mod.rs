//! Replicas of one broker group in one process: an in-memory network whose connections can be cut, faulty disks, and a
//! machine that remembers everything. Works under paused time.

#![allow(dead_code)]

mod memory;

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use ledgermq_raft_store::disk::FaultyDisk;
use ledgermq_raft_store::{
    Connect, Durability, EntryId, Handle, Options, PeerStream, Planted, ProposeError, Proposed, Release, ReplicaId,
    Seams, State, Timings, open,
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::transport::server::Connected;

pub use memory::Memory;

/// What happens to the connections of one address.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Plugged {
    /// Counts the times all connections were broken.
    cuts: u64,
    /// Nothing moves while set: the process is frozen, its connections stay up.
    frozen: bool,
}

/// One end of a connection, subject to what happens to the replica at this end.
pub struct Cable {
    stream: DuplexStream,
    plugged: watch::Receiver<Plugged>,
    changed: BoxFuture<'static, ()>,
    cuts: u64,
}

fn changed(mut plugged: watch::Receiver<Plugged>) -> BoxFuture<'static, ()> {
    plugged.mark_unchanged();
    Box::pin(async move {
        let _ = plugged.changed().await;
    })
}

impl Cable {
    fn new(stream: DuplexStream, plugged: watch::Receiver<Plugged>) -> Cable {
        let cuts = plugged.borrow().cuts;
        Cable {
            stream,
            changed: changed(plugged.clone()),
            plugged,
            cuts,
        }
    }

    /// Ready once bytes may move.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let now = *self.plugged.borrow();
            if now.cuts != self.cuts {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut")));
            }
            if self.changed.as_mut().poll(cx).is_ready() {
                if self.plugged.has_changed().is_err() {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "unplugged")));
                }
                self.changed = changed(self.plugged.clone());
                continue;
            }
            return if now.frozen { Poll::Pending } else { Poll::Ready(Ok(())) };
        }
    }
}

impl AsyncRead for Cable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_open(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_open(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_open(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Cable {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

struct Listening {
    accept: mpsc::Sender<Cable>,
    plugged: watch::Sender<Plugged>,
}

/// All replicas by address.
#[derive(Clone, Default)]
pub struct Wires {
    listening: Arc<Mutex<BTreeMap<String, Listening>>>,
}

impl Wires {
    fn listen(&self, address: &str) -> mpsc::Receiver<Cable> {
        let (accept, accepted) = mpsc::channel(64);
        let listening = Listening {
            accept,
            plugged: watch::Sender::new(Plugged::default()),
        };
        self.listening
            .lock()
            .expect("no panic")
            .insert(address.to_owned(), listening);
        accepted
    }

    /// Breaks every connection of this address, and refuses new ones until it listens again.
    pub fn unplug(&self, address: &str) {
        if let Some(listening) = self.listening.lock().expect("no panic").remove(address) {
            listening.plugged.send_modify(|plugged| plugged.cuts += 1);
        }
    }

    /// Breaks every connection of this address; new ones come up at once.
    pub fn hiccup(&self, address: &str) {
        if let Some(listening) = self.listening.lock().expect("no panic").get(address) {
            listening.plugged.send_modify(|plugged| plugged.cuts += 1);
        }
    }

    /// Freezes everything this address sends and receives, or lets it go on.
    pub fn freeze(&self, address: &str, frozen: bool) {
        if let Some(listening) = self.listening.lock().expect("no panic").get(address) {
            listening.plugged.send_modify(|plugged| plugged.frozen = frozen);
        }
    }
}

struct Plug {
    wires: Wires,
    own: String,
}

impl Connect for Plug {
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<Box<dyn PeerStream>>> {
        let (wires, own, authority) = (self.wires.clone(), self.own.clone(), authority.to_owned());
        Box::pin(async move {
            let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens");
            let (accept, theirs, ours) = {
                let listening = wires.listening.lock().expect("no panic");
                let there = listening.get(&authority).ok_or_else(refused)?;
                let here = listening.get(&own).ok_or_else(refused)?;
                (
                    there.accept.clone(),
                    there.plugged.subscribe(),
                    here.plugged.subscribe(),
                )
            };
            // Either side's cut ends both halves: a half that is dropped ends the other.
            let (near, far) = tokio::io::duplex(1 << 20);
            let (near, far) = (Cable::new(near, ours), Cable::new(far, theirs));
            accept.send(far).await.map_err(|_| refused())?;
            let stream: Box<dyn PeerStream> = Box::new(near);
            Ok(stream)
        })
    }
}

/// One replica's folder and, while it runs, the replica.
pub struct Replica {
    pub id: u64,
    pub disk: FaultyDisk,
    pub machine: Memory,
    /// What it runs from its next start on.
    pub release: Release,
    pub running: Option<Running>,
    boots: u64,
}

/// A running replica.
pub struct Running {
    pub handle: Handle<Memory>,
    tasks: Vec<JoinHandle<()>>,
}

/// The broker group.
pub struct Group {
    pub wires: Wires,
    pub replicas: BTreeMap<u64, Replica>,
    /// Where replicas are that are not at [`address`].
    pub moved: BTreeMap<u64, String>,
    seed: u64,
}

/// A program that supports this level.
pub fn release(level: u32) -> Release {
    Release {
        level,
        version: format!("{level}.0"),
    }
}

pub fn address(id: u64) -> String {
    format!("replica-{id}:9000")
}

impl Group {
    pub fn new(count: u64, seed: u64) -> Group {
        let replica = |id| Replica {
            id,
            disk: FaultyDisk::new(seed * 100 + id),
            machine: Memory::default(),
            release: release(1),
            running: None,
            boots: 0,
        };
        Group {
            wires: Wires::default(),
            replicas: (1..=count).map(|id| (id, replica(id))).collect(),
            moved: BTreeMap::new(),
            seed,
        }
    }

    /// Takes a replica of another group, with an empty folder, into this one.
    pub fn adopt(&mut self, mut other: Group, id: u64) {
        let replica = other.replicas.remove(&id).expect("is one");
        self.replicas.insert(id, replica);
    }

    /// Where a replica is.
    pub fn at(&self, id: u64) -> String {
        self.moved.get(&id).cloned().unwrap_or_else(|| address(id))
    }

    /// Starts a replica on its folder.
    pub async fn start(&mut self, id: u64) {
        let (seed, address) = (self.seed, self.at(id));
        let replica = self.replicas.get_mut(&id).expect("is one");
        replica.boots += 1;
        let options = Options {
            id: ReplicaId(id),
            broker_group: "broker-a".to_owned(),
            dir: "/replica".into(),
            peer_address: address.clone(),
            client_address: format!("replica-{id}:8081"),
            segment_bytes: 1 << 20,
            tail_cache_bytes: 1 << 20,
            in_flight_bytes: 1 << 20,
            durability: Durability::FsyncQuorum,
            timings: Timings::default(),
            planted: Planted::default(),
            release: replica.release.clone(),
        };
        let seams = Seams {
            disk: Arc::new(replica.disk.clone()),
            connect: Arc::new(Plug {
                wires: self.wires.clone(),
                own: address.clone(),
            }),
            wall_clock: Arc::new(|| 1_700_000_000_000),
            seed: seed * 10_000 + id * 100 + replica.boots,
        };
        let machine = replica.machine.clone();
        let mut accepted = self.wires.listen(&address);
        let (handle, driver) = open(options, seams, machine).await.expect("opens");
        let service = handle.peer_service();
        let serve = async move {
            let incoming =
                futures::stream::poll_fn(move |cx| accepted.poll_recv(cx).map(|s| s.map(Ok::<_, io::Error>)));
            let mut server = tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(Duration::from_millis(500)))
                .http2_keepalive_timeout(Some(Duration::from_millis(1500)));
            let _ = server.add_service(service).serve_with_incoming(incoming).await;
        };
        let tasks = vec![
            tokio::spawn(driver.writer.run()),
            tokio::spawn(driver.sweeper.run()),
            tokio::spawn(serve),
        ];
        replica.running = Some(Running { handle, tasks });
    }

    /// Starts all and makes them a broker group.
    pub async fn birth(&mut self) -> String {
        let ids: Vec<u64> = self.replicas.keys().copied().collect();
        for id in &ids {
            self.start(*id).await;
        }
        let members = ids
            .iter()
            .map(|id| (ReplicaId(*id), address(*id), format!("replica-{id}:8081")));
        self.handle(1).bootstrap(members.collect()).await.expect("bootstraps")
    }

    /// A kill: what is not synced is lost, connections break, nothing is said to anyone.
    pub async fn kill(&mut self, id: u64) {
        self.wires.unplug(&self.at(id));
        let replica = self.replicas.get_mut(&id).expect("is one");
        let running = replica.running.take().expect("runs");
        for task in &running.tasks {
            task.abort();
        }
        let _ = tokio::time::timeout(Duration::from_secs(5), running.handle.shutdown()).await;
        drop(running.handle);
        replica.disk.crash();
        replica.machine.crash();
    }

    pub fn handle(&self, id: u64) -> &Handle<Memory> {
        &self.replicas[&id].running.as_ref().expect("runs").handle
    }

    pub fn live(&self) -> impl Iterator<Item = (u64, &Handle<Memory>)> {
        self.replicas
            .iter()
            .filter_map(|(id, replica)| Some((*id, &replica.running.as_ref()?.handle)))
    }

    /// Waits for a leader that serves, and answers who it is.
    pub async fn leader(&self) -> u64 {
        for _ in 0..2_000 {
            for (id, handle) in self.live() {
                let role = *handle.role().borrow();
                if role.serving && role.state == State::Leader {
                    return id;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!(
            "no leader: {:#?}",
            self.live().map(|(_, handle)| handle.status()).collect::<Vec<_>>()
        );
    }

    /// Proposes through whoever leads, again and again while the answer is certain that nothing was proposed.
    pub async fn propose(&self, command: &str) -> Result<Proposed<u64>, ProposeError> {
        let mut last = ProposeError::NotLeader { leader: None };
        for _ in 0..1_000 {
            for (_, handle) in self.live() {
                match handle.propose(Bytes::copy_from_slice(command.as_bytes())).await {
                    Err(error @ (ProposeError::NotLeader { .. } | ProposeError::Busy)) => last = error,
                    other => return other,
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(last)
    }

    /// Waits until all that run have applied the same, and answers it.
    pub async fn converged(&self) -> Vec<(EntryId, u32, Bytes)> {
        for _ in 0..2_000 {
            let states: Vec<_> = self.live().map(|(_, handle)| handle.status()).collect();
            let applied = states.first().and_then(|status| status.applied);
            if states
                .iter()
                .all(|status| status.applied == applied && status.last == applied)
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let all: Vec<_> = self
            .replicas
            .values()
            .filter(|replica| replica.running.is_some())
            .map(|replica| replica.machine.live().commands.clone())
            .collect();
        for other in &all {
            assert_eq!(other, &all[0], "all replicas applied the same");
        }
        all.into_iter().next().unwrap_or_default()
    }
}
