//! Clients as OAuth knows them: one of each instance that is a relying party, and those that were registered for a
//! relying party without agent (RFC 7591).

use std::collections::BTreeSet;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::keys::SigningAlgorithm;
use crate::registry::{AccountKey, ClientId, ClientPolicyChange, Instance, RelyingParty, Snapshot, SubjectType};
use crate::secret::{HoldsSealed, Purpose, Sealed, SecretHash};
use crate::storage::table::Record;

/// A client that may ask for logins now, wherever it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The relying party that it belongs to, as trust edges name it.
    pub name: &'a InstanceName,
    /// The name people read.
    pub display_name: &'a str,
    /// Where browsers reach it: an origin.
    pub public_url: &'a str,
    /// What OAuth knows of it.
    pub relying_party: &'a RelyingParty,
    /// Whether an agent looks after it.
    pub enrolled: bool,
}

impl<'a> Client<'a> {
    /// The client of an instance, if it is a relying party.
    pub fn of_instance(instance: &'a Instance) -> Option<Self> {
        Some(Self {
            name: &instance.name,
            display_name: &instance.display_name,
            public_url: &instance.public_url,
            relying_party: instance.relying_party.as_ref()?,
            enrolled: true,
        })
    }

    /// The client that is told of logouts, also if it may log nobody in now: a quarantine ends no session at an
    /// application.
    pub fn told(snapshot: &'a Snapshot, name: &InstanceName, id: &ClientId) -> Option<Self> {
        let of_instance = snapshot.instance(name).and_then(|instance| Self::of_instance(instance));
        let registered = || snapshot.registered(id.as_str()).map(|client| Self::of_registered(client));
        of_instance.filter(|client| client.relying_party.client_id == *id).or_else(registered)
    }

    /// A client of a relying party without agent.
    pub fn of_registered(client: &'a RegisteredClient) -> Self {
        Self {
            name: &client.name,
            display_name: &client.display_name,
            public_url: &client.public_url,
            relying_party: &client.relying_party,
            enrolled: false,
        }
    }
}

/// A relying party without agent, under its name: who has its initial access token may register clients of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// Its name; no instance has it.
    pub name: InstanceName,
    /// The initial access token (RFC 7591 1.2).
    pub initial_token: SecretHash,
    /// When the initial access token ends.
    pub expires_at: Timestamp,
    /// How many clients may still be registered.
    pub clients_left: u32,
    /// When it was opened.
    pub opened_at: Timestamp,
}

impl Record for Registration {
    const TABLE: &'static str = "registry-registration";
}

/// A client of a relying party without agent, under its client id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegisteredClient {
    /// The relying party.
    pub name: InstanceName,
    /// `client_name`, or the client id.
    pub display_name: String,
    /// Origin of its first callback.
    pub public_url: String,
    /// What OAuth knows of it.
    pub relying_party: RelyingParty,
    /// The registration access token (RFC 7592 1.2).
    pub registration_token: SecretHash,
    /// The metadata as they were accepted, for who reads them back (RFC 7592 3).
    pub metadata: Value,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// What ops have said of it since: it counts more than what the client says of itself, now and later.
    #[serde(default)]
    pub word_of_ops: ClientPolicyChange,
}

impl Record for RegisteredClient {
    const TABLE: &'static str = "registry-client";
}

impl HoldsSealed for RegisteredClient {
    fn sealed(&mut self) -> Vec<(Purpose, &mut Sealed)> {
        self.relying_party.sealed()
    }
}

/// What a client must and may do. What an older broker stored has none of it: then everything is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientPolicy {
    /// A set of demands by name.
    pub profile: SecurityProfile,
    /// Every authorization request must be pushed (RFC 9126).
    pub require_par: bool,
    /// Access tokens must be bound to a key of the client (RFC 9449).
    pub require_dpop: bool,
    /// Access tokens must be bound to the client's certificate (RFC 8705 3).
    pub require_certificate_binding: bool,
    /// Authorization requests must be signed (RFC 9101 10.5).
    pub require_signed_request: bool,
    /// What it may ask tokens for.
    pub grant_types: BTreeSet<GrantType>,
    /// By what it finds the account of a user who comes again.
    pub account_key: AccountKey,
    /// Whether ops have said so: then what an agent says of its recipe does not count.
    pub account_key_by_ops: bool,
    /// By which subjects it knows users.
    pub subject_type: SubjectType,
    /// Whether the ID token carries the claims of userinfo too: not what OpenID Connect Core 5.4 says, but what many
    /// applications read.
    pub claims_in_id_token: bool,
    /// How its userinfo is signed; plain JSON if unset.
    pub userinfo_signing_alg: Option<SigningAlgorithm>,
    /// How answers of introspection are signed for it (RFC 9701); plain JSON if unset.
    pub introspection_signing_alg: Option<SigningAlgorithm>,
    /// How it signs request objects, as in `request_object_signing_alg`; `none` only if it registered that.
    pub request_object_alg: Option<String>,
    /// How it signs its assertions, as in `token_endpoint_auth_signing_alg`; any that fits its keys if unset.
    pub assertion_alg: Option<String>,
    /// In place of a missing `max_age`, in seconds.
    pub default_max_age: Option<u64>,
    /// In place of missing `acr_values`.
    pub default_acr_values: Vec<String>,
}

impl Default for ClientPolicy {
    fn default() -> Self {
        Self {
            profile: SecurityProfile::Plain,
            require_par: false,
            require_dpop: false,
            require_certificate_binding: false,
            require_signed_request: false,
            grant_types: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
            account_key: AccountKey::Subject,
            account_key_by_ops: false,
            subject_type: SubjectType::Public,
            claims_in_id_token: true,
            userinfo_signing_alg: None,
            introspection_signing_alg: None,
            request_object_alg: None,
            assertion_alg: None,
            default_max_age: None,
            default_acr_values: Vec::new(),
        }
    }
}

impl ClientPolicy {
    /// Whether all that FAPI 2.0 Security Profile wants is wanted.
    pub fn is_fapi2(&self) -> bool {
        self.profile == SecurityProfile::Fapi2
    }
}

/// A set of demands by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProfile {
    /// What is demanded of everybody.
    #[default]
    Plain,
    /// FAPI 2.0 Security Profile: pushed requests, PKCE, sender-constrained tokens, asymmetric client authentication to
    /// the issuer alone, refresh tokens that stay.
    Fapi2,
}

/// What a client may ask tokens for, as in `grant_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GrantType {
    /// RFC 6749 4.1.
    #[serde(rename = "authorization_code")]
    AuthorizationCode,
    /// RFC 6749 6.
    #[serde(rename = "refresh_token")]
    RefreshToken,
    /// RFC 6749 4.4.
    #[serde(rename = "client_credentials")]
    ClientCredentials,
    /// RFC 8628.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:device_code")]
    DeviceCode,
    /// RFC 8693.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange")]
    TokenExchange,
}

impl GrantType {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials, Self::DeviceCode, Self::TokenExchange];

    /// As in `grant_type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    /// As in `grant_type`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether it means nothing from a client that cannot show who it is (RFC 6749 4.4).
    pub const fn is_for_confidential_clients(self) -> bool {
        match self {
            Self::ClientCredentials | Self::TokenExchange => true,
            Self::AuthorizationCode | Self::RefreshToken | Self::DeviceCode => false,
        }
    }
}

/// Where a relying party wants to hear of logouts, and where the browser may go afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogoutAddresses {
    /// Takes logout tokens (OpenID Connect Back-Channel Logout 1.0 2.2).
    pub backchannel: Option<String>,
    /// Loaded by the browser (OpenID Connect Front-Channel Logout 1.0 2).
    pub frontchannel: Option<String>,
    /// Whether the front-channel address gets `iss` and `sid`.
    pub frontchannel_session: bool,
    /// Compared as text (OpenID Connect RP-Initiated Logout 1.0 3).
    pub post_logout: Vec<String>,
}

/// Keys of a client beside its credential: for assertions and request objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientKeys {
    /// `jwks`: public keys, checked when they were registered.
    Inline(Value),
    /// `jwks_uri`.
    Address(String),
}

/// What pages say of a client, as it registered it (OpenID Connect Dynamic Client Registration 1.0 2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientPages {
    /// Its logo.
    pub logo: Option<String>,
    /// Its home page.
    pub home: Option<String>,
    /// What it does with what it learns.
    pub policy: Option<String>,
    /// Its terms of service.
    pub terms: Option<String>,
    /// Where a third party may begin a login (OpenID Connect Core 4).
    pub initiate_login: Option<String>,
}
