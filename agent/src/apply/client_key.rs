//! The keys of an application that authenticates by private_key_jwt (OpenID Connect Core 9, RFC 7523 2.2). The agent
//! makes them, keeps them in its private folder, writes them for the application, and registers the public halves: the
//! first one with the enrolment, each later one when the broker asks for another version.

use std::fmt;

use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::disk::{DiskError, PrivateDir};
use crate::identity::SecretBytes;

/// The file.
const FILE: &str = "client-keys.json";
/// The one in use, and the one before it.
const KEPT: usize = 2;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum ClientKeyError {
    /// No randomness.
    #[error("the application's key could not be made")]
    NotMade,
    /// The stored bytes are none.
    #[error("the application's stored key cannot be read; enrol again with a new join token")]
    Unreadable,
    /// The file.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A P-256 key for ES256.
pub(crate) struct ClientKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// Whether the broker has the public half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Registration {
    /// Not that we know.
    Missing,
    /// It said so.
    Done,
}

/// All that there are.
#[derive(Debug, Clone)]
pub(crate) struct ClientKeys {
    data: PrivateDir,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Oldest first.
    keys: Vec<KeptKey>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptKey {
    /// Unset from before the enrolment until the broker has said which version it counts the key as.
    secret_version: Option<u64>,
    registration: Registration,
    key: SecretBytes,
}

impl ClientKeys {
    /// Those in the data directory.
    pub(crate) fn open(data: PrivateDir) -> Self {
        Self { data }
    }

    /// The key to enrol with: on disk before it is sent, and the same in every retry.
    pub(crate) fn for_enrolment(&self) -> Result<ClientKey, ClientKeyError> {
        let mut kept = self.load()?;
        if let Some(begun) = kept.keys.iter().find(|kept| kept.secret_version.is_none()) {
            return ClientKey::from_pkcs8(&begun.key);
        }
        let key = ClientKey::generate()?;
        kept.keys.push(KeptKey { secret_version: None, registration: Registration::Missing, key: key.to_pkcs8() });
        self.data.store(FILE, &kept)?;
        Ok(key)
    }

    /// The enrolment went through: the keys of an identity before it are of no use any more.
    pub(crate) fn enrolled(&self) -> Result<(), ClientKeyError> {
        let mut kept = self.load()?;
        kept.keys.retain(|kept| kept.secret_version.is_none());
        if kept.keys.is_empty() {
            return Ok(self.data.remove(FILE)?);
        }
        Ok(self.data.store(FILE, &kept)?)
    }

    /// The key that is to be used as this version: the one it is, the one of the enrolment, or a new one.
    pub(crate) fn of_version(&self, version: u64) -> Result<(ClientKey, Registration), ClientKeyError> {
        let mut kept = self.load()?;
        if let Some(found) = kept.keys.iter().find(|kept| kept.secret_version == Some(version)) {
            return Ok((ClientKey::from_pkcs8(&found.key)?, found.registration));
        }
        let of_enrolment = kept.keys.iter_mut().find(|kept| kept.secret_version.is_none());
        let key = match of_enrolment {
            Some(begun) => {
                begun.secret_version = Some(version);
                ClientKey::from_pkcs8(&begun.key)?
            }
            None => {
                let key = ClientKey::generate()?;
                let (registration, bytes) = (Registration::Missing, key.to_pkcs8());
                kept.keys.push(KeptKey { secret_version: Some(version), registration, key: bytes });
                key
            }
        };
        self.data.store(FILE, &kept)?;
        Ok((key, Registration::Missing))
    }

    /// The broker has the public half of this version.
    pub(crate) fn registered(&self, version: u64) -> Result<(), ClientKeyError> {
        let mut kept = self.load()?;
        for key in kept.keys.iter_mut().filter(|kept| kept.secret_version == Some(version)) {
            key.registration = Registration::Done;
        }
        let excess = kept.keys.len().saturating_sub(KEPT);
        kept.keys.drain(..excess);
        Ok(self.data.store(FILE, &kept)?)
    }

    fn load(&self) -> Result<Kept, DiskError> {
        Ok(self.data.load(FILE)?.unwrap_or_default())
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(…)")
    }
}

impl ClientKey {
    fn generate() -> Result<Self, ClientKeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| ClientKeyError::NotMade)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| ClientKeyError::NotMade)?;
        Ok(Self { pkcs8: Zeroizing::new(pkcs8.as_ref().to_vec()), pair })
    }

    fn from_pkcs8(bytes: &SecretBytes) -> Result<Self, ClientKeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &bytes.0);
        Ok(Self { pair: pair.map_err(|_| ClientKeyError::Unreadable)?, pkcs8: bytes.0.clone() })
    }

    fn to_pkcs8(&self) -> SecretBytes {
        SecretBytes(self.pkcs8.clone())
    }

    /// The public half as JWK (RFC 7518 6.2.1).
    pub(crate) fn public_jwk(&self) -> Value {
        // SEC 1 2.3.3: 4, x, y.
        let point = self.pair.public_key().as_ref();
        let coordinate = |range| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({"kty": "EC", "crv": "P-256", "x": coordinate(1..33), "y": coordinate(33..65)})
    }

    /// Both halves as JWK (RFC 7518 6.2.2), in one line.
    pub(crate) fn private_jwk(&self) -> Result<SecretString, ClientKeyError> {
        let scalar: EcPrivateKeyBin<'_> =
            self.pair.private_key().as_be_bytes().map_err(|_| ClientKeyError::Unreadable)?;
        let mut jwk = self.public_jwk();
        jwk["d"] = URL_SAFE_NO_PAD.encode(scalar.as_ref()).into();
        Ok(jwk.to_string().into())
    }

    /// PKCS#8 (RFC 5958) in PEM (RFC 7468).
    pub(crate) fn pem(&self) -> SecretString {
        let body = Zeroizing::new(STANDARD.encode(&*self.pkcs8));
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        for line in body.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        pem.into()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn keys() -> (tempfile::TempDir, ClientKeys) {
        let folder = tempfile::tempdir().unwrap();
        let data = PrivateDir::open(&folder.path().join("data")).unwrap();
        (folder, ClientKeys::open(data))
    }

    #[test]
    fn the_enrolments_key_becomes_the_first_version() {
        let (_folder, keys) = keys();
        let first = keys.for_enrolment().unwrap().public_jwk();
        assert_eq!(keys.for_enrolment().unwrap().public_jwk(), first, "a retry sends the same");
        keys.enrolled().unwrap();
        let (key, registration) = keys.of_version(4).unwrap();
        assert_eq!((key.public_jwk(), registration), (first.clone(), Registration::Missing));
        keys.registered(4).unwrap();
        assert_eq!(keys.of_version(4).unwrap().1, Registration::Done);
        let second = keys.of_version(5).unwrap().0.public_jwk();
        assert_ne!(second, first);
        assert_eq!(keys.of_version(5).unwrap().0.public_jwk(), second, "a retry registers the same");
    }

    #[test]
    fn another_enrolment_has_another_key_and_old_ones_go() {
        let (_folder, keys) = keys();
        keys.for_enrolment().unwrap();
        for version in 1..5 {
            keys.of_version(version).unwrap();
            keys.registered(version).unwrap();
        }
        assert_eq!(keys.load().unwrap().keys.len(), KEPT);
        let next = keys.for_enrolment().unwrap().public_jwk();
        assert_eq!(
            keys.of_version(4).unwrap().1,
            Registration::Done,
            "until it went through, the old identity is in use"
        );
        keys.enrolled().unwrap();
        assert_eq!(keys.of_version(1).unwrap().0.public_jwk(), next);
    }

    #[test]
    fn a_key_is_written_in_both_forms_and_printed_in_none() {
        let (folder, keys) = keys();
        let key = keys.for_enrolment().unwrap();
        let jwk: Value = serde_json::from_str(key.private_jwk().unwrap().expose_secret()).unwrap();
        assert_eq!((jwk["kty"].as_str(), jwk["d"].as_str().map(str::len)), (Some("EC"), Some(43)));
        assert!(key.public_jwk().get("d").is_none());
        let pem = key.pem();
        assert!(pem.expose_secret().starts_with("-----BEGIN PRIVATE KEY-----\nM"));
        assert!(pem.expose_secret().lines().all(|line| line.len() <= 64));
        let secret = pem.expose_secret().lines().nth(1).unwrap().to_owned();
        assert!(!format!("{key:?} {keys:?}").contains(&secret));
        let path = folder.path().join("data").join(FILE);
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
