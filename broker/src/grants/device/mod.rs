//! Devices that have no browser of their own (RFC 8628): what they ask for is agreed to in another one.
//!
//! 1. [`Devices::ask`] gives the device a code for itself and a short one for its user.
//! 2. The user types the short one at the broker ([`Devices::entered`]), logs in and is asked; [`Devices::approve`] and
//!    [`Devices::deny`] are writes for the commit of what the user said.
//! 3. The device asks again and again ([`Devices::poll`]); once it was agreed to, [`Devices::redeem`] turns its code into
//!    the tokens of a grant.
//!
//! Invariants: a request is answered once, and its code is redeemed once, each by one compare-and-swap; whoever redeems
//! it again, and may, holds a copy of the code, and ends the grant. A user code can be entered as long as nobody has
//! answered. The store has hashes of both codes.

mod pace;
mod user_code;

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::grants::device::pace::{Paces, TooFast};
use crate::grants::record::{Grant, GrantId, KEPT_BEHIND_END};
use crate::grants::{Grants, Terms, TokenError, Tokens};
use crate::registry::{Client, ClientId, Scopes, Snapshot, VerifiedIdentity};
use crate::secret::{OpaqueSecret, SecretError, SecretHash};
use crate::storage::table::{Record, Stored, Table};
use crate::storage::{Expect, Store, StoreError, Version, Write};

pub use user_code::{NotAUserCode, UserCode};

/// Tells people and scanners for leaked secrets what it is.
const PREFIX: &str = "hwd_";

/// How long a request waits for its user.
const LIFETIME: Duration = Duration::from_secs(600);

/// How often another user code is drawn when one is taken.
const TRIES: usize = 4;

/// All requests of devices.
#[derive(Clone)]
pub struct Devices {
    requests: Table<DeviceRequest>,
    user_codes: Table<EnteredCode>,
    paces: Arc<Paces>,
    grants: Grants,
}

/// What a device is told.
pub struct AskedDevice {
    /// For itself.
    pub device_code: SecretString,
    /// For its user.
    pub user_code: UserCode,
    /// How long both last.
    pub expires_in: Duration,
    /// How long it waits between two polls.
    pub interval: Duration,
}

/// A request that waits for its user.
pub struct WaitingDevice {
    /// Names it: worth nothing to anybody else.
    pub id: String,
    /// Who asks, as OAuth knows it.
    pub client_id: ClientId,
    /// Who asks, as we know it.
    pub relying_party: InstanceName,
    /// What it wants to learn.
    pub scopes: Scopes,
}

/// A request that its user has agreed to.
pub struct ApprovedDevice {
    id: String,
    record: DeviceRequest,
    version: Version,
    grant: Grant,
}

/// A request as it is stored, under the hash of its device code.
#[derive(Clone, Serialize, Deserialize)]
pub struct DeviceRequest {
    client_id: ClientId,
    relying_party: InstanceName,
    scopes: Scopes,
    user_code: SecretHash,
    state: DeviceState,
    expires_at: Timestamp,
}

/// What became of a request.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DeviceState {
    /// Nobody has answered.
    Waiting,
    /// Its user agrees to this.
    Approved(Box<Grant>),
    /// Its user does not.
    Denied,
    /// The device has its tokens, of this grant.
    Redeemed(GrantId),
}

impl Record for DeviceRequest {
    const TABLE: &'static str = "device_code";

    fn expires_at(&self) -> Option<Timestamp> {
        // A clock that is set back revives no code.
        Some(self.expires_at + KEPT_BEHIND_END)
    }
}

/// Which request a user code is of, under the hash of the user code.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnteredCode {
    device: String,
    expires_at: Timestamp,
}

impl Record for EnteredCode {
    const TABLE: &'static str = "device_user_code";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at)
    }
}

impl Devices {
    /// All requests in this store.
    pub fn new(store: Arc<dyn Store>, grants: Grants) -> Self {
        let paces = Arc::default();
        Self { requests: Table::new(store.clone()), user_codes: Table::new(store), paces, grants }
    }

    /// A device asks to act for a user whom it does not know yet.
    ///
    /// # Errors
    /// When codes cannot be made or written.
    pub async fn ask(&self, client: Client<'_>, scopes: Scopes, now: Timestamp) -> Result<AskedDevice, DeviceError> {
        let secret = format!("{PREFIX}{}", OpaqueSecret::generate()?.expose());
        let (id, expires_at) = (SecretHash::of(&secret).as_str().to_owned(), now + LIFETIME);
        for _ in 0..TRIES {
            let user_code = UserCode::generate()?;
            let request = DeviceRequest {
                client_id: client.relying_party.client_id.clone(),
                relying_party: client.name.clone(),
                scopes: scopes.clone(),
                user_code: user_code.hash(),
                state: DeviceState::Waiting,
                expires_at,
            };
            let entered = EnteredCode { device: id.clone(), expires_at };
            let writes = vec![
                self.requests.put(&id, &request, Expect::Absent)?,
                self.user_codes.put(user_code.hash().as_str(), &entered, Expect::Absent)?,
            ];
            match self.requests.commit(writes).await {
                // Another device has this user code.
                Err(StoreError::Conflict) => {}
                done => {
                    done?;
                    let (device_code, interval) = (secret.into(), Paces::FIRST);
                    return Ok(AskedDevice { device_code, user_code, expires_in: LIFETIME, interval });
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The request that a user code is of, if it waits still.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn entered(&self, code: &UserCode, now: Timestamp) -> Result<Option<WaitingDevice>, DeviceError> {
        let Some(entered) = self.user_codes.get(code.hash().as_str()).await? else { return Ok(None) };
        let id = entered.record.device;
        match self.waiting(&id, now).await {
            Ok(Stored { record: DeviceRequest { client_id, relying_party, scopes, .. }, .. }) => {
                Ok(Some(WaitingDevice { id, client_id, relying_party, scopes }))
            }
            Err(DeviceError::Store(error)) => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// The writes by which the device gets this grant: once.
    ///
    /// # Errors
    /// When nobody waits for it any more, or it is another client's.
    pub async fn approve(&self, id: &str, grant: Grant, now: Timestamp) -> Result<Vec<Write>, DeviceError> {
        let waiting = self.waiting(id, now).await?;
        if waiting.record.client_id != grant.client_id {
            return Err(DeviceError::OfAnotherClient);
        }
        self.answer(id, waiting, DeviceState::Approved(Box::new(grant)))
    }

    /// The writes by which the device gets nothing.
    ///
    /// # Errors
    /// When nobody waits for it any more.
    pub async fn deny(&self, id: &str) -> Result<Vec<Write>, DeviceError> {
        let waiting = self.unanswered(id).await?;
        self.answer(id, waiting, DeviceState::Denied)
    }

    /// What a device is told that asks for its tokens (3.5): nothing yet, in most cases.
    ///
    /// # Errors
    /// When its user has not answered, or refused, or it is too late or too early.
    pub async fn poll(
        &self,
        device_code: &str,
        client: &ClientId,
        now: Timestamp,
    ) -> Result<ApprovedDevice, DeviceError> {
        let id = SecretHash::of(device_code).as_str().to_owned();
        let Stored { record, version } = self.requests.get(&id).await?.ok_or(DeviceError::Unknown)?;
        // Whose it is comes first: somebody else learns nothing of it, and slows nobody down.
        if record.client_id != *client {
            return Err(DeviceError::OfAnotherClient);
        }
        match &record.state {
            DeviceState::Redeemed(grant) => {
                self.grants.end(grant).await?;
                Err(DeviceError::Redeemed)
            }
            _ if now >= record.expires_at => Err(DeviceError::Expired),
            DeviceState::Denied => Err(DeviceError::Denied),
            DeviceState::Approved(grant) => {
                let grant = Grant::clone(grant);
                Ok(ApprovedDevice { id, record, version, grant })
            }
            DeviceState::Waiting => match self.paces.poll(&id, now) {
                Ok(()) => Err(DeviceError::Pending),
                Err(TooFast) => Err(DeviceError::TooFast),
            },
        }
    }

    /// Turns what the user agreed to into tokens: one commit.
    ///
    /// # Errors
    /// When the session has ended since, trust was withdrawn, or somebody was faster.
    pub async fn redeem(
        &self,
        device: ApprovedDevice,
        terms: &Terms<'_>,
        (person, snapshot): (Option<&VerifiedIdentity>, &Snapshot),
        now: Timestamp,
    ) -> Result<Tokens, DeviceError> {
        let ApprovedDevice { id, record, version, grant } = device;
        let grant_id = GrantId::generate()?;
        let (user, client) = (grant.user.clone(), grant.client_id.clone());
        self.grants.judge(&grant, snapshot).await?;
        let begun = self.grants.begin((grant_id.clone(), grant), terms, (person, snapshot), now)?;
        let redeemed = DeviceRequest { state: DeviceState::Redeemed(grant_id.clone()), ..record };
        let mut writes = begun.writes;
        writes.push(self.requests.put(&id, &redeemed, Expect::Version(version))?);
        match self.requests.commit(writes).await {
            Ok(_) => {
                self.grants.keep_few(&begun.tokens, (&user, &client), &grant_id).await;
                Ok(begun.tokens)
            }
            Err(StoreError::Conflict) => Err(DeviceError::Redeemed),
            Err(error) => Err(error.into()),
        }
    }

    async fn waiting(&self, id: &str, now: Timestamp) -> Result<Stored<DeviceRequest>, DeviceError> {
        let stored = self.unanswered(id).await?;
        if now < stored.record.expires_at { Ok(stored) } else { Err(DeviceError::Expired) }
    }

    async fn unanswered(&self, id: &str) -> Result<Stored<DeviceRequest>, DeviceError> {
        let stored = self.requests.get(id).await?.ok_or(DeviceError::Unknown)?;
        match stored.record.state {
            DeviceState::Waiting => Ok(stored),
            DeviceState::Approved(_) | DeviceState::Denied | DeviceState::Redeemed(_) => Err(DeviceError::Answered),
        }
    }

    fn answer(
        &self,
        id: &str,
        Stored { record, version }: Stored<DeviceRequest>,
        state: DeviceState,
    ) -> Result<Vec<Write>, DeviceError> {
        let user_code = record.user_code.clone();
        let answered = DeviceRequest { state, ..record };
        Ok(vec![
            self.requests.put(id, &answered, Expect::Version(version))?,
            self.user_codes.delete(user_code.as_str(), Expect::Any),
        ])
    }
}

impl ApprovedDevice {
    /// What its user agreed to.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
}

/// Why a device gets no tokens, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Never issued, or long ago.
    #[error("the device code is unknown")]
    Unknown,
    /// Issued to somebody else.
    #[error("the device code belongs to another client")]
    OfAnotherClient,
    /// Nobody has answered.
    #[error("the user has not answered yet")]
    Pending,
    /// It asks too often.
    #[error("the device polls too fast")]
    TooFast,
    /// The user said no.
    #[error("the user refused")]
    Denied,
    /// Too late.
    #[error("the device code has expired")]
    Expired,
    /// Used before.
    #[error("the device code was used already")]
    Redeemed,
    /// The user said something before, perhaps in another browser.
    #[error("the device was answered already")]
    Answered,
    /// The grant cannot be redeemed.
    #[error(transparent)]
    Grant(#[from] TokenError),
    /// No randomness.
    #[error("a code could not be made")]
    Internal(#[from] SecretError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
