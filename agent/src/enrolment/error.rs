//! Why an instance is not enrolled, in sentences that say what to do.

use homeward_certs::bundle::BundleError;
use homeward_certs::csr::KeyError;
use homeward_certs::identity::InstanceName;
use homeward_certs::join_token::JoinToken;
use homeward_certs::proof::ProofError;
use thiserror::Error;
use time::OffsetDateTime;
use tonic::{Code, Status};

use crate::apply::client_key::ClientKeyError;
use crate::clock;
use crate::connection::DialError;
use crate::disk::DiskError;
use crate::identity::IdentityError;
use crate::refusal::{self, Dismissal};

/// Why an instance is not enrolled. Every sentence says what to do.
#[derive(Debug, Error)]
pub enum EnrolmentError {
    /// There is an identity.
    #[error(
        "this agent is enrolled as {0} already; to give it a new identity, get a join token made with --replace and run: homeward-agent enrol --replace --token-file -"
    )]
    AlreadyEnrolled(InstanceName),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The broker knows no such token, or not this proof.
    #[error(
        "the broker does not accept this join token: it was used up, taken back, or is of another broker; ask ops for a new one"
    )]
    TokenInvalid,
    /// Too late.
    #[error("the join token has expired; ask ops for a new one, and check this machine's clock, which says {now}", now = clock::rfc3339(*now))]
    TokenExpired {
        /// The time on this machine.
        now: OffsetDateTime,
    },
    /// Somebody else used it.
    #[error(
        "this join token was used by another agent; the instance is in quarantine until ops look at it. Tell them now"
    )]
    TokenReused,
    /// The instance exists.
    #[error("the broker has an instance of that name already; ask ops for a join token made with --replace")]
    NameTaken,
    /// The broker does not take what the configuration says of the instance.
    #[error("the broker refuses what agent.toml says of this instance: {0}")]
    ProfileRefused(String),
    /// The instance is cut off.
    #[error(transparent)]
    Dismissed(Dismissal),
    /// The broker said no in another way.
    #[error("the broker refused the enrolment ({code:?}: {message})")]
    Refused {
        /// gRPC code.
        code: Code,
        /// Its words.
        message: String,
    },
    /// The certificate is there and does not work.
    #[error("the instance is enrolled, but its first call failed ({0}); run the same command again")]
    NotConfirmed(String),
    /// Keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The application's key.
    #[error(transparent)]
    ClientKey(#[from] ClientKeyError),
    /// Key derivation.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The answer's certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The answer's bundle.
    #[error("the broker's answer cannot be used: {0}")]
    Bundle(#[from] BundleError),
    /// The data directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The answer has no bundle.
    #[error("the broker's answer is incomplete; its version may be too old for this agent")]
    Incomplete,
}

/// What a refusal means to the operator.
pub(super) fn judge(status: &Status, token: &JoinToken) -> EnrolmentError {
    let now = clock::now();
    if let Some(dismissal) = Dismissal::of(status) {
        return EnrolmentError::Dismissed(dismissal);
    }
    let over = u64::try_from(now.unix_timestamp()).is_ok_and(|now| now >= token.expires_at);
    match (status.code(), refusal::reason(status).as_str()) {
        (Code::FailedPrecondition, "TOKEN_EXPIRED") => EnrolmentError::TokenExpired { now },
        (Code::FailedPrecondition, "TOKEN_USED_UP") => EnrolmentError::TokenInvalid,
        // The broker says the same of every bad token; the token itself says when it ends.
        (Code::Unauthenticated, _) if over => EnrolmentError::TokenExpired { now },
        (Code::Unauthenticated, _) => EnrolmentError::TokenInvalid,
        (Code::PermissionDenied, "TOKEN_REUSED") => EnrolmentError::TokenReused,
        (Code::AlreadyExists, _) => EnrolmentError::NameTaken,
        (Code::InvalidArgument, "PROFILE_INVALID" | "FIELD_INVALID") => {
            EnrolmentError::ProfileRefused(status.message().to_owned())
        }
        (code, _) => EnrolmentError::Refused { code, message: status.message().to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use homeward_certs::pin::SpkiPin;
    use secrecy::SecretBox;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn token(expires_at: u64) -> JoinToken {
        JoinToken {
            agent_url: "https://login.example:8443".to_owned(),
            trust_domain: "example.org".parse().unwrap(),
            id: [7; 8].into(),
            secret: SecretBox::new(Box::new([9; 32])),
            pins: vec![SpkiPin::from_bytes([1; 32])],
            instance: "alpha".parse().unwrap(),
            expires_at,
        }
    }

    fn refusal(code: Code, reason: &str) -> Status {
        Status::with_error_details(code, "words", ErrorDetails::with_error_info(reason, "homeward", []))
    }

    #[test]
    fn each_refusal_has_its_own_sentence() {
        let good = token(u64::MAX);
        assert!(matches!(judge(&refusal(Code::Unauthenticated, "TOKEN_INVALID"), &good), EnrolmentError::TokenInvalid));
        let old = token(1);
        assert!(matches!(
            judge(&refusal(Code::Unauthenticated, "TOKEN_INVALID"), &old),
            EnrolmentError::TokenExpired { .. }
        ));
        let expired = refusal(Code::FailedPrecondition, "TOKEN_EXPIRED");
        assert!(matches!(judge(&expired, &good), EnrolmentError::TokenExpired { .. }));
        assert!(matches!(judge(&refusal(Code::PermissionDenied, "TOKEN_REUSED"), &good), EnrolmentError::TokenReused));
        assert!(matches!(judge(&refusal(Code::AlreadyExists, "NAME_TAKEN"), &good), EnrolmentError::NameTaken));
        assert!(matches!(judge(&Status::internal("x"), &good), EnrolmentError::Refused { .. }));
    }
}
