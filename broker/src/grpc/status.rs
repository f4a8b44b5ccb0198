//! What callers are told: the one map from what went wrong to a gRPC status. The text is fixed; the
//! `google.rpc.ErrorInfo` reason is what programs act on. What only ops may know goes to the log here.

#![deny(clippy::wildcard_enum_match_arm)]

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tracing::error;

use crate::authority::CaError;
use crate::console::ConsoleError;
use crate::enrolment::EnrolmentError;
use crate::grants::{ProbeError, TokenError};
use crate::login::LoginError;
use crate::registry::{AccountKeyConflict, ClientKeyError, ClientPolicyError, PolicyConflict, TrustError};
use crate::rotation::RotationError;
use crate::secret::SealingKeyError;
use crate::sessions::{OutboxError, SessionError};
use crate::storage::StoreError;
use crate::upstream::UpstreamError;

/// As much as /readyz says: ops find the reason in the log.
const STORE_AWAY: &str =
    "the broker's store does not answer, or takes no commits (its log says why): try again when /readyz is green";

/// Domain of every ErrorInfo.
const DOMAIN: &str = "homeward";

/// Why a call is refused before or apart from what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The method needs a client certificate.
    CertificateMissing,
    /// The method is for somebody else.
    RoleMissing,
    /// A field cannot be read; which one is said.
    FieldInvalid(&'static str),
    /// A stream must begin with Hello.
    HelloMissing,
    /// There is no such instance.
    InstanceUnknown,
    /// Nobody of this name has signed in.
    UserUnknown,
    /// There is no such session.
    SessionUnknown,
    /// No link of that id.
    LinkUnknown,
    /// There is no such session of the web console.
    ConsoleSessionUnknown,
    /// The instance is no relying party.
    RelyingPartyMissing,
    /// There is no certificate of the public address here to renew.
    CertificateElsewhere,
    /// The agent opened another stream.
    StreamSuperseded,
    /// The agent was silent for too long.
    Silent,
}

/// The status for such a refusal.
pub(super) fn refused(reason: Reason) -> Status {
    match reason {
        Reason::CertificateMissing => {
            status(Code::Unauthenticated, "CERTIFICATE_MISSING", "this needs an instance certificate")
        }
        Reason::RoleMissing => status(Code::PermissionDenied, "ROLE_MISSING", "this is not for you"),
        Reason::FieldInvalid(field) => {
            status(Code::InvalidArgument, "FIELD_INVALID", &format!("{field} cannot be read{}", allowed(field)))
        }
        Reason::HelloMissing => status(Code::InvalidArgument, "HELLO_MISSING", "a stream begins with Hello"),
        Reason::InstanceUnknown => {
            status(Code::NotFound, "INSTANCE_UNKNOWN", "there is no such instance: see `instance list`")
        }
        Reason::UserUnknown => status(
            Code::NotFound,
            "USER_UNKNOWN",
            "nobody of this name has signed in from this home: `session list` shows who is signed in",
        ),
        Reason::SessionUnknown => {
            status(Code::NotFound, "SESSION_UNKNOWN", "there is no such session: see `session list`")
        }
        Reason::LinkUnknown => status(Code::NotFound, "LINK_UNKNOWN", "there is no such link: see `link list`"),
        Reason::ConsoleSessionUnknown => {
            status(Code::NotFound, "SESSION_UNKNOWN", "there is no such session: see `console session list`")
        }
        Reason::RelyingPartyMissing => {
            status(Code::FailedPrecondition, "NO_RELYING_PARTY", "the instance is no relying party")
        }
        Reason::CertificateElsewhere => status(
            Code::FailedPrecondition,
            "CERTIFICATE_ELSEWHERE",
            "this broker speaks plain HTTP: renew the certificate where TLS ends",
        ),
        Reason::StreamSuperseded => {
            status(Code::Aborted, "STREAM_SUPERSEDED", "another stream of this instance was opened")
        }
        Reason::Silent => status(Code::DeadlineExceeded, "STREAM_SILENT", "nothing was heard for too long"),
    }
}

/// How a field that ops type should be, as the end of the sentence.
fn allowed(field: &str) -> &'static str {
    match field {
        "grant_types" => {
            ": write some of authorization_code, refresh_token, client_credentials, \
             urn:ietf:params:oauth:grant-type:device_code and urn:ietf:params:oauth:grant-type:token-exchange, \
             comma-separated"
        }
        "session_id" => ": see `session list`",
        "user" => ": write it as user@home, for example alice@alpha",
        "reason" | "note" => ": it is too long, or holds control characters",
        "username" => ": it is empty, too long, or holds control characters",
        _ => "",
    }
}

/// The status for a field that cannot be read, with the sentence that says how it should be.
pub(super) fn invalid(error: &dyn Error) -> Status {
    status(Code::InvalidArgument, "FIELD_INVALID", &error.to_string())
}

/// The status for a refused enrolment, renewal or certificate.
pub(super) fn enrolment(refusal: &EnrolmentError) -> Status {
    use EnrolmentError as E;
    let (code, reason) = match refusal {
        E::TokenInvalid => (Code::Unauthenticated, "TOKEN_INVALID"),
        E::TokenExpired => (Code::FailedPrecondition, "TOKEN_EXPIRED"),
        E::TokenUsedUp => (Code::FailedPrecondition, "TOKEN_USED_UP"),
        E::TokenReused => (Code::PermissionDenied, "TOKEN_REUSED"),
        E::TokenUnknown => (Code::NotFound, "TOKEN_UNKNOWN"),
        E::TokenLifetime => (Code::InvalidArgument, "TOKEN_LIFETIME"),
        E::RecoverySignature => (Code::InvalidArgument, "RECOVERY_SIGNATURE_INVALID"),
        E::Csr(_) => (Code::InvalidArgument, "CSR_INVALID"),
        E::Profile(_) => (Code::InvalidArgument, "PROFILE_INVALID"),
        E::NameTaken(_) | E::NameRegistered(_) | E::NameEnrolled(_) | E::NameOfUpstream(_) | E::NameReserved(_) => {
            (Code::AlreadyExists, "NAME_TAKEN")
        }
        E::NameLooksAlike(_) => (Code::AlreadyExists, "NAME_LOOKS_ALIKE"),
        E::Upstream(_) => (Code::InvalidArgument, "UPSTREAM_INVALID"),
        E::UpstreamSecretMissing => (Code::InvalidArgument, "UPSTREAM_SECRET_MISSING"),
        E::UpstreamTrusted(_) => (Code::FailedPrecondition, "UPSTREAM_TRUSTED"),
        E::UpstreamUnknown(_) => (Code::NotFound, "UPSTREAM_UNKNOWN"),
        E::NameExpected(_) => (Code::FailedPrecondition, "NAME_EXPECTED"),
        E::RegistrationBounds => (Code::InvalidArgument, "REGISTRATION_BOUNDS"),
        E::RegistrationUnknown(_) => (Code::NotFound, "REGISTRATION_UNKNOWN"),
        E::AgentUnknown => (Code::Unauthenticated, "AGENT_UNKNOWN"),
        E::Quarantined => (Code::PermissionDenied, "INSTANCE_QUARANTINED"),
        E::CertificateReplaced => (Code::Unauthenticated, "CERTIFICATE_REPLACED"),
        E::KeyNotNew => (Code::InvalidArgument, "KEY_NOT_NEW"),
        E::InstanceUnknown => (Code::NotFound, "INSTANCE_UNKNOWN"),
        E::NotQuarantined => (Code::FailedPrecondition, "NOT_QUARANTINED"),
        E::QuarantinedByAlarm(_) => (Code::FailedPrecondition, "QUARANTINED_BY_ALARM"),
        E::NoRelyingParty => (Code::FailedPrecondition, "NO_RELYING_PARTY"),
        E::GenerationOlder | E::GenerationUnknown => (Code::PermissionDenied, "GENERATION_MISMATCH"),
        E::ChallengeInvalid => (Code::FailedPrecondition, "CHALLENGE_INVALID"),
        E::CertificateStillGood => (Code::FailedPrecondition, "CERTIFICATE_STILL_GOOD"),
        E::RecoveryRefused(_) => (Code::PermissionDenied, "RECOVERY_REFUSED"),
        E::RateLimited => return rate_limited(refusal, Duration::from_secs(5)),
        E::Store(error) => return store(error),
        E::Token(_) | E::Proof(_) | E::Authority(_) | E::Secret(_) => return internal(refusal),
    };
    status(code, reason, &refusal.to_string())
}

/// The status for a refused ticket.
pub(super) fn login(refusal: &LoginError) -> Status {
    use LoginError as E;
    let (code, reason) = match refusal {
        E::Unreadable => (Code::InvalidArgument, "TICKET_INVALID"),
        E::Expired => (Code::FailedPrecondition, "TICKET_EXPIRED"),
        // Another home's ticket must not be told from an invented one.
        E::TicketOfAnotherHome => return login(&E::Unreadable),
        E::TicketUsed => (Code::FailedPrecondition, "TICKET_USED"),
        E::RelyingPartyGone => (Code::FailedPrecondition, "RELYING_PARTY_GONE"),
        E::HomeNotAccepted => (Code::FailedPrecondition, "HOME_NOT_ACCEPTED"),
        E::HomeNotReady => (Code::FailedPrecondition, "HOME_NOT_READY"),
        E::IdentityRefused(_) => (Code::InvalidArgument, "IDENTITY_REFUSED"),
        E::Store(error) => return store(error),
        // A browser's mistakes, which no agent can make.
        E::OtherBrowser
        | E::HandleUnknown
        | E::HandleUsed
        | E::PushedRequestUnknown
        | E::SignedOut
        | E::TakenBack
        | E::Internal(_) => return internal(refusal),
    };
    status(code, reason, &refusal.to_string())
}

/// The status for a refused probe.
pub(super) fn probe(refusal: &ProbeError) -> Status {
    match refusal {
        // An agent only asks; that a probe was presented before is for who presents it.
        ProbeError::Unknown | ProbeError::Presented => status(Code::NotFound, "PROBE_UNKNOWN", &refusal.to_string()),
        ProbeError::TooMany => rate_limited(refusal, Duration::from_secs(30)),
        ProbeError::Internal(_) => internal(refusal),
        ProbeError::Store(error) => store(error),
    }
}

/// The status for a client key that is not registered.
pub(super) fn client_key(refusal: &ClientKeyError) -> Status {
    let reason = match refusal {
        ClientKeyError::NotWanted(_) => "CLIENT_KEY_NOT_WANTED",
        ClientKeyError::NotNew => "CLIENT_KEY_NOT_NEW",
        ClientKeyError::Store(error) => return store(error),
    };
    status(Code::FailedPrecondition, reason, &refusal.to_string())
}

/// The status for a client whose policy is not changed.
pub(super) fn client_policy(refusal: &ClientPolicyError) -> Status {
    use ClientPolicyError as E;
    let (code, reason) = match refusal {
        E::Unknown => (Code::NotFound, "CLIENT_UNKNOWN"),
        E::Ambiguous => (Code::FailedPrecondition, "CLIENT_AMBIGUOUS"),
        E::Conflict(PolicyConflict::PublicClient) => (Code::FailedPrecondition, "CLIENT_PUBLIC"),
        E::Conflict(PolicyConflict::Fapi2) => (Code::FailedPrecondition, "CLIENT_AUTHENTICATION_WEAK"),
        E::Conflict(PolicyConflict::NoSector) => (Code::FailedPrecondition, "SECTOR_MISSING"),
        E::AccountKey(conflict) => (Code::FailedPrecondition, account_key(conflict)),
        E::Store(error) => return store(error),
    };
    status(code, reason, &refusal.to_string())
}

/// The status for a refused trust edge.
pub(super) fn trust(refusal: &TrustError) -> Status {
    let reason = match refusal {
        TrustError::UnknownInstance(_) => "INSTANCE_UNKNOWN",
        TrustError::NoRelyingParty(_) => "NO_RELYING_PARTY",
        TrustError::NoHome(_) => "NO_HOME",
        TrustError::NoEdge(_) => "TRUST_EDGE_UNKNOWN",
        TrustError::AccountKey(conflict) => account_key(conflict),
        TrustError::Store(error) => return store(error),
    };
    status(Code::FailedPrecondition, reason, &refusal.to_string())
}

fn account_key(conflict: &AccountKeyConflict) -> &'static str {
    match conflict {
        AccountKeyConflict::NoAuthority(_) => "EMAIL_AUTHORITY_MISSING",
        AccountKeyConflict::SharedDomain { .. } => "EMAIL_AUTHORITY_SHARED",
        AccountKeyConflict::NamesMeet(_) => "USERNAMES_MEET",
        AccountKeyConflict::LinksUnseen(_) => "LINKS_UNSEEN",
    }
}

/// The status for an identity provider that does not answer as it should. Ops have asked: they are told all of it.
pub(super) fn upstream(refusal: &UpstreamError) -> Status {
    let UpstreamError::Internal(_) = refusal else {
        let sentence = format!(
            "the provider cannot be used: {}. Correct the definition or the provider; --no-check stores it all the same",
            chain(refusal)
        );
        return status(Code::FailedPrecondition, "UPSTREAM_UNUSABLE", &sentence);
    };
    internal(refusal)
}

/// The status for a refused rotation.
pub(super) fn rotation(refusal: &RotationError) -> Status {
    use RotationError as E;
    let (code, reason) = match refusal {
        E::AlreadyTurning(_) => (Code::FailedPrecondition, "ALREADY_TURNING"),
        E::NotTurning(_) => (Code::FailedPrecondition, "NOT_TURNING"),
        E::TooLate(_) => (Code::FailedPrecondition, "TOO_LATE"),
        E::NotPaused(_) => (Code::FailedPrecondition, "NOT_PAUSED"),
        E::UnknownInstance(_) => (Code::NotFound, "INSTANCE_UNKNOWN"),
        E::NoRelyingParty(_) => (Code::FailedPrecondition, "NO_RELYING_PARTY"),
        E::NoCredential(_) => (Code::FailedPrecondition, "NO_CREDENTIAL"),
        // Another broker, or another of ops, moved it in this moment.
        E::Authority(CaError::Step(_)) => (Code::Aborted, "PHASE_CONFLICT"),
        E::Store(StoreError::Conflict) => (Code::Aborted, "PHASE_CONFLICT"),
        E::Store(error) => return store(error),
        E::NoActiveKey | E::Key(_) | E::Authority(_) | E::Secret(_) => return internal(refusal),
    };
    status(code, reason, &refusal.to_string())
}

/// The status for keys that seal and do not turn. Ops have asked: they are told all of it.
pub(super) fn sealing(refusal: &SealingKeyError) -> Status {
    use SealingKeyError as E;
    let (code, reason) = match refusal {
        E::Token(_) => (Code::FailedPrecondition, "TOKEN_UNUSABLE"),
        E::AnotherKek { .. } | E::KekReplaced(_) | E::NothingOpens(_) => (Code::FailedPrecondition, "KEK_UNFIT"),
        E::NotKnownEverywhere(_) => (Code::FailedPrecondition, "KEK_NOT_KNOWN_EVERYWHERE"),
        E::TooMany(_) => (Code::FailedPrecondition, "TOO_MANY_DATA_KEYS"),
        E::Silent => (Code::Unavailable, "TOKEN_SILENT"),
        E::Behind => (Code::Unavailable, "BEHIND"),
        E::Store(error) => return store(error),
        E::Secret(_) | E::NoKeys | E::NotOneActive(_) => return internal(refusal),
    };
    status(code, reason, &chain(refusal))
}

/// The status for sessions that cannot be read or ended.
pub(super) fn session(refusal: &SessionError) -> Status {
    match refusal {
        SessionError::Internal(_) => internal(refusal),
        SessionError::Store(error) => store(error),
    }
}

/// The status for the way into the web console. That a code is not good is said to browsers only.
pub(super) fn console(refusal: &ConsoleError) -> Status {
    match refusal {
        ConsoleError::CodeUnknown | ConsoleError::Internal(_) => internal(refusal),
        ConsoleError::Store(error) => store(error),
    }
}

/// The status for grants that cannot be ended: no rule is broken by that.
pub(super) fn grant(refusal: &TokenError) -> Status {
    if let TokenError::Store(error) = refusal { store(error) } else { internal(refusal) }
}

/// The status for a logout that is not tried again.
pub(super) fn outbox(refusal: &OutboxError) -> Status {
    match refusal {
        OutboxError::Unknown => status(Code::NotFound, "LOGOUT_UNKNOWN", &refusal.to_string()),
        OutboxError::NotDead => status(Code::FailedPrecondition, "LOGOUT_NOT_DEAD", &refusal.to_string()),
        OutboxError::Internal(_) => internal(refusal),
        OutboxError::Store(error) => store(error),
    }
}

/// The status for too much in too short a time.
fn rate_limited(refusal: &dyn Error, retry_after: Duration) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(retry_after));
    details.set_error_info("RATE_LIMITED", DOMAIN, []);
    Status::with_error_details(Code::ResourceExhausted, refusal.to_string(), details)
}

/// The status for a store that did not do it.
pub(super) fn store(refusal: &StoreError) -> Status {
    match refusal {
        StoreError::Conflict => status(Code::Aborted, "CONFLICT", "somebody else changed it: try again"),
        StoreError::Unavailable(_) => {
            error!(error = chain(refusal), "the store is not available");
            status(Code::Unavailable, "STORE_UNAVAILABLE", STORE_AWAY)
        }
        StoreError::Corrupt(_) => internal(refusal),
    }
}

/// The status for what the caller can do nothing about.
pub(super) fn internal(refusal: &dyn Error) -> Status {
    error!(error = chain(refusal), "a call failed");
    status(Code::Internal, "INTERNAL", "the broker failed; ops find the reason in its log")
}

/// What programs act on, of a status that was made here.
pub(super) fn reason(status: &Status) -> String {
    let said = status.get_details_error_info().map(|info| info.reason);
    said.unwrap_or_else(|| format!("{:?}", status.code()))
}

/// The status with this reason.
pub(super) fn status(code: Code, reason: &str, message: &str) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, []))
}

/// An error and what is behind it, in one line: what a sentence ends with already is not said again.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let cause = inner.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = inner.source();
    }
    text
}
