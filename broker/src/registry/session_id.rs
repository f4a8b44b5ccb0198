//! What names a session.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::secret::{SecretError, random};

/// Names one session of one browser: the `sid` of ID tokens and logout tokens (OpenID Connect Back-Channel Logout 1.0
/// 2.1). 22 characters of base64url, and no secret: the browser proves itself by another value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(String);

impl SessionId {
    /// Length of the text.
    pub const LENGTH: usize = 22;

    /// A new one.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> Result<Self, SecretError> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random::<16>()?)))
    }

    /// A key of the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let made_here = text.len() == Self::LENGTH && URL_SAFE_NO_PAD.decode(text).is_ok();
        made_here.then(|| Self(text.to_owned())).ok_or(SecretError::NotAHash)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
