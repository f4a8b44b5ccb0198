//! From one store to another: the target is made equal to the source, whatever either of them is.
//!
//! 1. The target says that a federation is arriving: no broker opens it.
//! 2. Page by page, what differs is written. A run that was killed leaves a target that the next one finishes: what is
//!    equal already costs no write, and what was changed since is seen.
//! 3. The source says that the federation has moved: no broker opens it, and one that just did hears of it and ends.
//! 4. Both are read once more, whole, and compared. Only then the target says that the federation is there.
//!
//! At no moment both would be opened: also if several runs of the same command are at it. Of these the last one that took the
//! [target](Arrival) is the only one that can open it; and the source is given back only by a run that has the target, does
//! not open it any more, and was the last to close the source.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, Digest, SHA256};

use crate::storage::arrival::{Arrival, ArrivalError, put};
use crate::storage::copy::is_copied;
use crate::storage::schema::{self, CURRENT, Found, SchemaError, SchemaRecord};
use crate::storage::{Expect, Key, Page, Store, StoreError, Version, Versioned, Write};

/// Entries that are read at once.
const PAGE: usize = 256;

/// A broker that lives writes its presence more often than this. (Those of the tests are quicker.)
const PRESENCE: Duration = if cfg!(test) { Duration::from_secs(1) } else { Duration::from_secs(12) };

/// One end of a migration: a store and how its address reads.
#[derive(Clone, Debug)]
pub struct End {
    /// The store.
    pub store: Arc<dyn Store>,
    /// As ops write it.
    pub address: String,
}

/// How far a migration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Looking whether a broker lives on the source.
    Listening,
    /// So many entries are equal.
    Copied(u64),
    /// So many entries of one end were compared.
    Compared(u64),
}

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// How many entries there are.
    pub entries: u64,
    /// SHA-256 over their keys and values, as hex: the same at both ends.
    pub sha256: String,
}

/// Moves a federation.
///
/// # Errors
/// One sentence; nothing is lost then, and the same command goes on.
pub async fn migrate(
    source: &End,
    target: &End,
    report: &(dyn Fn(Progress) + Sync),
) -> Result<Migrated, MigrationError> {
    if source.address == target.address {
        return Err(MigrationError::Same(source.address.clone()));
    }
    let standing = check_source(source, target).await?;
    let present = listen(source, report).await?;
    let arrival = prepare(source, target, &standing).await?;
    make_equal(source, &arrival, report).await?;
    let closed = close(source, target, &standing).await?;
    match compare(source, target, &present, report).await {
        Ok(migrated) => {
            arrival.finish().await?;
            Ok(migrated)
        }
        Err(error) => {
            // The target is not open to anybody yet: the source is to be used as before. Unless that is another run's to say.
            arrival.check().await?;
            let open = SchemaRecord { moved_to: None, ..standing };
            source
                .store
                .commit(vec![open.write(&source.store, Expect::Version(closed))?])
                .await
                .map_err(ArrivalError::from)?;
            Err(error)
        }
    }
}

/// The source's record: it holds a federation that has not gone elsewhere.
async fn check_source(source: &End, target: &End) -> Result<SchemaRecord, MigrationError> {
    let record = match schema::look(&source.store).await? {
        Found::Versioned(record, _) => record,
        Found::Unversioned => return Err(MigrationError::Old),
        Found::Fresh => return Err(MigrationError::Empty(source.address.clone())),
    };
    let here = SchemaRecord { moved_to: record.moved_to.clone().filter(|to| *to != target.address), ..record.clone() };
    here.check()?;
    if record.version != CURRENT || record.upgrading.is_some() {
        return Err(MigrationError::Old);
    }
    Ok(record)
}

/// What brokers say of themselves; refused if one of them still says it.
async fn listen(source: &End, report: &(dyn Fn(Progress) + Sync)) -> Result<Presence, MigrationError> {
    let before = presence(&source.store).await?;
    if before.is_empty() {
        return Ok(before);
    }
    report(Progress::Listening);
    tokio::time::sleep(PRESENCE).await;
    if presence(&source.store).await? == before { Ok(before) } else { Err(MigrationError::Live) }
}

/// The presence of all brokers, living or dead.
type Presence = Vec<(Key, Versioned)>;

async fn presence(store: &Arc<dyn Store>) -> Result<Presence, StoreError> {
    store.list(Page { prefix: "broker/".to_owned(), after: None, limit: PAGE }).await
}

/// Lets the target say that a federation is arriving. A run that does so already is over by that.
async fn prepare(source: &End, target: &End, standing: &SchemaRecord) -> Result<Arrival, MigrationError> {
    let arriving = SchemaRecord { arriving: Some(source.address.clone()), moved_to: None, ..standing.clone() };
    match schema::look(&target.store).await? {
        Found::Fresh => Ok(Arrival::begin(&target.store, arriving, Expect::Absent).await?),
        Found::Versioned(found, version) if found == arriving => {
            Ok(Arrival::begin(&target.store, arriving, Expect::Version(version)).await?)
        }
        Found::Versioned(found, _)
            if standing.moved_to.is_some() && found == (SchemaRecord { arriving: None, ..arriving }) =>
        {
            Err(MigrationError::Done(target.address.clone()))
        }
        Found::Versioned(..) | Found::Unversioned => Err(MigrationError::Occupied(target.address.clone())),
    }
}

/// Lets the source say that the federation has moved: anew, if a run that was cut short has done so. By the version of this it
/// is seen later whether another run did so, too.
async fn close(source: &End, target: &End, standing: &SchemaRecord) -> Result<Version, MigrationError> {
    let Found::Versioned(found, version) = schema::look(&source.store).await? else { return Err(MigrationError::Live) };
    let open = SchemaRecord { moved_to: None, ..standing.clone() };
    let moved = SchemaRecord { moved_to: Some(target.address.clone()), ..standing.clone() };
    if found != open && found != moved {
        return Err(MigrationError::Live);
    }
    let closed = source.store.commit(vec![moved.write(&source.store, Expect::Version(version))?]).await;
    Ok(closed.map_err(ArrivalError::from)?.version())
}

/// Writes to the target what differs.
async fn make_equal(source: &End, target: &Arrival, report: &(dyn Fn(Progress) + Sync)) -> Result<(), MigrationError> {
    let (mut after, mut copied) = (None, 0);
    loop {
        let page = Page { prefix: String::new(), after: after.clone(), limit: PAGE };
        let found = source.store.list(page).await?;
        let until = (found.len() == PAGE).then(|| found.last().map(|(key, _)| key.clone())).flatten();
        let wanted: BTreeMap<Key, Vec<u8>> =
            found.into_iter().filter(|(key, _)| is_copied(key)).map(|(key, found)| (key, found.value)).collect();
        copied += wanted.len() as u64;
        let there = between(target.store(), after, until.as_ref()).await?;
        target.write(differences(wanted, &there)).await?;
        report(Progress::Copied(copied));
        match until {
            Some(until) => after = Some(until),
            None => return Ok(()),
        }
    }
}

/// All entries behind `after`, up to `until`, which is the end if unset.
async fn between(
    store: &Arc<dyn Store>,
    mut after: Option<Key>,
    until: Option<&Key>,
) -> Result<BTreeMap<Key, Vec<u8>>, StoreError> {
    let mut found = BTreeMap::new();
    loop {
        let page = store.list(Page { prefix: String::new(), after, limit: PAGE }).await?;
        let ended = page.len() < PAGE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, entry) in page {
            if until.is_some_and(|until| key > *until) {
                return Ok(found);
            }
            if is_copied(&key) {
                found.insert(key, entry.value);
            }
        }
        if ended {
            return Ok(found);
        }
    }
}

/// What makes `there` what is wanted.
fn differences(wanted: BTreeMap<Key, Vec<u8>>, there: &BTreeMap<Key, Vec<u8>>) -> Vec<Write> {
    let gone = there.keys().filter(|key| !wanted.contains_key(*key));
    let mut writes: Vec<Write> = gone.map(|key| Write { key: key.clone(), expect: Expect::Any, value: None }).collect();
    let missing = wanted.into_iter().filter(|(key, value)| there.get(key) != Some(value));
    writes.extend(missing.map(put));
    writes
}

/// Reads both ends whole. The source says already that the federation has moved.
async fn compare(
    source: &End,
    target: &End,
    present: &Presence,
    report: &(dyn Fn(Progress) + Sync),
) -> Result<Migrated, MigrationError> {
    let (here, there) = (digest(&source.store, report).await?, digest(&target.store, report).await?);
    if presence(&source.store).await? != *present {
        return Err(MigrationError::Live);
    }
    if here.0 != there.0 || here.1.as_ref() != there.1.as_ref() {
        return Err(MigrationError::Differs);
    }
    let sha256 = here.1.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Migrated { entries: here.0, sha256 })
}

/// How many entries a store has, and the SHA-256 over all of them.
async fn digest(store: &Arc<dyn Store>, report: &(dyn Fn(Progress) + Sync)) -> Result<(u64, Digest), StoreError> {
    let (mut hash, mut count, mut after) = (Context::new(&SHA256), 0, None);
    loop {
        let page = store.list(Page { prefix: String::new(), after, limit: PAGE }).await?;
        let ended = page.len() < PAGE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, found) in page.iter().filter(|(key, _)| is_copied(key)) {
            for part in [key.as_str().as_bytes(), &found.value] {
                hash.update(&(part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            count += 1;
        }
        report(Progress::Compared(count));
        if ended {
            return Ok((count, hash.finish()));
        }
    }
}

/// Why a federation was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Nothing to move.
    #[error("{0} holds no federation: look at the address after --from (an etcd's ends with the prefix of its keys)")]
    Empty(String),
    /// From itself.
    #[error("--from and --to are the same store, {0}: there is nothing to move")]
    Same(String),
    /// Of the previous release.
    #[error("the store is of an older release: start this one's broker on it once, stop it, and run this again")]
    Old,
    /// A broker writes to the source.
    #[error("a broker lives on the source: stop all of its brokers first, and run this again")]
    Live,
    /// Another federation.
    #[error("{0} is not empty, and is no unfinished target of this source: name an empty store after --to")]
    Occupied(String),
    /// It was moved already.
    #[error("the federation has been moved to {0} already: name that store in the configuration")]
    Done(String),
    /// Something wrote to an end meanwhile, or an end does not keep what it is given.
    #[error(
        "source and target differ after the copy, so the source stays in use: see that nothing writes to either, and run this again"
    )]
    Differs,
    /// Another run is at it.
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
    /// The source may not be opened.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// An end does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests;
