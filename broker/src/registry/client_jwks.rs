//! The public keys of a client that it registered or publishes itself (RFC 7517 5): for its assertions and its request
//! objects.
//!
//! What is in there and cannot be used here (keys to encrypt with, other curves) is passed over, because a client's set
//! may serve others as well. What must never be in there refuses the whole set.

use std::collections::HashSet;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use crate::registry::client_key::PRIVATE_MEMBERS;

/// Most keys of one client: enough to turn several.
const MAX_KEYS: usize = 16;

/// Smallest and largest RSA modulus, in bits: weaker ones can be broken, larger ones only keep us busy.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Longest `kid`, in bytes.
const MAX_KID: usize = 256;

/// The algorithms by which a client may sign: asymmetric, and no weaker than 112 bits (FAPI 2.0 Security Profile 5.4).
pub const CLIENT_SIGNING_ALGS: [Algorithm; 4] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

/// As in `alg` (RFC 7518 3.1).
pub const fn alg_name(alg: Algorithm) -> &'static str {
    match alg {
        Algorithm::RS256 => "RS256",
        Algorithm::PS256 => "PS256",
        Algorithm::ES256 => "ES256",
        Algorithm::EdDSA => "EdDSA",
        Algorithm::HS256 => "HS256",
        // Nothing here is signed by any other.
        _ => "",
    }
}

/// Keys that signatures of a client can be verified with.
#[derive(Clone, Debug)]
pub struct ClientJwks(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    kid: Option<String>,
    kind: Kind,
    /// What it says it is for; all that it fits if unset (RFC 8725 3.1: a key is for one algorithm, if it says so).
    alg: Option<String>,
    key: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    Ed25519,
}

impl Kind {
    fn fits(self, alg: Algorithm) -> bool {
        match self {
            Self::Rsa => matches!(alg, Algorithm::RS256 | Algorithm::PS256),
            Self::P256 => alg == Algorithm::ES256,
            Self::Ed25519 => alg == Algorithm::EdDSA,
        }
    }
}

impl ClientJwks {
    /// Reads a JWK Set.
    ///
    /// # Errors
    /// When it is none, holds what must not be in one, or nothing that could be used.
    pub fn read(set: &Value) -> Result<Self, ClientJwksError> {
        let keys = set.get("keys").and_then(Value::as_array).ok_or(ClientJwksError::NotASet)?;
        if keys.len() > MAX_KEYS {
            return Err(ClientJwksError::TooMany);
        }
        let (mut entries, mut kids) = (Vec::new(), HashSet::new());
        for key in keys {
            let key = key.as_object().ok_or(ClientJwksError::NotASet)?;
            let Some(entry) = entry(key)? else { continue };
            // FAPI 2.0 Security Profile 5.6: which key it was must not be a matter of order.
            if entry.kid.clone().is_some_and(|kid| !kids.insert(kid)) {
                return Err(ClientJwksError::KidRepeated);
            }
            entries.push(entry);
        }
        if entries.is_empty() { Err(ClientJwksError::NothingUsable) } else { Ok(Self(entries)) }
    }

    /// The keys that may have signed something by this algorithm. A `kid` names one; without it all that fit are tried.
    pub fn verifying(&self, kid: Option<&str>, alg: Algorithm) -> Vec<DecodingKey> {
        let fits = |entry: &&Entry| entry.kind.fits(alg) && entry.alg.as_deref().is_none_or(|own| own == alg_name(alg));
        let named = |entry: &&Entry| kid.is_none() || entry.kid.is_none() || entry.kid.as_deref() == kid;
        self.0.iter().filter(fits).filter(named).map(|entry| entry.key.clone()).collect()
    }
}

fn entry(key: &Map<String, Value>) -> Result<Option<Entry>, ClientJwksError> {
    if PRIVATE_MEMBERS.iter().any(|private| key.contains_key(*private)) {
        return Err(ClientJwksError::Private);
    }
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let for_signatures = key.get("use").is_none_or(|said| said == "sig");
    let verifies = key.get("key_ops").and_then(Value::as_array).is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !for_signatures || !verifies {
        return Ok(None);
    }
    let (kind, key_parsed) = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => {
            let (n, e) = (bytes("n").ok_or(ClientJwksError::Malformed)?, text("e").ok_or(ClientJwksError::Malformed)?);
            let leading = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
            if !RSA_BITS.contains(&(n.len() * 8 - leading)) {
                return Err(ClientJwksError::Weak);
            }
            (Kind::Rsa, DecodingKey::from_rsa_components(text("n").unwrap_or_default(), e))
        }
        (Some("EC"), Some("P-256")) => {
            let coordinate = |name| bytes(name).filter(|bytes| bytes.len() == 32).ok_or(ClientJwksError::Malformed);
            let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
            // RFC 8725 3.4: a point that is not on the curve must never be calculated with.
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| ClientJwksError::Malformed)?;
            let (x, y) = (text("x").unwrap_or_default(), text("y").unwrap_or_default());
            (Kind::P256, DecodingKey::from_ec_components(x, y))
        }
        (Some("OKP"), Some("Ed25519")) => {
            let point = bytes("x").ok_or(ClientJwksError::Malformed)?;
            ParsedPublicKey::new(&ED25519, point).map_err(|_| ClientJwksError::Malformed)?;
            (Kind::Ed25519, DecodingKey::from_ed_components(text("x").unwrap_or_default()))
        }
        _ => return Ok(None),
    };
    let alg = text("alg").map(str::to_owned);
    // One that says it is for another algorithm is of no use here.
    if alg.as_ref().is_some_and(|alg| !CLIENT_SIGNING_ALGS.iter().any(|known| alg_name(*known) == alg)) {
        return Ok(None);
    }
    let kid = text("kid").map(str::to_owned);
    if kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
        return Err(ClientJwksError::Malformed);
    }
    Ok(Some(Entry { kid, kind, alg, key: key_parsed.map_err(|_| ClientJwksError::Malformed)? }))
}

/// Why a client's keys are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientJwksError {
    /// No object with an array of objects named `keys`.
    #[error("this is no JWK Set (RFC 7517 5)")]
    NotASet,
    /// More than sixteen.
    #[error("a JWK Set may hold at most {MAX_KEYS} keys")]
    TooMany,
    /// Nobody but its owner may have it.
    #[error("a key has private members: make another one, this one is no secret any more, and send its public half")]
    Private,
    /// Broken by whoever wants to.
    #[error("an RSA key must have from 2048 to 8192 bits")]
    Weak,
    /// Incomplete, or no point on its curve.
    #[error("a key cannot be read")]
    Malformed,
    /// Two with one name.
    #[error("two keys have the same kid")]
    KidRepeated,
    /// Other types, curves, algorithms or uses.
    #[error("there is no key for signatures by RS256, PS256, ES256 or EdDSA")]
    NothingUsable,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    /// RFC 8037 A.2.
    const ED25519_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn ec(changed: &Value) -> Value {
        let mut key = json!({"kty": "EC", "crv": "P-256", "kid": "1", "x": X, "y": Y});
        key.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        key
    }

    fn rsa(bytes: usize) -> Value {
        json!({"kty": "RSA", "kid": "r", "n": URL_SAFE_NO_PAD.encode(vec![0xff; bytes]), "e": "AQAB"})
    }

    fn read(keys: &[Value]) -> Result<ClientJwks, ClientJwksError> {
        ClientJwks::read(&json!({"keys": keys}))
    }

    #[test]
    fn keys_of_each_kind_serve_their_algorithms() {
        let ed25519 = json!({"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": ED25519_X});
        let keys = read(&[ec(&json!({})), rsa(256), ed25519]).unwrap();
        for (kid, alg, expected) in [
            (Some("1"), Algorithm::ES256, 1),
            (Some("r"), Algorithm::RS256, 1),
            (Some("r"), Algorithm::PS256, 1),
            (Some("e"), Algorithm::EdDSA, 1),
            (None, Algorithm::ES256, 1),
            (Some("r"), Algorithm::ES256, 0),
            (Some("1"), Algorithm::RS256, 0),
            (Some("1"), Algorithm::HS256, 0),
            (Some("x"), Algorithm::ES256, 0),
        ] {
            assert_eq!(keys.verifying(kid, alg).len(), expected, "{kid:?} {alg:?}");
        }
        let mut bound = rsa(256);
        bound["alg"] = json!("PS256");
        let bound = read(&[bound]).unwrap();
        assert_eq!(
            (bound.verifying(None, Algorithm::PS256).len(), bound.verifying(None, Algorithm::RS256).len()),
            (1, 0)
        );
    }

    // J3
    #[test]
    fn hostile_sets_are_refused() {
        use ClientJwksError as E;
        for (keys, expected) in [
            (vec![ec(&json!({"d": "x"}))], E::Private),
            (vec![ec(&json!({})), json!({"kty": "oct", "k": "c2VjcmV0"})], E::Private),
            (vec![rsa(128)], E::Weak),
            (vec![rsa(1025)], E::Weak),
            (vec![ec(&json!({})), ec(&json!({}))], E::KidRepeated),
            (vec![ec(&json!({"x": Y}))], E::Malformed),
            (vec![ec(&json!({"y": ""}))], E::Malformed),
            (vec![ec(&json!({"kid": "x".repeat(300)}))], E::Malformed),
            (vec![json!("x")], E::NotASet),
            (vec![json!({"kty": "RSA", "e": "AQAB"})], E::Malformed),
            (vec![json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"})], E::Malformed),
            (vec![ec(&json!({"use": "enc"}))], E::NothingUsable),
            (vec![ec(&json!({"alg": "none"}))], E::NothingUsable),
            (vec![ec(&json!({"crv": "P-384"}))], E::NothingUsable),
            (vec![], E::NothingUsable),
            ((0..17).map(|n| ec(&json!({"kid": n.to_string()}))).collect(), E::TooMany),
        ] {
            assert_eq!(read(&keys).err(), Some(expected), "{keys:?}");
        }
        for set in [json!({}), json!([]), json!({"keys": {}}), json!("x"), json!(null)] {
            assert_eq!(ClientJwks::read(&set).err(), Some(E::NotASet));
        }
    }

    #[test]
    fn keys_for_others_are_passed_over() {
        let p384 = json!({"kty": "EC", "crv": "P-384", "x": X, "y": Y});
        let keys = read(&[p384, ec(&json!({"use": "enc", "kid": "2"})), ec(&json!({"use": "sig"}))]).unwrap();
        assert_eq!(keys.verifying(None, Algorithm::ES256).len(), 1);
    }
}
