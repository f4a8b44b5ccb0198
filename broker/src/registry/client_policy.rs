//! What ops change of a client: of an instance, or of a relying party without agent.

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::info;
use url::Url;

use crate::keys::SigningAlgorithm;
use crate::registry::{
    AccountKey, AccountKeyConflict, Client, ClientAuthMethod, ClientId, GrantType, RegisteredClient, Registry,
    RelyingParty, SecurityProfile, Snapshot, SubjectType,
};
use crate::storage::{Revision, StoreError};

/// What is to be changed; what is unset stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientPolicyChange {
    /// A set of demands by name.
    pub profile: Option<SecurityProfile>,
    /// Whether every authorization request must be pushed.
    pub require_par: Option<bool>,
    /// Whether every request must carry a PKCE challenge.
    pub require_pkce: Option<bool>,
    /// Whether access tokens must be bound to a key.
    pub require_dpop: Option<bool>,
    /// What it may ask tokens for.
    pub grant_types: Option<Vec<GrantType>>,
    /// By what it finds the account of a user who comes again.
    pub account_key: Option<AccountKey>,
    /// Whether other relying parties know its users by other subjects.
    pub pairwise: Option<bool>,
    /// How its ID tokens are signed.
    pub id_token_alg: Option<SigningAlgorithm>,
    /// Whether the ID token carries the claims of userinfo too.
    pub claims_in_id_token: Option<bool>,
}

impl ClientPolicyChange {
    /// What is set, for the log.
    fn words(&self) -> String {
        let Ok(Value::Object(members)) = serde_json::to_value(self) else { return String::new() };
        let set = members.iter().filter(|(_, value)| !value.is_null());
        set.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }
}

impl Registry {
    /// Changes what a client must and may do; gives its client id.
    ///
    /// # Errors
    /// When there is no such client, or it could not do what is demanded.
    pub async fn set_client_policy(
        &self,
        client: &str,
        change: &ClientPolicyChange,
    ) -> Result<ClientId, ClientPolicyError> {
        let snapshot = self.snapshot();
        let found = snapshot.client_named(client)?;
        let id = found.relying_party.client_id.clone();
        if let Some(key) = change.account_key {
            let edges = || snapshot.edges_of(found.name);
            edges().try_for_each(|edge| key.check(edge, edges()))?;
        }
        let revision = if found.enrolled {
            self.change_enrolled(found.name, change).await
        } else {
            self.change_own(&id, change).await
        };
        self.reached(revision?).await?;
        info!(client = %id, change = change.words(), "client policy changed");
        Ok(id)
    }

    async fn change_enrolled(
        &self,
        name: &InstanceName,
        change: &ClientPolicyChange,
    ) -> Result<Revision, ClientPolicyError> {
        let decide = |instance: Option<crate::registry::Instance>| {
            let mut instance = instance.ok_or(ClientPolicyError::Unknown)?;
            let sector = host(&instance.public_url);
            let party = instance.relying_party.as_mut().ok_or(ClientPolicyError::Unknown)?;
            change.apply(party, sector)?;
            Ok(instance)
        };
        self.instances.update(name.as_str(), decide).await
    }

    async fn change_own(&self, id: &ClientId, change: &ClientPolicyChange) -> Result<Revision, ClientPolicyError> {
        let decide = |client: Option<RegisteredClient>| {
            let mut client = client.ok_or(ClientPolicyError::Unknown)?;
            let sector = client.sector();
            change.apply(&mut client.relying_party, sector)?;
            client.word_of_ops = client.word_of_ops.followed_by(change);
            Ok(client)
        };
        self.clients.update(id.as_str(), decide).await
    }
}

impl Snapshot {
    /// The client with this id, or the only one of an instance or relying party with this name; in whatever state it is.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn client_named(&self, text: &str) -> Result<Client<'_>, ClientPolicyError> {
        if let Some(client) = self.clients().find(|client| client.relying_party.client_id.as_str() == text) {
            return Ok(client);
        }
        let mut named = self.clients().filter(|client| client.name.as_str() == text);
        match (named.next(), named.next()) {
            (Some(client), None) => Ok(client),
            (Some(_), Some(_)) => Err(ClientPolicyError::Ambiguous),
            (None, _) => Err(ClientPolicyError::Unknown),
        }
    }
}

impl ClientPolicyChange {
    /// Does to a client what is said, whose sector (OpenID Connect Core 8.1) is this.
    ///
    /// # Errors
    /// When the client could not do what is demanded.
    pub fn apply(&self, party: &mut RelyingParty, sector: Option<String>) -> Result<(), PolicyConflict> {
        let public = party.auth_method == ClientAuthMethod::None;
        if let Some(grant_types) = &self.grant_types {
            if public && grant_types.iter().any(|kind| kind.is_for_confidential_clients()) {
                return Err(PolicyConflict::PublicClient);
            }
            party.policy.grant_types = grant_types.iter().copied().collect();
        }
        if let Some(pairwise) = self.pairwise {
            party.policy.subject_type = match pairwise {
                false => SubjectType::Public,
                true => SubjectType::Pairwise { sector: sector.ok_or(PolicyConflict::NoSector)? },
            };
        }
        let policy = &mut party.policy;
        policy.profile = self.profile.unwrap_or(policy.profile);
        policy.account_key = self.account_key.unwrap_or(policy.account_key);
        policy.account_key_by_ops |= self.account_key.is_some();
        policy.require_par = self.require_par.unwrap_or(policy.require_par);
        policy.require_dpop = self.require_dpop.unwrap_or(policy.require_dpop);
        policy.claims_in_id_token = self.claims_in_id_token.unwrap_or(policy.claims_in_id_token);
        party.id_token_alg = self.id_token_alg.unwrap_or(party.id_token_alg);
        party.pkce_required = self.require_pkce.unwrap_or(party.pkce_required);
        let asymmetric = matches!(party.auth_method, ClientAuthMethod::PrivateKeyJwt | ClientAuthMethod::TlsClientAuth);
        match (public && !party.pkce_required, party.policy.is_fapi2() && !asymmetric) {
            (true, _) => Err(PolicyConflict::PublicClient),
            (false, true) => Err(PolicyConflict::Fapi2),
            (false, false) => Ok(()),
        }
    }

    /// What is said after both were said.
    fn followed_by(&self, later: &Self) -> Self {
        Self {
            profile: later.profile.or(self.profile),
            require_par: later.require_par.or(self.require_par),
            require_pkce: later.require_pkce.or(self.require_pkce),
            require_dpop: later.require_dpop.or(self.require_dpop),
            grant_types: later.grant_types.clone().or_else(|| self.grant_types.clone()),
            account_key: later.account_key.or(self.account_key),
            pairwise: later.pairwise.or(self.pairwise),
            id_token_alg: later.id_token_alg.or(self.id_token_alg),
            claims_in_id_token: later.claims_in_id_token.or(self.claims_in_id_token),
        }
    }
}

impl RegisteredClient {
    /// Host of its sector identifier, or the one that all its callbacks share (OpenID Connect Core 8.1).
    pub fn sector(&self) -> Option<String> {
        if let Some(uri) = self.metadata.get("sector_identifier_uri").and_then(Value::as_str) {
            return host(uri);
        }
        sector(&self.relying_party.redirect_uris)
    }
}

/// The host that all these callbacks share.
pub fn sector(redirect_uris: &[String]) -> Option<String> {
    let mut hosts = redirect_uris.iter().map(|uri| host(uri));
    let first = hosts.next()??;
    hosts.all(|host| host.as_ref() == Some(&first)).then_some(first)
}

fn host(uri: &str) -> Option<String> {
    Url::parse(uri).ok()?.host_str().map(str::to_owned)
}

/// What a client could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyConflict {
    /// What it asks for cannot be bound to it.
    #[error("a public client always sends a PKCE challenge, and has no client_credentials and no token exchange")]
    PublicClient,
    /// A secret is not enough.
    #[error("fapi2 needs a client that authenticates by private_key_jwt or tls_client_auth: register it so first")]
    Fapi2,
    /// Its callbacks are in several places.
    #[error("pairwise subjects need callbacks on one host, or a sector_identifier_uri")]
    NoSector,
}

/// Why a client is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ClientPolicyError {
    /// No client has this id or name.
    #[error("there is no such client: see `client list`")]
    Unknown,
    /// The relying party has several.
    #[error("this relying party has several clients: name one by its client id, see `client list`")]
    Ambiguous,
    /// The client could not do what is demanded.
    #[error(transparent)]
    Conflict(#[from] PolicyConflict),
    /// Two users would be one at the relying party.
    #[error(transparent)]
    AccountKey(#[from] AccountKeyConflict),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}
