//! The sweeper: deletes records whose time has passed, in small steps so that nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, warn};

use crate::clock::{Clock, Timestamp};
use crate::storage::{Expect, Key, MAX_WRITES, Page, Store, StoreError, Write, table};

/// How many records one step looks at, and so the most that one commit deletes.
const STEP: usize = MAX_WRITES;

/// Pause between two steps of one sweep.
const BREATH: Duration = Duration::from_millis(20);

/// Pause between two sweeps.
const INTERVAL: Duration = Duration::from_secs(60);

/// Sweeps these tables for ever, whenever this broker is the one on duty.
pub async fn run(store: Arc<dyn Store>, tables: &'static [&'static str], clock: Clock, on_duty: watch::Receiver<bool>) {
    run_every(INTERVAL, store, tables, clock, on_duty).await;
}

async fn run_every(
    interval: Duration,
    store: Arc<dyn Store>,
    tables: &'static [&'static str],
    clock: Clock,
    on_duty: watch::Receiver<bool>,
) {
    loop {
        tokio::time::sleep(interval).await;
        for name in tables {
            if !*on_duty.borrow() {
                break;
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sled::SledStore;

    #[tokio::test]
    async fn only_the_broker_on_duty_sweeps() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        let key = Key::new("some", "record");
        let value = Some([0_i64.to_be_bytes().as_slice(), b"{}"].concat());
        store.commit(vec![Write { key: key.clone(), expect: Expect::Any, value }]).await.unwrap();
        let duty = watch::Sender::new(false);
        let clock = Clock::manual(Timestamp::from_secs(1)).0;
        let sweeper = tokio::spawn(run_every(INTERVAL / 6000, store.clone(), &["some"], clock, duty.subscribe()));
        tokio::time::sleep(INTERVAL / 600).await;
        assert!(store.get(&key).await.unwrap().is_some(), "another broker does it");
        duty.send_replace(true);
        while store.get(&key).await.unwrap().is_some() {
            tokio::time::sleep(INTERVAL / 6000).await;
        }
        sweeper.abort();
    }
}
