//! The public key of a client that authenticates by `private_key_jwt`: how it is read, and how the next one is
//! registered while the client's credential turns.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use homeward_certs::identity::InstanceName;
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::info;

use crate::registry::{ClientCredential, ClientKey, Instance, Registry};
use crate::storage::table::Stored;
use crate::storage::{Expect, StoreError};

/// Longest JWK that is read, in bytes: ten times what a key needs.
const MAX_JWK: usize = 2048;

/// Members that only private and symmetric keys have (RFC 7518 6.2.2, 6.3.2 and 6.4.1).
pub(super) const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// How often a registration that somebody else got in the way of is judged again.
const REGISTER_TRIES: usize = 4;

/// A public key for ES256 as a JWK (RFC 7517): the members that make the key, and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicJwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
}

impl PublicJwk {
    /// Reads a JWK. Members that say nothing about the key itself are dropped.
    ///
    /// # Errors
    /// When it is no public key for ES256.
    pub fn read(json: &[u8]) -> Result<Self, JwkError> {
        if json.len() > MAX_JWK {
            return Err(JwkError::NotAJwk);
        }
        let members: Map<String, Value> = serde_json::from_slice(json).map_err(|_| JwkError::NotAJwk)?;
        if PRIVATE_MEMBERS.iter().any(|private| members.contains_key(*private)) {
            return Err(JwkError::Private);
        }
        // RFC 8725 3.1: a key is for one algorithm, and says no other.
        for (member, only) in [("alg", "ES256"), ("use", "sig")] {
            if members.get(member).is_some_and(|said| said != only) {
                return Err(JwkError::Unsupported);
            }
        }
        let key: Self = serde_json::from_value(Value::Object(members)).map_err(|_| JwkError::Unsupported)?;
        if key.kty != "EC" || key.crv != "P-256" {
            return Err(JwkError::Unsupported);
        }
        // RFC 8725 3.4: a point that is not on the curve must never be calculated with.
        let point = key.point().ok_or(JwkError::Point)?;
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| JwkError::Point)?;
        Ok(key)
    }

    /// The key, to verify with; nothing if what was stored is none.
    pub fn verifying_key(&self) -> Option<DecodingKey> {
        DecodingKey::from_ec_components(&self.x, &self.y).ok()
    }

    /// The uncompressed point: 0x04, x, y (SEC 1 2.3.3).
    fn point(&self) -> Option<Vec<u8>> {
        let coordinate = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 32);
        Some([vec![4], coordinate(&self.x)?, coordinate(&self.y)?].concat())
    }
}

impl Registry {
    /// Registers the key that a relying party's agent was asked for. A repeat of the same registration changes nothing.
    ///
    /// # Errors
    /// When no key is wanted under this version, or it is not a new one.
    pub async fn register_client_key(&self, name: &InstanceName, key: ClientKey) -> Result<(), ClientKeyError> {
        for _ in 0..REGISTER_TRIES {
            let stored = self.instances.get(name.as_str()).await?;
            let Stored { record, version } = stored.ok_or(ClientKeyError::NotWanted(key.version))?;
            let Some(changed) = registered(record, &key)? else { return Ok(()) };
            let write = self.instances.put(name.as_str(), &changed, Expect::Version(version))?;
            match self.instances.commit(vec![write]).await {
                Err(StoreError::Conflict) => {}
                done => {
                    self.reached(done?).await?;
                    info!(instance = %name, version = key.version, "client key registered");
                    return Ok(());
                }
            }
        }
        Err(StoreError::Conflict.into())
    }
}

/// The instance with the key in the place that waits for it; nothing if the key is there already.
fn registered(mut instance: Instance, key: &ClientKey) -> Result<Option<Instance>, ClientKeyError> {
    let not_wanted = ClientKeyError::NotWanted(key.version);
    let Some(relying_party) = &mut instance.relying_party else { return Err(not_wanted) };
    for credential in relying_party.credentials() {
        match credential {
            ClientCredential::Key(known) if known == key => return Ok(None),
            // The same key under a new version would end a rotation that has changed nothing.
            ClientCredential::Key(known) if known.jwk == key.jwk => return Err(ClientKeyError::NotNew),
            ClientCredential::Key(_)
            | ClientCredential::Secret(_)
            | ClientCredential::KeyWanted { .. }
            | ClientCredential::Nothing => {}
        }
    }
    let mut places = std::iter::once(&mut relying_party.credential).chain(&mut relying_party.next_credential);
    let wanted =
        places.find(|place| matches!(place, ClientCredential::KeyWanted { version } if *version == key.version));
    *wanted.ok_or(not_wanted)? = ClientCredential::Key(key.clone());
    Ok(Some(instance))
}

/// Why a JWK is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Not JSON, or too long.
    #[error("the client key is no JWK: send a JSON object (RFC 7517) of at most {MAX_JWK} bytes")]
    NotAJwk,
    /// Nobody but its owner may have it.
    #[error(
        "the client key has private members: make another key, this one is no secret any more, and send its public half"
    )]
    Private,
    /// Another type, curve, algorithm or use.
    #[error("the client key must be a JWK with kty EC and crv P-256, for signatures by ES256")]
    Unsupported,
    /// Not on the curve, or not 32 bytes each.
    #[error("the client key's x and y are no point of P-256: each is 32 bytes in base64url")]
    Point,
}

/// Why a client key is not registered.
#[derive(Debug, thiserror::Error)]
pub enum ClientKeyError {
    /// The credential does not turn, or turns to another version.
    #[error("no client key is wanted under version {0}: take the version from the newest client credentials")]
    NotWanted(u64),
    /// In use already.
    #[error("the client key is in use under another version: make a new one")]
    NotNew,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // RFC 7515 A.3.
    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn read(changed: &Value) -> Result<PublicJwk, JwkError> {
        let mut jwk = json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y});
        jwk.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        PublicJwk::read(jwk.to_string().as_bytes())
    }

    #[test]
    fn public_keys_for_es256_are_taken_and_nothing_else() {
        let plain = read(&json!({})).unwrap();
        assert_eq!(read(&json!({"alg": "ES256", "use": "sig", "kid": "1", "x5t": "z"})).unwrap(), plain);
        assert!(plain.verifying_key().is_some());
        for (change, expected) in [
            (json!({"d": "x"}), JwkError::Private),
            (json!({"k": "x"}), JwkError::Private),
            (json!({"kty": "RSA"}), JwkError::Unsupported),
            (json!({"kty": "oct"}), JwkError::Unsupported),
            (json!({"crv": "P-384"}), JwkError::Unsupported),
            (json!({"alg": "ES384"}), JwkError::Unsupported),
            (json!({"alg": 1}), JwkError::Unsupported),
            (json!({"use": "enc"}), JwkError::Unsupported),
            (json!({"x": 1}), JwkError::Unsupported),
            (json!({"x": Y}), JwkError::Point),
            (json!({"y": format!("{Y}=")}), JwkError::Point),
            (json!({"y": ""}), JwkError::Point),
            (json!({"z": "x".repeat(MAX_JWK)}), JwkError::NotAJwk),
        ] {
            assert_eq!(read(&change), Err(expected), "{change}");
        }
        for text in ["", "[]", "x", "{"] {
            assert_eq!(PublicJwk::read(text.as_bytes()), Err(JwkError::NotAJwk), "{text}");
        }
        assert_eq!(PublicJwk::read(b"{}"), Err(JwkError::Unsupported));
    }
}
