//! The bytes of all requests that this process holds: every request pays as its bytes arrive and gets them back when it is
//! answered. What is too large, or comes when too much is held, gets a clear answer before memory is spent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::iter;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use ledgermq_proto::rocketmq::{Code, HeartbeatResponse};
use prost::Message as _;
use tonic::body::Body;

use super::OpenCall;
use crate::language::Language;
use crate::limits;
use crate::refusal::Refusal;

/// What a call is, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Send,
    Telemetry,
    /// Any other verb of the public protocol.
    Verb,
    Forward,
    Admin,
    Health,
    Unknown,
}

impl Kind {
    pub fn of(path: &str) -> Self {
        if let Some(verb) = path.strip_prefix("/apache.rocketmq.v2.MessagingService/") {
            return match verb {
                "SendMessage" => Self::Send,
                "Telemetry" => Self::Telemetry,
                _ => Self::Verb,
            };
        }
        match path.split('/').nth(1) {
            Some("ledgermq.door.v1.Door") => Self::Forward,
            Some("ledgermq.admin.v1.Admin") => Self::Admin,
            Some("grpc.health.v1.Health") => Self::Health,
            _ => Self::Unknown,
        }
    }

    fn message_bytes_max(self) -> usize {
        match self {
            Self::Send => limits::SEND_REQUEST_BYTES_MAX,
            // A forwarded send and its envelope.
            Self::Forward => limits::SEND_REQUEST_BYTES_MAX + limits::SMALL_REQUEST_BYTES_MAX,
            _ => limits::SMALL_REQUEST_BYTES_MAX,
        }
    }
}

/// The process's budget.
pub struct Budget {
    left: AtomicUsize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self {
            left: AtomicUsize::new(bytes),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

const FINE: u8 = 0;
const TOO_LARGE: u8 = 1;
const FULL: u8 = 2;

/// What one request holds of the budget.
pub struct Held {
    budget: Arc<Budget>,
    kind: Kind,
    taken: AtomicUsize,
    verdict: AtomicU8,
    length: AtomicUsize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(*self.taken.get_mut());
    }
}

impl Held {
    /// The answer, where the budget refused the request.
    pub fn refused(&self) -> Option<Response<Body>> {
        let length = self.length.load(Ordering::Relaxed);
        let refusal = match self.verdict.load(Ordering::Relaxed) {
            FINE => return None,
            TOO_LARGE => {
                let limit = self.kind.message_bytes_max();
                Refusal::new(
                    Code::PayloadTooLarge,
                    format!("a request of {length} bytes, at most {limit} are allowed"),
                )
            }
            _ => Refusal::new(Code::TooManyRequests, "too many bytes of requests are held, try again"),
        };
        let in_payload = matches!(self.kind, Kind::Send | Kind::Verb) && length <= limits::INBOUND_MESSAGE_BYTES_MAX;
        Some(if in_payload {
            payload(&refusal)
        } else {
            exhausted(&refusal.message).into_http()
        })
    }

    fn refuse(&self, verdict: u8, length: usize) -> tonic::Status {
        self.length.store(length, Ordering::Relaxed);
        self.verdict.store(verdict, Ordering::Relaxed);
        exhausted("the request is refused")
    }
}

fn exhausted(message: &str) -> tonic::Status {
    tonic::Status::resource_exhausted(message)
}

/// A reply with a status and nothing else: in every reply of the protocol the status is field 1.
fn payload(refusal: &Refusal) -> Response<Body> {
    let message = HeartbeatResponse {
        status: Some(refusal.status(Language::Unknown)),
    }
    .encode_to_vec();
    let mut data = BytesMut::with_capacity(message.len() + PREFIX);
    data.put_u8(0);
    data.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    data.put_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [
        Ok::<_, tonic::Status>(Frame::data(data.freeze())),
        Ok(Frame::trailers(trailers)),
    ];
    let mut response = Response::new(Body::new(StreamBody::new(iter(frames))));
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Bytes before each gRPC message: a flag and its length.
const PREFIX: usize = 5;

/// A request's body that pays.
pub struct Counted {
    inner: Incoming,
    held: Arc<Held>,
    prefix: [u8; PREFIX],
    prefix_length: usize,
    message_left: usize,
}

/// Puts a request under the budget.
pub fn count(request: Request<Incoming>, kind: Kind, budget: &Arc<Budget>) -> (Request<Counted>, Arc<Held>) {
    let held = Arc::new(Held {
        budget: Arc::clone(budget),
        kind,
        taken: AtomicUsize::new(0),
        verdict: AtomicU8::new(FINE),
        length: AtomicUsize::new(0),
    });
    let of_body = Arc::clone(&held);
    let request = request.map(|inner| Counted {
        inner,
        held: of_body,
        prefix: [0; PREFIX],
        prefix_length: 0,
        message_left: 0,
    });
    (request, held)
}

impl Counted {
    /// Follows the messages in the bytes: their lengths are known before their bytes are kept.
    fn look(&mut self, mut data: &[u8]) -> Result<(), tonic::Status> {
        let bytes = data.len();
        if !self.held.budget.take(bytes) {
            return Err(self.held.refuse(FULL, 0));
        }
        self.held.taken.fetch_add(bytes, Ordering::Relaxed);
        while !data.is_empty() {
            if self.message_left > 0 {
                let count = self.message_left.min(data.len());
                self.message_left -= count;
                data = &data[count..];
            } else {
                let count = (PREFIX - self.prefix_length).min(data.len());
                self.prefix[self.prefix_length..self.prefix_length + count].copy_from_slice(&data[..count]);
                self.prefix_length += count;
                data = &data[count..];
                if self.prefix_length == PREFIX {
                    self.prefix_length = 0;
                    let [_, a, b, c, d] = self.prefix;
                    self.message_left = u32::from_be_bytes([a, b, c, d]) as usize;
                    if self.message_left > self.held.kind.message_bytes_max() {
                        return Err(self.held.refuse(TOO_LARGE, self.message_left));
                    }
                }
            }
        }
        if self.held.kind == Kind::Telemetry && self.message_left == 0 {
            // A conversation pays for the message under way only.
            self.held.budget.give_back(self.held.taken.swap(0, Ordering::Relaxed));
        }
        Ok(())
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(tonic::Status::unavailable(error.to_string())))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref()
            && let Err(status) = self.look(data)
        {
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Counts a call as open until its reply is written.
pub fn keep_open(response: Response<Body>, open: OpenCall) -> Response<Body> {
    response.map(|inner| Body::new(KeptOpen { inner, _open: open }))
}

struct KeptOpen {
    inner: Body,
    _open: OpenCall,
}

impl HttpBody for KeptOpen {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
