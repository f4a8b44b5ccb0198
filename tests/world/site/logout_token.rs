//! Logout tokens (OpenID Connect Back-Channel Logout 1.0), judged as strictly as the specification allows: section 2.6, in
//! its order.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::JsonWebKey as _;
use openidconnect::core::{CoreJsonWebKeySet, CoreJwsSigningAlgorithm};
use serde_json::Value;

/// The member of `events` that makes a JWT a logout token (2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// How old a token may be, and how far its maker's clock ahead, in seconds.
const TOLERANCE: u64 = 60;

/// Whose tokens are good here.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) keys: &'a CoreJsonWebKeySet,
    pub(super) now: u64,
}

/// Ids of tokens that were taken: a token that comes again is somebody's replay (2.6, point 9). The broker has to make a
/// new one for each try.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<HashSet<String>>);

/// The claims of a good token.
pub(super) fn verify(token: &str, expected: &Expected<'_>, taken: &Taken) -> anyhow::Result<Value> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { bail!("the logout token is no signed JWT") };
    let read = |part: &str| -> anyhow::Result<Value> { Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?) };
    let (header_claims, claims) = (read(header)?, read(payload)?);
    // 2.4: explicit typing keeps it from being taken for another JWT, and another for it (RFC 8725 3.11).
    ensure!(header_claims["typ"] == "logout+jwt", "the logout token's typ is {}", header_claims["typ"]);
    let algorithm = match header_claims["alg"].as_str() {
        Some("ES256") => CoreJwsSigningAlgorithm::EcdsaP256Sha256,
        Some("RS256") => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
        _ => bail!("the logout token's alg is {}", header_claims["alg"]),
    };
    let kid = header_claims["kid"].as_str().context("the logout token names no key")?;
    let key = expected.keys.keys().iter().find(|key| key.key_id().is_some_and(|id| id.as_str() == kid));
    let key = key.with_context(|| format!("the logout token's key {kid} is not in the key set"))?;
    let signed = format!("{header}.{payload}");
    key.verify_signature(&algorithm, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature)?)
        .map_err(|error| anyhow!("the logout token's signature is wrong: {error}"))?;
    judge(&claims, expected)?;
    let id = claims["jti"].as_str().context("the logout token has no jti")?;
    let new = taken.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    ensure!(new, "the logout token {id} has been taken before");
    Ok(claims)
}

fn judge(claims: &Value, expected: &Expected<'_>) -> anyhow::Result<()> {
    ensure!(claims["iss"] == expected.issuer, "the logout token's iss is {}", claims["iss"]);
    let audience = &claims["aud"];
    let ours = *audience == expected.client_id
        || audience.as_array().is_some_and(|several| several.iter().all(|one| *one == expected.client_id));
    ensure!(ours, "the logout token's aud is {audience}");
    let issued = claims["iat"].as_u64().context("the logout token has no iat")?;
    let (earliest, latest) = (expected.now - TOLERANCE, expected.now + TOLERANCE);
    ensure!((earliest..=latest).contains(&issued), "the logout token's iat is {issued}, now is {}", expected.now);
    // Required since the final specification's first errata.
    let expires = claims["exp"].as_u64().context("the logout token has no exp")?;
    ensure!(expires > expected.now, "the logout token has expired");
    ensure!(claims["events"][EVENT].is_object(), "the logout token's events are {}", claims["events"]);
    ensure!(claims["sub"].is_string() || claims["sid"].is_string(), "the logout token has neither sub nor sid");
    ensure!(claims.get("nonce").is_none(), "the logout token has a nonce: it might be an ID token");
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn claims() -> Value {
        json!({
            "iss": "https://login.example", "aud": "beta", "iat": NOW, "exp": NOW + 120, "jti": "one", "sub": "alice",
            "events": {EVENT: {}},
        })
    }

    fn sign(key: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
        let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn refusal(header: &Value, claims: &Value, taken: &Taken) -> Option<String> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        let jwk = json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": "k", "x": encoded(x), "y": encoded(y)});
        let keys: CoreJsonWebKeySet = serde_json::from_value(json!({"keys": [jwk]})).unwrap();
        let expected = Expected { issuer: "https://login.example", client_id: "beta", keys: &keys, now: NOW };
        verify(&sign(&key, header, claims), &expected, taken).err().map(|error| error.to_string())
    }

    #[test]
    fn only_a_logout_token_of_the_broker_for_this_site_is_taken_and_once() {
        let header = || json!({"typ": "logout+jwt", "alg": "ES256", "kid": "k"});
        let taken = Taken::default();
        assert_eq!(refusal(&header(), &claims(), &taken), None);
        assert!(refusal(&header(), &claims(), &taken).unwrap().contains("taken before"));
        for (member, value) in [
            ("iss", json!("https://evil.example")),
            ("aud", json!(["beta", "gamma"])),
            ("iat", json!(NOW - 3600)),
            ("exp", json!(NOW)),
            ("exp", Value::Null),
            ("events", json!({"http://schemas.openid.net/event/other": {}})),
            ("events", json!([EVENT])),
            ("sub", Value::Null),
            ("nonce", json!("n")),
            ("jti", Value::Null),
        ] {
            let mut claims = claims();
            claims[member] = value;
            assert!(refusal(&header(), &claims, &Taken::default()).is_some(), "{member}: {}", claims[member]);
        }
        for (member, value) in [("typ", "JWT"), ("alg", "none"), ("alg", "HS256"), ("alg", "RS256"), ("kid", "other")] {
            let mut header = header();
            header[member] = json!(value);
            assert!(refusal(&header, &claims(), &Taken::default()).is_some(), "{member}: {value}");
        }
    }
}
