//! The outbox: logouts on their way to those whom they have to reach.
//!
//! 1. Whoever ends a session writes a [`StoredLogout`] for each application in the same commit ([`Outbox::write`]).
//! 2. [`Delivery`] posts logout tokens; [`AgentOrders`] is what an agent's stream takes its orders from.
//! 3. Each try ends in one commit: confirmed, given up, or pending with a later moment.
//!
//! Invariants: what is committed is tried until it is confirmed or dead, whenever the broker dies, and so perhaps twice.
//! Pending ones stand in lanes, one for each whom they are for, in the order of their moments ([`DueLogout`]); of a lane
//! one is tried at a time, so nobody who is slow or away holds up anybody else. Nothing of it is kept in memory but which
//! lanes there are.

mod agents;
mod delivery;
mod logout_token;
mod record;
mod tries;

use std::sync::Arc;

use tracing::{error, info, warn};

use crate::clock::Timestamp;
use crate::secret::{SecretError, random};
use crate::storage::table::{Record as _, Stored, Table};
use crate::storage::{Expect, Key, Page, Store, StoreError, Write};

pub use agents::{AgentOrders, SessionOrder};
pub use delivery::{Delivery, DeliveryFoundations};
pub use record::{DueLogout, Entered, LogoutId, LogoutIdError, LogoutState, Message, Outcome, StoredLogout};
use tries::Tries;

use agents::Desks;
pub(super) use record::TRIED;
use record::{Lane, Place};

/// All logouts.
#[derive(Clone, Debug)]
pub struct Outbox {
    store: Arc<dyn Store>,
    logouts: Table<StoredLogout>,
    due: Table<DueLogout>,
    desks: Arc<Desks>,
    tries: Arc<Tries>,
}

impl Outbox {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            logouts: Table::new(store.clone()),
            due: Table::new(store.clone()),
            store,
            desks: Arc::default(),
            tries: Arc::default(),
        }
    }

    /// The writes that put a new logout on its way.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, id: &LogoutId, logout: &StoredLogout) -> Result<Vec<Write>, StoreError> {
        let mut writes = vec![self.logouts.put(id.as_str(), logout, Expect::Absent)?];
        if let Some(place) = logout.place(id) {
            writes.push(self.due.put(&place.to_string(), &DueLogout {}, Expect::Any)?);
        }
        Ok(writes)
    }

    /// One logout.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn get(&self, id: &LogoutId) -> Result<Option<StoredLogout>, StoreError> {
        Ok(self.logouts.get(id.as_str()).await?.map(|stored| stored.record))
    }

    /// At most so many logouts behind this one, the newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn page(
        &self,
        after: Option<&LogoutId>,
        limit: usize,
    ) -> Result<Vec<(LogoutId, StoredLogout)>, StoreError> {
        let page = self.logouts.page(after.map(LogoutId::as_str), limit).await?.into_iter();
        Ok(page.filter_map(|(id, stored)| Some((id.parse().ok()?, stored.record))).collect())
    }

    /// How many are on their way, as far as `most`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn waiting(&self, most: usize) -> Result<usize, StoreError> {
        let page = Page { prefix: Table::<DueLogout>::prefix(), after: None, limit: most };
        Ok(self.store.list(page).await?.len())
    }

    /// How tries went.
    pub fn tries(&self) -> &Tries {
        &self.tries
    }

    /// Puts a logout that was given up on its way again.
    ///
    /// # Errors
    /// When there is none, it was not given up, or the store does not answer.
    pub async fn retry(&self, id: &LogoutId, now: Timestamp) -> Result<StoredLogout, OutboxError> {
        let found = self.logouts.get(id.as_str()).await?.ok_or(OutboxError::Unknown)?;
        if found.record.state != LogoutState::Dead {
            return Err(OutboxError::NotDead);
        }
        let again = found.record.clone().again(now);
        self.replace(id, found, &again).await?;
        Ok(again)
    }

    /// Notes how a try went. Nothing happens to a logout that somebody else has settled in the meantime.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn settle(&self, id: &LogoutId, outcome: Outcome, now: Timestamp) -> Result<(), OutboxError> {
        let Some(found) = self.logouts.get(id.as_str()).await? else { return Ok(()) };
        if found.record.state != LogoutState::Pending {
            return Ok(());
        }
        let next = found.record.clone().after(outcome, now, u16::from_be_bytes(random()?));
        tell(id, &next);
        self.tries.count(next.state);
        match self.replace(id, found, &next).await {
            Err(OutboxError::Store(StoreError::Conflict)) => Ok(()),
            done => done,
        }
    }

    async fn replace(&self, id: &LogoutId, old: Stored<StoredLogout>, new: &StoredLogout) -> Result<(), OutboxError> {
        let mut writes = vec![self.logouts.put(id.as_str(), new, Expect::Version(old.version))?];
        let (left, taken) = (old.record.place(id), new.place(id));
        if left != taken {
            writes.extend(left.map(|place| self.due.delete(&place.to_string(), Expect::Any)));
        }
        if let Some(place) = taken {
            writes.push(self.due.put(&place.to_string(), &DueLogout {}, Expect::Any)?);
        }
        self.logouts.commit(writes).await?;
        Ok(())
    }

    /// Takes a place away behind which there is nothing to do.
    async fn forget(&self, place: &Place) -> Result<(), StoreError> {
        self.due.commit(vec![self.due.delete(&place.to_string(), Expect::Any)]).await.map(drop)
    }

    /// The first place of a lane.
    async fn head(&self, lane: &Lane) -> Result<Option<Place>, StoreError> {
        let prefix = format!("{}{lane}.", Table::<DueLogout>::prefix());
        let found = self.store.list(Page { prefix, after: None, limit: 1 }).await?;
        Ok(found.first().and_then(|(key, _)| Place::read(key.id())))
    }

    /// The first place of each lane.
    async fn heads(&self) -> Result<Vec<Place>, StoreError> {
        let (mut heads, mut after): (Vec<Place>, Option<Key>) = (Vec::new(), None);
        loop {
            let page = Page { prefix: Table::<DueLogout>::prefix(), after, limit: 1 };
            let Some((key, _)) = self.store.list(page).await?.pop() else { return Ok(heads) };
            let head = Place::read(key.id());
            // Behind all moments of this lane: a tilde sorts behind every hex digit.
            after = Some(match &head {
                Some(head) => Key::new(DueLogout::TABLE, &format!("{}.~", head.lane)),
                None => key,
            });
            heads.extend(head);
        }
    }
}

/// What ops may want to know of a try.
fn tell(id: &LogoutId, logout: &StoredLogout) {
    let StoredLogout { target, attempts, detail, .. } = logout;
    match logout.state {
        LogoutState::Confirmed => info!(logout = %id, %target, attempts, detail, "a logout is confirmed"),
        LogoutState::NotSupported => warn!(logout = %id, %target, detail, "a logout reaches nobody"),
        LogoutState::Pending => info!(logout = %id, %target, attempts, detail, "a logout is tried again later"),
        LogoutState::Dead => error!(
            logout = %id, %target, attempts, detail,
            "ALERT: a logout was given up; `homeward-broker session retry` tries it again"
        ),
    }
}

/// Why a logout is not tried again.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// Never was, or too old.
    #[error("there is no such logout: see `session logouts`")]
    Unknown,
    /// Others are confirmed, or tried without being asked.
    #[error("only a logout that was given up can be tried again")]
    NotDead,
    /// No randomness.
    #[error("a moment could not be drawn")]
    Internal(#[from] SecretError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
