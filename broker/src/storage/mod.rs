//! Storage: an ordered map of keys to versioned values, with atomic commits.
//!
//! [`Store`] is the whole interface. [`Table`](table::Table) puts types on it, [`sled`] and `etcd` (with the cargo feature
//! of that name) implement it, [`expiry`] throws away what is too old, [`address`] says where a store is. [`schema`] says
//! what its records are like and who may open it, [`held`] keeps away whoever may not any more, and [`measured`] knows how long it all takes; [`copy`] takes a
//! consistent copy, of which [`migration`] makes another store, by an [`arrival`], and [`archive`] a file. Expiry is a field judged by the caller's clock, never a backend's lease, so that every
//! backend behaves alike.

pub mod address;
pub mod archive;
pub mod arrival;
pub mod copy;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod expiry;
#[cfg(test)]
pub(crate) mod failing;
pub mod held;
pub mod measured;
pub mod migration;
pub mod schema;
pub mod sled;
pub mod table;

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

/// Most writes of a commit: etcd takes 128 operations in a transaction, of which some are the store's own.
pub const MAX_WRITES: usize = 120;

/// Most keys that a commit rests on beside those: one of the flow's own, and the one that [`held`] adds to all.
const MAX_HELD: usize = 2;

/// An ordered key–value store. The consistency it owes:
///
/// * **Atomic**: a commit happens whole, or not at all, also when the machine stops in the middle of it.
/// * **Durable**: when `commit` has answered `Ok`, the writes survive `kill -9` and loss of power.
/// * **Serial**: commits happen one after the other; an expectation is judged against all earlier ones.
/// * **Fresh**: `get` and `list` see every commit that was answered before they were called. They may already see one
///   that is not answered yet; whoever acts on that by a commit of his own is answered after it.
/// * **Ordered**: a watch delivers the commits made after it began, each once, in order and after it is durable, or
///   says [`WatchEvent::Reload`] when it cannot. The deletion of what was not there is told or not.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// The value of a key.
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError>;

    /// The first entries after `page.after` whose keys begin with `page.prefix`, in key order.
    async fn list(&self, page: Page) -> Result<Vec<(Key, Versioned)>, StoreError>;

    /// Every change of a key that begins with `prefix` behind the answer.
    async fn watch(&self, prefix: &str) -> Result<Watch, StoreError>;

    /// Applies all writes if every expectation holds, else none. An empty commit tells the store's revision. At most
    /// [`MAX_WRITES`] writes, each of another key.
    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError>;
}

/// A key: `<table>/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The key of an entry of a table.
    pub fn new(table: &str, id: &str) -> Self {
        Self(format!("{table}/{id}"))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key that somebody wrote down: nothing if it is none.
    pub fn parse(text: String) -> Option<Self> {
        text.contains('/').then_some(Self(text))
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        self.0.split_once('/').map_or("", |(table, _)| table)
    }

    /// What follows the table's name.
    pub fn id(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, id)| id)
    }
}

/// Version of one key's value: the revision of the commit that wrote it, so that another value has another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

impl Version {
    /// Of the commit that wrote the value.
    pub fn revision(self) -> Revision {
        Revision(self.0)
    }
}

/// Counts the store's commits: one that begins when another was answered has a greater one. Commits of one moment may share
/// theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(u64);

impl Revision {
    /// As a number, for the wire.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// Of every value that this commit wrote.
    pub fn version(self) -> Version {
        Version(self.0)
    }
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes.
    pub value: Vec<u8>,
    /// To be expected by a later write.
    pub version: Version,
}

/// What part of the keys to list.
#[derive(Clone, Debug)]
pub struct Page {
    /// Only keys that begin so.
    pub prefix: String,
    /// Only keys behind this one; from the first if unset.
    pub after: Option<Key>,
    /// At most so many.
    pub limit: usize,
}

/// What a write takes for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// That the key has no value.
    Absent,
    /// That the key still has the value that was read.
    Version(Version),
    /// As [`Expect::Version`], and nothing is written: the commit rests on what it leaves alone.
    Held(Version),
}

/// One write of a commit.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which key.
    pub key: Key,
    /// What it takes for granted.
    pub expect: Expect,
    /// The new value, or nothing to delete it.
    pub value: Option<Vec<u8>>,
}

impl Write {
    /// Whether it changes anything.
    fn writes(&self) -> bool {
        !matches!(self.expect, Expect::Held(_))
    }
}

/// Later changes of the keys with one prefix.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    notices: broadcast::Receiver<Notice>,
    pending: std::vec::IntoIter<(Key, Option<Vec<u8>>)>,
    revision: Revision,
    /// Tells the backend, by its end, that nobody listens any more.
    _listening: Option<Box<dyn Any + Send + Sync>>,
}

impl Watch {
    fn new(prefix: &str, notices: broadcast::Receiver<Notice>) -> Self {
        let (pending, revision) = (Vec::new().into_iter(), Revision(0));
        Self { prefix: prefix.to_owned(), notices, pending, revision, _listening: None }
    }

    /// The same, which drops this when nobody listens any more.
    fn with(self, listening: impl Any + Send + Sync) -> Self {
        Self { _listening: Some(Box::new(listening)), ..self }
    }

    /// The next change; nothing once the store is closed.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some((key, value)) = self.pending.next() {
                return Some(WatchEvent::Changed { key, value, revision: self.revision });
            }
            let commit = match self.notices.recv().await {
                Ok(Notice::Commit(commit)) => commit,
                Ok(Notice::Missed) | Err(broadcast::error::RecvError::Lagged(_)) => return Some(WatchEvent::Reload),
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            self.revision = commit.revision;
            let wanted = |change: &&(Key, Option<Vec<u8>>)| change.0.as_str().starts_with(&self.prefix);
            self.pending = commit.changes.iter().filter(wanted).cloned().collect::<Vec<_>>().into_iter();
        }
    }
}

/// What a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key has a new value, or none any more.
    Changed {
        /// Which.
        key: Key,
        /// The value.
        value: Option<Vec<u8>>,
        /// Of the commit that changed it.
        revision: Revision,
    },
    /// Changes were missed: list everything again.
    Reload,
}

/// What a backend tells its watches.
#[derive(Clone, Debug)]
enum Notice {
    /// This happened.
    Commit(Arc<Commit>),
    /// Something happened, and nobody can tell what.
    Missed,
}

/// A durable commit, as watches see it.
#[derive(Debug)]
struct Commit {
    revision: Revision,
    changes: Vec<(Key, Option<Vec<u8>>)>,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An expectation does not hold: read again and decide again.
    #[error("somebody else changed it in the meantime")]
    Conflict,
    /// The store cannot answer now; the commit may or may not have happened.
    #[error("the store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What the store holds cannot be understood.
    #[error("the store holds something that cannot be read: {0}")]
    Corrupt(&'static str),
}

/// What no backend does, whatever it could: a commit that one of them takes is one that all of them take.
fn check(writes: &[Write]) -> Result<(), StoreError> {
    let count = writes.iter().filter(|write| write.writes()).count();
    if count > MAX_WRITES || writes.len() > count + MAX_HELD {
        let sentence = format!("a commit has {count} writes of {}, and {MAX_WRITES} is the most", writes.len());
        return Err(StoreError::Unavailable(sentence.into()));
    }
    let mut keys = HashSet::with_capacity(writes.len());
    match writes.iter().find(|write| !keys.insert(&write.key)) {
        Some(twice) => Err(StoreError::Unavailable(format!("a commit writes {} twice", twice.key.as_str()).into())),
        None => Ok(()),
    }
}
