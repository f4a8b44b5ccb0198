//! `private_key_jwt` and `client_secret_jwt`: a client shows who it is by a JWT that it has signed, with its own key or
//! with its secret (RFC 7523 2.2 and 3, OpenID Connect Core 9, RFC 8725).
//!
//! An assertion counts if one of the client's own keys has signed it by an algorithm of that key, it is for this issuer
//! and from this client, it is young, and nobody has used it before. All but the last is a pure function; using it up is
//! one write.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::oidc::path;
use crate::registry::{ClientId, RelyingParty};
use crate::secret::SecretHash;
use crate::storage::table::Record;

/// What `client_assertion_type` says (RFC 7523 2.2).
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Longest assertion that is read, in bytes.
const MAX_LENGTH: usize = 4096;

/// Longest `jti`, in bytes.
const MAX_JTI: usize = 255;

/// How long an assertion may be good for: an hour, since libraries that applications use make them so (Authlib). What
/// leaks from a log is worth nothing later, and no longer has to be remembered that it was used.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// How far a client's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(30);

/// A JWT that somebody sent to show who they are. Nothing in it is verified.
pub(super) struct Assertion {
    text: SecretString,
    algorithm: Algorithm,
    kid: Option<String>,
    subject: String,
}

/// A key that a client's assertion may be signed with.
pub(super) struct AssertionKey {
    /// Of the credential that it is.
    pub(super) version: u64,
    /// The key.
    pub(super) key: DecodingKey,
}

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
    /// `none`, any that we do not know, or another than the client registered.
    #[error("the client assertion is signed by an algorithm that this client may not use")]
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
    #[error("aud of the client assertion must be the issuer (or the token endpoint), and nothing else")]
    Audience,
    /// Too late.
    #[error("the client assertion has expired")]
    Expired,
    /// For too long.
    #[error("the client assertion is good for more than an hour")]
    Lifetime,
    /// Too early: one of the two clocks is wrong.
    #[error("the client assertion is from the future: compare the clocks")]
    Future,
    /// Used before.
    #[error("the client assertion was used before")]
    Replayed,
}

// What else may be there (`jwk`, `jku`, `x5u`, `x5c`) is never looked at (RFC 8725 3.5 and 3.10).
#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    kid: Option<String>,
    // RFC 7515 4.1.11: an extension that must be understood and is not; RFC 7797 is one.
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
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

/// Which audiences a client may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AudienceRule {
    /// The issuer or the token endpoint, as a string or in an array: what clients have always sent.
    Usual,
    /// The issuer, as a string: then no other server can be made to accept it (FAPI 2.0 Security Profile 5.3.2.1).
    IssuerAlone,
}

impl Assertion {
    /// Reads what can be read without a key.
    ///
    /// # Errors
    /// When it is no JWT, or demands what nobody here understands.
    pub(super) fn read(text: &str) -> Result<Self, AssertionError> {
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AssertionError::Unreadable);
        };
        if text.len() > MAX_LENGTH {
            return Err(AssertionError::Unreadable);
        }
        let header: Header = decoded(header)?;
        if header.crit.is_some() || header.b64.is_some() {
            return Err(AssertionError::Unreadable);
        }
        let UnverifiedSubject { sub } = decoded(claims)?;
        Ok(Self { text: text.into(), algorithm: header.alg, kid: header.kid, subject: sub })
    }

    /// Whom it claims to be from: only good for finding the keys that it has to be verified by.
    pub(super) fn unverified_subject(&self) -> &str {
        &self.subject
    }

    /// By what it claims to be signed.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Which key it claims to be signed with.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether it claims to be signed with a secret.
    pub(super) fn is_symmetric(&self) -> bool {
        matches!(self.algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
    }

    /// Verifies it as this client's, to this issuer, now. The keys are such as fit its algorithm.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn verify(
        &self,
        client: &RelyingParty,
        keys: &[AssertionKey],
        issuer: &Issuer,
        now: Timestamp,
    ) -> Result<VerifiedAssertion, AssertionError> {
        self.check_algorithm(client)?;
        let (version, claims) = self.signed_by(keys)?;
        let rule = if client.policy.is_fapi2() { AudienceRule::IssuerAlone } else { AudienceRule::Usual };
        claims.check(&client.client_id, (issuer, rule), now)?;
        let id = SecretHash::of(&format!("{} {}", client.client_id, claims.jti));
        Ok(VerifiedAssertion { version, id, expires_at: moment(claims.exp) })
    }

    /// RFC 8725 3.1 and 3.2: algorithms of ours, whatever the header says; the one that the client registered, if it
    /// did; and those of FAPI 2.0 Security Profile 5.4 for its clients.
    fn check_algorithm(&self, client: &RelyingParty) -> Result<(), AssertionError> {
        let modern = matches!(self.algorithm, Algorithm::ES256 | Algorithm::PS256 | Algorithm::EdDSA);
        let known = modern || self.is_symmetric() || self.algorithm == Algorithm::RS256;
        let registered = client.policy.assertion_alg.as_ref().is_none_or(|alg| *alg == format!("{:?}", self.algorithm));
        let allowed = known && registered && (modern || !client.policy.is_fapi2());
        if allowed { Ok(()) } else { Err(AssertionError::Algorithm) }
    }

    /// The claims, and the version of the key that has signed them.
    fn signed_by(&self, keys: &[AssertionKey]) -> Result<(u64, AssertionClaims), AssertionError> {
        let mut validation = Validation::new(self.algorithm);
        // The library would read the clock: the claims are checked below, by our own.
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims.clear();
        for AssertionKey { version, key } in keys {
            match jsonwebtoken::decode::<AssertionClaims>(self.text.expose_secret(), key, &validation) {
                Ok(token) => return Ok((*version, token.claims)),
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
    fn check(
        &self,
        client: &ClientId,
        (issuer, rule): (&Issuer, AudienceRule),
        now: Timestamp,
    ) -> Result<(), AssertionError> {
        if self.iss != client.as_str() || self.sub != client.as_str() {
            return Err(AssertionError::Subject);
        }
        let ours = |audience: &String| audience == issuer.as_str() || *audience == issuer.address(path::TOKEN);
        let only_ours = match (&self.aud, rule) {
            (Audience::One(audience), AudienceRule::Usual) => ours(audience),
            // Another one that it is for as well could bring it here in the client's name.
            (Audience::Many(audiences), AudienceRule::Usual) => !audiences.is_empty() && audiences.iter().all(ours),
            (Audience::One(audience), AudienceRule::IssuerAlone) => audience == issuer.as_str(),
            (Audience::Many(_), AudienceRule::IssuerAlone) => false,
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
        // Both ends: one that is good for a day must not become acceptable in its last hour.
        if exp > now + MAX_LIFETIME || exp > issued_at + MAX_LIFETIME + SKEW {
            return Err(AssertionError::Lifetime);
        }
        if self.jti.is_empty() || self.jti.len() > MAX_JTI { Err(AssertionError::Claims) } else { Ok(()) }
    }
}

fn decoded<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, AssertionError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| AssertionError::Unreadable)?;
    serde_json::from_slice(&json).map_err(|_| AssertionError::Unreadable)
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
        check_by(changed, AudienceRule::Usual)
    }

    fn check_by(changed: &Value, rule: AudienceRule) -> Result<(), AssertionError> {
        let mut claims = json!({
            "iss": "beta-1", "sub": "beta-1", "aud": "https://login.example", "exp": NOW + 60, "jti": "1"
        });
        claims.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        let claims: AssertionClaims = serde_json::from_value(claims).map_err(|_| AssertionError::Claims)?;
        let client: ClientId = serde_json::from_value(json!("beta-1")).unwrap();
        claims.check(&client, (&Issuer::parse("https://login.example").unwrap(), rule), Timestamp::from_secs(NOW))
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
            (json!({"exp": NOW + 3600}), Ok(())),
            (json!({"exp": NOW as f64 + 59.5}), Ok(())),
            (json!({"exp": NOW + 3601}), Err(E::Lifetime)),
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

    // T6
    #[test]
    fn the_fapi_profile_takes_the_issuer_alone() {
        for (aud, good) in [
            (json!("https://login.example"), true),
            (json!("https://login.example/token"), false),
            (json!("https://login.example/par"), false),
            (json!(["https://login.example"]), false),
        ] {
            let expected = if good { Ok(()) } else { Err(AssertionError::Audience) };
            assert_eq!(check_by(&json!({"aud": aud}), AudienceRule::IssuerAlone), expected, "{aud}");
        }
    }
}
