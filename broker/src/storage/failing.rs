//! For tests: a store whose commits fail when the test says so.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::storage::{Key, Page, Revision, Store, StoreError, Versioned, Watch, Write};

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is made and answered.
    Passes,
    /// It is not made.
    FailsBefore,
    /// It is made, and its answer is lost.
    FailsBehind,
}

/// A store behind which everything is as it was, but that asks for the fate of each commit.
pub(crate) struct FailingStore {
    store: Arc<dyn Store>,
    fate: Box<dyn Fn() -> Fate + Send + Sync>,
}

impl FailingStore {
    pub(crate) fn new(store: Arc<dyn Store>, fate: impl Fn() -> Fate + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { store, fate: Box::new(fate) })
    }
}

impl fmt::Debug for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailingStore")
    }
}

#[async_trait]
impl Store for FailingStore {
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
        let failed = || Err(StoreError::Unavailable("the power is gone".into()));
        match (self.fate)() {
            Fate::Passes => self.store.commit(writes).await,
            Fate::FailsBefore => failed(),
            Fate::FailsBehind => {
                self.store.commit(writes).await?;
                failed()
            }
        }
    }
}
