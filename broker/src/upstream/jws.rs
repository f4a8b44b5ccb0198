//! Signatures of providers: the keys are read, and nearly all signatures are checked, by `openidconnect`.
//!
//! It is its claims that are not used: they cannot be read from tokens whose `address` is a list (Casdoor's), and they are
//! not checked for all that OpenID Connect Core 3.1.3.7 asks.

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{CoreJsonWebKey, CoreJsonWebKeySet, CoreJwsSigningAlgorithm};
use openidconnect::{JsonWebKey as _, JsonWebKeyAlgorithm, JsonWebKeyUse as _, JwsSigningAlgorithm as _};
use serde_json::{Map, Value};

use crate::upstream::error::IdTokenRule;
use crate::upstream::json::Once;

/// Longest token, in bytes: those of people in hundreds of groups are large.
const MAX_TOKEN: usize = 64 * 1024;

/// Smallest RSA modulus, in bytes (RFC 7518 3.3).
const RSA_BYTES: usize = 256;

/// Types of tokens that are no ID tokens begin with other words (RFC 8725 3.11).
const TYPES: [&str; 4] = ["jwt", "application/jwt", "jose", "id_token+jwt"];

/// A provider's public keys.
#[derive(Debug)]
pub(super) struct Keys {
    set: CoreJsonWebKeySet,
    /// Keys for ES512, which `openidconnect` reads and does not use, as points in the order of the set.
    p521: Vec<Option<Vec<u8>>>,
}

/// A token whose signature is good.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) claims: Map<String, Value>,
    pub(super) algorithm: CoreJwsSigningAlgorithm,
}

/// Whether anybody can check a signature by this algorithm, and only the provider make one.
pub(super) fn is_asymmetric(algorithm: &CoreJwsSigningAlgorithm) -> bool {
    !algorithm.uses_shared_secret() && *algorithm != CoreJwsSigningAlgorithm::None
}

impl Keys {
    /// Reads a JWK Set; nothing if there is no key in it that could sign.
    pub(super) fn read(document: &[u8]) -> Option<Self> {
        let set: CoreJsonWebKeySet = serde_json::from_slice(document).ok()?;
        let usable = set.keys().iter().filter(|key| key.key_use().is_none_or(|own| own.allows_signature()));
        let usable: Vec<CoreJsonWebKey> = usable.filter(|key| is_strong(key)).cloned().collect();
        let p521 = usable.iter().map(p521).collect();
        (!usable.is_empty()).then(|| Self { set: CoreJsonWebKeySet::new(usable), p521 })
    }

    /// Reads a token that one of these keys signed by one of these algorithms.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn verify(&self, token: &str, allowed: &[CoreJwsSigningAlgorithm]) -> Result<Signed, IdTokenRule> {
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| IdTokenRule::Unreadable);
        let (signed, signature) = token.rsplit_once('.').ok_or(IdTokenRule::Unreadable)?;
        let (header, payload) = signed.split_once('.').ok_or(IdTokenRule::Unreadable)?;
        if token.len() > MAX_TOKEN {
            return Err(IdTokenRule::Unreadable);
        }
        let header = Once::read(&decode(header)?).ok_or(IdTokenRule::Unreadable)?;
        let algorithm = check_header(&header, allowed)?;
        let candidates = self.candidates(header.get("kid"), &algorithm)?;
        let signature = decode(signature)?;
        if !candidates.into_iter().any(|key| self.signed(key, &algorithm, signed.as_bytes(), &signature)) {
            return Err(IdTokenRule::Signature);
        }
        let claims = Once::read(&decode(payload)?).ok_or(IdTokenRule::Unreadable)?;
        Ok(Signed { claims, algorithm })
    }

    /// The keys that may have signed (places in the set). Core 10.1: without a name there must be no choice.
    fn candidates(&self, kid: Option<&Value>, algorithm: &CoreJwsSigningAlgorithm) -> Result<Vec<usize>, IdTokenRule> {
        let fits = |key: &CoreJsonWebKey| {
            let kind = algorithm.key_type().as_ref() == Some(key.key_type());
            kind && match key.signing_alg() {
                JsonWebKeyAlgorithm::Unspecified => true,
                JsonWebKeyAlgorithm::Algorithm(own) => own == algorithm,
                JsonWebKeyAlgorithm::Unsupported => false,
            }
        };
        let named = |key: &CoreJsonWebKey| match kid {
            None => true,
            Some(kid) => key.key_id().is_some_and(|own| kid == own.as_str()),
        };
        let all = self.set.keys().iter().enumerate();
        let found: Vec<usize> = all.filter(|(_, key)| fits(key) && named(key)).map(|(place, _)| place).collect();
        match (kid, found.len()) {
            (_, 0) => Err(IdTokenRule::Key),
            (None, 2..) => Err(IdTokenRule::Key),
            _ => Ok(found),
        }
    }

    fn signed(&self, place: usize, algorithm: &CoreJwsSigningAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        if *algorithm == CoreJwsSigningAlgorithm::EcdsaP521Sha512 {
            let key = self.p521.get(place).and_then(Option::as_ref);
            let key = key.map(|point| UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point));
            return key.is_some_and(|key| key.verify(message, signature).is_ok());
        }
        let key = self.set.keys().get(place);
        key.is_some_and(|key| key.verify_signature(algorithm, message, signature).is_ok())
    }
}

fn check_header(
    header: &Map<String, Value>,
    allowed: &[CoreJwsSigningAlgorithm],
) -> Result<CoreJwsSigningAlgorithm, IdTokenRule> {
    let kind = header.get("typ").map(|kind| kind.as_str().unwrap_or_default().to_ascii_lowercase());
    // RFC 7515 4.1.11: what must be understood, and is not, refuses the token.
    if kind.is_some_and(|kind| !TYPES.contains(&kind.as_str())) || header.contains_key("crit") {
        return Err(IdTokenRule::Type);
    }
    if header.get("kid").is_some_and(|kid| !kid.is_string()) {
        return Err(IdTokenRule::Key);
    }
    let algorithm = header.get("alg").cloned().ok_or(IdTokenRule::Algorithm)?;
    let algorithm: CoreJwsSigningAlgorithm = serde_json::from_value(algorithm).map_err(|_| IdTokenRule::Algorithm)?;
    let counts = is_asymmetric(&algorithm) && allowed.contains(&algorithm);
    if counts { Ok(algorithm) } else { Err(IdTokenRule::Algorithm) }
}

/// Whether a key is no RSA key of which the factors can be found. What it says of itself is read as it would be sent.
fn is_strong(key: &CoreJsonWebKey) -> bool {
    let written = serde_json::to_value(key).unwrap_or_default();
    let modulus = written.get("n").and_then(Value::as_str).and_then(|n| URL_SAFE_NO_PAD.decode(n).ok());
    modulus.is_none_or(|modulus| modulus.iter().skip_while(|byte| **byte == 0).count() >= RSA_BYTES)
}

/// The point of a P-521 key, uncompressed (SEC 1 2.3.3).
fn p521(key: &CoreJsonWebKey) -> Option<Vec<u8>> {
    let written = serde_json::to_value(key).ok()?;
    let member = |name: &str| written.get(name).and_then(Value::as_str);
    if member("crv") != Some("P-521") {
        return None;
    }
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(member(name)?).ok().filter(|bytes| bytes.len() == 66);
    Some([vec![4], coordinate("x")?, coordinate("y")?].concat())
}
