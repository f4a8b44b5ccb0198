//! What a form carries to show that it comes from a page of ours, made for this very session (RFC 6819 5.3.5).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

use crate::secret::KeyedHash;

/// Made of the session's cookie: nobody else can make it, and it ends with the cookie.
pub struct FormToken(String);

impl FormToken {
    /// For the session with this cookie.
    pub fn of(cookie: &str) -> Self {
        Self(URL_SAFE_NO_PAD.encode(KeyedHash::new(cookie.as_bytes()).of(&[b"form"])))
    }

    /// For the page.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a form carries it, in constant time.
    pub fn matches(&self, sent: &str) -> bool {
        self.0.as_bytes().ct_eq(sent.as_bytes()).into()
    }
}

impl fmt::Debug for FormToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FormToken(…)")
    }
}
