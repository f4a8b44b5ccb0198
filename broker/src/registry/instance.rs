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
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::SigningAlgorithm;
use crate::registry::{ClientKeys, ClientPages, ClientPolicy, LogoutAddresses, PublicJwk};
use crate::secret::{HoldsSealed, OpaqueSecret, Purpose, Sealed, SealingKeys, SecretError, SecretHash};
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
    pub home: Option<Portal>,
    /// Whether it may come back by its recovery key after its certificate has expired.
    #[serde(default)]
    pub recovery: RecoveryPolicy,
    /// Set by a restore, until its agent has come back: no certificate from before counts, because a backup knows neither
    /// which were made since nor which were replaced. The agent comes back by its recovery key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Timestamp>,
    /// How often it was put into quarantine: what its users said of themselves before the last time counts no more. Counted,
    /// because the clocks of two brokers differ. Earlier releases kept nothing that asks.
    #[serde(default)]
    pub quarantines: u32,
}

impl Record for Instance {
    const TABLE: &'static str = "registry-instance";
}

impl HoldsSealed for Instance {
    fn sealed(&mut self) -> Vec<(Purpose, &mut Sealed)> {
        self.relying_party.iter_mut().flat_map(RelyingParty::sealed).collect()
    }
}

impl Instance {
    /// Whether it may log anybody in.
    pub fn is_active(&self) -> bool {
        matches!(self.state, InstanceState::Confirmed)
    }

    /// Puts it into quarantine.
    pub fn cut_off(&mut self, reason: String, cause: QuarantineCause, now: Timestamp) {
        self.state = InstanceState::Quarantined { reason, since: now, cause };
        self.quarantines = self.quarantines.saturating_add(1);
    }
}

/// Stable identifier of one installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
        /// Who found it necessary.
        #[serde(default)]
        cause: QuarantineCause,
    },
}

/// Who found a quarantine necessary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineCause {
    /// The broker saw two agents with one identity or one join token: only a new identity ends it.
    #[default]
    Alarm,
    /// Ops, who may take it back.
    Ops,
    /// A restore: the backup does not know whether it has been cut off since. Ops, who do, may end it.
    Restored,
}

/// Whether an instance may come back by its recovery key after its certificate has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryPolicy {
    /// Never: it needs a new join token.
    Off,
    /// So many times more.
    Times(u32),
    /// As often as it likes.
    Always,
}

impl Default for RecoveryPolicy {
    fn default() -> Self {
        Self::Times(3)
    }
}

impl fmt::Display for RecoveryPolicy {
    /// As ops say it: `off`, `always` or a number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Times(times) => write!(f, "{times}"),
            Self::Always => f.write_str("always"),
        }
    }
}

impl FromStr for RecoveryPolicy {
    type Err = RecoveryPolicyError;

    fn from_str(text: &str) -> Result<Self, RecoveryPolicyError> {
        match text {
            "off" => Ok(Self::Off),
            "always" => Ok(Self::Always),
            number => number.parse().map(Self::Times).map_err(|_| RecoveryPolicyError),
        }
    }
}

/// No recovery policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a recovery policy is off, always, or how many times more")]
pub struct RecoveryPolicyError;

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
    /// Pin of the CA that signed it, as `sha256/…`; unset in records of a broker that had only one CA.
    #[serde(default)]
    pub authority: Option<String>,
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
            authority: None,
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
    /// How it shows who it is: a secret, or a key of which the broker has the public half.
    #[serde(rename = "secret")]
    pub credential: ClientCredential,
    /// What takes the credential's place: while it turns, both are good.
    #[serde(default)]
    pub next_credential: Option<ClientCredential>,
    /// The highest version that any credential of it ever had: one that was taken back gives its number to no other.
    #[serde(default)]
    pub last_credential_version: u64,
    /// Since when it has this credential; since its enrolment if unset.
    #[serde(default)]
    pub credential_at: Option<Timestamp>,
    /// With which key its tokens are signed.
    #[serde(default)]
    pub signing_key_choice: SigningKeyChoice,
    /// Callbacks, compared as text (RFC 9700 2.1).
    pub redirect_uris: Vec<String>,
    /// How it authenticates at the token endpoint.
    pub auth_method: ClientAuthMethod,
    /// How its ID tokens are signed.
    pub id_token_alg: SigningAlgorithm,
    /// Whether every request must carry a PKCE challenge (RFC 7636).
    pub pkce_required: bool,
    /// What else it must and may do.
    #[serde(default)]
    pub policy: ClientPolicy,
    /// Where it wants to hear of logouts.
    #[serde(default)]
    pub logout: LogoutAddresses,
    /// Its keys beside its credential.
    #[serde(default)]
    pub keys: Option<ClientKeys>,
    /// Where its request objects may be fetched, compared as text (OpenID Connect Core 6.2).
    #[serde(default)]
    pub request_uris: Vec<String>,
    /// What pages say of it.
    #[serde(default)]
    pub pages: ClientPages,
}

/// OAuth client id: chosen by the broker, never by the client (RFC 9700 4.15).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(String);

impl ClientId {
    /// The id of an instance: readable in logs, and another one for another installation of the same name.
    pub fn of(name: &InstanceName, id: InstanceId) -> Self {
        Self(format!("{name}-{}", &id.0.simple().to_string()[..8]))
    }

    /// The id of another client of a relying party without agent.
    pub fn generate(name: &InstanceName) -> Self {
        Self::of(name, InstanceId::generate())
    }

    /// The id that a key of the store is made of.
    pub fn of_key(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The id as text: without `/` and `.`.
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

/// With which key a relying party's tokens are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigningKeyChoice {
    /// With the active one, always.
    #[default]
    Active,
    /// With the newest that this relying party has acknowledged, as long as that is published.
    Acknowledged,
}

impl SigningKeyChoice {
    /// As ops write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Acknowledged => "acknowledged",
        }
    }
}

/// How a client shows who it is. (Untagged: the first broker stored secrets so.)
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClientCredential {
    /// It knows a secret.
    Secret(ClientSecret),
    /// It has a private key (RFC 7523 2.2).
    Key(ClientKey),
    /// It is to make a key and register its public half.
    KeyWanted {
        /// Of the key to come.
        version: u64,
    },
    /// Nothing that is kept here: it is a public client, its keys are among [`RelyingParty::keys`], or its instance
    /// certificate says who it is.
    Nothing,
}

impl ClientCredential {
    /// Another credential has another one; a later one a greater.
    pub fn version(&self) -> u64 {
        match self {
            Self::Secret(secret) => secret.version,
            Self::Key(key) => key.version,
            Self::KeyWanted { version } => *version,
            Self::Nothing => 0,
        }
    }

    /// The secret, if it is one.
    pub fn secret(&self) -> Option<&ClientSecret> {
        match self {
            Self::Secret(secret) => Some(secret),
            Self::Key(_) | Self::KeyWanted { .. } | Self::Nothing => None,
        }
    }
}

/// The public half of a client's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientKey {
    /// The key.
    pub jwk: PublicJwk,
    /// Another key has another one.
    pub version: u64,
}

impl RelyingParty {
    /// The credential that its agent should put into the application: the next one while it turns.
    pub fn wanted_credential(&self) -> &ClientCredential {
        self.next_credential.as_ref().unwrap_or(&self.credential)
    }

    /// The version of a credential that is to come.
    pub fn next_version(&self) -> u64 {
        self.wanted_credential().version().max(self.last_credential_version) + 1
    }

    /// All credentials that are good now.
    pub fn credentials(&self) -> impl Iterator<Item = &ClientCredential> {
        std::iter::once(&self.credential).chain(&self.next_credential)
    }

    /// Everything sealed in it, and for what.
    pub(super) fn sealed(&mut self) -> Vec<(Purpose, &mut Sealed)> {
        let credentials = std::iter::once(&mut self.credential).chain(&mut self.next_credential);
        let secrets = credentials.filter_map(|credential| match credential {
            ClientCredential::Secret(secret) => Some((Purpose::ClientSecret, &mut secret.sealed)),
            ClientCredential::Key(_) | ClientCredential::KeyWanted { .. } | ClientCredential::Nothing => None,
        });
        secrets.collect()
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
    pub fn generate(sealing: &SealingKeys, version: u64) -> Result<Self, SecretError> {
        let secret = OpaqueSecret::generate()?;
        let sealed = sealing.seal(Purpose::ClientSecret, secret.expose().as_bytes())?;
        Ok(Self { hash: secret.hash(), sealed, version })
    }

    /// The secret, for the wire to its agent.
    ///
    /// # Errors
    /// When the key-encryption key does not fit.
    pub fn open(&self, sealing: &SealingKeys) -> Result<zeroize::Zeroizing<String>, SecretError> {
        let bytes = sealing.open(Purpose::ClientSecret, &self.sealed)?;
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
    /// By a signed assertion (RFC 7523 2.2).
    PrivateKeyJwt,
    /// By an assertion under its secret (OpenID Connect Core 9).
    ClientSecretJwt,
    /// By its instance certificate (RFC 8705 2.1).
    TlsClientAuth,
    /// Not at all: a public client (RFC 6749 2.1).
    None,
}

impl ClientAuthMethod {
    /// As in `token_endpoint_auth_method`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::ClientSecretJwt => "client_secret_jwt",
            Self::TlsClientAuth => "tls_client_auth",
            Self::None => "none",
        }
    }
}

/// An instance in its role of authenticating its own users.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Portal {
    /// Where its agent's portal starts a login.
    pub portal_url: String,
}
