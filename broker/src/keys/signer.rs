//! One key, parsed once, and the JWTs it signs (RFC 7515 compact serialization).

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::keys::KeyError;

/// Algorithm of an ID token (RFC 7518 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: every relying party has it (OpenID Connect Core 15.1).
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

impl SigningAlgorithm {
    /// As in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    /// As the library calls it.
    pub const fn of_jwt(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
        }
    }
}

/// A private key that is ready to sign, and the public key that verifies.
pub struct Signer {
    algorithm: SigningAlgorithm,
    key: Key,
    kid: String,
    jwk: Value,
    verifying_key: DecodingKey,
    /// The encoded JOSE header: the same for all tokens of this key.
    header: String,
}

enum Key {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
}

impl Signer {
    /// From PKCS#8 (DER). The `kid` is the key's thumbprint (RFC 7638), so it can never name another key.
    ///
    /// # Errors
    /// When it is no such key.
    pub(super) fn load(algorithm: SigningAlgorithm, pkcs8: &[u8]) -> Result<Self, KeyError> {
        let unreadable = || KeyError::Unreadable(algorithm.as_str().to_owned());
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (key, members, verifying_key) = match algorithm {
            SigningAlgorithm::Rs256 => {
                let key = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| unreadable())?;
                let n = text(key.public_key().modulus().big_endian_without_leading_zero());
                let e = text(key.public_key().exponent().big_endian_without_leading_zero());
                let verifying_key = DecodingKey::from_rsa_components(&n, &e).map_err(|_| unreadable())?;
                (Key::Rsa(key), json!({"e": e, "kty": "RSA", "n": n}), verifying_key)
            }
            SigningAlgorithm::Es256 => {
                let key =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| unreadable())?;
                // An uncompressed point: 0x04, x, y (SEC 1 2.3.3).
                let (x, y) = key.public_key().as_ref().get(1..65).ok_or_else(unreadable)?.split_at(32);
                let (x, y) = (text(x), text(y));
                let verifying_key = DecodingKey::from_ec_components(&x, &y).map_err(|_| unreadable())?;
                (Key::Ecdsa(key), json!({"crv": "P-256", "kty": "EC", "x": x, "y": y}), verifying_key)
            }
        };
        // serde_json keeps members in lexicographic order, as RFC 7638 3 wants them.
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, members.to_string().as_bytes()));
        let mut jwk = members;
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(algorithm.as_str());
        let mut header = Header::new(algorithm.of_jwt());
        header.kid = Some(kid.clone());
        let header = serde_json::to_vec(&header).map_err(|_| KeyError::NotSigned)?;
        Ok(Self { algorithm, key, kid, jwk, verifying_key, header: URL_SAFE_NO_PAD.encode(header) })
    }

    /// The key's name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it signs with.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// Verifies what it signed.
    pub fn verifying_key(&self) -> &DecodingKey {
        &self.verifying_key
    }

    /// The public key (RFC 7517 4).
    pub(super) fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// A signed JWT with these claims.
    ///
    /// # Errors
    /// When the claims are no JSON or the library refuses.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, KeyError> {
        self.sign_behind(&self.header, claims)
    }

    /// A signed JWT of an explicit type, so that none is taken for another (RFC 8725 3.11).
    ///
    /// # Errors
    /// As [`Signer::sign`].
    pub fn sign_typed(&self, kind: &str, claims: &impl Serialize) -> Result<String, KeyError> {
        let header = json!({"typ": kind, "alg": self.algorithm.as_str(), "kid": self.kid}).to_string();
        self.sign_behind(&URL_SAFE_NO_PAD.encode(header), claims)
    }

    fn sign_behind(&self, header: &str, claims: &impl Serialize) -> Result<String, KeyError> {
        let claims = serde_json::to_vec(claims).map_err(|_| KeyError::NotSigned)?;
        let mut token = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, token.as_bytes(), &mut signature)
                    .map_err(|_| KeyError::NotSigned)?;
                signature
            }
            Key::Ecdsa(key) => key.sign(&random, token.as_bytes()).map_err(|_| KeyError::NotSigned)?.as_ref().to_vec(),
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.kid)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::keys::record::generate;

    #[test]
    fn tokens_verify_under_the_published_key() {
        for (algorithm, theirs) in
            [(SigningAlgorithm::Rs256, Algorithm::RS256), (SigningAlgorithm::Es256, Algorithm::ES256)]
        {
            let signer = Signer::load(algorithm, &generate(algorithm).unwrap()).unwrap();
            let token = signer.sign(&json!({"sub": "alice", "exp": 4_102_444_800_u64})).unwrap();
            let jwk: Jwk = serde_json::from_value(signer.jwk().clone()).unwrap();
            let key = DecodingKey::from_jwk(&jwk).unwrap();
            let read = jsonwebtoken::decode::<Value>(&token, &key, &Validation::new(theirs)).unwrap();
            assert_eq!(read.claims["sub"], "alice");
            assert_eq!(read.header.kid.as_deref(), Some(signer.kid()));
            assert_eq!(jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap(), signer.kid());
        }
    }

    #[test]
    fn the_published_key_has_no_private_part() {
        let rsa = Signer::load(SigningAlgorithm::Rs256, &generate(SigningAlgorithm::Rs256).unwrap()).unwrap();
        let members: Vec<&str> = rsa.jwk().as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use"]);
    }
}
