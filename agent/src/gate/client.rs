//! The gate's own OAuth client: its credentials come from the broker like those of any application, and stay in the agent's
//! data directory. What was proved is used at once, by every login that begins from then on.

use std::sync::{Arc, PoisonError, RwLock};

use homeward_proto::v1::ClientCredentials;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::config::Config;
use crate::disk::{DiskError, PrivateDir};
use crate::provider::wire::{Wire, WireError};
use crate::provider::{Provider, Registration, SecretShown};
use crate::recipe::relying_party::ClientAuthMethod;

/// In the data directory.
const FILE: &str = "gate-client.json";
/// What an identity is made of.
const SCOPES: [&str; 3] = ["profile", "email", "groups"];

/// The client.
#[derive(Debug)]
pub(crate) struct GateClient {
    data: PrivateDir,
    wire: Wire,
    redirect_uri: String,
    shown: SecretShown,
    current: RwLock<Option<Arc<Provider>>>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Stored {
    issuer: String,
    client_id: String,
    client_secret: String,
    secret_version: u64,
}

impl GateClient {
    /// Goes on with what is on disk; `None` if the agent is no relying party itself.
    pub(crate) fn open(config: &Config, data: PrivateDir) -> Result<Option<Arc<Self>>, OpenError> {
        let Some(gate) = &config.gate else { return Ok(None) };
        let wire = Wire::new(gate.ca_file.as_deref())?;
        let shown = match config.recipe.relying_party.as_ref().map(|role| role.client_auth_method) {
            Some(ClientAuthMethod::ClientSecretPost) => SecretShown::Post,
            _ => SecretShown::Basic,
        };
        let (redirect_uri, current) = (config.gate_callback_url(), RwLock::new(None));
        let client = Self { data, wire, redirect_uri, shown, current };
        if let Some(stored) = client.data.load::<Stored>(FILE)? {
            client.publish(client.provider(&stored));
        }
        Ok(Some(Arc::new(client)))
    }

    /// The broker, with the credentials that are in use; `None` until there are some.
    pub(crate) fn provider_in_use(&self) -> Option<Arc<Provider>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether these are in use already.
    pub(crate) fn uses(&self, wanted: &ClientCredentials) -> bool {
        self.data.load::<Stored>(FILE).ok().flatten() == Some(Stored::of(wanted))
    }

    /// The broker, with credentials that are not in use yet.
    pub(crate) fn candidate(&self, wanted: &ClientCredentials) -> Arc<Provider> {
        self.provider(&Stored::of(wanted))
    }

    /// Uses these from now on: on disk first.
    pub(crate) fn adopt(&self, wanted: &ClientCredentials, candidate: Arc<Provider>) -> Result<(), DiskError> {
        self.data.store(FILE, &Stored::of(wanted))?;
        self.publish(candidate);
        Ok(())
    }

    fn publish(&self, provider: Arc<Provider>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(provider);
    }

    fn provider(&self, stored: &Stored) -> Arc<Provider> {
        let registration = Registration {
            issuer: stored.issuer.clone(),
            client_id: stored.client_id.clone(),
            client_secret: SecretString::from(stored.client_secret.as_str()),
            shown: self.shown,
            redirect_uri: self.redirect_uri.clone(),
            scopes: SCOPES.map(str::to_owned).to_vec(),
        };
        Arc::new(Provider::new(self.wire.clone(), registration))
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its CAs.
    #[error("[gate] {0}")]
    Wire(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<WireError> for OpenError {
    fn from(error: WireError) -> Self {
        Self::Wire(Box::new(error))
    }
}

impl Stored {
    fn of(wanted: &ClientCredentials) -> Self {
        Self {
            issuer: wanted.issuer.clone(),
            client_id: wanted.client_id.clone(),
            client_secret: wanted.client_secret.clone(),
            secret_version: wanted.secret_version,
        }
    }
}
