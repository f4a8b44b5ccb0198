//! The embedded store: sled 0.34.7, one tree.
//!
//! A value is stored behind eight bytes: the revision of the commit that wrote it, which is its version.
//!
//! **Durability.** sled's `flush` ends in `sync_file_range`, which is no promise against loss of power. So one thread,
//! the [committer], applies what is waiting, flushes once, calls `fdatasync` on the database file once, and only then
//! answers everybody who waited. It is also the only writer, which makes every check-then-write atomic for free, and the
//! one who opens the store again when the disk has failed.
//!
//! **What was written lately** is kept in memory, bounded in bytes: a code is redeemed a moment after its session was
//! written, and a read of sled costs a change of threads. Only the committer puts anything in there, after the tree has
//! it and before anybody is answered; readers never do, so that no old value can get there behind a newer one.

mod committer;
mod opened;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, mpsc, oneshot};

use self::committer::{Committer, Request};
pub use self::opened::OpenError;
use self::opened::Opened;
use crate::storage::{Commit, Key, Notice, Page, Revision, Store, StoreError, Version, Versioned, Watch, Write, check};

/// Bytes of keys and values written lately that are kept.
const RECENT: u64 = 8 * 1024 * 1024;

/// How many of them that is about: a session or grant has a kilobyte.
const RECENT_COUNT: usize = 8192;

/// Commits that may wait for the committer before callers wait to ask.
const QUEUE: usize = 1024;

/// How long a commit may take: a disk that answers later is as good as none.
const ANSWER: Duration = Duration::from_secs(10);

/// Commits that a watch may lag behind before it has to reload.
const WATCH_BACKLOG: usize = 1024;

/// No table's keys sort before it.
const FIRST_KEY: &[u8] = b"\x01";

/// Values that were written lately, by key.
type Recent = quick_cache::sync::Cache<Key, Versioned, Size>;

/// What an entry of [`Recent`] takes, in bytes.
#[derive(Clone, Copy, Debug)]
struct Size;

impl quick_cache::Weighter<Key, Versioned> for Size {
    fn weight(&self, key: &Key, value: &Versioned) -> u64 {
        (key.as_str().len() + value.value.len()) as u64
    }
}

/// A store in a folder of its own.
#[derive(Debug)]
pub struct SledStore {
    shared: Arc<Shared>,
    /// Taken when the store is dropped.
    committer: Option<(mpsc::Sender<Request>, JoinHandle<()>)>,
}

/// What readers, watches and the committer have in common.
#[derive(Debug)]
struct Shared {
    /// Nothing while it cannot be opened again.
    tree: RwLock<Option<sled::Tree>>,
    recent: Recent,
    notices: broadcast::Sender<Notice>,
    watched: Watched,
    flushes: AtomicU64,
}

impl Shared {
    fn new(tree: sled::Tree) -> Self {
        let (notices, _) = broadcast::channel(WATCH_BACKLOG);
        Self {
            tree: RwLock::new(Some(tree)),
            recent: Recent::with_weighter(RECENT_COUNT, RECENT, Size),
            notices,
            watched: Watched::default(),
            flushes: AtomicU64::new(0),
        }
    }

    /// Waits until nobody reads. A panic of sled's leaves it as it was.
    fn tree_mut(&self) -> RwLockWriteGuard<'_, Option<sled::Tree>> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, read: impl FnOnce(&sled::Tree) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        read(tree.as_ref().ok_or_else(|| unavailable("the store cannot be opened again yet"))?)
    }
}

/// What anybody watches: a login's commit wakes nobody.
#[derive(Debug, Default)]
struct Watched(Mutex<BTreeMap<String, usize>>);

impl Watched {
    /// As it is now. Nothing panics while it is held.
    fn prefixes(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn concerns(&self, commit: &Commit) -> bool {
        let prefixes = self.prefixes();
        let watched = |key: &Key| prefixes.keys().any(|prefix| key.as_str().starts_with(prefix));
        commit.changes.iter().any(|(key, _)| watched(key))
    }
}

/// A watch that lives. With the last one of a prefix its changes concern nobody: else one backup, which watches
/// everything, would have every login wake everybody from then on.
#[derive(Debug)]
struct Listening {
    /// Not what keeps the store open.
    shared: Weak<Shared>,
    prefix: String,
}

impl Listening {
    fn begin(shared: &Arc<Shared>, prefix: &str) -> Self {
        *shared.watched.prefixes().entry(prefix.to_owned()).or_default() += 1;
        Self { shared: Arc::downgrade(shared), prefix: prefix.to_owned() }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut prefixes = shared.watched.prefixes();
        if let Some(count) = prefixes.get_mut(&self.prefix) {
            *count -= 1;
            if *count == 0 {
                prefixes.remove(&self.prefix);
            }
        }
    }
}

impl SledStore {
    /// Opens the folder, or makes it. One process at a time.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let opened = Opened::open(folder)?;
        let shared = Arc::new(Shared::new((*opened.db).clone()));
        let (committer, requests) = mpsc::channel(QUEUE);
        let thread = Committer::new(folder.to_owned(), shared.clone(), opened);
        let thread = std::thread::Builder::new()
            .name("store-committer".into())
            .spawn(move || thread.run(requests))
            .map_err(OpenError::File)?;
        Ok(Self { shared, committer: Some((committer, thread)) })
    }

    /// How often anything was flushed and synced since this was opened: fewer than commits when these come together.
    pub fn flushes(&self) -> u64 {
        self.shared.flushes.load(Ordering::Relaxed)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&sled::Tree) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || shared.read(read)).await.map_err(unavailable)?
    }
}

impl Drop for SledStore {
    /// Waits for the committer, so that the folder can be opened again at once.
    fn drop(&mut self) {
        if let Some((committer, thread)) = self.committer.take() {
            drop(committer);
            // It has nothing to say; a panic of it was printed already.
            drop(thread.join());
        }
    }
}

#[async_trait]
impl Store for SledStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        if let Some(recent) = self.shared.recent.get(key) {
            return Ok(Some(recent));
        }
        let key = key.clone();
        self.blocking(move |tree| tree.get(key.as_str()).map_err(unavailable)?.map(|value| unpack(&value)).transpose())
            .await
    }

    async fn list(&self, page: Page) -> Result<Vec<(Key, Versioned)>, StoreError> {
        self.blocking(move |tree| {
            // A zero byte behind a key is the smallest key behind it.
            let from = page.after.map_or(page.prefix.clone(), |after| format!("{}\0", after.as_str()));
            let from = from.into_bytes().max(FIRST_KEY.to_vec());
            let found = tree.range(from..).take(page.limit);
            let mut entries = Vec::new();
            for entry in found {
                let (key, value) = entry.map_err(unavailable)?;
                if !key.starts_with(page.prefix.as_bytes()) {
                    break;
                }
                let key = std::str::from_utf8(&key).map_err(|_| StoreError::Corrupt("key"))?;
                entries.push((Key(key.to_owned()), unpack(&value)?));
            }
            Ok(entries)
        })
        .await
    }

    async fn watch(&self, prefix: &str) -> Result<Watch, StoreError> {
        let listening = Listening::begin(&self.shared, prefix);
        Ok(Watch::new(prefix, self.shared.notices.subscribe()).with(listening))
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        check(&writes)?;
        let (answer, answered) = oneshot::channel();
        let (committer, _) = self.committer.as_ref().ok_or_else(|| unavailable("the store is closed"))?;
        let done = async {
            committer.send(Request { writes, answer }).await.map_err(|_| unavailable("the store is closed"))?;
            answered.await.map_err(|_| unavailable("the store was closed meanwhile"))?
        };
        tokio::time::timeout(ANSWER, done).await.map_err(|_| unavailable("the disk does not answer"))?
    }
}

fn unpack(stored: &[u8]) -> Result<Versioned, StoreError> {
    let (version, value) = stored.split_first_chunk::<8>().ok_or(StoreError::Corrupt("version"))?;
    Ok(Versioned { value: value.to_vec(), version: Version(u64::from_be_bytes(*version)) })
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_watches_any_more_concerns_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::open(folder.path()).unwrap();
        let (one, another) = (store.watch("").await.unwrap(), store.watch("").await.unwrap());
        let login = Commit { revision: Revision(1), changes: vec![(Key::new("session", "x"), None)] };
        drop(one);
        assert!(store.shared.watched.concerns(&login));
        drop(another);
        assert!(!store.shared.watched.concerns(&login));
    }
}
