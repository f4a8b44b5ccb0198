//! The sweeper: deletes records whose time has passed, in small steps so that nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use crate::clock::{Clock, Timestamp};
use crate::storage::{Expect, Key, MAX_WRITES, Page, Store, StoreError, Write, table};

/// How many records one step looks at, and so the most that one commit deletes.
const STEP: usize = MAX_WRITES;

/// Pause between two steps of one sweep.
const BREATH: Duration = Duration::from_millis(20);

/// Pause between two sweeps.
const INTERVAL: Duration = Duration::from_secs(60);

/// Sweeps these tables for ever.
pub async fn run(store: Arc<dyn Store>, tables: &'static [&'static str], clock: Clock) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        for name in tables {
            match sweep(store.as_ref(), name, clock.now()).await {
                Ok(0) => {}
                Ok(deleted) => debug!(table = name, deleted, "expired records deleted"),
                Err(error) => warn!(table = name, %error, "expired records could not be deleted; next try in a minute"),
            }
        }
    }
}

/// Deletes what has expired in one table; says how much.
///
/// # Errors
/// When the store does not answer. A record that changes meanwhile is left for the next sweep.
pub async fn sweep(store: &dyn Store, name: &str, now: Timestamp) -> Result<usize, StoreError> {
    let (mut deleted, mut after): (usize, Option<Key>) = (0, None);
    loop {
        let page = store.list(Page { prefix: format!("{name}/"), after, limit: STEP }).await?;
        let ended = page.len() < STEP;
        after = page.last().map(|(key, _)| key.clone());
        let expired: Vec<Write> = page
            .into_iter()
            .filter(|(_, found)| table::expires_at(&found.value).is_some_and(|at| at <= now))
            .map(|(key, found)| Write { key, expect: Expect::Version(found.version), value: None })
            .collect();
        let count = expired.len();
        match if count == 0 { Ok(None) } else { store.commit(expired).await.map(Some) } {
            Ok(_) => deleted += count,
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
        if ended {
            return Ok(deleted);
        }
        tokio::time::sleep(BREATH).await;
    }
}
