//! The one place where what went wrong becomes a Status of the public protocol (grpc.md B.0) or of gRPC.
//!
//! Verbs deal in [`Refusal`]; every error of the state machine and of the log turns into one here.

use ledgermq_proto::rocketmq::{Code, Status};
use ledgermq_raft_store::{MembershipError, ProposeError};

use crate::language::Language;
use crate::state::kv::KvError;
use crate::state::outcome::{
    ChangeVisibilityError, ConsumeError, CreateConsumerGroupError, CreateTopicError, DeleteTopicError,
    InvalidReceiptHandle, LeaseError, SendError,
};
use crate::state::plan::PlanError;

/// A request is not done: the code and the words for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The code of the payload's status.
    pub code: Code,
    /// Never empty; names the field, its value and the limit where there is one.
    pub message: String,
}

impl Refusal {
    /// A refusal with these words.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// What is not there yet.
    pub fn not_implemented(what: &str) -> Self {
        Self::new(Code::NotImplemented, format!("{what} is not implemented yet"))
    }

    /// No leader took the call in time.
    pub fn no_leader() -> Self {
        Self::new(
            Code::HaNotAvailable,
            "no leader of the broker group took the request in time",
        )
    }

    /// This replica stopped for good.
    pub fn stopped() -> Self {
        Self::new(
            Code::HaNotAvailable,
            "this replica has stopped, another takes the request",
        )
    }

    /// Whether it tells what the state says, which knows an earlier try of the same call: not where the call was turned away for
    /// want of room, before anybody looked.
    pub fn is_of_the_state(&self) -> bool {
        self.code != Code::TooManyRequests
    }

    /// The payload's status in words that the client's library knows (grpc.md G.7).
    pub fn status(&self, language: Language) -> Status {
        status(self.code, &self.message, language)
    }
}

/// The status of success.
pub fn ok() -> Status {
    Status {
        code: Code::Ok as i32,
        message: "OK".to_owned(),
    }
}

/// A status whose code the client's library knows: the Rust library 5.0.0 panics on codes newer than its table.
pub fn status(code: Code, message: &str, language: Language) -> Status {
    let code = if language == Language::Rust {
        rust_safe(code)
    } else {
        code
    };
    let message = if message.is_empty() {
        code.as_str_name()
    } else {
        message
    };
    Status {
        code: code as i32,
        message: message.to_owned(),
    }
}

/// The nearest code that the Rust library 5.0.0 knows (grpc.md G.7).
fn rust_safe(code: Code) -> Code {
    match code {
        Code::IllegalOffset | Code::IllegalLiteTopic | Code::InvalidClientProperties => Code::BadRequest,
        Code::OffsetNotFound => Code::NotFound,
        Code::MessageBodyEmpty => Code::MessageCorrupted,
        Code::LiteTopicQuotaExceeded | Code::LiteSubscriptionQuotaExceeded => Code::TooManyRequests,
        other => other,
    }
}

/// The overall status of several results (grpc.md B.3): their common code, else MULTIPLE_RESULTS.
pub fn overall<'a>(mut each: impl Iterator<Item = &'a Status>) -> Status {
    let Some(first) = each.next() else {
        return Status {
            code: Code::InternalServerError as i32,
            message: "nothing was done".to_owned(),
        };
    };
    if each.all(|other| other.code == first.code) {
        return first.clone();
    }
    Status {
        code: Code::MultipleResults as i32,
        message: "the entries have different results".to_owned(),
    }
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        let code = match &error {
            SendError::TopicNotFound => Code::TopicNotFound,
            SendError::MessageTypeConflict { .. } => Code::MessagePropertyConflictWithType,
            SendError::QueueNotFound { .. } | SendError::BadRecord => Code::InternalServerError,
            SendError::DedupeWindowFull => Code::TooManyRequests,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ConsumeError> for Refusal {
    fn from(error: ConsumeError) -> Self {
        let code = match error {
            ConsumeError::TopicNotFound => Code::TopicNotFound,
            ConsumeError::ConsumerGroupNotFound => Code::ConsumerGroupNotFound,
        };
        Self::new(code, error.to_string())
    }
}

impl From<LeaseError> for Refusal {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Consume(error) => error.into(),
            LeaseError::RequestWindowFull => Self::new(Code::TooManyRequests, error.to_string()),
            LeaseError::TooManyTopics => Self::new(Code::InternalServerError, error.to_string()),
        }
    }
}

impl From<InvalidReceiptHandle> for Refusal {
    fn from(error: InvalidReceiptHandle) -> Self {
        Self::new(Code::InvalidReceiptHandle, error.to_string())
    }
}

impl From<ChangeVisibilityError> for Refusal {
    fn from(error: ChangeVisibilityError) -> Self {
        match error {
            ChangeVisibilityError::Consume(error) => error.into(),
            ChangeVisibilityError::InvalidReceiptHandle(error) => error.into(),
            ChangeVisibilityError::RequestWindowFull => Self::new(Code::TooManyRequests, error.to_string()),
        }
    }
}

impl From<CreateTopicError> for Refusal {
    fn from(error: CreateTopicError) -> Self {
        let code = match &error {
            CreateTopicError::Exists(_) | CreateTopicError::Queues { .. } => Code::BadRequest,
            CreateTopicError::TooMany { .. } | CreateTopicError::RequestWindowFull => Code::TooManyRequests,
        };
        Self::new(code, error.to_string())
    }
}

impl From<CreateConsumerGroupError> for Refusal {
    fn from(error: CreateConsumerGroupError) -> Self {
        let code = match &error {
            CreateConsumerGroupError::Exists(_) => Code::BadRequest,
            CreateConsumerGroupError::TooMany { .. } | CreateConsumerGroupError::RequestWindowFull => {
                Code::TooManyRequests
            }
        };
        Self::new(code, error.to_string())
    }
}

impl From<DeleteTopicError> for Refusal {
    fn from(error: DeleteTopicError) -> Self {
        let code = match error {
            DeleteTopicError::NotFound => Code::TopicNotFound,
            DeleteTopicError::RequestWindowFull => Code::TooManyRequests,
        };
        Self::new(code, error.to_string())
    }
}

impl From<KvError> for Refusal {
    fn from(error: KvError) -> Self {
        Self::new(Code::InternalServerError, error.to_string())
    }
}

impl From<PlanError> for Refusal {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Consume(error) => error.into(),
            PlanError::Read(error) => error.into(),
        }
    }
}

/// Why the leader's side did not do a call. `Refused` is an answer; the others make the door try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeadError {
    /// Nothing was done here: this replica does not lead.
    #[error("not the leader")]
    NotLeader,
    /// It may have been done; ask again with the same request id.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The answer is no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<ProposeError> for LeadError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { .. } | ProposeError::Stopped(_) => Self::NotLeader,
            ProposeError::Unknown(reason) => Self::Unknown(reason),
            ProposeError::Busy => Self::Refused(Refusal::new(Code::TooManyRequests, error.to_string())),
            ProposeError::TooLarge { .. } => Self::Refused(Refusal::new(Code::PayloadTooLarge, error.to_string())),
        }
    }
}

impl From<MembershipError> for LeadError {
    fn from(error: MembershipError) -> Self {
        let code = match &error {
            MembershipError::NotLeader { .. } | MembershipError::Stopped(_) => return Self::NotLeader,
            MembershipError::Unknown(reason) => return Self::Unknown(reason.clone()),
            // Not now: asking again may help.
            MembershipError::UnderWay
            | MembershipError::Behind { .. }
            | MembershipError::NoMajority { .. }
            | MembershipError::Unreachable { .. }
            | MembershipError::HandOver { .. } => Code::HaNotAvailable,
            MembershipError::Invalid(_) => Code::BadRequest,
            MembershipError::NotMember(_) => Code::NotFound,
            MembershipError::Member { .. }
            | MembershipError::Wiped { .. }
            | MembershipError::TooMany { .. }
            | MembershipError::Refused { .. }
            | MembershipError::WouldLoseMajority { .. }
            | MembershipError::LastVoter(_) => Code::PreconditionFailed,
            MembershipError::Failed(_) => Code::InternalServerError,
        };
        Self::Refused(Refusal::new(code, error.to_string()))
    }
}

macro_rules! lead_error_from {
    ($($error:ty),*) => { $(
        impl From<$error> for LeadError {
            fn from(error: $error) -> Self {
                Self::Refused(error.into())
            }
        }
    )* };
}
lead_error_from!(
    SendError,
    ConsumeError,
    LeaseError,
    ChangeVisibilityError,
    CreateTopicError,
    CreateConsumerGroupError,
    DeleteTopicError,
    PlanError,
    InvalidReceiptHandle
);

/// The gRPC status of a refusal, for administration (admin.proto).
pub fn grpc(refusal: &Refusal) -> tonic::Status {
    let code = match refusal.code {
        Code::TopicNotFound | Code::ConsumerGroupNotFound | Code::NotFound => tonic::Code::NotFound,
        Code::HaNotAvailable => tonic::Code::Unavailable,
        Code::TooManyRequests => tonic::Code::ResourceExhausted,
        Code::NotImplemented => tonic::Code::Unimplemented,
        Code::PreconditionFailed => tonic::Code::FailedPrecondition,
        code if (40000..50000).contains(&(code as i32)) => tonic::Code::InvalidArgument,
        _ => tonic::Code::Internal,
    };
    tonic::Status::new(code, refusal.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_gets_codes_it_knows() {
        let refusal = Refusal::new(Code::MessageBodyEmpty, "x");
        assert_eq!(refusal.status(Language::Rust).code, Code::MessageCorrupted as i32);
        assert_eq!(refusal.status(Language::Java).code, Code::MessageBodyEmpty as i32);
        let unsafe_codes = [40019, 40020, 40021, 40404, 41302, 42901, 42902];
        for number in unsafe_codes {
            let code = Code::try_from(number).expect("a code");
            assert!(!unsafe_codes.contains(&(rust_safe(code) as i32)), "{number}");
        }
    }

    #[test]
    fn overall_is_common_or_multiple() {
        let bad = Refusal::new(Code::BadRequest, "x").status(Language::Java);
        assert_eq!(overall([ok(), ok()].iter()).code, Code::Ok as i32);
        assert_eq!(overall([ok(), bad.clone()].iter()).code, Code::MultipleResults as i32);
        assert_eq!(overall([bad.clone(), bad].iter()).code, Code::BadRequest as i32);
        assert_eq!(overall([].iter()).code, Code::InternalServerError as i32);
    }

    #[test]
    fn status_always_says_something() {
        assert_eq!(status(Code::IllegalTopic, "", Language::Java).message, "ILLEGAL_TOPIC");
    }
}
