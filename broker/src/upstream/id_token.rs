//! An ID token, rule by rule (OpenID Connect Core 3.1.3.7). Pure: keys, time and expectations are handed in.

use std::time::Duration;

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::CoreJwsSigningAlgorithm as Jws;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use crate::clock::Timestamp;
use crate::registry::TENANT;
use crate::upstream::error::IdTokenRule;
use crate::upstream::jws::{Keys, Signed};

/// How far a provider's clock may be off.
const SKEW: Duration = Duration::from_secs(60);

/// How long ago a token may have been made that comes straight from the token endpoint.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Longest subject (Core 2), and longest name of a tenant, in bytes.
const MAX_SUBJECT: usize = 255;
const MAX_TENANT: usize = 64;

/// What a token has to be.
pub(super) struct Expected<'a> {
    /// Whom it is from; `{tenantid}` stands for its own `tid`.
    pub(super) issuer: &'a str,
    /// Whom it is for.
    pub(super) client_id: &'a str,
    /// Of which login.
    pub(super) nonce: &'a str,
    /// With which access token it came.
    pub(super) access_token: &'a str,
    /// By what it may be signed.
    pub(super) algorithms: &'a [Jws],
}

/// A user, as an ID token that keeps all rules says.
#[derive(Debug)]
pub(super) struct Vouched {
    /// The issuer, without placeholder.
    pub(super) issuer: String,
    pub(super) subject: String,
    /// What tells this issuer's users from those of another tenant.
    pub(super) tenant: Option<String>,
    pub(super) auth_time: Option<Timestamp>,
    pub(super) acr: Option<String>,
    pub(super) amr: Vec<String>,
    pub(super) claims: Map<String, Value>,
}

/// Judges a token.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn judge(token: &str, expected: &Expected<'_>, keys: &Keys, now: Timestamp) -> Result<Vouched, IdTokenRule> {
    let Signed { claims, algorithm } = keys.verify(token, expected.algorithms)?;
    let (issuer, tenant) = issuer(&claims, expected.issuer)?;
    check_audience(&claims, expected.client_id)?;
    check_times(&claims, now)?;
    let nonce = text(&claims, "nonce")?.unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(IdTokenRule::Nonce);
    }
    // Core 3.1.3.8: optional here; if it is there, it is right.
    if let Some(hash) = text(&claims, "at_hash")?
        && hash != left_half(&algorithm, expected.access_token)
    {
        return Err(IdTokenRule::AccessTokenHash);
    }
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() || subject.len() > MAX_SUBJECT || !subject.is_ascii() {
        return Err(IdTokenRule::Subject);
    }
    Ok(Vouched {
        issuer,
        subject: subject.to_owned(),
        tenant,
        auth_time: time(&claims, "auth_time")?.map(Timestamp::from_secs),
        acr: text(&claims, "acr")?.map(str::to_owned).filter(|acr| !acr.is_empty()),
        amr: texts(&claims, "amr")?,
        claims,
    })
}

/// Rule 2. A provider for many tenants has an issuer for each, and signs for all of them: the tenant that the token names
/// must be the one of its issuer.
pub(super) fn issuer(claims: &Map<String, Value>, expected: &str) -> Result<(String, Option<String>), IdTokenRule> {
    let named = claims.get("iss").and_then(Value::as_str).ok_or(IdTokenRule::Issuer)?;
    if !expected.contains(TENANT) {
        return if named == expected { Ok((named.to_owned(), None)) } else { Err(IdTokenRule::Issuer) };
    }
    let tenant = claims.get("tid").and_then(Value::as_str).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let good = (1..=MAX_TENANT).contains(&tenant.len()) && tenant.bytes().all(plain);
    if good && named == expected.replace(TENANT, tenant) {
        Ok((named.to_owned(), Some(tenant.to_owned())))
    } else {
        Err(IdTokenRule::Issuer)
    }
}

/// Rules 3 to 5: for the broker and nobody else. Whoever else it is for could show it here.
pub(super) fn check_audience(claims: &Map<String, Value>, client_id: &str) -> Result<(), IdTokenRule> {
    let alone = match claims.get("aud") {
        Some(Value::String(audience)) => audience == client_id,
        Some(Value::Array(audiences)) => !audiences.is_empty() && audiences.iter().all(|one| one == client_id),
        _ => false,
    };
    let authorized = claims.get("azp").is_none_or(|party| party == client_id);
    if alone && authorized { Ok(()) } else { Err(IdTokenRule::Audience) }
}

/// Rules 9 and 10.
fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<(), IdTokenRule> {
    let expires_at = time(claims, "exp")?.map(Timestamp::from_secs).ok_or(IdTokenRule::Expired)?;
    if now >= expires_at + SKEW {
        return Err(IdTokenRule::Expired);
    }
    let issued_at = time(claims, "iat")?.map(Timestamp::from_secs).ok_or(IdTokenRule::IssuedAt)?;
    let begins_at = time(claims, "nbf")?.map_or(issued_at, Timestamp::from_secs);
    let lately = issued_at <= now + SKEW && begins_at <= now + SKEW && issued_at + MAX_AGE >= now;
    if lately { Ok(()) } else { Err(IdTokenRule::IssuedAt) }
}

/// Core 3.1.3.6: the left half of the hash that the signature uses.
fn left_half(algorithm: &Jws, access_token: &str) -> String {
    let hash: &Algorithm = match algorithm {
        Jws::RsaSsaPkcs1V15Sha256 | Jws::RsaSsaPssSha256 | Jws::EcdsaP256Sha256 => &SHA256,
        Jws::RsaSsaPkcs1V15Sha384 | Jws::RsaSsaPssSha384 | Jws::EcdsaP384Sha384 => &SHA384,
        // EdDSA with Ed25519 hashes by SHA-512 too.
        _ => &SHA512,
    };
    let hashed = digest(hash, access_token.as_bytes());
    let (left, _) = hashed.as_ref().split_at(hashed.as_ref().len() / 2);
    URL_SAFE_NO_PAD.encode(left)
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, IdTokenRule> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(IdTokenRule::ClaimType),
    }
}

fn texts(claims: &Map<String, Value>, name: &str) -> Result<Vec<String>, IdTokenRule> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or(IdTokenRule::ClaimType)
        }
        Some(_) => Err(IdTokenRule::ClaimType),
    }
}

/// A NumericDate (RFC 7519 2), whose fraction does not matter.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, IdTokenRule> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "it saturates, and what is too large is refused as a time"
            )]
            let whole = number.as_i64().or_else(|| number.as_f64().map(|time| time as i64));
            whole.filter(|at| (0..=1 << 40).contains(at)).map(Some).ok_or(IdTokenRule::ClaimType)
        }
        Some(_) => Err(IdTokenRule::ClaimType),
    }
}
