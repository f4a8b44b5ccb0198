//! What the instance uses, as far as it may lie on disk: everything of the last applied snapshot but the client secret,
//! which is in the application's files only. With the broker down, this is what the instance goes on with.

use homeward_proto::v1::{ClientCredentials, Snapshot};
use serde::{Deserialize, Serialize};

use crate::disk::{DiskError, PrivateDir};

/// The file.
const FILE: &str = "applied.json";

/// The last applied snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its revision; 0 for none.
    pub revision: u64,
    /// OAuth client id, if the instance is a relying party.
    pub client_id: Option<String>,
    /// Issuer of its tokens.
    pub issuer: Option<String>,
    /// Version of its secret.
    pub secret_version: u64,
    /// Whether the application has shown that it uses them.
    pub proved: bool,
    /// The broker's JWKS, as it came.
    pub key_set: String,
    /// The homes whose users it accepts: name, and the name people read.
    pub homes: Vec<(String, String)>,
}

impl Applied {
    /// Of a snapshot that is to be applied: nothing of it is proved yet.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let credentials = snapshot.client_credentials.as_ref();
        Self {
            revision: snapshot.revision,
            client_id: credentials.map(|credentials| credentials.client_id.clone()),
            issuer: credentials.map(|credentials| credentials.issuer.clone()),
            secret_version: credentials.map_or(0, |credentials| credentials.secret_version),
            proved: false,
            key_set: String::from_utf8_lossy(&snapshot.key_set).into_owned(),
            homes: snapshot.homes.iter().map(|home| (home.name.clone(), home.display_name.clone())).collect(),
        }
    }

    /// Whether the application has shown that it uses these very credentials.
    pub(super) fn proves(&self, credentials: &ClientCredentials) -> bool {
        self.proved
            && self.client_id.as_ref() == Some(&credentials.client_id)
            && self.issuer.as_ref() == Some(&credentials.issuer)
            && self.secret_version == credentials.secret_version
    }

    /// What was applied last.
    pub fn load(data: &PrivateDir) -> Result<Self, DiskError> {
        Ok(data.load(FILE)?.unwrap_or_default())
    }

    /// Nothing, as after an enrolment: what another identity had does not count.
    pub(crate) fn forget(data: &PrivateDir) -> Result<(), DiskError> {
        data.remove(FILE)
    }

    pub(super) fn store(&self, data: &PrivateDir) -> Result<(), DiskError> {
        data.store(FILE, self)
    }
}
