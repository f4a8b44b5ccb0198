//! Codes, access tokens and refresh tokens: sealed by the broker for itself, opaque to everybody else, stored nowhere.
//!
//! Each begins with a few characters that tell people and scanners for leaked secrets what it is. What follows opens for
//! its own purpose only: a code is never taken for a token.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::grants::binding::Binding;
use crate::grants::record::{Grant, GrantId};
use crate::registry::{ClientId, Scopes};
use crate::secret::{Purpose, SealingKeys, SecretError, SecretHash, random};

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
    /// The key that its tokens have to be bound to (RFC 9449 10).
    pub(super) dpop_jkt: Option<String>,
    /// When it cannot be redeemed any more.
    pub(super) expires_at: Timestamp,
}

/// What an access token carries.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccessTokenContents {
    /// By what right it is there.
    pub bearer: Bearer,
    /// Another token has another one.
    pub serial: Serial,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// What it is good for: no more than its grant.
    pub scopes: Scopes,
    /// Whom it is for (RFC 8707): this broker if unset.
    pub resource: Option<String>,
    /// Who may use it.
    pub binding: Binding,
    /// Who acts for the user, if it was exchanged for another one (RFC 8693 4.1).
    pub actor: Option<ClientId>,
}

/// By what right an access token is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bearer {
    /// A user's.
    Grant(GrantId),
    /// The client's own (RFC 6749 4.4).
    Client(ClientId),
}

/// Tells access tokens of one grant apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial([u8; 8]);

impl Serial {
    /// A new one.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> Result<Self, SecretError> {
        Ok(Self(random()?))
    }
}

impl fmt::Display for Serial {
    /// A key of the store.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// What a refresh token carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefreshTokenContents {
    /// The grant that it came of.
    pub(super) grant: GrantId,
    /// How many were there before it.
    pub(super) generation: u32,
}

/// A kind of token that is sealed.
pub(super) trait SealedToken: Serialize + DeserializeOwned {
    /// What it begins with.
    const PREFIX: &'static str;
    /// What it is sealed for.
    const PURPOSE: Purpose;

    /// As text, for the one party that it is made for.
    fn seal(&self, sealing: &SealingKeys) -> Result<SecretString, SecretError> {
        Ok(format!("{}{}", Self::PREFIX, sealing.seal_value(Self::PURPOSE, self)?).into())
    }

    /// What somebody sent, if it was made here for this.
    fn open(sealing: &SealingKeys, text: &str) -> Option<Self> {
        sealing.open_value(Self::PURPOSE, text.strip_prefix(Self::PREFIX)?).ok()
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

impl SealedToken for RefreshTokenContents {
    const PREFIX: &'static str = "hwr_";
    const PURPOSE: Purpose = Purpose::RefreshToken;
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
        let sealing = SealingKeys::new_for_test();
        let token = AccessTokenContents {
            bearer: Bearer::Grant(GrantId::generate().unwrap()),
            serial: Serial::generate().unwrap(),
            issued_at: Timestamp::from_secs(1_800_000_000),
            expires_at: Timestamp::from_secs(1_800_000_600),
            scopes: "openid".parse().unwrap(),
            resource: None,
            binding: Binding::Bearer,
            actor: None,
        };
        let text = token.seal(&sealing).unwrap().expose_secret().to_owned();
        assert_eq!(AccessTokenContents::open(&sealing, &text).unwrap().bearer, token.bearer);
        assert!(CodeContents::open(&sealing, &text).is_none());
        assert!(CodeContents::open(&sealing, &text.replace("hwa_", "hwc_")).is_none());
        assert!(RefreshTokenContents::open(&sealing, &text.replace("hwa_", "hwr_")).is_none());
        assert!(AccessTokenContents::open(&SealingKeys::new_for_test(), &text).is_none());
        for bad in [&text[..text.len() - 1], &format!("{text}A"), &format!("{text}="), &text[4..], "hwa_", ""] {
            assert!(AccessTokenContents::open(&sealing, bad).is_none(), "{bad}");
        }
        for index in 4..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[index] = if altered[index] == b'A' { b'B' } else { b'A' };
            assert!(AccessTokenContents::open(&sealing, std::str::from_utf8(&altered).unwrap()).is_none(), "{index}");
        }
    }
}
