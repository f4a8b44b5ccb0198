//! What is kept for long enough is deleted: in the store first, so that a day that is gone is never missed.

use std::io;

use crate::audit::Tables;
use crate::audit::anchor::{Day, StoredDay, StoredHead};
use crate::audit::chain::ChainId;
use crate::audit::folder::Folder;
use crate::storage::{Expect, MAX_WRITES, StoreError};

/// Deletes the days before `oldest`, and the chains of other brokers that ended before the second day. Says how many files are
/// gone.
///
/// # Errors
/// When the store or the folder does not do it: the next time goes on with it.
pub(super) async fn expire(
    tables: &Tables,
    folder: &Folder,
    own: ChainId,
    (oldest, ended_before): (&Day, &Day),
) -> Result<usize, ExpiryError> {
    let mut writes = Vec::new();
    for (id, stored) in tables.heads.all().await? {
        let Ok(chain) = id.parse::<ChainId>() else { continue };
        let over = chain != own && stored.record.day < *ended_before;
        // The files of other machines are theirs to delete, while they live.
        if chain != own && !over {
            continue;
        }
        for (key, _) in tables.days.beginning(&StoredDay::keys(chain)).await? {
            let day = key.rsplit_once('.').and_then(|(_, day)| day.parse::<Day>().ok());
            if day.is_some_and(|day| day < *oldest && (over || day != stored.record.day)) {
                writes.push(tables.days.delete(&key, Expect::Any));
            }
        }
        if over {
            writes.push(tables.heads.delete(&id, Expect::Version(stored.version)));
        }
    }
    while !writes.is_empty() {
        let rest = writes.split_off(writes.len().min(MAX_WRITES));
        tables.heads.commit(std::mem::replace(&mut writes, rest)).await?;
    }
    let mut deleted = 0;
    for chain in folder.chains()? {
        let head: Option<StoredHead> = tables.heads.get(&chain.to_string()).await?.map(|stored| stored.record);
        if chain != own && head.is_some() {
            // It goes as a whole.
            continue;
        }
        for day in folder.days(chain)? {
            // The file that the store's end is in stays, however old it is.
            if day < *oldest && head.as_ref().is_none_or(|head| day < head.day) {
                folder.delete(chain, &day)?;
                deleted += 1;
            }
        }
    }
    Ok(deleted)
}

/// Why old days are there still.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExpiryError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder.
    #[error(transparent)]
    Folder(#[from] io::Error),
}
