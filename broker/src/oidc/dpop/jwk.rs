//! The public key in the header of a proof: judged, verified with, and named by its thumbprint.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::grants::Thumbprint;
use crate::oidc::dpop::DpopError;

/// By what proofs may be signed, as discovery lists it.
pub(in crate::oidc) const ALGORITHMS: [&str; 4] = ["ES256", "EdDSA", "PS256", "RS256"];

/// Longest RSA modulus, in bytes: a larger one only keeps us busy.
const MAX_MODULUS: usize = 512;

/// Shortest, in bytes.
const MIN_MODULUS: usize = 256;

/// A JWK (RFC 7517). Only named members are looked at, and each may be there once.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    // What only private and symmetric keys have (RFC 7518 6.2.2, 6.3.2 and 6.4.1).
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

/// A key for one algorithm.
pub(super) enum ProofKey {
    P256([u8; 65]),
    Ed25519(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8>, padding: Padding },
}

pub(super) enum Padding {
    Pkcs1,
    Pss,
}

impl Jwk {
    /// The key, for this algorithm alone (RFC 8725 3.1), and its thumbprint.
    ///
    /// # Errors
    /// When it is none, or not public.
    pub(super) fn key(&self, algorithm: &str) -> Result<(ProofKey, Thumbprint), DpopError> {
        let private = [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth, &self.k];
        if private.into_iter().any(Option::is_some) {
            return Err(DpopError::Key);
        }
        // RFC 7638 3: the members that make the key, in order, without space. None needs escaping: they are base64url.
        let (key, members) = match (algorithm, self.kty.as_str(), self.crv.as_deref()) {
            ("ES256", "EC", Some("P-256")) => {
                let ((x, x_text), (y, y_text)) = (member(&self.x)?, member(&self.y)?);
                // A point that is not on the curve is refused when the signature is verified.
                let point = [vec![4], x, y].concat().try_into().map_err(|_| DpopError::Key)?;
                (ProofKey::P256(point), format!(r#"{{"crv":"P-256","kty":"EC","x":"{x_text}","y":"{y_text}"}}"#))
            }
            ("EdDSA", "OKP", Some("Ed25519")) => {
                let (x, x_text) = member(&self.x)?;
                (ProofKey::Ed25519(x), format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x_text}"}}"#))
            }
            ("PS256" | "RS256", "RSA", None) => {
                let ((n, n_text), (e, e_text)) = (member(&self.n)?, member(&self.e)?);
                let sized = (MIN_MODULUS..=MAX_MODULUS).contains(&n.len()) && n.first().is_some_and(|byte| *byte != 0);
                if !sized {
                    return Err(DpopError::Key);
                }
                let padding = if algorithm == "PS256" { Padding::Pss } else { Padding::Pkcs1 };
                (ProofKey::Rsa { n, e, padding }, format!(r#"{{"e":"{e_text}","kty":"RSA","n":"{n_text}"}}"#))
            }
            _ => return Err(DpopError::Key),
        };
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest(&SHA256, members.as_bytes()).as_ref());
        Ok((key, Thumbprint::of(&thumbprint)))
    }
}

impl ProofKey {
    /// Whether it has signed this.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature),
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Self::Rsa { n, e, padding } => {
                let key = RsaPublicKeyComponents { n, e };
                match padding {
                    Padding::Pkcs1 => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
                    Padding::Pss => key.verify(&RSA_PSS_2048_8192_SHA256, message, signature),
                }
            }
        };
        verified.is_ok()
    }
}

/// A member as bytes and as it was written: in base64url there is one way to write them.
fn member(text: &Option<String>) -> Result<(Vec<u8>, &str), DpopError> {
    let text = text.as_deref().ok_or(DpopError::Key)?;
    Ok((URL_SAFE_NO_PAD.decode(text).map_err(|_| DpopError::Key)?, text))
}
