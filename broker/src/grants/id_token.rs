//! The ID token's claims (OpenID Connect Core 2).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::grants::Grant;
use crate::registry::Claims;
use crate::secret::{OpaqueSecret, SecretError, random};

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
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    amr: &'a [String],
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
        issuer: &'a Issuer,
        access_token: &OpaqueSecret,
        (iat, exp): (Timestamp, Timestamp),
    ) -> Result<Self, SecretError> {
        // 3.1.3.6: the left half of the hash that goes with the algorithm; RS256 and ES256 both mean SHA-256.
        let hash = digest(&SHA256, access_token.expose().as_bytes());
        let half = hash.as_ref().split_at(hash.as_ref().len() / 2).0;
        Ok(Self {
            iss: issuer,
            aud: grant.client_id.as_str(),
            iat,
            exp,
            jti: URL_SAFE_NO_PAD.encode(random::<16>()?),
            at_hash: URL_SAFE_NO_PAD.encode(half),
            nonce: grant.nonce.as_deref(),
            auth_time: grant.auth_time,
            amr: &grant.amr,
            claims: &grant.claims,
        })
    }
}
