//! What a browser carries for the agent and cannot read, change or make: sealed with AES-256-GCM. What it is for is sealed
//! along, so that nothing sealed for one purpose opens for another.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::disk::{DiskError, PrivateDir};
use crate::random::{self, NoRandomness};

/// Longest sealed text that is looked at, in characters: what a cookie may be.
const LONGEST: usize = 4096;

/// A key.
pub(crate) struct Seal(RandomizedNonceKey);

/// A key on disk.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredKey {
    key: [u8; 32],
}

/// Why there is no key, or nothing could be sealed.
#[derive(Debug, Error)]
pub(crate) enum SealError {
    /// No randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
    /// The key's file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The library, or a value that is no JSON.
    #[error("nothing can be sealed")]
    Sealing,
}

impl Seal {
    /// A key that lives as long as the process.
    #[cfg(test)]
    pub(crate) fn new() -> Result<Self, SealError> {
        Self::of(&Zeroizing::new(random::bytes::<32>()?))
    }

    /// A key that survives a restart.
    pub(crate) fn kept(data: &PrivateDir, name: &str) -> Result<Self, SealError> {
        if let Some(stored) = data.load::<StoredKey>(name)? {
            return Self::of(&stored.key);
        }
        let stored = StoredKey { key: random::bytes::<32>()? };
        data.store(name, &stored)?;
        Self::of(&stored.key)
    }

    fn of(key: &[u8; 32]) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, key).map(Self).map_err(|_| SealError::Sealing)
    }

    /// Seals, for a purpose.
    pub(crate) fn seal(&self, purpose: &str, value: &impl Serialize) -> Result<String, SealError> {
        let mut bytes = serde_json::to_vec(value).map_err(|_| SealError::Sealing)?;
        let nonce = self.0.seal_in_place_append_tag(Aad::from(purpose), &mut bytes).map_err(|_| SealError::Sealing)?;
        Ok(URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &bytes].concat()))
    }

    /// Opens what was sealed for that purpose with this key; `None` for everything else.
    pub(crate) fn open<T: DeserializeOwned>(&self, purpose: &str, sealed: &str) -> Option<T> {
        if sealed.len() > LONGEST {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(nonce, Aad::from(purpose), &mut sealed).ok()?;
        serde_json::from_slice(opened).ok()
    }
}

impl From<NoRandomness> for SealError {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_for_that_purpose_opens() {
        let seal = Seal::new().unwrap();
        let sealed = seal.seal("session", &("alice", 7)).unwrap();
        assert!(!sealed.contains("alice"));
        assert_eq!(seal.open::<(String, u8)>("session", &sealed), Some(("alice".to_owned(), 7)));
        assert_ne!(seal.seal("session", &("alice", 7)).unwrap(), sealed);
        assert_eq!(seal.open::<(String, u8)>("login", &sealed), None);
        assert_eq!(Seal::new().unwrap().open::<(String, u8)>("session", &sealed), None);
        let mut forged = sealed.clone().into_bytes();
        forged[20] ^= 1;
        for bad in ["", "AAAA", "ü", &String::from_utf8(forged).unwrap(), &"A".repeat(LONGEST + 1)] {
            assert_eq!(seal.open::<(String, u8)>("session", bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_kept_key_opens_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let data = PrivateDir::open(&folder.path().join("data")).unwrap();
        let sealed = Seal::kept(&data, "key.json").unwrap().seal("x", &1).unwrap();
        assert_eq!(Seal::kept(&data, "key.json").unwrap().open::<u8>("x", &sealed), Some(1));
    }
}
