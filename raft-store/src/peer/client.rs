//! The client side of replication, as openraft drives it.
//!
//! ```text
//! openraft's request stream ──▶ window (requests and bytes) ──▶ one gRPC stream ──▶ replies in order ──▶ openraft
//!                                   ▲                                                   │
//!                                   └────────────────── room given back ◀───────────────┘
//! ```

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tonic::{Code, Response, Status, Streaming};

use crate::limits;
use crate::peer::link::{Link, Links};
use crate::peer::passport::Passport;
use crate::peer::presence::Presence;
use crate::peer::transfer;
use crate::peer::wire::{self, WireError};
use crate::planted::{Bug, Planted};
use crate::raft::adapter::{Content, Labelled};
use crate::raft::config::{Config, LogId, Node, Vote};
use crate::raft::labels::Labels;

/// Makes a client for each replica openraft wants to talk to.
#[derive(Clone)]
pub struct Network {
    /// Connections.
    pub links: Arc<Links>,
    /// What this replica shows.
    pub passport: Arc<Passport>,
    /// The copy of the state that snapshots are sent from.
    pub labels: Arc<Labels>,
    /// Replies count as signs of life.
    pub presence: Arc<Presence>,
    /// A bug on purpose.
    pub planted: Planted,
}

/// Which of a replica's connections a client appends through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Append,
    Heartbeat,
}

/// A client of one replica.
pub struct Peer {
    target: u64,
    node: Node,
    /// For snapshots, whose clients live for one transfer. Everything else goes through [`Peer::link`].
    link: Arc<Link>,
    network: Network,
    through: Use,
}

impl Network {
    fn peer(&self, target: u64, node: &Node, through: Use) -> Peer {
        let link = self.links.to(&node.peer_address);
        Peer {
            target,
            node: node.clone(),
            link,
            network: self.clone(),
            through,
        }
    }
}

impl RaftNetworkFactory<Config> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, Use::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, Use::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, Use::Append)
    }
}

/// A failed call in openraft's words: a replica that can't be reached or refuses is backed off from, everything else
/// is tried again at once.
fn failed(status: &Status) -> RPCError<Config> {
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition | Code::Unimplemented | Code::PermissionDenied => {
            RPCError::Unreachable(Unreachable::new(status))
        }
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

fn malformed(error: &WireError) -> RPCError<Config> {
    RPCError::Unreachable(Unreachable::new(error))
}

/// A unary call with its deadline.
pub async fn call<T>(deadline: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::unavailable(format!("no answer within {deadline:?}"))),
    }
}

impl Peer {
    fn header(&self) -> wire::Header {
        self.network.passport.header(self.target, &self.node)
    }

    /// The connections to where the replica is now: openraft keeps its clients through a change of address.
    fn link(&self) -> Arc<Link> {
        match self.network.passport.peer_address(self.target) {
            Some(address) => self.network.links.to(&address),
            None => Arc::clone(&self.link),
        }
    }

    fn answered<T>(&self, answer: Result<T, Status>) -> Result<T, RPCError<Config>> {
        match answer {
            Ok(answer) => {
                self.network.presence.heard(self.target);
                Ok(answer)
            }
            Err(status) => {
                if status.code() == Code::FailedPrecondition {
                    tracing::warn!(
                        peer = self.target,
                        reason = status.message(),
                        "a replica refuses this one"
                    );
                }
                Err(failed(&status))
            }
        }
    }

    async fn append_once(
        &self,
        request: AppendEntriesRequest<Config>,
        deadline: Duration,
    ) -> Result<StreamAppendResult<Config>, RPCError<Config>> {
        let request = wire::append_out(request, Some(self.header()));
        let reply = self.answered(call(deadline, self.link().heartbeat.clone().heartbeat(request)).await)?;
        wire::appended_in(reply).map_err(|error| malformed(&error))
    }

    /// The replication pipeline: opens the stream, and answers the stream of replies. The first request is waited for
    /// before anything is tried: openraft waits out its backoff inside the stream of requests, so a pipeline that
    /// failed without asking for one would be tried again at once, for ever.
    async fn pipeline<S>(&self, mut input: S) -> Result<Option<Replies>, RPCError<Config>>
    where
        S: Stream<Item = AppendEntriesRequest<Config>> + Send + Unpin + 'static,
    {
        let Some(first) = input.next().await else {
            return Ok(None);
        };
        let input = stream::iter([first]).chain(input);
        let window = Arc::new(Window::new());
        let (open, closed) = oneshot::channel();
        let outbound = outbound(input, self.header(), Arc::clone(&window), closed);
        let opened = call(limits::CALL_DEADLINE, self.link().append.clone().append(outbound)).await;
        let replies = self.answered(opened)?;
        let presence = Arc::clone(&self.network.presence);
        Ok(Some(Replies {
            replies,
            window,
            presence,
            target: self.target,
            planted: self.network.planted,
            agreed: false,
            ended: false,
            _open: open,
        }))
    }
}

/// Requests on their way, oldest first. Room is given back as their replies come in.
struct Window {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    sent: Mutex<VecDeque<Sent>>,
}

struct Sent {
    at: Instant,
    /// The last entry that the follower has once it took the request.
    last: Option<LogId>,
    /// It was counted before the reply came: a bug on purpose.
    counted: bool,
    _request: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Window {
    fn new() -> Window {
        Window {
            requests: Arc::new(Semaphore::new(limits::APPENDS_IN_FLIGHT)),
            bytes: Arc::new(Semaphore::new(limits::APPEND_BYTES_IN_FLIGHT)),
            sent: Mutex::new(VecDeque::new()),
        }
    }

    /// Waits for room for a request of so many bytes; `None` once the window is closed.
    async fn admit(&self, bytes: usize, last: Option<LogId>) -> Option<()> {
        let bytes = u32::try_from(bytes.clamp(1, limits::APPEND_BYTES_IN_FLIGHT)).unwrap_or(1);
        let request = Arc::clone(&self.requests).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes).await.ok()?;
        let sent = Sent {
            at: Instant::now(),
            last,
            counted: false,
            _request: request,
            _bytes: bytes,
        };
        self.sent().push_back(sent);
        Some(())
    }

    fn sent(&self) -> MutexGuard<'_, VecDeque<Sent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest request was answered; whether it had been counted before.
    fn answered(&self) -> bool {
        self.sent().pop_front().is_some_and(|sent| sent.counted)
    }

    /// Counts the oldest request that was not, as if it had been answered.
    fn count_unanswered(&self) -> Option<Option<LogId>> {
        let mut sent = self.sent();
        let next = sent.iter_mut().find(|sent| !sent.counted)?;
        next.counted = true;
        Some(next.last)
    }

    /// How long the oldest unanswered request has been waiting.
    fn waiting(&self) -> Option<Duration> {
        self.sent().front().map(|sent| sent.at.elapsed())
    }
}

/// The requests as sent. Ends as soon as nobody waits for replies any more: HTTP/2 keeps polling a request's body after
/// its response was dropped, and openraft's stream holds a lock while it is waited for.
fn outbound<S>(
    input: S,
    header: wire::Header,
    window: Arc<Window>,
    closed: oneshot::Receiver<()>,
) -> impl Stream<Item = wire::AppendRequest> + Send
where
    S: Stream<Item = AppendEntriesRequest<Config>> + Send + Unpin + 'static,
{
    stream::unfold(
        (input, Some(header), window, closed),
        |(mut input, header, window, mut closed)| async move {
            let admitted = async {
                let request = input.next().await?;
                let bytes = request.entries.iter().map(|entry| entry.body_bytes() + 64).sum();
                let last = request.entries.last().map(|entry| entry.id).or(request.prev_log_id);
                window.admit(bytes, last).await?;
                Some(request)
            };
            let request = tokio::select! {
                biased;
                _ = &mut closed => None,
                request = admitted => request,
            }?;
            Some((wire::append_out(request, header), (input, None, window, closed)))
        },
    )
}

/// The replies of one replication stream.
struct Replies {
    replies: Streaming<wire::AppendReply>,
    window: Arc<Window>,
    presence: Arc<Presence>,
    target: u64,
    planted: Planted,
    /// The follower took a request of this stream.
    agreed: bool,
    ended: bool,
    /// Dropped with the replies, which ends the requests.
    _open: oneshot::Sender<()>,
}

impl Replies {
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Config>, RPCError<Config>>> {
        let mut patience = limits::APPEND_IDLE / 4;
        while !self.ended {
            if self.planted.has(Bug::AckFromLeaderAlone) && self.agreed {
                if let Some(last) = self.window.count_unanswered() {
                    return Some(Ok(Ok(last)));
                }
                patience = Duration::from_millis(1);
            }
            // An idle stream is fine, an unanswered request is not.
            let reply = match tokio::time::timeout(patience, self.replies.message()).await {
                Ok(reply) => reply,
                Err(_)
                    if self
                        .window
                        .waiting()
                        .is_some_and(|waiting| waiting >= limits::APPEND_IDLE) =>
                {
                    Err(Status::unavailable("an append request stays unanswered"))
                }
                Err(_) => continue,
            };
            let result = match reply {
                Ok(Some(reply)) => {
                    self.presence.heard(self.target);
                    let counted = self.window.answered();
                    let result = wire::appended_in(reply).map_err(|error| malformed(&error));
                    self.agreed |= matches!(result, Ok(Ok(_)));
                    if counted && matches!(result, Ok(Ok(_))) {
                        continue;
                    }
                    result
                }
                Ok(None) => break,
                Err(status) => Err(failed(&status)),
            };
            self.ended = !matches!(result, Ok(Ok(_)));
            return Some(result);
        }
        None
    }
}

impl RaftNetworkV2<Config> for Peer {
    type SnapshotData = Content;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Config>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Config>, RPCError<Config>> {
        let deadline = option.hard_ttl().max(limits::CALL_DEADLINE);
        self.append_once(request, deadline)
            .await
            .map(AppendEntriesResponse::from)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Config>, RPCError<Config>>>, RPCError<Config>>>
    where
        S: Stream<Item = AppendEntriesRequest<Config>> + Send + Unpin + 'static,
    {
        match self.through {
            Use::Heartbeat => Box::pin(async move {
                let Some(request) = input.next().await else {
                    return Ok(stream::empty().boxed());
                };
                let result = self.append_once(request, option.hard_ttl()).await?;
                Ok(stream::once(async move { Ok(result) }).boxed())
            }),
            Use::Append => Box::pin(async move {
                let Some(replies) = self.pipeline(input).await? else {
                    return Ok(stream::empty().boxed());
                };
                let results = stream::unfold(
                    replies,
                    |mut replies| async move { Some((replies.next().await?, replies)) },
                );
                Ok(results.boxed())
            }),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Config>,
        option: RPCOption,
    ) -> Result<VoteResponse<Config>, RPCError<Config>> {
        let request = wire::ballot_out(&request, self.header());
        let deadline = option.hard_ttl().min(limits::CALL_DEADLINE);
        let reply = self.answered(call(deadline, self.link().heartbeat.clone().vote(request)).await)?;
        wire::balloted_in(reply).map_err(|error| malformed(&error))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Config>,
        option: RPCOption,
    ) -> Result<VoteResponse<Config>, RPCError<Config>> {
        let request = wire::ballot_out(&request, self.header());
        let deadline = option.hard_ttl().min(limits::CALL_DEADLINE);
        let reply = self.answered(call(deadline, self.link().heartbeat.clone().pre_vote(request)).await)?;
        wire::balloted_in(reply).map_err(|error| malformed(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Labelled,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Config>, StreamingError<Config>> {
        let labels = Arc::clone(&self.network.labels);
        let sending = transfer::send(self.link.snapshot.clone(), self.header(), vote, snapshot, labels);
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = sending => answer,
        };
        let reply = self.answered(answer)?;
        let vote = wire::vote_in(reply.vote).map_err(|error| malformed(&error))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Config>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Config>, RPCError<Config>> {
        let request = wire::handover_out(&request, self.header());
        let deadline = option.hard_ttl().max(limits::CALL_DEADLINE);
        let reply = self.answered(call(deadline, self.link().heartbeat.clone().handover(request)).await)?;
        wire::handed_over_in(reply).map_err(|error| malformed(&error))
    }

    fn backoff(&self) -> Option<Backoff> {
        None
    }
}
