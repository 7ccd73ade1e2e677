//! A stream to each name server: reports at once on every change of role, term or topics and on a beat; takes the routes
//! that come back. A name server that is away costs nothing but its routes. Only voters register: nobody is sent to a
//! learner, or to a replica that was removed.

use std::sync::Arc;

use ledgermq_proto::net::{ChannelOptions, Net, channel};
use ledgermq_proto::registry::registry_client::RegistryClient;
use ledgermq_proto::registry::{Report, TopicRoute};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_stream::wrappers::ReceiverStream;

use crate::leader::Leader;
use crate::limits;
use crate::marks::mark;
use crate::name_servers::NameServers;
use crate::routes::Routes;

/// What a replica tells, and where it keeps what it is told.
#[derive(Clone)]
pub struct Registration {
    /// The replica.
    pub leader: Arc<Leader>,
    /// Where routes go.
    pub routes: Arc<Routes>,
    /// host:port for the other replicas.
    pub peer_address: String,
    /// Grows with every change of the topics.
    pub topics: watch::Receiver<u64>,
    /// Where it is noted how each registration stands.
    pub name_servers: Arc<NameServers>,
}

/// Keeps a stream to one name server, for as long as the process lives.
pub async fn keep_registered(registration: Registration, net: Arc<dyn Net>, name_server: String) {
    let mut client = RegistryClient::new(channel(net, &name_server, ChannelOptions::default()))
        .max_decoding_message_size(limits::INBOUND_BYTES_MAX)
        .max_encoding_message_size(limits::INBOUND_BYTES_MAX);
    let mut pause = limits::REGISTRATION_PAUSE;
    let mut known = false;
    loop {
        registration.becomes_voter().await;
        let opened = Instant::now();
        let ended = converse(&registration, &mut client, &mut known, &name_server).await;
        let reason = ended
            .as_ref()
            .map_or_else(tonic::Status::message, |()| "the stream ended");
        registration.name_servers.lost(&name_server, reason);
        match &ended {
            Ok(()) => {}
            Err(_) if known => tracing::warn!(name_server, reason, "name server lost"),
            Err(_) => tracing::debug!(name_server, reason, "name server is away"),
        }
        known = false;
        if opened.elapsed() > limits::REGISTRATION_SILENCE {
            pause = limits::REGISTRATION_PAUSE;
        }
        sleep(pause).await;
        pause = (pause * 2).min(limits::REGISTRATION_PAUSE_MAX);
    }
}

async fn converse(
    registration: &Registration,
    client: &mut RegistryClient<tonic::transport::Channel>,
    known: &mut bool,
    name_server: &str,
) -> Result<(), tonic::Status> {
    let (reports, outgoing) = mpsc::channel(4);
    let mut role = registration.leader.role_watch();
    let mut topics = registration.topics.clone();
    let mut members = registration.leader.handle.members_watch();
    let mut told = None;
    // The first report goes before the stream is open: a name server may answer only after it.
    let _room = reports.try_send(registration.report(&mut told));
    let opening = client.register(ReceiverStream::new(outgoing));
    let mut incoming = match tokio::time::timeout(limits::REGISTRATION_SILENCE, opening).await {
        Ok(opened) => opened?.into_inner(),
        Err(_) => return Err(tonic::Status::deadline_exceeded("no answer")),
    };
    let mut beat = interval(limits::REGISTRATION_BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            biased;
            routes = incoming.message() => match routes? {
                Some(routes) => {
                    heard = Instant::now();
                    if !*known {
                        mark("registered");
                        *known = true;
                        registration.name_servers.registered(name_server);
                        tracing::info!(name_server, "registered");
                    }
                    registration.routes.pushed(routes);
                    continue;
                }
                None => return Ok(()),
            },
            changed = role.changed() => if changed.is_err() { return Ok(()) },
            _ = members.changed() => {}
            _ = topics.changed() => {}
            _ = beat.tick() => {}
        }
        if heard.elapsed() > limits::REGISTRATION_SILENCE {
            return Err(tonic::Status::deadline_exceeded("silent"));
        }
        if !registration.is_voter() {
            return Ok(());
        }
        // A full queue means that the name server does not read: the next beat says it all again.
        if reports.try_send(registration.report(&mut told)).is_err() {
            told = None;
        }
    }
}

impl Registration {
    /// Whether this replica votes, as far as it knows.
    fn is_voter(&self) -> bool {
        let own = self.leader.id;
        let members = self.leader.handle.members_watch();
        let voter = members.borrow().iter().any(|member| member.id == own && member.voter);
        voter && !self.leader.handle.is_removed()
    }

    /// Waits until this replica votes.
    async fn becomes_voter(&self) {
        let mut members = self.leader.handle.members_watch();
        while !self.is_voter() {
            tokio::select! {
                biased;
                changed = members.changed() => if changed.is_err() { std::future::pending().await },
                () = sleep(limits::REGISTRATION_BEAT) => {}
            }
        }
    }

    /// What this replica says now; `told` is the (term, version) of the topics last told on this stream.
    fn report(&self, told: &mut Option<(u64, u64)>) -> Report {
        let status = self.leader.handle.status();
        let leads = self.leader.role().serving;
        // Who names itself tells its topics, and until it serves it may not have applied what they are.
        let leader = status.leader.filter(|leader| leads || *leader != status.id);
        let version = *self.topics.borrow();
        let now = (status.term.get(), version);
        let topics = if leads && *told != Some(now) {
            *told = Some(now);
            let topics = self.leader.view.topics();
            let route = |topic: &Arc<crate::state::topic::Topic>| TopicRoute {
                name: topic.name.clone(),
                r#type: topic.kind.to_string(),
                queues: topic.queues,
            };
            topics.iter().map(route).collect()
        } else {
            if !leads {
                *told = None;
            }
            Vec::new()
        };
        Report {
            cluster_id: status.cluster_id.unwrap_or_default(),
            broker_group: self.leader.broker_group.clone(),
            replica_id: status.id.get(),
            client_address: self.leader.client_address.clone(),
            peer_address: self.peer_address.clone(),
            term: status.term.get(),
            leader: leader.map(|leader| leader.get()),
            topics,
            topics_version: version,
        }
    }
}
