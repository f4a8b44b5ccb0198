//! What the store keeps of a login: from the home's word until its single use, and then that it was used.

use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::login::Transaction;
use crate::registry::{CutOffs, InstanceId, VerifiedIdentity};
use crate::secret::SecretHash;
use crate::storage::table::Record;

/// How much longer than its ticket a record is kept, so that a clock that is set back revives no ticket.
pub(super) const KEPT_BEHIND_END: Duration = Duration::from_secs(3600);

/// A login whose ticket is used up, under the transaction's id.
#[derive(Serialize, Deserialize)]
pub struct LoginRecord {
    pub(super) state: LoginState,
    pub(super) expires_at: Timestamp,
}

impl Record for LoginRecord {
    const TABLE: &'static str = "login";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at + KEPT_BEHIND_END)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LoginState {
    /// The home has spoken; the browser has not come back yet.
    Completed(Box<CompletedLogin>),
    /// The browser came back. What remains keeps ticket and handle from being used again.
    Finished,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct CompletedLogin {
    pub(super) transaction: Transaction,
    pub(super) home: InstanceName,
    pub(super) home_id: InstanceId,
    pub(super) outcome: CheckedOutcome,
    /// How often the home had taken back its word of the user by then.
    #[serde(default)]
    pub(super) cut_offs: CutOffs,
    pub(super) handle: SecretHash,
}

/// What a home said, checked.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly always the large one, and in a box with its record")]
pub enum CheckedOutcome {
    /// It vouches for this user.
    Identity(VerifiedIdentity),
    /// It vouches for nobody.
    Failure(LoginFailure),
}

/// Why a home vouches for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginFailure {
    /// Nothing might be shown, and nobody is signed in freshly enough.
    LoginRequired,
    /// The user gave up.
    Cancelled,
    /// The user may not log in.
    Denied,
    /// The application did not answer.
    Unavailable,
}

impl LoginFailure {
    /// As it is stored, for the audit.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::LoginRequired => "login_required",
            Self::Cancelled => "cancelled",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
        }
    }
}
