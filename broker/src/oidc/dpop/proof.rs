//! One proof (RFC 9449 4.2 and 4.3), judged without anything but itself and what it has to be for.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use subtle::ConstantTimeEq as _;
use url::Url;

use crate::clock::Timestamp;
use crate::grants::Thumbprint;
use crate::oidc::dpop::jwk::Jwk;
use crate::oidc::dpop::{ALGORITHMS, DpopError, Purported};

/// Longest proof that is read, in bytes: three times what an RSA key needs.
const MAX_LENGTH: usize = 8192;

/// Longest `jti`, in bytes.
const MAX_JTI: usize = 255;

/// How old a proof may be.
pub(super) const MAX_AGE: Duration = Duration::from_secs(120);

/// How far a client's clock may be ahead of ours.
pub(super) const SKEW: Duration = Duration::from_secs(30);

/// A proof that is what it has to be, but for its nonce and whether it was used before.
#[derive(Debug)]
pub(super) struct Proof {
    /// Of its key.
    pub(super) thumbprint: Thumbprint,
    /// Its name among all proofs.
    pub(super) id: ProofId,
    /// As it says.
    pub(super) nonce: Option<String>,
}

/// Tells proofs apart: half the SHA-256 of key and `jti`, so that no client can use up another's.
pub(super) type ProofId = [u8; 16];

#[derive(Deserialize)]
struct Header {
    typ: String,
    alg: String,
    jwk: Jwk,
    // RFC 7515 4.1.11: an extension that must be understood and is not; RFC 7797 is one.
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ProofClaims {
    jti: String,
    htm: String,
    htu: String,
    // RFC 7519 2: a NumericDate may have a fraction.
    iat: f64,
    ath: Option<String>,
    nonce: Option<String>,
}

/// Judges a proof.
///
/// # Errors
/// The first rule that is broken.
pub(super) fn verify(text: &str, purported: &Purported<'_>, now: Timestamp) -> Result<Proof, DpopError> {
    if text.len() > MAX_LENGTH {
        return Err(DpopError::Unreadable);
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(DpopError::Unreadable)?;
    let (header, claims) = signed.split_once('.').ok_or(DpopError::Unreadable)?;
    let header: Header = read(header)?;
    if header.typ != "dpop+jwt" {
        return Err(DpopError::Type);
    }
    if !ALGORITHMS.contains(&header.alg.as_str()) {
        return Err(DpopError::Algorithm);
    }
    if header.crit.is_some() || header.b64.is_some() {
        return Err(DpopError::Unreadable);
    }
    let (key, thumbprint) = header.jwk.key(&header.alg)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| DpopError::Unreadable)?;
    if !key.has_signed(signed.as_bytes(), &signature) {
        return Err(DpopError::Signature);
    }
    let claims: ProofClaims = read(claims)?;
    claims.check(purported, now)?;
    let hash = digest(&SHA256, format!("{thumbprint} {}", claims.jti).as_bytes());
    let mut id = ProofId::default();
    let (half, _) = hash.as_ref().split_at(id.len());
    id.copy_from_slice(half);
    Ok(Proof { thumbprint, id, nonce: claims.nonce })
}

impl ProofClaims {
    fn check(&self, purported: &Purported<'_>, now: Timestamp) -> Result<(), DpopError> {
        if self.jti.is_empty() || self.jti.len() > MAX_JTI {
            return Err(DpopError::Unreadable);
        }
        // Methods are compared as they are (RFC 9110 9.1).
        if Method::from_bytes(self.htm.as_bytes()).ok().as_ref() != Some(purported.method) {
            return Err(DpopError::Method);
        }
        let address = normalised(&self.htu).ok_or(DpopError::Address)?;
        if !purported.addresses.iter().any(|own| normalised(own).as_ref() == Some(&address)) {
            return Err(DpopError::Address);
        }
        let issued_at = Timestamp::from_secs(self.iat as i64);
        if issued_at > now + SKEW || issued_at + MAX_AGE <= now {
            return Err(DpopError::Time);
        }
        match (purported.access_token, &self.ath) {
            (None, _) => Ok(()),
            (Some(token), Some(ath)) if hash_of(token).as_bytes().ct_eq(ath.as_bytes()).into() => Ok(()),
            (Some(_), _) => Err(DpopError::AccessToken),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, DpopError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| DpopError::Unreadable)?;
    serde_json::from_slice(&json).map_err(|_| DpopError::Unreadable)
}

fn hash_of(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()))
}

/// An address without query and fragment, normalised (RFC 9449 4.3, RFC 3986 6.2.2 and 6.2.3): case and port by the
/// parser, and no letters, digits, `-`, `.`, `_` and `~` behind percent signs.
fn normalised(address: &str) -> Option<String> {
    let mut url = Url::parse(address).ok().filter(Url::has_host)?;
    url.set_query(None);
    url.set_fragment(None);
    let (mut text, mut rest) = (String::new(), url.as_str());
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let (escaped, behind) = after.split_at_checked(2)?;
        let byte = u8::from_str_radix(escaped, 16).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push_str(&escaped.to_ascii_uppercase());
        }
        rest = behind;
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "https://login.example/token";

    fn addresses(one: &str) -> [String; 2] {
        [one.to_owned(), "https://login.example:8443/token".to_owned()]
    }

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    // RFC 9449 4.1, figure 2: with its own time and address.
    const EXAMPLE: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

    #[test]
    fn the_example_of_the_rfc_is_good_at_its_time_and_place() {
        let at = Timestamp::from_secs(1_562_262_616);
        let here = addresses("https://server.example.com/token");
        let here = Purported { method: &Method::POST, addresses: &here, access_token: None };
        let elsewhere = Purported { addresses: &addresses(ADDRESS), ..here };
        let proof = verify(EXAMPLE, &here, at).unwrap();
        // RFC 9449 6.1: the key of the examples.
        assert_eq!(proof.thumbprint.as_str(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        assert_eq!(verify(EXAMPLE, &here, at + MAX_AGE).unwrap_err(), DpopError::Time);
        assert_eq!(verify(EXAMPLE, &elsewhere, at).unwrap_err(), DpopError::Address);
        let altered = EXAMPLE.replace("eyJqdGki", "eyJqdGkj");
        assert!(verify(&altered, &here, at).is_err());
    }

    #[test]
    fn claims_are_judged() {
        use DpopError as E;
        let check = |change: serde_json::Value, token: Option<&str>| {
            let mut claims = serde_json::json!({"jti": "1", "htm": "POST", "htu": ADDRESS, "iat": NOW.as_secs()});
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let claims: ProofClaims = serde_json::from_value(claims).map_err(|_| E::Unreadable)?;
            let addresses = &addresses(ADDRESS);
            claims.check(&Purported { method: &Method::POST, addresses, access_token: token }, NOW)
        };
        let now = NOW.as_secs();
        for (change, expected) in [
            (serde_json::json!({}), Ok(())),
            (serde_json::json!({"jti": ""}), Err(E::Unreadable)),
            (serde_json::json!({"jti": "x".repeat(256)}), Err(E::Unreadable)),
            (serde_json::json!({"jti": 1}), Err(E::Unreadable)),
            (serde_json::json!({"htm": "post"}), Err(E::Method)),
            (serde_json::json!({"htm": "GET"}), Err(E::Method)),
            (serde_json::json!({"htu": "https://login.example/token?a=b#c"}), Ok(())),
            (serde_json::json!({"htu": "HTTPS://LOGIN.example:443/token"}), Ok(())),
            (serde_json::json!({"htu": "https://login.example/x/../%74oken"}), Ok(())),
            (serde_json::json!({"htu": "https://login.example/Token"}), Err(E::Address)),
            (serde_json::json!({"htu": "https://login.example/token/"}), Err(E::Address)),
            (serde_json::json!({"htu": "http://login.example/token"}), Err(E::Address)),
            (serde_json::json!({"htu": "https://login.example:8443/token"}), Ok(())),
            (serde_json::json!({"htu": "https://login.example:8444/token"}), Err(E::Address)),
            (serde_json::json!({"htu": "https://login.example/token%"}), Err(E::Address)),
            (serde_json::json!({"htu": "/token"}), Err(E::Address)),
            (serde_json::json!({"iat": now - 119}), Ok(())),
            (serde_json::json!({"iat": now - 120}), Err(E::Time)),
            (serde_json::json!({"iat": now + 30}), Ok(())),
            (serde_json::json!({"iat": now + 31}), Err(E::Time)),
            (serde_json::json!({"iat": 1e300}), Err(E::Time)),
            (serde_json::json!({"iat": -1e300}), Err(E::Time)),
            (serde_json::json!({"iat": null}), Err(E::Unreadable)),
        ] {
            assert_eq!(check(change.clone(), None), expected, "{change}");
        }
        let ath = hash_of("token");
        assert_eq!(check(serde_json::json!({"ath": ath}), Some("token")), Ok(()));
        assert_eq!(check(serde_json::json!({"ath": ath}), Some("other")), Err(E::AccessToken));
        assert_eq!(check(serde_json::json!({}), Some("token")), Err(E::AccessToken));
    }
}
