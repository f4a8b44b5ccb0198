//! Something sealed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::secret::SecretError;

/// Something sealed by [`SealingKeys`](crate::secret::SealingKeys) or a key-encryption key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(ByteBuf);

impl Sealed {
    /// Nonce, ciphertext and tag.
    pub(super) fn new(nonce: &[u8], text: &[u8]) -> Self {
        Self(ByteBuf::from([nonce, text].concat()))
    }

    /// The nonce, and ciphertext and tag.
    pub(super) fn parts<const NONCE: usize>(&self) -> Result<(&[u8; NONCE], &[u8]), SecretError> {
        self.0.split_first_chunk().ok_or(SecretError::NotSealedForThis)
    }

    /// base64url without padding: for the store and for addresses.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    /// Reads [`Sealed::to_text`].
    ///
    /// # Errors
    /// When it is not base64url.
    pub fn from_text(text: &str) -> Result<Self, SecretError> {
        URL_SAFE_NO_PAD.decode(text).map(|bytes| Self(ByteBuf::from(bytes))).map_err(|_| SecretError::NotSealedForThis)
    }
}

impl Serialize for Sealed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_text(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
