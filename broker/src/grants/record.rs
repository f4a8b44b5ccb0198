//! What a grant is, and what the store keeps of it: one record from the moment its code is redeemed.

use std::fmt;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::Timestamp;
use crate::registry::{
    ClaimsRequest, ClientId, InstanceId, Scopes, SessionId, Snapshot, Subject, UserId, VerifiedIdentity,
};
use crate::secret::{SecretError, random};
use crate::storage::table::Record;

/// How much longer than anything of it a record is kept, so that a clock that is set back revives no code.
pub(super) const KEPT_BEHIND_END: Duration = Duration::from_secs(3600);

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
    /// For whom, as the broker knows him.
    pub user: UserId,
    /// For whom, as the relying party knows him.
    pub subject: Subject,
    /// The session that it came of.
    pub session: SessionId,
    /// Set if it outlives the session (OpenID Connect Core 11): what the home said of the user then.
    pub offline: Option<Box<VerifiedIdentity>>,
    /// What was granted.
    pub scopes: Scopes,
    /// What was asked for one by one.
    pub claims: ClaimsRequest,
    /// Whom its access tokens may be for, beside this broker (RFC 8707).
    pub resources: Vec<String>,
    /// Goes into the ID token.
    pub nonce: Option<String>,
    /// When the user last proved who they are.
    pub auth_time: Option<Timestamp>,
    /// To what class that belongs, in the home's words.
    pub acr: Option<String>,
    /// How.
    pub amr: Vec<String>,
}

impl Grant {
    /// Whether relying party and home are still what they were to each other when the grant was made.
    pub fn is_trusted(&self, snapshot: &Snapshot) -> bool {
        let client = snapshot.client(self.client_id.as_str()).is_some();
        client && snapshot.vouching(&self.relying_party, &self.home, self.home_id).is_some()
    }
}

/// Names a grant: 22 characters of base64url.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(String);

impl GrantId {
    pub(super) fn generate() -> Result<Self, SecretError> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random::<16>()?)))
    }

    /// A key of the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A grant whose code was redeemed, under its id. That the record is there is what makes a code single-use.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredGrant {
    /// What was granted.
    pub grant: Grant,
    /// Whether its tokens are good.
    pub(super) state: GrantState,
    /// Until when it is kept.
    pub(super) kept_until: Timestamp,
}

/// Whether a grant's tokens are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum GrantState {
    /// They are.
    Live,
    /// Revoked, or a code or refresh token of it was used twice. Kept, so that no code of it is good again.
    Ended,
}

impl Record for StoredGrant {
    const TABLE: &'static str = "grant";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.kept_until)
    }
}
