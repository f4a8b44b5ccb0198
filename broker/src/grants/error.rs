//! Why there is no token, or none that is good.

use crate::keys::KeyError;
use crate::secret::SecretError;
use crate::storage::StoreError;

/// Why there is no token, or none that is good.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Never issued, or long ago.
    #[error("the code is unknown")]
    CodeUnknown,
    /// Issued to somebody else.
    #[error("the code belongs to another client")]
    CodeOfAnotherClient,
    /// Not the callback that it went to.
    #[error("the redirect_uri is not that of the authorization request")]
    RedirectUriMismatch,
    /// There was a challenge.
    #[error("the code_verifier is missing")]
    VerifierMissing,
    /// It does not fit the challenge.
    #[error("the code_verifier is wrong")]
    VerifierWrong,
    /// There was no challenge.
    #[error("there is a code_verifier but there was no code_challenge")]
    VerifierUnexpected,
    /// Used before.
    #[error("the code was used already; its tokens are ended")]
    CodeReplayed,
    /// Too late.
    #[error("the code has expired")]
    CodeExpired,
    /// A probe, not a login.
    #[error("the code is a probe; how the client authenticated has been noted")]
    CodeIsProbe,
    /// Never issued, or long ago.
    #[error("the refresh token is unknown")]
    RefreshTokenUnknown,
    /// Issued to somebody else.
    #[error("the refresh token belongs to another client")]
    RefreshTokenOfAnotherClient,
    /// Used before.
    #[error("the refresh token was used already; all tokens of its family are ended")]
    RefreshTokenReplayed,
    /// Too late, or not used for too long.
    #[error("the refresh token has expired")]
    RefreshTokenExpired,
    /// It is bound to another key, or the code was.
    #[error("it is bound to another key than the one that was shown")]
    BoundToAnotherKey,
    /// More than was granted.
    #[error("the scope goes beyond what was granted")]
    ScopeWidened,
    /// Not a resource that was granted, or none that the client may call.
    #[error("the resource was not granted, or the client may not call it for this user")]
    ResourceNotGranted,
    /// A client's own, one that was exchanged before, or one that is for somebody's API.
    #[error("the token cannot be exchanged for another one")]
    NotExchangeable,
    /// The user logged out, or was logged out.
    #[error("the session that it came of has ended")]
    SessionEnded,
    /// Revoked, or a code or refresh token of it was used twice.
    #[error("the grant has ended")]
    GrantEnded,
    /// The edge is gone, or the home is cut off.
    #[error("the home may not vouch to this relying party any more")]
    TrustWithdrawn,
    /// It ended, or came to be since.
    #[error("the user's link to another home is not what it was")]
    LinkChanged,
    /// Never issued, or ended.
    #[error("the access token is unknown")]
    AccessTokenUnknown,
    /// Too late.
    #[error("the access token has expired")]
    AccessTokenExpired,
    /// Only its own client may revoke it.
    #[error("the token belongs to another client")]
    TokenOfAnotherClient,
    /// Revoked by its client.
    #[error("the access token was revoked")]
    AccessTokenRevoked,
    /// No randomness.
    #[error("a token could not be made")]
    Internal(#[from] SecretError),
    /// No key.
    #[error("a token could not be signed")]
    Signing(#[from] KeyError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TokenError {
    /// Whether it says something of what was sent, and nothing of us.
    pub fn is_about_the_token(&self) -> bool {
        !matches!(self, Self::Internal(_) | Self::Signing(_) | Self::Store(_))
    }
}
