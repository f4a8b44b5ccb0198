//! The rules of OpenID Connect Core 3.1.3.7 for an ID token, each where it is checked. Pure.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{CoreIdToken, CoreJwsSigningAlgorithm};
use openidconnect::{AccessToken, AccessTokenHash, ClaimsVerificationError, Nonce};
use serde_json::Value;
use thiserror::Error;
use time::OffsetDateTime;

use super::Ready;

/// Signatures that count. None of a shared secret: who verifies by it could have signed (3.1.3.7, 8), and none at all.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];
/// How far the provider's clock may be from ours, in seconds.
const SKEW: i64 = 60;
/// A token is redeemed in the second it is issued; one that is older was issued for another login.
const OLDEST: i64 = 600;

/// What a token must be.
pub(super) struct Expected<'a> {
    /// For this client.
    pub(super) client_id: &'a str,
    /// For this request.
    pub(super) nonce: &'a Nonce,
    /// Beside this access token.
    pub(super) access_token: &'a AccessToken,
    /// Of an authentication since then.
    pub(super) min_auth_time: Option<i64>,
}

/// A token that is.
pub(super) struct Verified {
    /// `sub`.
    pub(super) subject: String,
    /// All of its claims.
    pub(super) claims: Value,
}

/// Why a token is refused.
#[derive(Debug, Error)]
pub(crate) enum IdTokenRefused {
    /// The response has none.
    #[error("the token response has no ID token")]
    Missing,
    /// No key verifies it, or its algorithm does not count.
    #[error("the ID token's signature does not count: {0}")]
    Signature(#[source] ClaimsVerificationError),
    /// Issuer, audience, expiry or nonce.
    #[error("the ID token is not for this login: {0}")]
    Claims(#[source] ClaimsVerificationError),
    /// Step 5.
    #[error("the ID token was issued to another client (azp)")]
    AuthorizedParty,
    /// Step 10.
    #[error("the ID token was issued at a time that is not now; check the clocks of both machines")]
    IssuedAt,
    /// 3.1.3.8.
    #[error("the ID token belongs to another access token (at_hash)")]
    AccessTokenHash,
    /// Core 2: 255 ASCII characters at most.
    #[error("the ID token has no usable sub")]
    Subject,
    /// Step 13: it was asked for, and is not there or no number.
    #[error("the provider does not say when the user authenticated (auth_time), although it was asked")]
    NoAuthTime,
    /// Step 13.
    #[error("the user has authenticated too long ago")]
    TooOld,
}

/// Judges a token.
pub(super) fn verify(
    client: &Ready,
    token: &CoreIdToken,
    expected: &Expected<'_>,
    now: OffsetDateTime,
) -> Result<Verified, IdTokenRefused> {
    let now = now.unix_timestamp();
    let seconds = u64::try_from(now - SKEW).unwrap_or_default();
    let expires_after = UNIX_EPOCH + Duration::from_secs(seconds);
    let verifier = client.id_token_verifier().set_allowed_algs(ALGORITHMS).set_time_fn(move || expires_after.into());
    let verified = token.claims(&verifier, expected.nonce).map_err(|error| match error {
        ClaimsVerificationError::SignatureVerification(_) => IdTokenRefused::Signature(error),
        error => IdTokenRefused::Claims(error),
    })?;
    if verified.authorized_party().is_some_and(|party| party.as_str() != expected.client_id) {
        return Err(IdTokenRefused::AuthorizedParty);
    }
    if !(now - OLDEST..=now + SKEW).contains(&verified.issue_time().timestamp()) {
        return Err(IdTokenRefused::IssuedAt);
    }
    if let Some(hash) = verified.access_token_hash() {
        let of_ours = token.signing_alg().ok().zip(token.signing_key(&verifier).ok());
        let of_ours = of_ours.and_then(|(alg, key)| AccessTokenHash::from_token(expected.access_token, alg, key).ok());
        if of_ours.as_ref() != Some(hash) {
            return Err(IdTokenRefused::AccessTokenHash);
        }
    }
    let subject = verified.subject().as_str();
    let usable = (1..=255).contains(&subject.len()) && !subject.chars().any(char::is_control);
    // What is read as JSON below must be what was judged above, also if a member is there twice.
    let claims = claims(token).filter(|claims| usable && claims.get("sub").and_then(Value::as_str) == Some(subject));
    let claims = claims.ok_or(IdTokenRefused::Subject)?;
    if let Some(earliest) = expected.min_auth_time {
        let auth_time = claims.get("auth_time").and_then(Value::as_i64).ok_or(IdTokenRefused::NoAuthTime)?;
        if auth_time + SKEW < earliest {
            return Err(IdTokenRefused::TooOld);
        }
    }
    Ok(Verified { subject: subject.to_owned(), claims })
}

/// The payload of a token whose signature was verified, with the claims that the library has no names for.
fn claims(token: &CoreIdToken) -> Option<Value> {
    let text = token.to_string();
    let payload = URL_SAFE_NO_PAD.decode(text.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok().filter(Value::is_object)
}
