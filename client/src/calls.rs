//! One call of the public protocol: its headers, its tries, its deadline.

use std::{future::Future, sync::Arc, time::Duration};

use ledgermq_proto::{
    headers,
    rocketmq::{
        self as wire, AckMessageResponse, Address, AddressScheme, ChangeInvisibleDurationResponse, Code, Endpoints,
        QueryRouteResponse, Resource, SendMessageResponse,
    },
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tonic::{
    Extensions, Request, Response, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
};

use crate::{
    door::{AddressBook, Doors, Heard, Stub},
    error::{Error, answered, never_sent, retriable},
    identity::Identity,
    limits,
    options::Options,
};

/// A reply that carries a payload status.
pub(crate) trait Reply {
    fn take_status(&mut self) -> Option<wire::Status>;
}

macro_rules! replies {
    ($($reply:ty),*) => {
        $(impl Reply for $reply {
            fn take_status(&mut self) -> Option<wire::Status> {
                self.status.take()
            }
        })*
    };
}

replies!(
    QueryRouteResponse,
    SendMessageResponse,
    AckMessageResponse,
    ChangeInvisibleDurationResponse
);

/// What every call of one client needs.
pub(crate) struct Calls {
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    pub(crate) book: AddressBook,
    headers: MetadataMap,
    /// Told after each failed try: a route may be out of date.
    failures: Notify,
    closed: watch::Sender<bool>,
}

impl Calls {
    /// Checks the options.
    pub(crate) fn new(options: Options) -> Result<Arc<Self>, Error> {
        options.check()?;
        Ok(Arc::new(Self {
            headers: metadata(&options)?,
            identity: Identity::new(&options.client_id, options.seed, options.process_id),
            book: AddressBook::new(options.clone()),
            options,
            failures: Notify::new(),
            closed: watch::Sender::new(false),
        }))
    }

    /// Calls fail from now on.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Completes at the next failed try, at once when one failed since the last time.
    pub(crate) async fn failed(&self) {
        self.failures.notified().await;
    }

    pub(crate) fn resource(&self, name: &str) -> Resource {
        Resource {
            resource_namespace: String::new(),
            name: name.to_owned(),
        }
    }

    /// A request with the headers of this client.
    pub(crate) fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut metadata = self.headers.clone();
        if let Ok(id) = AsciiMetadataValue::try_from(self.identity.request_id()) {
            metadata.insert(headers::REQUEST_ID, id);
        }
        let mut request = Request::from_parts(metadata, Extensions::new(), message);
        request.set_timeout(deadline);
        request
    }

    /// A request without an end: Telemetry.
    pub(crate) fn endless<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.headers.clone(), Extensions::new(), message)
    }

    /// The access points as the servers are told.
    pub(crate) fn access_point(&self) -> Endpoints {
        let addresses = self.options.endpoints.iter().filter_map(|text| {
            let (host, port) = text.rsplit_once(':')?;
            Some(Address {
                host: host.to_owned(),
                port: port.parse().ok()?,
            })
        });
        let addresses: Vec<Address> = addresses.collect();
        let ipv4 = addresses
            .iter()
            .all(|address| address.host.parse::<std::net::Ipv4Addr>().is_ok());
        let scheme = if ipv4 {
            AddressScheme::IPv4
        } else {
            AddressScheme::DomainName
        };
        Endpoints {
            scheme: scheme.into(),
            addresses,
        }
    }

    /// Tries `call` at the doors until one answers with OK or with a refusal that another try can't help. Each try is
    /// ended after `deadline`. TOO_MANY_REQUESTS waits and doubles the wait; everything else is tried elsewhere at once. A
    /// client that is closed meanwhile tries no more, and answers what its last try did.
    pub(crate) async fn attempt<R, F, A>(
        &self,
        topic: &str,
        doors: &Doors,
        deadline: Duration,
        mut call: F,
    ) -> Result<Response<R>, Error>
    where
        R: Reply,
        F: FnMut(Stub) -> A,
        A: Future<Output = Result<Response<R>, Status>>,
    {
        let mut unknown = false;
        let mut tried = None;
        let mut backoff = limits::BACKOFF_INITIAL;
        let mut attempt = 1;
        if self.is_closed() {
            return Err(Error::Closed {
                topic: topic.to_owned(),
            });
        }
        loop {
            let door = doors.pick(self.book.now_ms(), tried);
            tried = Some(door);
            let address = &doors.addresses()[door];
            let failed = match timeout(deadline, call(address.stub())).await {
                Ok(Ok(mut reply)) => {
                    let (code, message) = answered(topic, reply.get_mut().take_status())?;
                    // A door that found no leader in its time, or has stopped, keeps the next call waiting as well.
                    let heard = match retriable(code) && code != Code::TooManyRequests {
                        true => Heard::Unfit,
                        false => Heard::Answer,
                    };
                    self.book.note(doors, door, heard);
                    if matches!(code, Code::Ok | Code::MultipleResults) {
                        return Ok(reply);
                    }
                    let refused = Error::Refused {
                        code,
                        message,
                        topic: topic.to_owned(),
                        unknown,
                    };
                    if !retriable(code) {
                        return Err(refused);
                    }
                    if code == Code::TooManyRequests && attempt < self.options.attempts_max {
                        sleep(backoff).await;
                        backoff = (backoff * 2).min(limits::BACKOFF_MAX);
                        tried = None;
                    }
                    unknown = refused.outcome_unknown();
                    refused
                }
                Ok(Err(status)) => {
                    let answered = settled(&status);
                    let heard = if answered { Heard::Answer } else { Heard::Nothing };
                    self.book.note(doors, door, heard);
                    unknown |= !answered && !never_sent(&status);
                    let message = format!("{}: {:?} {}", address.authority(), status.code(), status.message());
                    let failed = Error::Unanswered {
                        code: status.code(),
                        message,
                        topic: topic.to_owned(),
                        unknown,
                    };
                    if answered {
                        return Err(failed);
                    }
                    failed
                }
                Err(_) => {
                    self.book.note(doors, door, Heard::Nothing);
                    unknown = true;
                    let message = format!("{}: nothing within {} ms", address.authority(), deadline.as_millis());
                    Error::Unanswered {
                        code: tonic::Code::DeadlineExceeded,
                        message,
                        topic: topic.to_owned(),
                        unknown,
                    }
                }
            };
            self.failures.notify_one();
            if attempt >= self.options.attempts_max || self.is_closed() {
                return Err(failed);
            }
            attempt += 1;
        }
    }
}

/// Answers of gRPC itself that another door gives as well.
fn settled(status: &Status) -> bool {
    use tonic::Code::{InvalidArgument, OutOfRange, PermissionDenied, Unauthenticated, Unimplemented};
    matches!(
        status.code(),
        InvalidArgument | OutOfRange | PermissionDenied | Unauthenticated | Unimplemented
    )
}

fn metadata(options: &Options) -> Result<MetadataMap, Error> {
    let mut metadata = MetadataMap::with_capacity(8);
    let client_id = AsciiMetadataValue::try_from(options.client_id.as_str())
        .map_err(|_| Error::invalid("", format!("client id {:?} is not ASCII", options.client_id)))?;
    metadata.insert(headers::CLIENT_ID, client_id);
    let language = AsciiMetadataValue::try_from(options.language.as_str())
        .map_err(|_| Error::invalid("", format!("language {:?} is not ASCII", options.language)))?;
    metadata.insert(headers::LANGUAGE, language);
    metadata.insert(
        headers::CLIENT_VERSION,
        AsciiMetadataValue::from_static(env!("CARGO_PKG_VERSION")),
    );
    metadata.insert(headers::PROTOCOL, AsciiMetadataValue::from_static("v2"));
    if options.placement {
        metadata.insert(headers::PLACEMENT, AsciiMetadataValue::from_static("1"));
    }
    Ok(metadata)
}
