//! The embedded store: sled 0.34.7, one tree.
//!
//! A value is stored behind eight bytes: the revision of the commit that wrote it, which is its version.
//!
//! **Durability.** sled's `flush` ends in `sync_file_range`, which is no promise against loss of power. So one thread,
//! the committer, applies what is waiting, flushes once, calls `fdatasync` on the database file once, and only then
//! answers everybody who waited. It is also the only writer, which makes every check-then-write atomic for free.
//!
//! **What was written lately** is kept in memory, bounded in bytes: a code is redeemed a moment after its session was
//! written, and a read of sled costs a change of threads. Only the committer puts anything in there, after the tree has
//! it and before anybody is answered; readers never do, so that no old value can get there behind a newer one.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use sled::{Batch, IVec};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::storage::{
    Commit, Expect, Key, Notice, Page, Revision, Store, StoreError, Version, Versioned, Watch, Write, check,
};

/// sled's page cache, in bytes: small, because what is hot lives in snapshots above the store and in [`Recent`].
const CACHE: u64 = 4 * 1024 * 1024;

/// Bytes of keys and values written lately that are kept.
const RECENT: u64 = 8 * 1024 * 1024;

/// How many of them that is about: a session or grant has a kilobyte.
const RECENT_COUNT: usize = 8192;

/// Commits that may wait for the committer before callers wait to ask.
const QUEUE: usize = 1024;

/// How often, and in what pauses, a folder is tried that is in use.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Most commits that share one flush.
const GROUP: usize = 256;

/// Commits that a watch may lag behind before it has to reload.
const WATCH_BACKLOG: usize = 1024;

/// Holds the revision of the last commit. Sorts before all tables.
const REVISION_KEY: &[u8] = b"\0revision";

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
    tree: sled::Tree,
    recent: Arc<Recent>,
    /// Taken when the store is dropped.
    committer: Option<(mpsc::Sender<Request>, JoinHandle<()>)>,
    notices: broadcast::Sender<Notice>,
    watched: Arc<Watched>,
    flushes: Arc<AtomicU64>,
}

/// What anybody watches: a login's commit wakes nobody.
#[derive(Debug, Default)]
struct Watched(Mutex<BTreeSet<String>>);

impl Watched {
    /// As it is now. Nothing panics while it is held.
    fn prefixes(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn concerns(&self, commit: &Commit) -> bool {
        let prefixes = self.prefixes();
        let watched = |key: &Key| prefixes.iter().any(|prefix| key.as_str().starts_with(prefix));
        commit.changes.iter().any(|(key, _)| watched(key))
    }
}

impl SledStore {
    /// Opens the folder, or makes it. One process at a time.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be read.
    #[expect(clippy::disallowed_methods, reason = "before anything runs; sled tells nobody when it lets go")]
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let mut tries = 1..LOCK_TRIES;
        let db = loop {
            match sled::Config::new().path(folder).cache_capacity(CACHE).flush_every_ms(None).open() {
                Ok(db) => break db,
                // A store that was closed is let go of when the last of sled's own threads is done with it.
                Err(sled::Error::Io(io)) if is_lock_error(&io) => match tries.next() {
                    Some(_) => std::thread::sleep(LOCK_PAUSE),
                    None => return Err(OpenError::InUse(folder.to_owned())),
                },
                Err(error) => return Err(OpenError::Sled(error)),
            }
        };
        let file = File::open(folder.join("db")).map_err(OpenError::File)?;
        let tree = (*db).clone();
        let revision = tree.get(REVISION_KEY).map_err(OpenError::Sled)?;
        let revision = match revision.as_deref().map(<[u8; 8]>::try_from) {
            None => 0,
            Some(Ok(bytes)) => u64::from_be_bytes(bytes),
            Some(Err(_)) => return Err(OpenError::Revision),
        };
        let (committer, requests) = mpsc::channel(QUEUE);
        let (notices, _) = broadcast::channel(WATCH_BACKLOG);
        let flushes = Arc::new(AtomicU64::new(0));
        let watched = Arc::<Watched>::default();
        let recent = Arc::new(Recent::with_weighter(RECENT_COUNT, RECENT, Size));
        let thread = Committer {
            db,
            file,
            revision,
            recent: recent.clone(),
            notices: notices.clone(),
            watched: watched.clone(),
            flushes: flushes.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("store-committer".into())
            .spawn(move || thread.run(requests))
            .map_err(OpenError::File)?;
        Ok(Self { tree, recent, committer: Some((committer, thread)), notices, watched, flushes })
    }

    /// How often anything was flushed and synced since this was opened: fewer than commits when these come together.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&sled::Tree) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tree = self.tree.clone();
        tokio::task::spawn_blocking(move || read(&tree)).await.map_err(unavailable)?
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

fn is_lock_error(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Other
        || error.kind() == std::io::ErrorKind::WouldBlock
        || error.to_string().contains("could not acquire lock")
}

/// Why the folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// sled locks the folder.
    #[error("{} is in use by another broker: stop that one first", .0.display())]
    InUse(PathBuf),
    /// sled cannot read it.
    #[error("the store cannot be opened")]
    Sled(#[source] sled::Error),
    /// The operating system says no.
    #[error("the store's file cannot be opened")]
    File(#[source] std::io::Error),
    /// Not written by this program.
    #[error("the store holds no readable revision")]
    Revision,
}

#[async_trait]
impl Store for SledStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        if let Some(recent) = self.recent.get(key) {
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
        self.watched.prefixes().insert(prefix.to_owned());
        Ok(Watch::new(prefix, self.notices.subscribe()))
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        check(&writes)?;
        let (answer, answered) = oneshot::channel();
        let (committer, _) = self.committer.as_ref().ok_or_else(|| unavailable("the store is closed"))?;
        committer.send(Request { writes, answer }).await.map_err(|_| unavailable("the store is closed"))?;
        answered.await.map_err(|_| unavailable("the store was closed meanwhile"))?
    }
}

fn unpack(stored: &[u8]) -> Result<Versioned, StoreError> {
    let (version, value) = stored.split_first_chunk::<8>().ok_or(StoreError::Corrupt("version"))?;
    Ok(Versioned { value: value.to_vec(), version: Version(u64::from_be_bytes(*version)) })
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable(error.into())
}

struct Request {
    writes: Vec<Write>,
    answer: oneshot::Sender<Result<Revision, StoreError>>,
}

/// The only writer.
struct Committer {
    db: sled::Db,
    file: File,
    revision: u64,
    recent: Arc<Recent>,
    notices: broadcast::Sender<Notice>,
    watched: Arc<Watched>,
    flushes: Arc<AtomicU64>,
}

impl Committer {
    /// Takes what is waiting, makes it durable together, answers; until nobody can ask any more.
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            // On a machine that has more to do than it can, others go on first, and their commits join this one: one
            // flush costs the processor more than ten commits. On an idle one it costs nothing.
            std::thread::yield_now();
            let mut group = Group::default();
            let mut next = Some(first);
            while let Some(request) = next {
                self.judge(request, &mut group);
                next = if group.commits.len() < GROUP { requests.try_recv().ok() } else { None };
            }
            if let Err(failure) = self.make_durable(&mut group) {
                group.fail(&failure);
            }
            for (commit, answer) in group.commits {
                let revision = commit.revision;
                if self.watched.concerns(&commit) {
                    // Fails only when nobody watches any more.
                    drop(self.notices.send(Notice::Commit(Arc::new(commit))));
                }
                // A caller who has gone away needs no answer, here and below.
                drop(answer.send(Ok(revision)));
            }
        }
    }

    /// Takes a commit into the group, if what it takes for granted is so behind all that is in the group before it.
    fn judge(&mut self, Request { writes, answer }: Request, group: &mut Group) {
        if let Err(error) = self.expected(&writes, group) {
            // Who reads again is to see what he was in conflict with, and may win within this very group.
            if let Err(failure) = self.apply(group) {
                group.fail(&failure);
            }
            drop(answer.send(Err(error)));
            return;
        }
        self.revision += 1;
        let version = self.revision.to_be_bytes();
        for write in &writes {
            let key = write.key.as_str();
            match &write.value {
                Some(value) => group.batch.insert(key, [&version, value.as_slice()].concat()),
                None => group.batch.remove(key),
            }
            let value = write.value.clone();
            let written = value.map(|value| Versioned { value, version: Version(self.revision) });
            group.written.insert(write.key.clone(), written);
        }
        let changes = writes.into_iter().map(|write| (write.key, write.value)).collect();
        group.commits.push((Commit { revision: Revision(self.revision), changes }, answer));
    }

    fn expected(&self, writes: &[Write], group: &Group) -> Result<(), StoreError> {
        for write in writes {
            let holds = match write.expect {
                Expect::Any => true,
                Expect::Absent => self.version(&write.key, group)?.is_none(),
                Expect::Version(wanted) => self.version(&write.key, group)? == Some(wanted),
            };
            if !holds {
                return Err(StoreError::Conflict);
            }
        }
        Ok(())
    }

    /// The version of a key's value, if it has one.
    fn version(&self, key: &Key, group: &Group) -> Result<Option<Version>, StoreError> {
        if let Some(written) = group.written.get(key) {
            return Ok(written.as_ref().map(|written| written.version));
        }
        if let Some(recent) = self.recent.get(key) {
            return Ok(Some(recent.version));
        }
        let found = self.db.get(key.as_str()).map_err(unavailable)?;
        found.map(|found| unpack(&found).map(|found| found.version)).transpose()
    }

    /// Writes what the group has gathered to the tree; what is in the tree is in [`Recent`] too.
    fn apply(&mut self, group: &mut Group) -> Result<(), sled::Error> {
        if group.commits.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut group.batch);
        batch.insert(REVISION_KEY, IVec::from(&self.revision.to_be_bytes()));
        self.db.apply_batch(batch)?;
        for (key, written) in group.written.drain() {
            // Taken out first: the cache may decline what is new, and must not keep what is old.
            self.recent.remove(&key);
            if let Some(written) = written {
                self.recent.insert(key, written);
            }
        }
        Ok(())
    }

    fn make_durable(&mut self, group: &mut Group) -> Result<(), sled::Error> {
        if group.commits.is_empty() {
            return Ok(());
        }
        self.apply(group)?;
        self.db.flush()?;
        self.file.sync_data()?;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Commits that share one flush, and one batch unless one of them was in conflict.
#[derive(Default)]
struct Group {
    batch: Batch,
    /// What the batch leaves behind, by key.
    written: HashMap<Key, Option<Versioned>>,
    commits: Vec<(Commit, oneshot::Sender<Result<Revision, StoreError>>)>,
}

impl Group {
    /// Tells everybody so far that it is not known whether the commit happened.
    fn fail(&mut self, failure: &sled::Error) {
        self.written.clear();
        for (_, answer) in self.commits.drain(..) {
            drop(answer.send(Err(unavailable(failure.to_string()))));
        }
    }
}
