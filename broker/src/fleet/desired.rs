//! What one agent should have: a pure function of the registry.

use std::fmt;

use homeward_certs::bundle::TrustBundle;
use zeroize::Zeroizing;

use crate::fleet::Shared;
use crate::registry::{ClientId, Instance, Snapshot};
use crate::secret::SecretError;

/// What one agent should have at one revision.
#[derive(Debug)]
pub struct Desired {
    /// The revision of the registry at which this came to be.
    pub revision: u64,
    /// For a relying party.
    pub credentials: Option<Credentials>,
    /// The JWKS document.
    pub key_set: String,
    /// What to trust.
    pub bundle: TrustBundle,
    /// Homes that the relying party accepts.
    pub homes: Vec<HomeEntry>,
}

/// A relying party's credentials on their way to its agent.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    /// Issuer.
    pub issuer: String,
    /// Client id.
    pub client_id: ClientId,
    /// Client secret.
    pub secret: Zeroizing<String>,
    /// Another secret has another one.
    pub version: u64,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, version {})", self.client_id, self.version)
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

impl Desired {
    /// What this instance's agent should have.
    ///
    /// # Errors
    /// When its client secret cannot be opened.
    pub(super) fn of(instance: &Instance, snapshot: &Snapshot, shared: &Shared) -> Result<Self, SecretError> {
        let credentials = instance.relying_party.as_ref().map(|party| {
            let wanted = party.wanted_credential();
            Ok::<_, SecretError>(Credentials {
                issuer: shared.issuer.to_string(),
                client_id: party.client_id.clone(),
                secret: wanted.secret().map_or_else(|| Ok(Zeroizing::default()), |secret| secret.open(&shared.kek))?,
                version: wanted.version(),
            })
        });
        let homes = snapshot.homes_for(&instance.name).into_iter();
        Ok(Self {
            revision: snapshot.revision(),
            credentials: credentials.transpose()?,
            key_set: String::from_utf8_lossy(shared.keys.current().jwks()).into_owned(),
            bundle: shared.bundle.clone(),
            homes: homes
                .map(|home| HomeEntry { name: home.name.to_string(), display_name: home.display_name.clone() })
                .collect(),
        })
    }

    /// Whether only the revision differs.
    pub(super) fn has_content_of(&self, other: &Self) -> bool {
        self.credentials == other.credentials
            && self.key_set == other.key_set
            && self.bundle == other.bundle
            && self.homes == other.homes
    }
}
