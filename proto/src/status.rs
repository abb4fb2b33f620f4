//! The closed list of errors a coordinator answers with, and their gRPC codes. Nowhere else maps one to the other.

use tonic::{Code, Status, metadata::MetadataValue};

/// What went wrong, as far as a caller should branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The job file or another argument cannot be used.
    BadInput,
    /// No job of that id.
    UnknownJob,
    /// The job's phase does not allow it.
    WrongPhase,
    /// The worker's token is not its job's.
    WrongToken,
    /// The client named no token that the coordinator knows, or no certificate where one is asked for.
    Unauthenticated,
    /// The client's token does not allow the call.
    WrongRole,
    /// The message belongs to another generation than the live one.
    StaleGeneration,
    /// The job is over: it needs no workers.
    JobOver,
    /// The coordinator is going down or not reachable; the same call may work later.
    Unavailable,
    /// No answer within the deadline.
    Deadline,
    /// The coordinator could not do its part; its log has more.
    Internal,
}

/// Metadata key that carries the code by name, since several share one gRPC code.
pub const KEY: &str = "accord-code";

const ALL: [(ErrorCode, &str, Code); 11] = [
    (ErrorCode::BadInput, "bad-input", Code::InvalidArgument),
    (ErrorCode::UnknownJob, "unknown-job", Code::NotFound),
    (ErrorCode::WrongPhase, "wrong-phase", Code::FailedPrecondition),
    (ErrorCode::WrongToken, "wrong-token", Code::PermissionDenied),
    (ErrorCode::Unauthenticated, "unauthenticated", Code::Unauthenticated),
    (ErrorCode::WrongRole, "wrong-role", Code::PermissionDenied),
    (ErrorCode::StaleGeneration, "stale-generation", Code::FailedPrecondition),
    (ErrorCode::JobOver, "job-over", Code::FailedPrecondition),
    (ErrorCode::Unavailable, "unavailable", Code::Unavailable),
    (ErrorCode::Deadline, "deadline", Code::DeadlineExceeded),
    (ErrorCode::Internal, "internal", Code::Internal),
];

/// An error of the API: a code and a message for a person.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: String,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into() }
    }

    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.code, ErrorCode::Unavailable | ErrorCode::Deadline)
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Status {
        let (name, code) = ALL
            .iter()
            .find(|(c, ..)| *c == error.code)
            .map_or(("internal", Code::Internal), |(_, name, code)| (*name, *code));
        let mut status = Status::new(code, error.message);
        status.metadata_mut().insert(KEY, MetadataValue::from_static(name));
        status
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> ApiError {
        let named = status.metadata().get(KEY).and_then(|v| v.to_str().ok());
        let code = ALL
            .iter()
            .find(|(_, name, _)| Some(*name) == named)
            .or_else(|| ALL.iter().find(|(_, _, code)| *code == status.code()))
            .map_or(ErrorCode::Internal, |(code, ..)| *code);
        ApiError { code, message: status.message().to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for (code, ..) in ALL {
            let error = ApiError::new(code, "job a-1 is over");
            assert_eq!(ApiError::from(Status::from(error.clone())), error);
        }
    }

    #[test]
    fn a_status_of_the_transport_gets_a_code_too() {
        assert_eq!(ApiError::from(Status::unavailable("gone")).code, ErrorCode::Unavailable);
        assert_eq!(ApiError::from(Status::cancelled("gone")).code, ErrorCode::Internal);
    }
}
