//! What the store keeps of grants: a code and an access token, each under its hash.

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::registry::{Claims, ClientId, InstanceId, Scopes, Snapshot};
use crate::secret::SecretHash;
use crate::storage::table::Record;

/// What a login gives a relying party.
#[derive(Clone, Serialize, Deserialize)]
pub struct Grant {
    /// Who holds it, as OAuth knows it.
    pub client_id: ClientId,
    /// Who holds it, as we know it.
    pub relying_party: InstanceName,
    /// Who vouched.
    pub home: InstanceName,
    /// Which installation of that name.
    pub home_id: InstanceId,
    /// The callback that the code goes to.
    pub redirect_uri: String,
    /// PKCE challenge.
    pub code_challenge: Option<SecretHash>,
    /// Goes into the ID token.
    pub nonce: Option<String>,
    /// What was granted.
    pub scopes: Scopes,
    /// What was released at the time of the login.
    pub claims: Claims,
    /// When the user last proved who they are.
    pub auth_time: Option<Timestamp>,
    /// How.
    pub amr: Vec<String>,
}

impl Grant {
    /// Whether relying party and home are still what they were to each other when the grant was made.
    pub(super) fn is_trusted(&self, snapshot: &Snapshot) -> bool {
        let client = snapshot.client(self.client_id.as_str()).is_some();
        client && snapshot.vouching(&self.relying_party, &self.home, self.home_id).is_some()
    }
}

/// An authorization code.
#[derive(Clone, Serialize, Deserialize)]
pub struct Code {
    pub(super) grant: Grant,
    pub(super) state: CodeState,
    /// When it cannot be redeemed any more.
    pub(super) expires_at: Timestamp,
    /// Until when a second use is noticed: as long as tokens of the first may live.
    pub(super) kept_until: Timestamp,
}

/// Where a code is in its life.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CodeState {
    Issued,
    Redeemed { access_token: SecretHash },
}

impl Record for Code {
    const TABLE: &'static str = "code";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.kept_until)
    }
}

/// An access token.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccessToken {
    pub(super) grant: Grant,
    pub(super) expires_at: Timestamp,
}

impl Record for AccessToken {
    const TABLE: &'static str = "access_token";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at)
    }
}
