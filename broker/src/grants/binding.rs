//! What a token is bound to: nobody but the one who has that key may use it (RFC 7800).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// SHA-256 of a key (RFC 7638) or of a certificate (RFC 8705 3.1): 43 characters of base64url.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Thumbprint(String);

impl Thumbprint {
    /// Of these 32 bytes.
    pub fn of(digest: &[u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(digest))
    }

    /// As in `cnf`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Thumbprint {
    type Err = ThumbprintError;

    fn from_str(text: &str) -> Result<Self, ThumbprintError> {
        let digest = URL_SAFE_NO_PAD.decode(text).map_err(|_| ThumbprintError)?;
        if digest.len() == 32 { Ok(Self(text.to_owned())) } else { Err(ThumbprintError) }
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not 32 bytes in base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a thumbprint is 43 characters of base64url")]
pub struct ThumbprintError;

/// What a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Nothing: whoever has it may use it (RFC 6750).
    #[default]
    Bearer,
    /// A key that is shown by a proof with each use (RFC 9449).
    Key(Thumbprint),
    /// The certificate of the connection (RFC 8705 3).
    Certificate(Thumbprint),
}

impl Binding {
    /// As in `token_type`: a certificate-bound token is still a bearer token (RFC 8705 3).
    pub const fn token_type(&self) -> &'static str {
        match self {
            Self::Bearer | Self::Certificate(_) => "Bearer",
            Self::Key(_) => "DPoP",
        }
    }

    /// As in `cnf`, if there is anything to confirm.
    pub fn confirmation(&self) -> Option<Confirmation<'_>> {
        match self {
            Self::Bearer => None,
            Self::Key(jkt) => Some(Confirmation::Key { jkt }),
            Self::Certificate(thumbprint) => Some(Confirmation::Certificate { thumbprint }),
        }
    }
}

/// The `cnf` claim.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum Confirmation<'a> {
    /// RFC 9449 6.1.
    Key {
        /// Thumbprint of the key.
        jkt: &'a Thumbprint,
    },
    /// RFC 8705 3.1.
    Certificate {
        /// Thumbprint of the certificate.
        #[serde(rename = "x5t#S256")]
        thumbprint: &'a Thumbprint,
    },
}
