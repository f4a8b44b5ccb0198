//! Codes and access tokens: sealed by the broker for itself, opaque to everybody else, stored nowhere.
//!
//! Each begins with a few characters that tell people and scanners for leaked secrets what it is. What follows opens for
//! its own purpose only: a code is never taken for a token.

use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::grants::record::{Grant, GrantId};
use crate::registry::Scopes;
use crate::secret::{KeyEncryptionKey, Purpose, SecretError, SecretHash};

/// What an authorization code carries.
#[derive(Serialize, Deserialize)]
pub struct CodeContents {
    /// The grant that it stands for.
    pub id: GrantId,
    /// What was granted.
    pub grant: Grant,
    /// The callback that the code goes to.
    pub(super) redirect_uri: String,
    /// PKCE challenge.
    pub(super) code_challenge: Option<SecretHash>,
    /// Thumbprint of the only key that its tokens may be bound to (RFC 9449 10).
    pub dpop_jkt: Option<String>,
    /// When it cannot be redeemed any more.
    pub(super) expires_at: Timestamp,
}

/// What an access token carries.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccessTokenContents {
    /// The grant that it came of.
    pub grant: GrantId,
    /// Another token has another one.
    pub serial: [u8; 8],
    /// When it ends.
    pub expires_at: Timestamp,
    /// What it is good for: no more than its grant.
    pub scopes: Scopes,
}

/// A kind of token that is sealed.
pub(super) trait SealedToken: Serialize + DeserializeOwned {
    /// What it begins with.
    const PREFIX: &'static str;
    /// What it is sealed for.
    const PURPOSE: Purpose;

    /// As text, for the one party that it is made for.
    fn seal(&self, kek: &KeyEncryptionKey) -> Result<SecretString, SecretError> {
        Ok(format!("{}{}", Self::PREFIX, kek.seal_value(Self::PURPOSE, self)?).into())
    }

    /// What somebody sent, if it was made here for this.
    fn open(kek: &KeyEncryptionKey, text: &str) -> Option<Self> {
        kek.open_value(Self::PURPOSE, text.strip_prefix(Self::PREFIX)?).ok()
    }
}

impl SealedToken for CodeContents {
    const PREFIX: &'static str = "hwc_";
    const PURPOSE: Purpose = Purpose::Code;
}

impl SealedToken for AccessTokenContents {
    const PREFIX: &'static str = "hwa_";
    const PURPOSE: Purpose = Purpose::AccessToken;
}

/// The left half of the SHA-256 of a token, as `at_hash` has it for RS256 and ES256 (OpenID Connect Core 3.1.3.6).
pub(super) fn half_hash(token: &SecretString) -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    use base64::Engine as _;
    let hash = digest(&SHA256, token.expose_secret().as_bytes());
    let (half, _) = hash.as_ref().split_at(hash.as_ref().len() / 2);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    // C6, C8
    #[test]
    fn a_token_opens_whole_for_its_own_purpose_and_never_altered() {
        let kek = KeyEncryptionKey::new_for_test();
        let token = AccessTokenContents {
            grant: GrantId::generate().unwrap(),
            serial: [7; 8],
            expires_at: Timestamp::from_secs(1_800_000_000),
            scopes: "openid".parse().unwrap(),
        };
        let text = token.seal(&kek).unwrap().expose_secret().to_owned();
        assert_eq!(AccessTokenContents::open(&kek, &text).unwrap().grant, token.grant);
        assert!(CodeContents::open(&kek, &text).is_none());
        assert!(CodeContents::open(&kek, &text.replace("hwa_", "hwc_")).is_none());
        assert!(AccessTokenContents::open(&KeyEncryptionKey::new_for_test(), &text).is_none());
        for bad in [&text[..text.len() - 1], &format!("{text}A"), &format!("{text}="), &text[4..], "hwa_", ""] {
            assert!(AccessTokenContents::open(&kek, bad).is_none(), "{bad}");
        }
        for index in 4..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[index] = if altered[index] == b'A' { b'B' } else { b'A' };
            assert!(AccessTokenContents::open(&kek, std::str::from_utf8(&altered).unwrap()).is_none(), "{index}");
        }
    }
}
