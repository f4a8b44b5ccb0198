//! What the broker's refusals mean: gRPC codes and ErrorInfo reasons, read in one place.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A broker that asks for more than this is not to be believed.
const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// Whose reasons these are.
const DOMAIN: &str = "homeward";

/// The machine-readable reason of a refusal; empty if it has none of ours.
pub(crate) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    info.map(|info| info.reason).unwrap_or_default()
}

/// How long the broker asks to wait (google.rpc.RetryInfo), within reason.
pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay)?;
    Some(delay.min(LONGEST_RETRY))
}

/// Whether the same call may succeed later.
pub(crate) fn is_temporary(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
    )
}

/// A refusal that ends the agent: asking again only makes noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dismissal {
    /// Ops cut the instance off.
    #[error("ops have banned this agent; talk to them, and start the agent again when the ban is lifted")]
    Banned,
    /// Something happened that ops must look at.
    #[error(
        "this instance is in quarantine: no logins from or to it; ask ops why, and for a new join token if its keys may have leaked"
    )]
    Quarantined,
    /// The broker does not know the certificate.
    #[error(
        "the broker does not know this agent any more; get a new join token from ops and run: homeward-agent enrol --replace --token-file -"
    )]
    Unknown,
    /// A newer certificate of this instance is in use, and this agent does not have it.
    #[error(
        "a newer certificate of this instance is in use elsewhere: data_dir was copied, or restored from a backup. Stop the other agent, or get a new join token from ops and run: homeward-agent enrol --replace --token-file -"
    )]
    Replaced,
    /// The agent was away for longer than its certificate lasted, and its recovery key does not bring it back.
    #[error(
        "the instance's certificate has expired and the broker refuses to recover it; get a new join token from ops (token create --replace) and run: homeward-agent enrol --replace --token-file -. If this machine's clock is wrong, set it and start the agent again"
    )]
    Expired,
}

impl Dismissal {
    /// The dismissal in a refusal, if it is one.
    pub(crate) fn of(status: &Status) -> Option<Self> {
        match (status.code(), reason(status).as_str()) {
            (Code::PermissionDenied, "AGENT_BANNED") => Some(Self::Banned),
            (Code::PermissionDenied, "INSTANCE_QUARANTINED") => Some(Self::Quarantined),
            (Code::Unauthenticated, "AGENT_UNKNOWN") => Some(Self::Unknown),
            (Code::Unauthenticated, "CERTIFICATE_REPLACED") => Some(Self::Replaced),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn refusal(code: Code, reason: &str, domain: &str) -> Status {
        Status::with_error_details(code, "no", ErrorDetails::with_error_info(reason, domain, []))
    }

    #[test]
    fn only_the_brokers_own_reasons_dismiss() {
        for (code, reason, domain, expected) in [
            (Code::PermissionDenied, "AGENT_BANNED", "homeward", Some(Dismissal::Banned)),
            (Code::PermissionDenied, "INSTANCE_QUARANTINED", "homeward", Some(Dismissal::Quarantined)),
            (Code::Unauthenticated, "AGENT_UNKNOWN", "homeward", Some(Dismissal::Unknown)),
            (Code::Unavailable, "AGENT_BANNED", "homeward", None),
            (Code::PermissionDenied, "AGENT_BANNED", "proxy.example", None),
            (Code::PermissionDenied, "OTHER", "homeward", None),
        ] {
            assert_eq!(Dismissal::of(&refusal(code, reason, domain)), expected, "{code:?} {reason} {domain}");
        }
        assert_eq!(Dismissal::of(&Status::permission_denied("no details")), None);
    }
}
