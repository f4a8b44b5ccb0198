//! Relying parties without agent: how clients come to them, change and go (RFC 7591, RFC 7592).
//!
//! Every change is one commit that rests on what was judged: an initial access token never makes more clients than it
//! was opened for, and a client that was removed, or whose relying party was closed, is not written again.

use homeward_certs::identity::InstanceName;
use tracing::info;

use crate::clock::Timestamp;
use crate::registry::{RegisteredClient, Registration, Registry, Snapshot};
use crate::storage::table::Stored;
use crate::storage::{Expect, StoreError};

/// How often a client is added again when others used the same initial access token in this moment.
const ADD_TRIES: usize = 16;

/// What initial access tokens begin with, so that one that leaks is known for what it is.
pub const INITIAL_TOKEN_PREFIX: &str = "hwi_";

/// The same of registration access tokens.
pub const REGISTRATION_TOKEN_PREFIX: &str = "hwm_";

impl Registration {
    /// Whether this is its initial access token, and a client may be registered by it now.
    pub fn admits(&self, token: &str, now: Timestamp) -> bool {
        self.initial_token.matches(token) && now < self.expires_at && self.clients_left > 0
    }
}

impl Snapshot {
    /// The relying party that admits another client by this initial access token.
    pub fn admitting(&self, token: &str, now: Timestamp) -> Option<&InstanceName> {
        self.registrations().find(|registration| registration.admits(token, now)).map(|registration| &registration.name)
    }
}

impl Registry {
    /// Writes a client, and takes one off the clients that its relying party may still register.
    ///
    /// # Errors
    /// When the initial access token does not count any more.
    pub async fn add_client(
        &self,
        client: &RegisteredClient,
        initial_token: &str,
        now: Timestamp,
    ) -> Result<(), RegistrationError> {
        for _ in 0..ADD_TRIES {
            let stored = self.registrations.get(client.name.as_str()).await?;
            let Stored { record: mut registration, version } = stored.ok_or(RegistrationError::TokenInvalid)?;
            if !registration.admits(initial_token, now) {
                return Err(RegistrationError::TokenInvalid);
            }
            registration.clients_left -= 1;
            let id = client.relying_party.client_id.as_str();
            let writes = vec![
                self.registrations.put(client.name.as_str(), &registration, Expect::Version(version))?,
                self.clients.put(id, client, Expect::Absent)?,
            ];
            match self.clients.commit(writes).await {
                Err(StoreError::Conflict) => {}
                done => {
                    self.reached(done?).await?;
                    info!(relying_party = %client.name, client = id, "client registered");
                    return Ok(());
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The client whose registration access token this is. Unknown clients and wrong tokens look the same.
    ///
    /// # Errors
    /// When it is not, or there is no such client.
    pub async fn managed_client(&self, id: &str, token: &str) -> Result<Stored<RegisteredClient>, RegistrationError> {
        let stored = self.clients.get(id).await?;
        let owned = stored.filter(|stored| stored.record.registration_token.matches(token));
        owned.ok_or(RegistrationError::TokenInvalid)
    }

    /// Writes what became of a client, unless it changed in between.
    ///
    /// # Errors
    /// When it did.
    pub async fn replace_client(&self, changed: Stored<RegisteredClient>) -> Result<(), RegistrationError> {
        let Stored { record: client, version } = changed;
        let id = client.relying_party.client_id.as_str();
        let write = self.clients.put(id, &client, Expect::Version(version))?;
        self.reached(self.clients.commit(vec![write]).await?).await?;
        info!(relying_party = %client.name, client = id, "client changed by itself");
        Ok(())
    }

    /// Removes a client, unless it changed in between.
    ///
    /// # Errors
    /// When it did.
    pub async fn remove_client(&self, client: &Stored<RegisteredClient>) -> Result<(), RegistrationError> {
        let id = client.record.relying_party.client_id.as_str();
        let write = self.clients.delete(id, Expect::Version(client.version));
        self.reached(self.clients.commit(vec![write]).await?).await?;
        info!(relying_party = %client.record.name, client = id, "client removed by itself");
        Ok(())
    }
}

/// Why a client is not registered, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Unknown, used up, too old, or of another client: the same for all.
    #[error("the token is not good for this")]
    TokenInvalid,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}
