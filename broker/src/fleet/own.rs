//! What is one agent's own: the credentials of its application and the homes that it accepts. Pure functions of the
//! registry.

use std::fmt;

use homeward_certs::identity::InstanceName;
use zeroize::Zeroizing;

use crate::config::Issuer;
use crate::fleet::versions::{self, Versions};
use crate::registry::{ClientCredential, ClientId, Instance, RelyingParty, Resource, Snapshot};
use crate::secret::{SealingKeys, SecretError};

/// A relying party's credentials on their way to its agent.
pub struct Credentials {
    /// Issuer.
    pub issuer: String,
    /// Client id.
    pub client_id: ClientId,
    /// How the application is to show who it is.
    pub secret: CredentialSecret,
    /// Another secret or key has another one.
    pub version: u64,
}

/// How an application is to show who it is.
pub enum CredentialSecret {
    /// It knows this.
    Text(Zeroizing<String>),
    /// Its agent makes a key of its own and registers the public half.
    OwnKey,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, version {})", self.client_id, self.version)
    }
}

impl Credentials {
    /// What this relying party's agent should put into the application.
    ///
    /// # Errors
    /// When the client secret cannot be opened.
    pub(super) fn wanted(party: &RelyingParty, issuer: &Issuer, sealing: &SealingKeys) -> Result<Self, SecretError> {
        let wanted = party.wanted_credential();
        let secret = match wanted.secret() {
            Some(secret) => CredentialSecret::Text(secret.open(sealing)?),
            None => CredentialSecret::OwnKey,
        };
        let issuer = issuer.to_string();
        Ok(Self { issuer, client_id: party.client_id.clone(), secret, version: wanted.version() })
    }
}

/// A line of the home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeEntry {
    /// Name of the instance.
    pub name: String,
    /// The name people read.
    pub display_name: String,
}

/// The homes that a relying party accepts, in the order of the home directory.
pub(super) fn homes(name: &InstanceName, snapshot: &Snapshot) -> Vec<HomeEntry> {
    let homes = snapshot.homes_for(name).into_iter();
    homes.map(|home| HomeEntry { name: home.name.to_string(), display_name: home.display_name.to_owned() }).collect()
}

/// The versions of an agent's own resources. An instance that is no relying party has none.
pub(super) fn versions(instance: &Instance, snapshot: &Snapshot, issuer: &Issuer) -> Versions {
    let Some(party) = &instance.relying_party else { return Versions::default() };
    let homes = snapshot.homes_for(&instance.name).into_iter();
    let lines = homes.flat_map(|home| [home.name.as_str(), home.display_name]);
    Versions::of(&[
        (Resource::ClientCredentials, credential_version(party, party.wanted_credential(), issuer)),
        (Resource::Homes, versions::of_texts(lines)),
    ])
}

/// The version of the secret or key that an agent means by the version of its credentials, if it is a good one.
pub(super) fn secret_version(instance: &Instance, issuer: &Issuer, version: u64) -> Option<u64> {
    let party = instance.relying_party.as_ref()?;
    let meant = party.credentials().find(|credential| credential_version(party, credential, issuer) == version);
    meant.map(ClientCredential::version)
}

/// Made of what the secret is for and which one it is, never of the secret.
fn credential_version(party: &RelyingParty, credential: &ClientCredential, issuer: &Issuer) -> u64 {
    let kind = if credential.secret().is_some() { "secret" } else { "key" };
    versions::of_texts([issuer.as_str(), party.client_id.as_str(), &credential.version().to_string(), kind])
}
