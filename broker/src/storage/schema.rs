//! What the records of a store are like, and whether a broker may open it. One record, beside all tables, says so.
//!
//! | the store has | it is |
//! |---|---|
//! | neither this record nor any other | fresh: `init` makes a federation of it |
//! | records, but not this one | of version 1: the release that knew no versions wrote it |
//! | an older version | brought to [`CURRENT`] by whoever opens it |
//! | a newer version | refused: an older program would write what the newer one cannot read |
//! | [`SchemaRecord::arriving`] | the unfinished target of a migration or a restore: refused |
//! | [`SchemaRecord::moved_to`] | the source of a finished migration: refused, so that no federation lives twice |
//!
//! An upgrade goes page by page. Each page is one commit together with how far it has come, and rests on nobody having come
//! further: whoever is killed is followed by the next starter, and of several at once each page is done by one.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{error, info};

use crate::storage::copy::is_copied;
use crate::storage::held::Held;
use crate::storage::table::{Record, Stored, Table, decode};
use crate::storage::{Expect, Key, Page, Store, StoreError, Version, Write};

/// What this program writes.
pub const CURRENT: u32 = 3;

/// What the release wrote that knew no versions.
const FIRST: u32 = 1;

/// Key of the record.
const ID: &str = "version";

/// Pause before the store is asked again after it failed.
const PAUSE: Duration = Duration::from_secs(1);

/// What a store's records are like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaRecord {
    /// Their version.
    pub version: u32,
    /// How often the federation was restored from a backup.
    #[serde(default)]
    pub epoch: u64,
    /// Set while they are brought to the next version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrading: Option<Upgrading>,
    /// From where a federation is being put here. It is not whole yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arriving: Option<String>,
    /// Where the federation has gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
}

/// How far an upgrade has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrading {
    /// To which version.
    pub to: u32,
    /// What of it is done: said by the step, for the step.
    pub after: Option<String>,
}

impl Record for SchemaRecord {
    const TABLE: &'static str = "schema";
}

impl SchemaRecord {
    /// Of a store that this program has just filled.
    pub fn current() -> Self {
        Self { version: CURRENT, epoch: 0, upgrading: None, arriving: None, moved_to: None }
    }

    /// The write that puts it there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, store: &Arc<dyn Store>, expect: Expect) -> Result<Write, StoreError> {
        Table::new(store.clone()).put(ID, self, expect)
    }

    /// Whether a federation lives here that this program knows.
    ///
    /// # Errors
    /// One sentence on why not.
    pub fn check(&self) -> Result<(), SchemaError> {
        match self {
            Self { version, .. } if *version > CURRENT => Err(SchemaError::Newer(*version)),
            Self { arriving: Some(from), .. } => Err(SchemaError::Arriving(from.clone())),
            Self { moved_to: Some(to), .. } => Err(SchemaError::Moved(to.clone())),
            Self { .. } => Ok(()),
        }
    }
}

/// The record of a store, as it was read.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing is in there.
    Fresh,
    /// Records without this one.
    Unversioned,
    /// This.
    Versioned(SchemaRecord, Version),
}

/// Looks what a store is.
///
/// # Errors
/// When it does not answer.
pub async fn look(store: &Arc<dyn Store>) -> Result<Found, StoreError> {
    if let Some(Stored { record, version }) = Table::<SchemaRecord>::new(store.clone()).get(ID).await? {
        return Ok(Found::Versioned(record, version));
    }
    let mut after = None;
    loop {
        let page = store.list(Page { prefix: String::new(), after, limit: 16 }).await?;
        if page.iter().any(|(key, _)| is_copied(key)) {
            return Ok(Found::Unversioned);
        }
        match page.last() {
            Some((last, _)) => after = Some(last.clone()),
            None => return Ok(Found::Fresh),
        }
    }
}

/// One page of a step.
#[derive(Debug, Default)]
pub struct StepPage {
    /// What is written, together with how far the step has come: one write less than a commit may have.
    pub writes: Vec<Write>,
    /// Given to the next page; none after the last.
    pub after: Option<String>,
}

/// What a page is made by.
type MakePage<'a> = dyn Fn(Option<String>) -> PageFuture<'a> + Send + Sync + 'a;

/// A page in the making.
pub type PageFuture<'a> = Pin<Box<dyn Future<Output = Result<StepPage, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// From one version to the next.
pub struct Step<'a> {
    to: u32,
    page: Box<MakePage<'a>>,
}

impl<'a> Step<'a> {
    /// A step to this version. A page may be made several times, and is written once.
    pub fn new(to: u32, page: impl Fn(Option<String>) -> PageFuture<'a> + Send + Sync + 'a) -> Self {
        Self { to, page: Box::new(page) }
    }
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Step(to {})", self.to)
    }
}

/// Makes sure that the store's records are what this program knows, bringing them there if it must.
///
/// # Errors
/// One sentence on why this program may not open the store.
pub async fn open(store: &Arc<dyn Store>, steps: &[Step<'_>]) -> Result<SchemaRecord, SchemaError> {
    let table = Table::<SchemaRecord>::new(store.clone());
    loop {
        let (record, expect) = match look(store).await? {
            Found::Fresh => return Err(SchemaError::Fresh),
            Found::Unversioned => (SchemaRecord { version: FIRST, ..SchemaRecord::current() }, Expect::Absent),
            Found::Versioned(record, version) => (record, Expect::Version(version)),
        };
        record.check()?;
        if record.version == CURRENT {
            return Ok(record);
        }
        let to = record.upgrading.as_ref().map_or(record.version + 1, |upgrading| upgrading.to);
        let step = steps.iter().find(|step| step.to == to).ok_or(SchemaError::NoStep(record.version))?;
        let after = record.upgrading.as_ref().and_then(|upgrading| upgrading.after.clone());
        if record.upgrading.is_none() {
            info!(from = record.version, to, "the store is brought to a newer version; an interruption does no harm");
        }
        let StepPage { mut writes, after } = (step.page)(after).await.map_err(SchemaError::Step)?;
        let next = match after {
            Some(after) => SchemaRecord { upgrading: Some(Upgrading { to, after: Some(after) }), ..record },
            None => SchemaRecord { version: to, upgrading: None, ..record },
        };
        writes.push(table.put(ID, &next, expect)?);
        match table.commit(writes).await {
            Ok(_) if next.version == to => info!(version = to, "the store is of the newer version"),
            // Another starter was there first: what is left to do is read again.
            Ok(_) | Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The store for who may use it as long as this is so: a broker that stood still while the federation was moved writes
/// nothing any more, whatever it has heard of that. What it needs for it is one comparison more in each commit.
///
/// # Errors
/// When it may not be used, or does not answer.
pub async fn hold(store: Arc<dyn Store>) -> Result<Arc<dyn Store>, SchemaError> {
    let Found::Versioned(record, version) = look(&store).await? else { return Err(SchemaError::Fresh) };
    record.check()?;
    let judge = |found: Option<&[u8]>| {
        let record: SchemaRecord = decode(found.ok_or(SchemaError::Fresh)?)?;
        Ok(record.check()?)
    };
    Ok(Arc::new(Held::new(store, key(), version, judge)))
}

/// Waits until this program may not use the store any more, and says why: the federation has moved.
pub async fn gone(store: Arc<dyn Store>) -> SchemaError {
    loop {
        match follow(&store).await {
            Err(error @ (SchemaError::Moved(_) | SchemaError::Arriving(_) | SchemaError::Newer(_))) => return error,
            Err(error) => error!(%error, "it cannot be seen whether the federation has moved; trying again"),
            Ok(()) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until the watch ends.
async fn follow(store: &Arc<dyn Store>) -> Result<(), SchemaError> {
    let mut changes = store.watch(&Table::<SchemaRecord>::prefix()).await?;
    loop {
        if let Found::Versioned(record, _) = look(store).await? {
            record.check()?;
        }
        if changes.next().await.is_none() {
            return Ok(());
        }
    }
}

/// The key of the record, for who deletes everything else.
pub fn key() -> Key {
    Key::new(SchemaRecord::TABLE, ID)
}

/// Why this program may not open a store.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Nothing is in there.
    #[error(
        "the store holds no federation: look at its address (an etcd's ends with the prefix), or make a new one with \
         `homeward-broker init`"
    )]
    Fresh,
    /// A newer release was here.
    #[error(
        "the store was written by a newer broker (schema {0}, this one knows {CURRENT}): run that release, or restore a backup \
         that this one made into an empty store"
    )]
    Newer(u32),
    /// A release between is missing.
    #[error("the store is too old for this broker (schema {0}): start a release between the two once")]
    NoStep(u32),
    /// A migration or a restore did not finish.
    #[error(
        "the store is not complete: what puts a federation there from {0} was not finished; run the same command again"
    )]
    Arriving(String),
    /// It lives elsewhere.
    #[error("the federation has moved to {0}: name that store in the configuration")]
    Moved(String),
    /// A page could not be made.
    #[error("the store could not be brought to this broker's version")]
    Step(#[source] Box<dyn Error + Send + Sync>),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests;
