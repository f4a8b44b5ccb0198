//! An instance: one federated application installation, and the roles it has.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use homeward_certs::authority::IssuedLeaf;
use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::SigningAlgorithm;
use crate::secret::{KeyEncryptionKey, OpaqueSecret, Purpose, Sealed, SecretError, SecretHash};
use crate::storage::table::Record;

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
