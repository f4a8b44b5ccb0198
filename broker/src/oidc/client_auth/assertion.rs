//! `private_key_jwt`: a client shows who it is by a JWT that it has signed (RFC 7523 2.2 and 3, RFC 8725).
//!
//! An assertion counts if one of the client's own keys has signed it by ES256, it is for this issuer and from this client,
//! it is young, and nobody has used it before. All but the last is a pure function; using it up is one write.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::oidc::path;
use crate::registry::{ClientCredential, ClientId, RelyingParty};
use crate::secret::SecretHash;
use crate::storage::table::Record;

/// What `client_assertion_type` says (RFC 7523 2.2).
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Longest assertion that is read, in bytes.
const MAX_LENGTH: usize = 4096;

/// Longest `jti`, in bytes.
const MAX_JTI: usize = 255;

/// How long an assertion may be good for. What leaks from a log is worth nothing soon after, and no longer has to be
/// remembered that it was used.
const MAX_LIFETIME: Duration = Duration::from_secs(300);

/// How far a client's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(30);

/// A JWT that somebody sent to show who they are. Nothing in it is verified.
pub(super) struct Assertion(SecretString);

/// What an assertion says, once it is verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VerifiedAssertion {
    /// Version of the key that signed it.
    pub(super) version: u64,
    /// Its name among all assertions.
    pub(super) id: SecretHash,
    /// Until then it must not be used again; after that it is too old.
    pub(super) expires_at: Timestamp,
}

/// An assertion that was used, under its name.
#[derive(Debug, Serialize, Deserialize)]
pub struct UsedAssertion {
    /// When it is refused for its age.
    pub(super) expires_at: Timestamp,
}

impl Record for UsedAssertion {
    const TABLE: &'static str = "client_assertion";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at)
    }
}

/// Why an assertion does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::oidc) enum AssertionError {
    /// Too long, or no JWT at all.
    #[error("the client assertion is no JWT")]
    Unreadable,
    /// `none`, a symmetric algorithm, or any other than ES256.
    #[error("the client assertion is not signed by ES256")]
    Algorithm,
    /// By none of the keys of this client.
    #[error("no key of this client has signed the client assertion")]
    Signature,
    /// Missing or of the wrong type.
    #[error("the client assertion lacks iss, sub, aud, exp or jti, or one of them cannot be read")]
    Claims,
    /// From somebody else.
    #[error("iss and sub of the client assertion must both be the client id")]
    Subject,
    /// For somebody else, or for somebody else as well.
    #[error("aud of the client assertion must be the issuer or the token endpoint, and nothing else")]
    Audience,
    /// Too late.
    #[error("the client assertion has expired")]
    Expired,
    /// For too long.
    #[error("the client assertion is good for more than 5 minutes")]
    Lifetime,
    /// Too early: one of the two clocks is wrong.
    #[error("the client assertion is from the future: compare the clocks")]
    Future,
    /// Used before.
    #[error("the client assertion was used before")]
    Replayed,
}

#[derive(Deserialize)]
struct UnverifiedSubject {
    sub: String,
}

#[derive(Deserialize)]
struct AssertionClaims {
    iss: String,
    sub: String,
    aud: Audience,
    // RFC 7519 2: a NumericDate may have a fraction.
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Assertion {
    /// Of this text.
    pub(super) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whom it claims to be from: only good for finding the keys that it has to be verified by.
    pub(super) fn unverified_subject(&self) -> Option<String> {
        let claims = Some(self.0.expose_secret()).filter(|text| text.len() <= MAX_LENGTH)?.split('.').nth(1)?;
        let claims: UnverifiedSubject = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        Some(claims.sub)
    }

    /// Verifies it as this client's, to this issuer, now.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn verify(
        &self,
        client: &RelyingParty,
        issuer: &Issuer,
        now: Timestamp,
    ) -> Result<VerifiedAssertion, AssertionError> {
        let (version, claims) = self.signed_by(client)?;
        claims.check(&client.client_id, issuer, now)?;
        let id = SecretHash::of(&format!("{} {}", client.client_id, claims.jti));
        Ok(VerifiedAssertion { version, id, expires_at: moment(claims.exp) })
    }

    /// The claims, and the version of the key that has signed them.
    fn signed_by(&self, client: &RelyingParty) -> Result<(u64, AssertionClaims), AssertionError> {
        let text = self.0.expose_secret();
        if text.len() > MAX_LENGTH {
            return Err(AssertionError::Unreadable);
        }
        let header = jsonwebtoken::decode_header(text).map_err(|_| AssertionError::Unreadable)?;
        // RFC 8725 3.1 and 3.2: one algorithm, whatever the header says.
        if header.alg != Algorithm::ES256 {
            return Err(AssertionError::Algorithm);
        }
        // RFC 7515 4.1.11: an extension that must be understood and is not.
        if header.crit.is_some() {
            return Err(AssertionError::Unreadable);
        }
        let mut validation = Validation::new(Algorithm::ES256);
        // The library would read the clock: the claims are checked below, by our own.
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims.clear();
        // A kid only tells keys apart that are tried both anyway, while they turn.
        for credential in client.credentials() {
            let ClientCredential::Key(key) = credential else { continue };
            let Some(verifying_key) = key.jwk.verifying_key() else { continue };
            match jsonwebtoken::decode::<AssertionClaims>(text, &verifying_key, &validation) {
                Ok(token) => return Ok((key.version, token.claims)),
                // The signature was verified first.
                Err(error) if matches!(error.kind(), ErrorKind::Json(_)) => return Err(AssertionError::Claims),
                Err(_) => {}
            }
        }
        Err(AssertionError::Signature)
    }
}

impl AssertionClaims {
    /// RFC 7523 3, in its order.
    fn check(&self, client: &ClientId, issuer: &Issuer, now: Timestamp) -> Result<(), AssertionError> {
        if self.iss != client.as_str() || self.sub != client.as_str() {
            return Err(AssertionError::Subject);
        }
        let ours = |audience: &String| audience == issuer.as_str() || *audience == issuer.address(path::TOKEN);
        let only_ours = match &self.aud {
            Audience::One(audience) => ours(audience),
            // Another one that it is for as well could bring it here in the client's name.
            Audience::Many(audiences) => !audiences.is_empty() && audiences.iter().all(ours),
        };
        if !only_ours {
            return Err(AssertionError::Audience);
        }
        let (exp, issued_at) = (moment(self.exp), self.iat.map_or(now, moment));
        if exp <= now {
            return Err(AssertionError::Expired);
        }
        if issued_at > now + SKEW || self.nbf.is_some_and(|nbf| moment(nbf) > now + SKEW) {
            return Err(AssertionError::Future);
        }
        // Both ends: one that is good for an hour must not become acceptable in its last five minutes.
        if exp > now + MAX_LIFETIME || exp > issued_at + MAX_LIFETIME + SKEW {
            return Err(AssertionError::Lifetime);
        }
        if self.jti.is_empty() || self.jti.len() > MAX_JTI { Err(AssertionError::Claims) } else { Ok(()) }
    }
}

/// Whole seconds; what is beyond all time is at its end.
fn moment(numeric_date: f64) -> Timestamp {
    Timestamp::from_secs(numeric_date as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn check(changed: &Value) -> Result<(), AssertionError> {
        let mut claims = json!({
            "iss": "beta-1", "sub": "beta-1", "aud": "https://login.example", "exp": NOW + 60, "jti": "1"
        });
        claims.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        let claims: AssertionClaims = serde_json::from_value(claims).map_err(|_| AssertionError::Claims)?;
        let client: ClientId = serde_json::from_value(json!("beta-1")).unwrap();
        claims.check(&client, &Issuer::parse("https://login.example").unwrap(), Timestamp::from_secs(NOW))
    }

    #[test]
    fn claims_are_judged() {
        use AssertionError as E;
        for (change, expected) in [
            (json!({}), Ok(())),
            (json!({"aud": "https://login.example/token"}), Ok(())),
            (json!({"aud": ["https://login.example/token", "https://login.example"]}), Ok(())),
            (json!({"aud": "https://login.example/"}), Err(E::Audience)),
            (json!({"aud": "https://login.example/authorize"}), Err(E::Audience)),
            (json!({"aud": ["https://login.example", "https://evil.example"]}), Err(E::Audience)),
            (json!({"aud": []}), Err(E::Audience)),
            (json!({"aud": null}), Err(E::Claims)),
            (json!({"iss": "delta-1"}), Err(E::Subject)),
            (json!({"sub": "delta-1"}), Err(E::Subject)),
            (json!({"iss": "delta-1", "sub": "delta-1"}), Err(E::Subject)),
            (json!({"exp": NOW}), Err(E::Expired)),
            (json!({"exp": NOW - 1}), Err(E::Expired)),
            (json!({"exp": -1e300}), Err(E::Expired)),
            (json!({"exp": NOW + 300}), Ok(())),
            (json!({"exp": NOW as f64 + 59.5}), Ok(())),
            (json!({"exp": NOW + 301}), Err(E::Lifetime)),
            (json!({"exp": 1e300}), Err(E::Lifetime)),
            (json!({"exp": null}), Err(E::Claims)),
            (json!({"exp": "1800000060"}), Err(E::Claims)),
            (json!({"iat": NOW - 240}), Ok(())),
            (json!({"iat": NOW - 3600}), Err(E::Lifetime)),
            (json!({"iat": NOW + 30}), Ok(())),
            (json!({"iat": NOW + 31}), Err(E::Future)),
            (json!({"nbf": NOW + 30}), Ok(())),
            (json!({"nbf": NOW + 31}), Err(E::Future)),
            (json!({"jti": ""}), Err(E::Claims)),
            (json!({"jti": "x".repeat(256)}), Err(E::Claims)),
            (json!({"jti": 1}), Err(E::Claims)),
        ] {
            assert_eq!(check(&change), expected, "{change}");
        }
    }
}
