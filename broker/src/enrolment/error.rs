//! Why an enrolment, a renewal or a call is refused.

use std::net::IpAddr;

use homeward_certs::csr::CsrError;
use homeward_certs::identity::InstanceName;
use homeward_certs::join_token::JoinTokenError;
use homeward_certs::proof::ProofError;
use tracing::{info, warn};

use crate::authority::CaError;
use crate::enrolment::recovery::RecoveryRefusal;
use crate::registry::{ProfileError, UpstreamRuleError};
use crate::secret::SecretError;
use crate::storage::StoreError;

/// Why an enrolment, a renewal or a call is refused.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Unknown, revoked, or the proof is wrong: the same for all, so that nobody learns which.
    #[error("the join token is not valid")]
    TokenInvalid,
    /// Proved, but too old.
    #[error("the join token has expired")]
    TokenExpired,
    /// Proved, by the agent that has used it already.
    #[error("the join token has been used")]
    TokenUsedUp,
    /// Proved, by another agent than the one that has used it.
    #[error("the join token has been used by another agent")]
    TokenReused,
    /// No join token has this id; said to ops only.
    #[error("there is no such join token: see `token list`")]
    TokenUnknown,
    /// Out of bounds.
    #[error("a join token may live from 1 minute to 24 hours")]
    TokenLifetime,
    /// The recovery key did not sign.
    #[error("the recovery key's signature is wrong")]
    RecoverySignature,
    /// The signing request is unfit.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// What is to be registered is unfit.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The name belongs to an enrolled instance.
    #[error("there is an instance {0} already: to give it a new identity, use a join token made with --replace")]
    NameTaken(InstanceName),
    /// The name belongs to a relying party without agent.
    #[error(
        "{0} is a relying party without agent: `homeward-broker registration close {0}` first, or take another name"
    )]
    NameRegistered(InstanceName),
    /// The name is the web console's.
    #[error("{0} is the broker's own web console: take another name")]
    NameReserved(InstanceName),
    /// The name belongs to an instance, and is wanted for a relying party without agent.
    #[error("{0} is an instance, whose agent registers its client: take another name")]
    NameEnrolled(InstanceName),
    /// Somebody may enrol under the name at any moment.
    #[error("a join token for {0} can still be used: `homeward-broker token revoke` it first, or take another name")]
    NameExpected(InstanceName),
    /// The name belongs to a home without agent.
    #[error("{0} is a home without agent: `homeward-broker upstream remove {0}` first, or take another name")]
    NameOfUpstream(InstanceName),
    /// Users could not tell the two apart.
    #[error("on the home picker this would look like {0}: take another name or display name")]
    NameLooksAlike(InstanceName),
    /// The definition of a home without agent breaks a rule.
    #[error(transparent)]
    Upstream(#[from] UpstreamRuleError),
    /// A home without agent has no client secret, or one that was made for another client or server.
    #[error(
        "a new home, another client id and another address of the provider need a client secret: --client-secret-file says \
         where it is"
    )]
    UpstreamSecretMissing,
    /// It would have other users, and relying parties accept those that it has.
    #[error(
        "{0} would have other users than those whom relying parties accept: `homeward-broker upstream remove {0}` first, or \
         take another name"
    )]
    UpstreamTrusted(InstanceName),
    /// No home without agent has this name; said to ops only.
    #[error("there is no home {0} without agent: see `upstream list`")]
    UpstreamUnknown(InstanceName),
    /// Out of bounds.
    #[error("an initial access token may live from 1 minute to 30 days, and register from 1 to 1000 clients")]
    RegistrationBounds,
    /// No relying party without agent has this name; said to ops only.
    #[error("there is no relying party {0} without agent: see `registration list`")]
    RegistrationUnknown(InstanceName),
    /// Too many tries.
    #[error("too many requests")]
    RateLimited,
    /// The certificate is good, its instance is not known.
    #[error("the instance is not known here")]
    AgentUnknown,
    /// The instance is cut off.
    #[error("the instance is quarantined")]
    Quarantined,
    /// A newer certificate has taken this one's place.
    #[error("the certificate has been replaced")]
    CertificateReplaced,
    /// No instance has this name; said to ops only.
    #[error("there is no such instance: see `instance list`")]
    InstanceUnknown,
    /// There is nothing to release.
    #[error("the instance is not quarantined: there is nothing to release")]
    NotQuarantined,
    /// Its identity is in two hands.
    #[error(
        "{0} was quarantined by an alarm: somebody else has its keys or its join token. Find out who, then give it a new \
         identity with `homeward-broker token create --instance {0} --replace`"
    )]
    QuarantinedByAlarm(InstanceName),
    /// It gets no tokens.
    #[error("the instance is no relying party: no tokens are signed for it")]
    NoRelyingParty,
    /// Proved, but an older certificate than is in use: there are two machines with these keys.
    #[error("the certificate has been replaced by a newer one that is in use elsewhere: the instance is quarantined")]
    GenerationOlder,
    /// Proved, but a certificate that this broker never made.
    #[error(
        "this broker never made that certificate: its store is older than that, and ops have to put it back with \
         `homeward-broker restore`, or to give the instance a new identity with a join token made with --replace"
    )]
    GenerationUnknown,
    /// Not made here, or not lately.
    #[error("the challenge is too old or none of this broker's: begin again")]
    ChallengeInvalid,
    /// The certificate has not expired.
    #[error("the certificate is still good: renew by it, and look at the clock of this machine")]
    CertificateStillGood,
    /// It does not come back by itself; why is said to those who have signed.
    #[error("{}", refusal(*.0))]
    RecoveryRefused(#[source] RecoveryRefusal),
    /// The new certificate is to be over the old key.
    #[error("a renewal needs a new key")]
    KeyNotNew,
    /// The token's text could not be made.
    #[error(transparent)]
    Token(#[from] JoinTokenError),
    /// The proof key could not be derived.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The CA did not sign.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// Sealing or randomness failed.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EnrolmentError {
    /// Logs what ops have to know of a refusal that strangers are not told.
    pub fn log(&self, peer: IpAddr) {
        match self {
            Self::TokenInvalid | Self::TokenExpired | Self::TokenUsedUp | Self::TokenReused => {
                warn!(%peer, reason = %self, "enrolment refused");
            }
            Self::RecoveryRefused(refusal) => warn!(%peer, reason = %refusal, "recovery refused"),
            other => info!(%peer, reason = %other, "enrolment refused"),
        }
    }
}

fn refusal(refusal: RecoveryRefusal) -> String {
    let remedy = "ops can give the instance a new identity with a join token made with --replace";
    match refusal {
        // Nobody learns which names there are.
        RecoveryRefusal::Stranger => format!("the recovery is refused: {remedy}"),
        known => format!("the instance cannot come back by itself, {known}: {remedy}"),
    }
}
