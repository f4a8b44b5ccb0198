//! The ID token's claims (OpenID Connect Core 2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::grants::{Grant, sealed};
use crate::registry::{Claims, SessionId};
use crate::secret::{SecretError, random};

/// What an ID token says.
#[derive(Serialize)]
pub(super) struct IdToken<'a> {
    iss: &'a Issuer,
    /// One string: there is one audience, and so no `azp` (3.1.3.7).
    aud: &'a str,
    iat: Timestamp,
    exp: Timestamp,
    /// Another one in every token, also within one second: some relying parties refuse a token that they have seen.
    jti: String,
    at_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    amr: &'a [String],
    sid: &'a SessionId,
    #[serde(flatten)]
    claims: &'a Claims,
}

impl<'a> IdToken<'a> {
    /// For this grant and this access token, from one moment to another.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub(super) fn of(
        grant: &'a Grant,
        claims: &'a Claims,
        issuer: &'a Issuer,
        access_token: &SecretString,
        (iat, exp): (Timestamp, Timestamp),
    ) -> Result<Self, SecretError> {
        Ok(Self {
            iss: issuer,
            aud: grant.client_id.as_str(),
            iat,
            exp,
            jti: URL_SAFE_NO_PAD.encode(random::<16>()?),
            at_hash: sealed::half_hash(access_token),
            nonce: grant.nonce.as_deref(),
            auth_time: grant.auth_time,
            acr: grant.acr.as_deref(),
            amr: &grant.amr,
            sid: &grant.session,
            claims,
        })
    }

    /// As it is at a refresh: the nonce belongs to the login itself (12.2).
    pub(super) fn without_nonce(self) -> Self {
        Self { nonce: None, ..self }
    }
}
