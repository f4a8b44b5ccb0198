//! The first data key: of a new federation, and of one from before there were data keys.

use std::sync::Arc;

use tracing::info;

use crate::clock::Timestamp;
use crate::secret::data_key::{DataKeyState, StoredDataKey};
use crate::secret::kek::{KeyEncryptionKeys, blocking};
use crate::secret::ring::DataKey;
use crate::secret::{SealedTable, SealingKeyError, SealingKeys, random};
use crate::storage::table::Table;
use crate::storage::{Expect, Page, Store, StoreError, Write};

/// Id of the first data key, so that two brokers that both make it cannot make two.
const FIRST: &str = "first";

/// Records that are looked at in each table, to see whether a key is the right one.
const LOOK: usize = 16;

/// What seals in a new federation, and the write that keeps it.
///
/// # Errors
/// When the key-encryption key does not seal it.
pub async fn first_key(
    store: &Arc<dyn Store>,
    keks: &Arc<KeyEncryptionKeys>,
    now: Timestamp,
) -> Result<(Arc<SealingKeys>, Write), SealingKeyError> {
    let bytes = zeroize::Zeroizing::new(random::<32>()?);
    let sealing = Arc::new(SealingKeys::of(DataKey::new(FIRST, &bytes)?));
    let keks = keks.clone();
    let wrap = move || StoredDataKey::wrap((FIRST, &bytes), &keks.current, DataKeyState::Active, now);
    let stored = blocking(wrap).await?;
    Ok((sealing, Table::new(store.clone()).put(FIRST, &stored, Expect::Absent)?))
}

/// Gives a store of the release before its first data key: the 32 bytes of the key file, with which everything in it is
/// sealed. They are tried on what is there before anything is written. A store that has data keys is left alone.
///
/// # Errors
/// When the configured key opens nothing, or there is nothing to open.
pub async fn adopt(
    store: &Arc<dyn Store>,
    keks: &Arc<KeyEncryptionKeys>,
    tables: &[SealedTable],
    now: Timestamp,
) -> Result<(), SealingKeyError> {
    let table = Table::<StoredDataKey>::new(store.clone());
    if !table.page(None, 1).await?.is_empty() {
        return Ok(());
    }
    let samples = samples(store.as_ref(), tables).await?;
    if samples.is_empty() {
        return Err(SealingKeyError::NoKeys);
    }
    for kek in keks.all() {
        let Some(bytes) = kek.bytes_of_old() else { continue };
        let sealing = SealingKeys::of(DataKey::new(FIRST, bytes)?);
        let opens = |(table, value): &(SealedTable, Vec<u8>)| {
            (table.reseal)(value, &sealing).is_ok_and(|resealed| resealed.opened > 0)
        };
        if !samples.iter().any(opens) {
            continue;
        }
        let stored = StoredDataKey::wrap((FIRST, bytes), kek, DataKeyState::Active, now)?;
        match table.commit(vec![table.put(FIRST, &stored, Expect::Absent)?]).await {
            Ok(_) => info!(kek = %kek.id(), "a store of the release before: its key is its first data key now"),
            // Another broker did it.
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
        return Ok(());
    }
    Err(SealingKeyError::NothingOpens(keks.to_string()))
}

/// Some of what was sealed.
async fn samples(store: &dyn Store, tables: &[SealedTable]) -> Result<Vec<(SealedTable, Vec<u8>)>, StoreError> {
    let mut samples = Vec::new();
    for table in tables {
        let page = Page { prefix: table.prefix(), after: None, limit: LOOK };
        samples.extend(store.list(page).await?.into_iter().map(|(_, found)| (*table, found.value)));
    }
    Ok(samples)
}
