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
        let said = format!("{alg:?}");
        let fits = |entry: &&Entry| entry.kind.fits(alg) && entry.alg.as_ref().is_none_or(|own| *own == said);
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
    if alg.as_ref().is_some_and(|alg| !CLIENT_SIGNING_ALGS.iter().any(|known| format!("{known:?}") == *alg)) {
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
