//! Every way a command can end badly, and its exit code. The one place that turns errors of the layers below into codes.

use std::fmt;
use std::process::ExitCode;

/// Shown by `ledgermq --help`; docs/operations.md says the same.
pub const EXIT_CODES_HELP: &str = "Exit codes: 0 done, 1 internal error, 2 wrong usage, 3 not found, \
4 refused or invalid, 5 unavailable or timed out, 6 a local file or port could not be used";

/// What kind of failure it was: the number is the exit code, so it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bug, or an answer that nobody expected.
    Internal = 1,
    // 2 is wrong usage of the command line: clap ends with it by itself.
    /// The named topic, consumer group, broker group or replica does not exist.
    NotFound = 3,
    /// The server or a check said no: an invalid value, a name that exists already, a state that does not allow it.
    Refused = 4,
    /// No server answered in time, or the broker group has no leader.
    Unavailable = 5,
    /// A file, folder or port of this machine could not be used.
    Local = 6,
}

/// One failed command: what the user reads, and the kind that becomes the exit code.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    silent: bool,
}

impl Failure {
    /// A failure with its message (lower case, no full stop).
    pub fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
            silent: false,
        }
    }

    /// A failure of a local file, folder or port; `what` names it.
    pub fn local(what: impl fmt::Display, error: impl fmt::Display) -> Failure {
        Failure::new(Kind::Local, format!("{what}: {error}"))
    }

    /// From the status of a gRPC call; `doing` says what was asked.
    pub fn from_status(doing: impl fmt::Display, status: &tonic::Status) -> Failure {
        use tonic::Code;
        let kind = match status.code() {
            Code::NotFound => Kind::NotFound,
            Code::InvalidArgument
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::OutOfRange
            | Code::Unimplemented => Kind::Refused,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::ResourceExhausted => {
                Kind::Unavailable
            }
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Kind::Internal,
        };
        let message = if status.message().is_empty() {
            status.code().description()
        } else {
            status.message()
        };
        Failure::new(kind, format!("{doing}: {message}"))
    }

    /// From a call of the client; `doing` says what was asked.
    pub fn from_client(doing: impl fmt::Display, error: &ledgermq_client::Error) -> Failure {
        use ledgermq_client::Error;
        let number = i32::from(error.code());
        let kind = match error {
            Error::Unanswered { .. } => Kind::Unavailable,
            Error::Protocol { .. } | Error::Closed { .. } => Kind::Internal,
            Error::Invalid { .. } => Kind::Refused,
            Error::Refused { .. } => match number {
                40_400..=40_499 => Kind::NotFound,
                // REQUEST_TIMEOUT, TOO_MANY_REQUESTS.
                40_800..=40_899 | 42_900..=42_999 => Kind::Unavailable,
                // NOT_IMPLEMENTED, UNSUPPORTED and the like.
                40_000..=49_999 | 50_100..=50_199 | 50_500..=50_599 => Kind::Refused,
                50_000..=59_999 => Kind::Unavailable,
                _ => Kind::Internal,
            },
        };
        Failure::new(kind, format!("{doing}: {error}"))
    }

    /// From a write to stdout: a closed pipe ends the command without a message.
    pub fn stdout(error: std::io::Error) -> Failure {
        let silent = error.kind() == std::io::ErrorKind::BrokenPipe;
        Failure {
            kind: Kind::Local,
            message: format!("stdout: {error}"),
            silent,
        }
    }

    /// Nothing is to be printed for it.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// The kind, which is the exit code.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_the_documented_codes() {
        let of = |code| Failure::from_status("x", &tonic::Status::new(code, "y")).kind();
        assert_eq!(of(tonic::Code::NotFound), Kind::NotFound);
        assert_eq!(of(tonic::Code::AlreadyExists), Kind::Refused);
        assert_eq!(of(tonic::Code::InvalidArgument), Kind::Refused);
        assert_eq!(of(tonic::Code::Unavailable), Kind::Unavailable);
        assert_eq!(of(tonic::Code::DeadlineExceeded), Kind::Unavailable);
        assert_eq!(of(tonic::Code::Internal), Kind::Internal);
    }

    #[test]
    fn the_help_names_every_code() {
        for kind in [
            Kind::Internal,
            Kind::NotFound,
            Kind::Refused,
            Kind::Unavailable,
            Kind::Local,
        ] {
            assert!(
                EXIT_CODES_HELP.contains(&format!("{} ", kind as u8)),
                "code {} is missing",
                kind as u8
            );
        }
    }
}
