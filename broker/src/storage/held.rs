//! A store that somebody may use only while one of its records lets him: [`Held`].
//!
//! What is true of a store as a whole is said in a record: that a federation is arriving there, or has gone. Whoever has
//! read it and acts on it acts later, and a process can stand still between the two for as long as it likes. So it is not
//! enough to look: each commit takes for granted, where it is judged, that the record is still the one that was read.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use crate::storage::{Expect, Key, Page, Revision, Store, StoreError, Version, Versioned, Watch, Write};

/// Says of the record, as it is now, whether the store may still be used; or why not, in one sentence.
pub type Judge = fn(Option<&[u8]>) -> Result<(), Box<dyn Error + Send + Sync>>;

/// The same store, whose commits happen only while a record is as it was read, or has become something that is as good. Those
/// that write this very record are left as they are: they say themselves what they take for granted.
pub struct Held {
    store: Arc<dyn Store>,
    key: Key,
    version: AtomicU64,
    judge: Judge,
}

impl Held {
    /// While the record has this version, or `judge` finds another one good.
    pub fn new(store: Arc<dyn Store>, key: Key, version: Version, judge: Judge) -> Self {
        Self { store, key, version: AtomicU64::new(version.0), judge }
    }

    /// After a commit that did not happen: goes on if that was because of the record, and the record is good.
    async fn is_to_try_again(&self, held: Version) -> Result<bool, StoreError> {
        let found = self.store.get(&self.key).await?;
        if found.as_ref().is_some_and(|found| found.version == held) {
            return Ok(false);
        }
        (self.judge)(found.as_ref().map(|found| found.value.as_slice())).map_err(StoreError::Unavailable)?;
        let Some(found) = found else { return Ok(false) };
        self.version.store(found.version.0, Ordering::Relaxed);
        Ok(true)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("store", &self.store).field("key", &self.key).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Held {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.store.get(key).await
    }

    async fn list(&self, page: Page) -> Result<Vec<(Key, Versioned)>, StoreError> {
        self.store.list(page).await
    }

    async fn watch(&self, prefix: &str) -> Result<Watch, StoreError> {
        self.store.watch(prefix).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        if writes.is_empty() || writes.iter().any(|write| write.key == self.key) {
            return self.store.commit(writes).await;
        }
        loop {
            let held = Version(self.version.load(Ordering::Relaxed));
            let mut guarded = writes.clone();
            guarded.push(Write { key: self.key.clone(), expect: Expect::Held(held), value: None });
            match self.store.commit(guarded).await {
                Err(StoreError::Conflict) if self.is_to_try_again(held).await? => {}
                done => return done,
            }
        }
    }
}
