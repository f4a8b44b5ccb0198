//! Turning the keys that seal: to the key-encryption key that is configured, with a new data key, and with everything
//! that is stored sealed by it.
//!
//! | step | commit | and if it is cut short there |
//! |---|---|---|
//! | add | a pending data key, sealed by the new key-encryption key | nothing seals with it |
//! | activate | it is active, the one before is retired | both open |
//! | wrap | retired data keys are sealed by the new key-encryption key | the old one opens some of them |
//! | seal | one record a commit, until a whole pass finds nothing | the rest is sealed by a retired data key |
//! | retire | the retired data key is given an end: strangers hold tokens under it | it stays |
//!
//! What comes next is decided from the store alone, by [`next`]: whoever runs it again goes on where it stopped, also at
//! another broker. Between adding and activating there is a pause in which every broker that runs takes the new data key
//! in, or writes to it that it cannot: then the turn ends, and nothing has happened.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::clock::{Clock, Timestamp};
use crate::config::Current;
use crate::secret::data_key::{DataKeyState, StoredDataKey, new_id};
use crate::secret::kek::{KekId, KeyEncryptionKeys, blocking};
use crate::secret::{SealedTable, SealingKeyError, SealingKeys, random};
use crate::storage::table::{Stored, Table};
use crate::storage::{Expect, Key, Page, Store, StoreError, Versioned, Write};

/// Every broker that lives has taken in what was written before this time: two of its heartbeats.
const LEARNED: Duration = Duration::from_secs(10);

/// Most data keys that there may be: each is a try for whoever opens something.
const MOST_KEYS: usize = 8;

/// How many records are read at once.
const PAGE: usize = 128;

/// Pause between two looks at whether a retired data key is to go.
const INTERVAL: Duration = Duration::from_secs(60);

/// What a turn stands on.
#[derive(Clone, Debug)]
pub struct TurnFoundations {
    /// Where everything is.
    pub store: Arc<dyn Store>,
    /// The data keys in use.
    pub sealing: Arc<SealingKeys>,
    /// The key-encryption keys that are configured.
    pub keks: Arc<KeyEncryptionKeys>,
    /// Everything that is stored sealed.
    pub tables: &'static [SealedTable],
    /// How long strangers may hold something sealed.
    pub kept: Current<Duration>,
}

/// Turns the keys that seal.
#[derive(Clone, Debug)]
pub struct KeyTurn {
    known: TurnFoundations,
    keys: Table<StoredDataKey>,
    pause: Duration,
}

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A new data key is written; brokers take it in.
    Added,
    /// It seals, for all brokers.
    Activated,
    /// So many of so many records are sealed again.
    Sealed(u64, u64),
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// Everything is sealed by the configured key now.
    Now,
    /// It was before.
    Before,
}

/// What seals, and how far a turn is.
#[derive(Debug)]
pub struct KeyStatus {
    /// All data keys with their ids.
    pub keys: Vec<(String, StoredDataKey)>,
    /// Records that hold something sealed.
    pub records: u64,
    /// Those that a retired data key sealed.
    pub stale: u64,
    /// Those that no data key opens.
    pub unreadable: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// A new data key.
    Add(&'a str, &'a Stored<StoredDataKey>),
    /// A pending one belongs to a turn that nobody goes on with.
    Discard(&'a str, &'a Stored<StoredDataKey>),
    /// The pending one becomes active.
    Activate(&'a str),
    /// Everything is sealed by the active one.
    Seal(&'a str),
    /// Nothing.
    Done,
}

impl KeyTurn {
    /// On these foundations.
    pub fn new(known: TurnFoundations) -> Self {
        Self { keys: Table::new(known.store.clone()), known, pause: LEARNED }
    }

    /// The key-encryption keys that are configured.
    pub fn keks(&self) -> &KeyEncryptionKeys {
        &self.known.keks
    }

    /// Turns everything to the configured key-encryption key, or goes on with a turn that was cut short.
    ///
    /// # Errors
    /// When a broker does not know the new key, a token does not do it, or the store does not answer: run it again.
    pub async fn run(&self, clock: &Clock, tell: &(impl Fn(Progress) + Sync)) -> Result<Turned, SealingKeyError> {
        let mut turned = Turned::Before;
        loop {
            let keys = self.keys.all().await?;
            let (step, now) = (next(&keys, self.known.keks.current.id()), clock.now());
            let done = match step {
                Step::Done => return Ok(turned),
                Step::Add(id, active) => self.add((id, active), keys.len(), now).await,
                Step::Discard(id, key) => self.discard(id, key).await,
                Step::Activate(id) => {
                    tell(Progress::Added);
                    tokio::time::sleep(self.pause).await;
                    self.activate(id, clock.now()).await
                }
                Step::Seal(active) => {
                    tell(Progress::Activated);
                    self.seal(active, clock, tell).await
                }
            };
            match done {
                Ok(()) => turned = Turned::Now,
                // Somebody else does the same: what comes next is decided again.
                Err(SealingKeyError::Store(StoreError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn add(
        &self,
        (active_id, active): (&str, &Stored<StoredDataKey>),
        there_are: usize,
        now: Timestamp,
    ) -> Result<(), SealingKeyError> {
        if there_are >= MOST_KEYS {
            return Err(SealingKeyError::TooMany(there_are));
        }
        let (id, bytes, keks) = (new_id()?, Zeroizing::new(random::<32>()?), self.known.keks.clone());
        let named = id.clone();
        let wrap = move || StoredDataKey::wrap((&named, &bytes), &keks.current, DataKeyState::Pending, now);
        let writes = vec![
            self.keys.put(&id, &blocking(wrap).await?, Expect::Absent)?,
            // Written as it is: of two that add at once, one finds it changed.
            self.keys.put(active_id, &active.record, Expect::Version(active.version))?,
        ];
        self.keys.commit(writes).await?;
        info!(key = %id, kek = %self.known.keks.current.id(), "a new data key is pending");
        Ok(())
    }

    async fn discard(&self, id: &str, key: &Stored<StoredDataKey>) -> Result<(), SealingKeyError> {
        self.keys.commit(vec![self.keys.delete(id, Expect::Version(key.version))]).await?;
        Ok(())
    }

    async fn activate(&self, id: &str, now: Timestamp) -> Result<(), SealingKeyError> {
        let mut writes = Vec::new();
        for (other, key) in self.keys.all().await? {
            let state = match key.record.state {
                DataKeyState::Pending if other == id => {
                    if let Some(known) = key.record.unknown_to.clone() {
                        self.discard(id, &key).await?;
                        return Err(SealingKeyError::NotKnownEverywhere(known));
                    }
                    DataKeyState::Active
                }
                DataKeyState::Active => DataKeyState::Retired { gone_at: None },
                DataKeyState::Pending | DataKeyState::Retired { .. } => continue,
            };
            let moved = key.record.moved(state, now);
            writes.push(self.keys.put(&other, &moved, Expect::Version(key.version))?);
        }
        if writes.len() != 2 {
            return Err(StoreError::Conflict.into());
        }
        self.keys.commit(writes).await?;
        info!(key = %id, "the new data key is active");
        Ok(())
    }

    async fn seal(
        &self,
        active: &str,
        clock: &Clock,
        tell: &(impl Fn(Progress) + Sync),
    ) -> Result<(), SealingKeyError> {
        self.known.sealing.seals_with(active).await?;
        self.wrap().await?;
        // Those that retire while this goes on, by a turn to yet another key, are that turn's to finish.
        let before = self.status().await?;
        let retiring = |key: &&(String, StoredDataKey)| key.1.state == (DataKeyState::Retired { gone_at: None });
        let retiring: Vec<String> = before.keys.iter().filter(retiring).map(|(id, _)| id.clone()).collect();
        let (mut done, total) = (0, before.stale);
        loop {
            let before = done;
            self.pass(&mut |sealed| {
                done += sealed;
                tell(Progress::Sealed(done, total.max(done)));
            })
            .await?;
            if done == before {
                break;
            }
        }
        self.retire(&retiring, clock.now()).await
    }

    /// Seals retired data keys by the current key-encryption key. The active one is sealed by no other than the one that
    /// it was made under: else who has an old key and an old copy of the store would have it, too.
    async fn wrap(&self) -> Result<(), SealingKeyError> {
        let (keks, mut writes) = (&self.known.keks, Vec::new());
        for (id, key) in self.keys.all().await? {
            let retired = matches!(key.record.state, DataKeyState::Retired { .. });
            if !retired || key.record.wrapped_by == *keks.current.id() {
                continue;
            }
            let bytes = keks.unwrap(&id, &key.record).await?;
            let (named, using, record) = (id.clone(), keks.clone(), key.record);
            let wrapped = blocking(move || {
                let wrapped = using.current.wrap(&named, &bytes)?;
                Ok(StoredDataKey { wrapped, wrapped_by: using.current.id().clone(), ..record })
            });
            writes.push(self.keys.put(&id, &wrapped.await?, Expect::Version(key.version))?);
        }
        if !writes.is_empty() {
            self.keys.commit(writes).await?;
        }
        Ok(())
    }

    /// One way through everything that is sealed. Tells of each page how many records were sealed again, or were changed
    /// by somebody else and have to be looked at once more.
    async fn pass(&self, sealed: &mut (impl FnMut(u64) + Send)) -> Result<(), SealingKeyError> {
        for table in self.known.tables {
            let mut after = None;
            loop {
                let page = self.known.store.list(Page { prefix: table.prefix(), after, limit: PAGE }).await?;
                after = page.last().map(|(key, _)| key.clone());
                let (ended, mut again) = (page.len() < PAGE, 0);
                for (key, found) in page {
                    again += u64::from(self.seal_record(table, key, found).await?);
                }
                if again > 0 {
                    sealed(again);
                }
                if ended {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn seal_record(&self, table: &SealedTable, key: Key, found: Versioned) -> Result<bool, SealingKeyError> {
        let value = match (table.reseal)(&found.value, &self.known.sealing) {
            Ok(resealed) => resealed.value,
            Err(error) => {
                // It was lost before, and holds up nobody.
                warn!(key = key.as_str(), %error, "a record cannot be sealed again");
                None
            }
        };
        if value.is_none() {
            return Ok(false);
        }
        match self.known.store.commit(vec![Write { key, expect: Expect::Version(found.version), value }]).await {
            Ok(_) | Err(StoreError::Conflict) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    async fn retire(&self, these: &[String], now: Timestamp) -> Result<(), SealingKeyError> {
        let (gone_at, mut writes) = (now + self.known.kept.now(), Vec::new());
        for (id, key) in self.keys.all().await? {
            if these.contains(&id) && key.record.state == (DataKeyState::Retired { gone_at: None }) {
                let moved = key.record.moved(DataKeyState::Retired { gone_at: Some(gone_at) }, now);
                writes.push(self.keys.put(&id, &moved, Expect::Version(key.version))?);
            }
        }
        self.keys.commit(writes).await?;
        info!(%gone_at, "everything that is stored is sealed by the new data key");
        Ok(())
    }

    /// What seals, and how far a turn is.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn status(&self) -> Result<KeyStatus, SealingKeyError> {
        let keys = self.keys.all().await?.into_iter().map(|(id, key)| (id, key.record)).collect();
        let mut status = KeyStatus { keys, records: 0, stale: 0, unreadable: 0 };
        for table in self.known.tables {
            let mut after = None;
            loop {
                let page = self.known.store.list(Page { prefix: table.prefix(), after, limit: PAGE }).await?;
                for (_, found) in &page {
                    match (table.reseal)(&found.value, &self.known.sealing) {
                        Ok(resealed) => {
                            status.records += u64::from(resealed.opened > 0);
                            status.stale += u64::from(resealed.value.is_some());
                        }
                        Err(_) => status.unreadable += 1,
                    }
                }
                after = page.last().map(|(key, _)| key.clone());
                if page.len() < PAGE {
                    break;
                }
            }
        }
        Ok(status)
    }

    /// Deletes retired data keys when their time has come, for ever.
    pub async fn forget_retired(&self, clock: Clock) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match self.forget(clock.now()).await {
                Ok(()) | Err(SealingKeyError::Store(StoreError::Conflict)) => {}
                Err(error) => error!(%error, "a retired data key could not be deleted; next try in a minute"),
            }
        }
    }

    /// Deletes the data keys whose time has come. A broker that was cut off while they turned may have sealed with one all
    /// the same: what it wrote is sealed again before.
    async fn forget(&self, now: Timestamp) -> Result<(), SealingKeyError> {
        let keys = self.keys.all().await?;
        let ended = |state| matches!(state, DataKeyState::Retired { gone_at: Some(at) } if at <= now);
        let gone: Vec<_> = keys.iter().filter(|(_, key)| ended(key.record.state)).collect();
        let Some((active, _)) = keys.iter().find(|(_, key)| key.record.state == DataKeyState::Active) else {
            return Err(SealingKeyError::NotOneActive(0));
        };
        if gone.is_empty() {
            return Ok(());
        }
        self.known.sealing.seals_with(active).await?;
        loop {
            let mut again = 0;
            self.pass(&mut |sealed| again += sealed).await?;
            if again == 0 {
                break;
            }
        }
        self.keys
            .commit(gone.iter().map(|(id, key)| self.keys.delete(id, Expect::Version(key.version))).collect())
            .await?;
        info!(keys = gone.len(), "retired data keys are gone");
        Ok(())
    }
}

/// What comes next on the way to this key-encryption key.
fn next<'a>(keys: &'a [(String, Stored<StoredDataKey>)], target: &KekId) -> Step<'a> {
    let in_state = |state| keys.iter().find(move |(_, key)| key.record.state == state);
    let Some((active, active_key)) = in_state(DataKeyState::Active) else { return Step::Done };
    if let Some((id, key)) = in_state(DataKeyState::Pending) {
        return if key.record.wrapped_by == *target { Step::Activate(id) } else { Step::Discard(id, key) };
    }
    if in_state(DataKeyState::Retired { gone_at: None }).is_some() {
        return Step::Seal(active);
    }
    if active_key.record.wrapped_by == *target { Step::Done } else { Step::Add(active, active_key) }
}

#[cfg(test)]
mod tests;
