//! An instance: one federated application installation, and the roles it has.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use homeward_certs::authority::IssuedLeaf;
use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::SigningAlgorithm;
use crate::secret::{KeyEncryptionKey, OpaqueSecret, Purpose, Sealed, SecretError, SecretHash};
use crate::storage::table::Record;

/// Most callback addresses of one relying party.
const MAX_REDIRECT_URIS: usize = 8;

/// Longest address that is registered, in bytes.
const MAX_URL: usize = 1024;

/// Parameters of authorization responses: a callback that carries one already would be ambiguous (CVE-2026-9689).
const RESPONSE_PARAMETERS: [&str; 5] = ["code", "state", "error", "iss", "error_description"];

/// An instance as it is stored, under its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: InstanceName,
    /// Never reused: a name that was evicted and enrols again gets another one, so that the subjects of the old
    /// installation never become the new one's. Kept when ops replace an instance's identity.
    pub id: InstanceId,
    /// The name people read.
    pub display_name: String,
    /// Where browsers reach it: an origin.
    pub public_url: String,
    /// Whether it may log anybody in.
    pub state: InstanceState,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// The recovery key's public half, base64.
    pub recovery_key: String,
    /// The certificate in use.
    pub certificate: Certificate,
    /// The one that takes its place when it is first used.
    pub pending_certificate: Option<Certificate>,
    /// Set when it is a relying party.
    pub relying_party: Option<RelyingParty>,
    /// Set when it is a home.
    pub home: Option<Home>,
}

impl Record for Instance {
    const TABLE: &'static str = "registry-instance";
}

impl Instance {
    /// Whether it may log anybody in.
    pub fn is_active(&self) -> bool {
        matches!(self.state, InstanceState::Confirmed)
    }
}

/// Stable identifier of one installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(Uuid);

impl InstanceId {
    /// A new one.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

/// Whether an instance may log anybody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// It has a certificate that it has not used yet.
    Claimed {
        /// Id of the join token that it came by.
        join_token: String,
    },
    /// It may.
    Confirmed,
    /// It may not, until ops act.
    Quarantined {
        /// One sentence for ops.
        reason: String,
        /// Since when.
        since: Timestamp,
    },
}

/// What must be known of a certificate to accept a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// 32 hex digits.
    pub serial: String,
    /// DER, base64: handed out again when an answer was lost.
    der: String,
    /// Fingerprint of the key, as `sha256/…`.
    pub key: String,
    /// The request that it answered.
    pub request_id: Uuid,
    /// When it was made.
    pub issued_at: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
    /// Counts an instance's certificates from 1.
    pub generation: u64,
}

impl Certificate {
    /// Of a leaf that was just made.
    pub fn of(leaf: &IssuedLeaf, key: String, request_id: Uuid, issued_at: Timestamp, generation: u64) -> Self {
        Self {
            serial: leaf.serial.to_string(),
            der: STANDARD_NO_PAD.encode(&leaf.certificate),
            key,
            request_id,
            issued_at,
            not_after: leaf.not_after.into(),
            generation,
        }
    }

    /// The certificate itself.
    pub fn der(&self) -> Vec<u8> {
        STANDARD_NO_PAD.decode(&self.der).unwrap_or_default()
    }
}

/// An instance in its role of asking for a login.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RelyingParty {
    /// OAuth client id.
    pub client_id: ClientId,
    /// Its secret.
    pub secret: ClientSecret,
    /// Callbacks, compared as text (RFC 9700 2.1).
    pub redirect_uris: Vec<String>,
    /// How it authenticates at the token endpoint.
    pub auth_method: ClientAuthMethod,
    /// How its ID tokens are signed.
    pub id_token_alg: SigningAlgorithm,
    /// Whether every request must carry a PKCE challenge (RFC 7636).
    pub pkce_required: bool,
}

/// OAuth client id: chosen by the broker, never by the client (RFC 9700 4.15).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(String);

impl ClientId {
    /// The id of an instance: readable in logs, and another one for another installation of the same name.
    pub fn of(name: &InstanceName, id: InstanceId) -> Self {
        Self(format!("{name}-{}", &id.0.simple().to_string()[..8]))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Hash for ClientId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

impl Borrow<str> for ClientId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client secret: compared by its hash, kept sealed until no agent has to fetch it any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientSecret {
    /// For comparison.
    pub hash: SecretHash,
    /// For delivery.
    sealed: Sealed,
    /// Another secret has another one.
    pub version: u64,
}

impl ClientSecret {
    /// A new secret.
    ///
    /// # Errors
    /// When it cannot be made or sealed.
    pub fn generate(kek: &KeyEncryptionKey, version: u64) -> Result<Self, SecretError> {
        let secret = OpaqueSecret::generate()?;
        let sealed = kek.seal(Purpose::ClientSecret, secret.expose().as_bytes())?;
        Ok(Self { hash: secret.hash(), sealed, version })
    }

    /// The secret, for the wire to its agent.
    ///
    /// # Errors
    /// When the key-encryption key does not fit.
    pub fn open(&self, kek: &KeyEncryptionKey) -> Result<zeroize::Zeroizing<String>, SecretError> {
        let bytes = kek.open(Purpose::ClientSecret, &self.sealed)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NotSealedForThis)?;
        Ok(zeroize::Zeroizing::new(text.to_owned()))
    }
}

/// How a client authenticates at the token endpoint (OpenID Connect Core 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMethod {
    /// In the Authorization header.
    ClientSecretBasic,
    /// In the body.
    ClientSecretPost,
}

/// An instance in its role of authenticating its own users.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Home {
    /// Where its agent's portal starts a login.
    pub portal_url: String,
}

/// What an agent says of its instance, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// An origin.
    pub public_url: String,
    /// The name people read.
    pub display_name: String,
    /// Callbacks below `public_url`; none if it is no relying party.
    pub redirect_uris: Vec<String>,
    /// Below `public_url`; none if it is no home.
    pub portal_url: Option<String>,
    /// How the application authenticates itself.
    pub auth_method: ClientAuthMethod,
    /// How its ID tokens are signed.
    pub id_token_alg: SigningAlgorithm,
    /// Whether it sends a PKCE challenge.
    pub pkce: bool,
}

impl Profile {
    /// Checks addresses and names: all addresses lie under the instance's own origin, so that an agent can register
    /// nobody else's.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(mut self, name: &InstanceName) -> Result<Self, ProfileError> {
        let origin = crate::config::Issuer::parse(&self.public_url).map_err(|_| ProfileError::PublicUrl)?;
        if self.display_name.is_empty() {
            self.display_name = name.to_string();
        }
        let printable = |c: char| !c.is_control() && !is_invisible(c);
        if self.display_name.chars().count() > 64 || !self.display_name.chars().all(printable) {
            return Err(ProfileError::DisplayName);
        }
        if self.redirect_uris.len() > MAX_REDIRECT_URIS {
            return Err(ProfileError::TooManyRedirectUris);
        }
        let below = |address: &str| {
            Url::from_str(address).ok().filter(|url| {
                address.len() <= MAX_URL
                    && address.bytes().all(|byte| byte.is_ascii_graphic())
                    && url.fragment().is_none()
                    && !address.contains('#')
                    && address.strip_prefix(origin.as_str()).is_some_and(|rest| rest.starts_with('/'))
                    && url.origin().ascii_serialization() == origin.as_str()
            })
        };
        for address in &self.redirect_uris {
            let url = below(address).ok_or(ProfileError::RedirectUri)?;
            if url.query_pairs().any(|(name, _)| RESPONSE_PARAMETERS.contains(&&*name)) {
                return Err(ProfileError::RedirectUri);
            }
        }
        let portal = self.portal_url.as_deref().map(|address| below(address).filter(|url| url.query().is_none()));
        if portal.is_some_and(|url| url.is_none()) {
            return Err(ProfileError::PortalUrl);
        }
        if self.redirect_uris.is_empty() && self.portal_url.is_none() {
            return Err(ProfileError::NoRole);
        }
        Ok(self)
    }
}

/// Characters that turn text around or cannot be seen: a name on the home picker must be what it looks like.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}')
}

/// What is wrong with a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not an origin.
    #[error("public_url must be https://host[:port] without path (http only for a loopback host)")]
    PublicUrl,
    /// Too long, or not readable.
    #[error("display_name must be at most 64 readable characters")]
    DisplayName,
    /// Not below the instance's own address, or ambiguous.
    #[error(
        "a callback address must lie below public_url, without fragment and without code, state, error or iss in its query"
    )]
    RedirectUri,
    /// More than eight.
    #[error("an instance may register at most 8 callback addresses")]
    TooManyRedirectUris,
    /// Not below the instance's own address.
    #[error("the portal's address must lie below public_url, without query")]
    PortalUrl,
    /// Nothing to register.
    #[error("an instance must be a relying party, a home, or both: configure [relying_party] or [home]")]
    NoRole,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            public_url: "https://beta.example".into(),
            display_name: String::new(),
            redirect_uris: vec!["https://beta.example/cb".into()],
            portal_url: Some("https://beta.example/homeward/login".into()),
            auth_method: ClientAuthMethod::ClientSecretBasic,
            id_token_alg: SigningAlgorithm::Rs256,
            pkce: true,
        }
    }

    fn check(change: impl FnOnce(&mut Profile)) -> Result<Profile, ProfileError> {
        let mut profile = profile();
        change(&mut profile);
        profile.check(&"beta".parse().unwrap())
    }

    #[test]
    fn name_stands_in_for_a_missing_display_name() {
        assert_eq!(check(|_| {}).unwrap().display_name, "beta");
    }

    #[test]
    fn callbacks_with_a_query_of_their_own_are_kept() {
        assert!(check(|p| p.redirect_uris = vec!["https://beta.example/api?method=get".into()]).is_ok());
    }

    #[test]
    fn foreign_and_hostile_callbacks_are_refused() {
        for bad in [
            "https://evil.example/cb",
            "https://beta.example.evil/cb",
            "https://beta.example@evil.example/cb",
            "https://beta.example:444/cb",
            "http://beta.example/cb",
            "https://BETA.example/cb",
            "https://beta.example/cb#x",
            "https://beta.example/cb#",
            "https://beta.example/c b",
            "https://beta.example/cb\0",
            "https://beta.example/cb\r\nSet-Cookie: x",
            "https://beta.example/cb?code=1",
            "https://beta.example/cb?a=1&%73tate=1",
            "https://beta.example/cb?iss=x",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "/cb",
            "*",
            "https://beta.example",
            "",
        ] {
            let refused = check(|p| p.redirect_uris = vec![bad.into()]);
            assert_eq!(refused.err(), Some(ProfileError::RedirectUri), "{bad:?}");
        }
    }

    #[test]
    fn other_mistakes_are_named() {
        assert_eq!(check(|p| p.public_url = "https://beta.example/".into()), Err(ProfileError::PublicUrl));
        assert_eq!(check(|p| p.display_name = "x".repeat(65)), Err(ProfileError::DisplayName));
        assert_eq!(check(|p| p.display_name = "a\u{202e}b".into()), Err(ProfileError::DisplayName));
        assert_eq!(check(|p| p.display_name = "a\x1b[2J".into()), Err(ProfileError::DisplayName));
        let many = vec!["https://beta.example/cb".to_owned(); 9];
        assert_eq!(check(|p| p.redirect_uris = many), Err(ProfileError::TooManyRedirectUris));
        let portal = Some("https://alpha.example/homeward/".to_owned());
        assert_eq!(check(|p| p.portal_url = portal), Err(ProfileError::PortalUrl));
        let nothing = check(|p| (p.redirect_uris, p.portal_url) = (Vec::new(), None));
        assert_eq!(nothing, Err(ProfileError::NoRole));
    }
}
