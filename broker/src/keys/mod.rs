//! Signing keys: what ID tokens are signed with, and the JWKS that proves it.
//!
//! Private keys rest sealed in the store. In memory they are parsed once: an RS256 signature through a prepared key
//! costs 0.2 ms, through a library that parses the key each time more than twice that.
//!
//! A [`StoredKey`] goes from pending to active to retired and is then deleted; rotation moves it. Every broker follows
//! the table by a watch and makes a [`Keys`] of it, a picture that never changes: whoever signs, publishes or verifies
//! asks [`KeySet::current`] once and has keys that belong together.
//!
//! Invariants: of each algorithm exactly one key is active; what signs is published in the same picture. A table that
//! says otherwise keeps a broker from starting, and a broker that runs keeps the picture from before.

mod picture;
mod record;
mod signer;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info};

use crate::secret::{SealingKeys, SecretError};
use crate::storage::table::Table;
use crate::storage::{Revision, Store, StoreError, WatchEvent};

pub use picture::Keys;
pub use record::{KeyState, StoredKey, first_keys};
pub use signer::{Signer, SigningAlgorithm};

/// Pause before the store is read again after it failed.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);

/// The keys as they are now.
#[derive(Clone, Debug)]
pub struct KeySet {
    picture: watch::Receiver<Arc<Keys>>,
    /// Whether the keys of the store are fit for use; those from before are used while they are not.
    fit: Arc<AtomicBool>,
}

impl KeySet {
    /// Loads the keys. The future follows the store and must be run.
    ///
    /// # Errors
    /// When one is missing or cannot be opened.
    pub async fn open(
        store: Arc<dyn Store>,
        sealing: Arc<SealingKeys>,
    ) -> Result<(Self, impl Future<Output = ()> + Send), KeyError> {
        // Begun before the table is read, so that no change falls between.
        let mut changes = store.watch(&Table::<StoredKey>::prefix()).await?;
        let fit = Arc::new(AtomicBool::new(true));
        let source = Source { table: Table::new(store), sealing, fit: fit.clone() };
        let revision = source.newest_revision().await?;
        let (sender, picture) = watch::channel(Arc::new(source.load(revision, None).await?));
        // On the heap: it lives as long as the broker, and would make the caller's own future large.
        let follow = Box::pin(async move {
            while let Some(event) = changes.next().await {
                let known = sender.borrow().clone();
                let Some(next) = source.reload(&event, &known).await else { continue };
                if !next.has_content_of(&known) {
                    info!(revision = next.revision(), keys = %next, "the signing keys have changed");
                    sender.send_replace(Arc::new(next));
                }
            }
        });
        Ok((Self { picture, fit }, follow))
    }

    /// Whether the keys of the store are fit for use. Logins work while they are not, with the keys from before.
    pub fn is_fit(&self) -> bool {
        self.fit.load(Ordering::Relaxed)
    }

    /// What ops are to do about the keys of the store; nothing as a rule.
    pub fn remark(&self) -> Option<String> {
        let unfit = "the signing keys in the store are not fit for use: the ones from before stay in use, but no broker \
                     starts with these; restore the store from a backup";
        (!self.is_fit()).then(|| unfit.to_owned())
    }

    /// The keys as they are now.
    pub fn current(&self) -> Arc<Keys> {
        self.picture.borrow().clone()
    }

    /// Wakes whenever the keys have changed.
    pub fn changes(&self) -> watch::Receiver<Arc<Keys>> {
        self.picture.clone()
    }
}

/// Where pictures are made from.
struct Source {
    table: Table<StoredKey>,
    sealing: Arc<SealingKeys>,
    fit: Arc<AtomicBool>,
}

impl Source {
    /// The picture after a change; nothing if the one before it has to do.
    async fn reload(&self, event: &WatchEvent, known: &Keys) -> Option<Keys> {
        loop {
            let revision = match event {
                // Keys that move together come as several changes of one commit: one look has seen them all.
                WatchEvent::Changed { revision, .. } if revision.as_u64() <= known.revision() => return None,
                WatchEvent::Changed { revision, .. } => Ok(*revision),
                WatchEvent::Reload => self.newest_revision().await,
            };
            let loaded = match revision {
                Ok(revision) => self.load(revision, Some(known)).await,
                Err(error) => Err(error.into()),
            };
            match loaded {
                Ok(keys) => {
                    self.fit.store(true, Ordering::Relaxed);
                    return Some(keys);
                }
                Err(KeyError::Store(error @ (StoreError::Unavailable(_) | StoreError::Conflict))) => {
                    error!(%error, "the signing keys cannot be read; trying again");
                    tokio::time::sleep(RELOAD_PAUSE).await;
                }
                // The data key that seals it may come a moment later, by another watch.
                Err(KeyError::Secret(error)) => {
                    error!(%error, "a signing key cannot be opened; trying again");
                    tokio::time::sleep(RELOAD_PAUSE).await;
                }
                Err(error) => {
                    self.fit.store(false, Ordering::Relaxed);
                    error!(%error, "the signing keys in the store are not fit for use; the ones from before stay in use");
                    return None;
                }
            }
        }
    }

    async fn load(&self, revision: Revision, known: Option<&Keys>) -> Result<Keys, KeyError> {
        let stored = self.table.all().await?.into_iter().map(|(kid, stored)| (kid, stored.record)).collect();
        Keys::of(stored, known, &self.sealing, revision.as_u64())
    }

    /// An empty commit changes nothing and tells where the store is.
    async fn newest_revision(&self) -> Result<Revision, StoreError> {
        self.table.commit(Vec::new()).await
    }
}

/// What can be wrong with signing keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No randomness, or the library refused.
    #[error("a signing key could not be made")]
    NotMade,
    /// What was stored is no key.
    #[error("the stored signing key {0} cannot be read: restore the store from a backup")]
    Unreadable(String),
    /// `init` did not finish.
    #[error("no {} signing key is active: run `homeward-broker init` on an empty data_dir", .0.as_str())]
    Missing(SigningAlgorithm),
    /// No rotation leaves it so.
    #[error("more than one {} signing key is active: restore the store from a backup", .0.as_str())]
    Ambiguous(SigningAlgorithm),
    /// The library refused to sign, or the claims are no JSON.
    #[error("a token could not be signed")]
    NotSigned,
    /// The key-encryption key does not fit.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests;
