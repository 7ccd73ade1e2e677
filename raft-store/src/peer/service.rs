//! The server side: what this replica answers to the others. The broker mounts it on its peer listener.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use openraft::Raft;
use openraft::errors::{Fatal, RaftError};
use openraft::raft::AppendEntriesRequest;
use tonic::{Request, Response, Status, Streaming};

use crate::limits;
use crate::marks::mark;
use crate::peer::clock::ClusterClock;
use crate::peer::passport::Passport;
use crate::peer::presence::{Presence, StreamGuard};
use crate::peer::transfer::Incoming;
use crate::peer::wire::peer_server::{Peer, PeerServer};
use crate::peer::wire::{self, WireError};
use crate::raft::adapter::Adapter;
use crate::raft::config::Config;
use crate::release::Release;
use crate::types::EntryId;

/// The tonic service of one replica.
pub type PeerService = PeerServer<Service>;

/// What answers the other replicas.
#[derive(Clone)]
pub struct Service {
    /// The core.
    pub raft: Raft<Config, Adapter>,
    /// Whom to refuse.
    pub passport: Arc<Passport>,
    /// Who was heard.
    pub presence: Arc<Presence>,
    /// What snapshots arrive in.
    pub incoming: Arc<Incoming>,
    /// What time to tell.
    pub clock: Arc<ClusterClock>,
}

type Outbound<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
/// Why a stream of requests ended early; told to the peer at the end of the replies.
type Verdict = Arc<Mutex<Option<Status>>>;

impl Service {
    /// The service, ready to be mounted.
    pub fn mount(self) -> PeerService {
        PeerServer::new(self)
            .max_decoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
    }

    /// Checks who calls and notes that it lives.
    fn caller(&self, header: Option<wire::Header>) -> Result<u64, Status> {
        let from = self.passport.check(header)?;
        self.presence.heard(from);
        Ok(from)
    }

    /// The fence: nothing from a leader that this replica called gone.
    fn unfenced(&self, request: wire::AppendRequest) -> Result<AppendEntriesRequest<Config>, Status> {
        let request = wire::append_in(request).map_err(bad)?;
        if self.presence.is_gone(&request.vote) {
            mark("fenced_append_refused");
            return Err(Status::aborted(
                "this replica believes the leader gone and is electing another",
            ));
        }
        self.presence.led(&request.vote);
        self.passport.standing.led();
        Ok(request)
    }

    /// The requests of a replication stream, until its end or the first that is wrong.
    fn requests(
        &self,
        inbound: Streaming<wire::AppendRequest>,
        verdict: Verdict,
    ) -> impl Stream<Item = AppendEntriesRequest<Config>> + Send + use<> {
        let state = (self.clone(), inbound, None, verdict);
        stream::unfold(state, |(service, mut inbound, from, verdict)| async move {
            match service.request(&mut inbound, from).await {
                Ok(Some((request, from))) => Some((request, (service, inbound, Some(from), verdict))),
                Ok(None) => None,
                Err(status) => {
                    *verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                    None
                }
            }
        })
    }

    async fn request(
        &self,
        inbound: &mut Streaming<wire::AppendRequest>,
        from: Option<u64>,
    ) -> Result<Option<(AppendEntriesRequest<Config>, u64)>, Status> {
        let Some(mut message) = inbound.message().await? else {
            return Ok(None);
        };
        let from = match from {
            Some(from) => from,
            None => self.caller(message.header.take())?,
        };
        self.presence.heard(from);
        Ok(Some((self.unfenced(message)?, from)))
    }

    fn beat_reply(&self, sequence: u64, not_a_member: Option<EntryId>) -> wire::BeatReply {
        wire::BeatReply {
            sequence,
            wall_ms: self.clock.wall(),
            not_a_member: not_a_member.map(wire::EntryId::from),
        }
    }

    /// Checks who asks for a vote.
    fn candidate(&self, request: &mut wire::BallotRequest) -> Result<(), Status> {
        let from = self.caller(request.header.take())?;
        self.passport.check_candidate(from, request.last.map(EntryId::from))
    }

    async fn one_beat(
        &self,
        inbound: &mut Streaming<wire::Beat>,
        guard: &mut Option<(u64, StreamGuard)>,
    ) -> Result<Option<wire::BeatReply>, Status> {
        let next = tokio::time::timeout(limits::PRESENCE_IDLE, inbound.message()).await;
        let Some(beat) = next.map_err(|_| Status::deadline_exceeded("no beat for too long"))?? else {
            return Ok(None);
        };
        let from = match guard {
            Some((from, _)) => *from,
            None => self.caller(beat.header)?,
        };
        if let Some(lacking) = self.passport.lacks(from) {
            // A caller that goes on without a header is refused.
            *guard = None;
            return Ok(Some(self.beat_reply(beat.sequence, Some(lacking))));
        }
        match guard {
            Some(_) => self.presence.heard(from),
            None => {
                let release = Release::told(beat.level, &beat.version);
                *guard = Some((from, self.presence.opened(from, release)));
            }
        }
        Ok(Some(self.beat_reply(beat.sequence, None)))
    }
}

fn bad(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(fatal: &Fatal<Config>) -> Status {
    Status::unavailable(format!("the replica has stopped: {fatal}"))
}

fn refused(error: RaftError<Config>) -> Status {
    Status::unavailable(format!("the replica has stopped: {error}"))
}

#[tonic::async_trait]
impl Peer for Service {
    type AppendStream = Outbound<wire::AppendReply>;
    type PresenceStream = Outbound<wire::BeatReply>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let verdict: Verdict = Arc::default();
        let requests = self.requests(request.into_inner(), Arc::clone(&verdict));
        let replies = self.raft.stream_append(requests).map(|result| match result {
            Ok(result) => Ok(wire::appended_out(&result)),
            Err(fatal) => Err(stopped(&fatal)),
        });
        let ending = stream::once(async move { verdict.lock().unwrap_or_else(PoisonError::into_inner).take() });
        let replies = replies.chain(ending.filter_map(|status| async move { status.map(Err) }));
        Ok(Response::new(Box::pin(replies)))
    }

    async fn heartbeat(&self, request: Request<wire::AppendRequest>) -> Result<Response<wire::AppendReply>, Status> {
        let mut request = request.into_inner();
        self.caller(request.header.take())?;
        let request = self.unfenced(request)?;
        let replies = self.raft.stream_append(stream::once(async move { request }));
        let mut replies = Box::pin(replies);
        match replies.next().await {
            Some(Ok(result)) => Ok(Response::new(wire::appended_out(&result))),
            Some(Err(fatal)) => Err(stopped(&fatal)),
            None => Err(Status::unavailable("the replica has stopped")),
        }
    }

    async fn vote(&self, request: Request<wire::BallotRequest>) -> Result<Response<wire::BallotReply>, Status> {
        let mut request = request.into_inner();
        self.candidate(&mut request)?;
        let response = self
            .raft
            .vote(wire::ballot_in(request).map_err(bad)?)
            .await
            .map_err(refused)?;
        Ok(Response::new(wire::balloted_out(&response)))
    }

    async fn pre_vote(&self, request: Request<wire::BallotRequest>) -> Result<Response<wire::BallotReply>, Status> {
        let mut request = request.into_inner();
        self.candidate(&mut request)?;
        let response = self
            .raft
            .pre_vote(wire::ballot_in(request).map_err(bad)?)
            .await
            .map_err(refused)?;
        Ok(Response::new(wire::balloted_out(&response)))
    }

    async fn handover(&self, request: Request<wire::HandoverRequest>) -> Result<Response<wire::HandoverReply>, Status> {
        let mut request = request.into_inner();
        self.caller(request.header.take())?;
        let request = wire::handover_in(request).map_err(bad)?;
        let response = self
            .raft
            .handle_transfer_leader(request)
            .await
            .map_err(|fatal| stopped(&fatal))?;
        Ok(Response::new(wire::handed_over_out(&response)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotReply>, Status> {
        let mut inbound = request.into_inner();
        let missing = || Status::invalid_argument("the snapshot's head is missing");
        let first = tokio::time::timeout(limits::SNAPSHOT_IDLE, inbound.message()).await;
        let first = first.map_err(|_| missing())??;
        let mut head = first.and_then(|chunk| chunk.head).ok_or_else(missing)?;
        let from = self.caller(head.header.take())?;
        let reply = self.incoming.receive(&self.raft, &self.presence, (from, head), inbound);
        reply.await.map(Response::new)
    }

    async fn snapshot_place(
        &self,
        request: Request<wire::SnapshotPlaceRequest>,
    ) -> Result<Response<wire::SnapshotPlaceReply>, Status> {
        let request = request.into_inner();
        self.caller(request.header)?;
        let export = request
            .export
            .ok_or_else(|| Status::invalid_argument("export is missing"))?;
        let from = self.incoming.place(export.into())?;
        Ok(Response::new(wire::SnapshotPlaceReply { from }))
    }

    async fn presence(
        &self,
        request: Request<Streaming<wire::Beat>>,
    ) -> Result<Response<Self::PresenceStream>, Status> {
        let state = (self.clone(), request.into_inner(), None::<(u64, StreamGuard)>);
        let replies = stream::unfold(Some(state), |state| async move {
            let (service, mut inbound, mut guard) = state?;
            match service.one_beat(&mut inbound, &mut guard).await {
                Ok(Some(reply)) => Some((Ok(reply), Some((service, inbound, guard)))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn leader_gone(
        &self,
        request: Request<wire::LeaderGoneRequest>,
    ) -> Result<Response<wire::LeaderGoneReply>, Status> {
        let request = request.into_inner();
        self.caller(request.header)?;
        let vote = wire::vote_in(request.vote).map_err(bad)?;
        if !self.presence.is_gone(&vote) {
            return Ok(Response::new(wire::LeaderGoneReply {
                agree: false,
                last: None,
            }));
        }
        // Asked through the core's queue: every append that passed the fence before is counted in.
        let standing = self
            .raft
            .with_raft_state(|state| (*state.vote_ref(), state.log_ids.last().copied()));
        let standing = tokio::time::timeout(Duration::from_millis(40), standing).await;
        let (current, last) = standing
            .map_err(|_| Status::deadline_exceeded("the core is busy"))?
            .map_err(|fatal| stopped(&fatal))?;
        let agree = current == vote && self.presence.is_gone(&vote);
        Ok(Response::new(wire::LeaderGoneReply {
            agree,
            last: last.as_ref().map(wire::id_out),
        }))
    }

    async fn identify(&self, request: Request<wire::IdentifyRequest>) -> Result<Response<wire::IdentifyReply>, Status> {
        let request = request.into_inner();
        let own = self.passport.identity();
        if (request.to, &request.broker_group) != (own.id.get(), &own.broker_group) {
            let reason = format!("this is replica {} of broker group {:?}", own.id, own.broker_group);
            return Err(Status::failed_precondition(reason));
        }
        let initialized = self.raft.is_initialized().await.map_err(|fatal| stopped(&fatal))?;
        Ok(Response::new(wire::IdentifyReply {
            id: own.id.get(),
            broker_group: own.broker_group,
            incarnation: own.incarnation,
            cluster_id: own.cluster_id.unwrap_or_default(),
            initialized,
            level: self.passport.release().level,
            version: self.passport.release().version.clone(),
        }))
    }

    async fn adopt(&self, request: Request<wire::AdoptRequest>) -> Result<Response<wire::AdoptReply>, Status> {
        let request = request.into_inner();
        let own = self.passport.identity();
        let addressee = (request.to, &request.broker_group, request.to_incarnation);
        if addressee != (own.id.get(), &own.broker_group, own.incarnation) || request.cluster_id.is_empty() {
            return Err(Status::failed_precondition("the call is for another replica"));
        }
        match self.passport.keeper().adopt(&request.cluster_id).await {
            Ok(Ok(())) => Ok(Response::new(wire::AdoptReply {})),
            Ok(Err(other)) => Err(Status::failed_precondition(other.to_string())),
            Err(error) => Err(Status::unavailable(format!("cannot save the identity: {error}"))),
        }
    }
}
