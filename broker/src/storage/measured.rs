//! A store of which it is known how long it takes, and what it does not do: [`Measured`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::storage::{Key, Page, Revision, Store, StoreError, Versioned, Watch, Write};
use crate::telemetry::Telemetry;

/// The same store, which is measured.
pub struct Measured {
    store: Arc<dyn Store>,
    telemetry: Telemetry,
}

impl Measured {
    /// Measures what this store does.
    pub fn new(store: Arc<dyn Store>, telemetry: Telemetry) -> Arc<Self> {
        Arc::new(Self { store, telemetry })
    }

    fn tell<T>(&self, operation: &'static str, began: Instant, done: &Result<T, StoreError>) {
        let failed = done.as_ref().err().map(|error| match error {
            StoreError::Conflict => "conflict",
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Corrupt(_) => "corrupt",
        });
        self.telemetry.store(operation, failed, began.elapsed());
    }
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl Store for Measured {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        let began = Instant::now();
        let done = self.store.get(key).await;
        self.tell("get", began, &done);
        done
    }

    async fn list(&self, page: Page) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let began = Instant::now();
        let done = self.store.list(page).await;
        self.tell("list", began, &done);
        done
    }

    async fn watch(&self, prefix: &str) -> Result<Watch, StoreError> {
        self.store.watch(prefix).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        let began = Instant::now();
        let done = self.store.commit(writes).await;
        self.tell("commit", began, &done);
        done
    }
}
