//! Why a login goes no further.

use crate::registry::IdentityError;
use crate::secret::SecretError;
use crate::storage::StoreError;

/// Why a login goes no further, other than by a [`Refusal`](crate::login::Refusal) that the relying party is told.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// A sealed transaction or ticket was altered, invented, or sealed by another broker.
    #[error("the login transaction or ticket was not made by this broker")]
    Unreadable,
    /// The login took too long.
    #[error("the time for this login is over")]
    Expired,
    /// Another browser began it, or this one lost its cookies.
    #[error("another browser began this login")]
    OtherBrowser,
    /// The ticket names another home than the caller.
    #[error("the ticket was made for another home")]
    TicketOfAnotherHome,
    /// Somebody completed it already.
    #[error("the ticket was used already")]
    TicketUsed,
    /// No such login was completed.
    #[error("the handle stands for no login")]
    HandleUnknown,
    /// The browser came back with it already.
    #[error("the handle was used already")]
    HandleUsed,
    /// Never pushed here, by another client, too long ago, or used (RFC 9126 4).
    #[error("the request_uri stands for no request that was pushed by this client and may be used still")]
    PushedRequestUnknown,
    /// The session of the user who was asked for consent has ended, or another user has signed in since.
    #[error("the user who was asked is not signed in any more")]
    SignedOut,
    /// The home has disabled or removed the user since it vouched.
    #[error("the home has taken back its word of this user")]
    TakenBack,
    /// The relying party is unknown, unconfirmed or quarantined, or gave up this callback.
    #[error("the relying party takes no logins any more")]
    RelyingPartyGone,
    /// The relying party does not accept this home, or it may vouch for nobody now.
    #[error("the relying party does not accept this home")]
    HomeNotAccepted,
    /// The home's agent is not there, or says that its application is not.
    #[error("the home cannot log anybody in now")]
    HomeNotReady,
    /// The home's word breaks a rule.
    #[error("the identity is refused: {0}")]
    IdentityRefused(#[from] IdentityError),
    /// No randomness, or a key that does not fit.
    #[error("a secret could not be made")]
    Internal(#[from] SecretError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
