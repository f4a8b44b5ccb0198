//! Secrets that somebody shows again: made here, kept as hashes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::secret::{SecretError, random};

/// 256 random bits as 43 characters of base64url.
#[derive(Clone)]
pub struct OpaqueSecret(SecretString);

impl OpaqueSecret {
    /// Length of the text.
    pub const LENGTH: usize = 43;

    /// A new one.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> Result<Self, SecretError> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random::<32>()?).into()))
    }

    /// The text, for the one party that it is made for.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What the store keeps of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.expose())
    }
}

impl fmt::Debug for OpaqueSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpaqueSecret(…)")
    }
}

/// SHA-256 of an [`OpaqueSecret`]. Its text is the key under which the store finds what the secret stands for, so a
/// look-up takes no time that depends on the secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(String);

impl SecretHash {
    /// The hash of a text that somebody sent, whatever it is.
    pub fn of(text: &str) -> Self {
        Self(URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes())))
    }

    /// What no text has.
    pub const fn of_nothing() -> Self {
        Self(String::new())
    }

    /// 43 characters of base64url: a key of the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` has this hash, in constant time.
    pub fn matches(&self, text: &str) -> bool {
        self == &Self::of(text)
    }
}

impl FromStr for SecretHash {
    type Err = SecretError;

    /// Reads a hash that somebody else made: the S256 code challenge of RFC 7636 4.2 is one.
    fn from_str(text: &str) -> Result<Self, SecretError> {
        let digest = URL_SAFE_NO_PAD.decode(text).map_err(|_| SecretError::NotAHash)?;
        if digest.len() == 32 { Ok(Self(text.to_owned())) } else { Err(SecretError::NotAHash) }
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SecretHash {}

impl Hash for SecretHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for SecretHash {
    /// Enough to tell two apart in a log, too little to look one up by.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretHash({}…)", self.0.get(..6).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_never_printed() {
        let (one, two) = (OpaqueSecret::generate().unwrap(), OpaqueSecret::generate().unwrap());
        assert_ne!(one.expose(), two.expose());
        assert_eq!(one.expose().len(), OpaqueSecret::LENGTH);
        assert!(one.hash().matches(one.expose()) && !one.hash().matches(two.expose()));
        assert!(!format!("{one:?} {:?}", one.hash()).contains(one.expose()));
    }
}
