//! Why a call of the client failed.

use ledgermq_proto::rocketmq::{self as wire, Code};
use thiserror::Error;

/// Why a call failed. Each kind has a code, a message and the topic (empty when the call has none).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// A rule is broken; nothing was sent.
    #[error("{topic}: {message}")]
    Invalid {
        /// The topic of the call.
        topic: String,
        /// The rule.
        message: String,
    },
    /// The server answered with a code that is not OK.
    #[error("{topic}: {} {message}", code.as_str_name())]
    Refused {
        /// The server's code.
        code: Code,
        /// The server's words.
        message: String,
        /// The topic of the call.
        topic: String,
        /// An earlier try of the same call ended without an answer.
        unknown: bool,
    },
    /// No server answered in time. The call may have taken effect.
    #[error("{topic}: no answer: {message}")]
    Unanswered {
        /// gRPC's code of the last try.
        code: tonic::Code,
        /// What was tried, and how it ended.
        message: String,
        /// The topic of the call.
        topic: String,
        /// A server may have taken the call.
        unknown: bool,
    },
    /// A server's answer breaks the protocol.
    #[error("{topic}: answer breaks the protocol: {message}")]
    Protocol {
        /// The topic of the call.
        topic: String,
        /// What is wrong with it.
        message: String,
    },
    /// The client was shut down.
    #[error("{topic}: the client is closed")]
    Closed {
        /// The topic of the call.
        topic: String,
    },
}

impl Error {
    pub(crate) fn invalid(topic: &str, message: impl Into<String>) -> Self {
        Self::Invalid {
            topic: topic.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn protocol(topic: &str, message: impl Into<String>) -> Self {
        Self::Protocol {
            topic: topic.to_owned(),
            message: message.into(),
        }
    }

    /// The code nearest to the error, in the words of the protocol.
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } => Code::BadRequest,
            Self::Refused { code, .. } => *code,
            Self::Unanswered {
                code: tonic::Code::DeadlineExceeded,
                ..
            } => Code::RequestTimeout,
            Self::Unanswered { .. } | Self::Protocol { .. } => Code::InternalError,
            Self::Closed { .. } => Code::PreconditionFailed,
        }
    }

    /// The topic of the call, empty when it has none.
    pub fn topic(&self) -> &str {
        match self {
            Self::Invalid { topic, .. }
            | Self::Refused { topic, .. }
            | Self::Unanswered { topic, .. }
            | Self::Protocol { topic, .. }
            | Self::Closed { topic } => topic,
        }
    }

    /// What happened, without the topic.
    pub fn message(&self) -> &str {
        match self {
            Self::Invalid { message, .. }
            | Self::Refused { message, .. }
            | Self::Unanswered { message, .. }
            | Self::Protocol { message, .. } => message,
            Self::Closed { .. } => "the client is closed",
        }
    }

    /// True when the call may have taken effect although it failed: a send may have been stored.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Refused { code, unknown, .. } => *unknown || !certain(*code),
            Self::Unanswered { unknown, .. } => *unknown,
            Self::Protocol { .. } => true,
            Self::Invalid { .. } | Self::Closed { .. } => false,
        }
    }
}

/// A server that answers so did nothing: its codes for a wrong call, and those for a full or unfit server.
fn certain(code: Code) -> bool {
    let number = i32::from(code);
    let wrong_call = (40_000..50_000).contains(&number) && code != Code::RequestTimeout;
    wrong_call || final_server_code(code)
}

fn final_server_code(code: Code) -> bool {
    matches!(
        code,
        Code::NotImplemented | Code::Unsupported | Code::VersionUnsupported
    )
}

/// Another try may succeed: the server failed, or it has no room now.
pub(crate) fn retriable(code: Code) -> bool {
    match code {
        Code::TooManyRequests | Code::RequestTimeout => true,
        code => i32::from(code) >= 50_000 && i32::from(code) < 60_000 && !final_server_code(code),
    }
}

/// A call that never reached a server: nothing can have taken effect.
pub(crate) fn never_sent(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Unavailable && connect_failed(status)
}

fn connect_failed(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The code and the words of a status in a reply; a reply without one breaks the protocol.
pub(crate) fn answered(topic: &str, status: Option<wire::Status>) -> Result<(Code, String), Error> {
    let status = status.ok_or_else(|| Error::protocol(topic, "no status"))?;
    let code = Code::try_from(status.code)
        .map_err(|_| Error::protocol(topic, format!("code {}: {}", status.code, status.message)))?;
    Ok((code, status.message))
}
