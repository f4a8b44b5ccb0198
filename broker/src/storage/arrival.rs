//! A federation that is being put into a store: by a migration, or from a backup. One run at a time does it.
//!
//! The [mark](SchemaRecord::arriving) that keeps brokers away says at the same time which run it is, by its version: each run
//! writes it anew, and all that the run writes rests on that. Of two runs the later one takes over, and the earlier one hears
//! of it at its next write, however long it stood still before that.

use std::sync::Arc;

use crate::storage::held::Held;
use crate::storage::schema::{self, SchemaRecord};
use crate::storage::{Expect, Key, Page, Store, StoreError, Version, Write};

/// Writes, and about bytes, of one commit: etcd takes 128 and a megabyte and a half.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 512 * 1024;

/// A run that fills a store.
#[derive(Debug)]
pub struct Arrival {
    store: Arc<dyn Store>,
    mark: SchemaRecord,
    version: Version,
}

impl Arrival {
    /// Takes the store with this mark; what is expected of the one before is what was judged.
    ///
    /// # Errors
    /// When another run was faster, or the store does not answer.
    pub async fn begin(store: &Arc<dyn Store>, mark: SchemaRecord, expect: Expect) -> Result<Self, ArrivalError> {
        let version = store.commit(vec![mark.write(store, expect)?]).await?.version();
        let held = Held::new(store.clone(), schema::key(), version, |_| Err(Box::new(TakenOver)));
        Ok(Self { store: Arc::new(held), mark, version })
    }

    /// The store, whose commits happen only while this run has it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Writes in commits that every store takes. Not all at once: who is cut short begins again.
    ///
    /// # Errors
    /// When another run has taken over, or the store does not answer.
    pub async fn write(&self, writes: Vec<Write>) -> Result<(), ArrivalError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for write in writes {
            bytes += write.key.as_str().len() + write.value.as_ref().map_or(0, Vec::len);
            batch.push(write);
            if batch.len() == BATCH || bytes >= BATCH_BYTES {
                self.store.commit(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    /// Whether this run still has the store.
    ///
    /// # Errors
    /// When it does not, or the store does not answer.
    pub async fn check(&self) -> Result<(), ArrivalError> {
        match self.store.get(&schema::key()).await? {
            Some(found) if found.version == self.version => Ok(()),
            _ => Err(ArrivalError::TakenOver),
        }
    }

    /// Deletes everything but the mark.
    ///
    /// # Errors
    /// As [`Arrival::write`].
    pub async fn clear(&self) -> Result<(), ArrivalError> {
        let mut after = None;
        loop {
            let page = self.store.list(Page { prefix: String::new(), after, limit: BATCH }).await?;
            after = page.last().map(|(key, _)| key.clone());
            if after.is_none() {
                return Ok(());
            }
            let others = page.into_iter().filter(|(key, _)| *key != schema::key());
            self.write(others.map(|(key, _)| Write { key, expect: Expect::Any, value: None }).collect()).await?;
        }
    }

    /// Leaves the store empty, as if there had been no run.
    ///
    /// # Errors
    /// As [`Arrival::write`].
    pub async fn give_up(self) -> Result<(), ArrivalError> {
        self.clear().await?;
        let mark = Write { key: schema::key(), expect: Expect::Version(self.version), value: None };
        self.store.commit(vec![mark]).await?;
        Ok(())
    }

    /// The federation is there whole: brokers may open it. Says what the store is then.
    ///
    /// # Errors
    /// As [`Arrival::write`].
    pub async fn finish(self) -> Result<SchemaRecord, ArrivalError> {
        let done = SchemaRecord { arriving: None, ..self.mark };
        self.store.commit(vec![done.write(&self.store, Expect::Version(self.version))?]).await?;
        Ok(done)
    }
}

/// The entry as it is to be.
pub fn put((key, value): (Key, Vec<u8>)) -> Write {
    Write { key, expect: Expect::Any, value: Some(value) }
}

/// The mark is another run's.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another run of the same command has taken over")]
struct TakenOver;

/// Why a run does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// There is a later one.
    #[error("another run of the same command has taken this over: leave it to that one")]
    TakenOver,
    /// The store.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for ArrivalError {
    /// A run expects nothing but its mark.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Self::TakenOver,
            StoreError::Unavailable(cause) if cause.is::<TakenOver>() => Self::TakenOver,
            other => Self::Store(other),
        }
    }
}
