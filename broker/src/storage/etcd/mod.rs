//! An etcd cluster's store, of any number of brokers.
//!
//! An entry is the key `<prefix>/<table>/<id>` with the value as it is; its version is etcd's `mod_revision`, the store's
//! revision is etcd's. Reads are linearizable: they see what any broker was answered. [`cluster`] finds a member that
//! answers, [`commit`] makes a commit happen once however often it has to be sent, [`read`] asks for a key, [`group`] sends
//! together what waits, [`watch`] goes on where it was cut off, [`problem`] says in a sentence what is wrong.
//!
//! **Bounded.** Every call ends within [`cluster::DEADLINE`]. Until then it is tried again, at another member if there
//! is one: who asks does not notice that a leader died.
//!
//! What begins with a point is the store's own (`<prefix>/.lane/…`, see [`commit`]): it is behind no table's name and no
//! prefix that anybody asks for.

mod access;
mod cluster;
mod commit;
mod group;
mod problem;
mod read;
mod watch;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use etcd_client::GetOptions;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use crate::storage::address::EtcdAccess;
use crate::storage::{Key, Page, Revision, Store, StoreError, Version, Versioned, Watch, Write, check};
use cluster::Cluster;
use commit::Commits;
use read::Reads;

/// A store in an etcd.
pub struct EtcdStore {
    keys: Keys,
    cluster: Arc<Cluster>,
    commits: Commits,
    reads: Reads,
    closed: CancellationToken,
    /// Ends all watches with the store.
    _closing: DropGuard,
}

impl EtcdStore {
    /// Connects to a cluster: one member has to answer, and to let this broker read.
    ///
    /// # Errors
    /// One sentence on why it cannot be used.
    pub async fn open(endpoints: &[Url], prefix: &str, access: &EtcdAccess) -> Result<Self, OpenError> {
        let keys = Keys { prefix: format!("{prefix}/") };
        let credentials = access::Credentials::load(access).await?;
        let cluster = Arc::new(Cluster::new(endpoints, prefix, credentials));
        let unusable = |error: StoreError| {
            let problem = match error {
                StoreError::Unavailable(problem) => problem,
                other => Box::new(other),
            };
            let may_pass = problem.downcast_ref::<problem::Problem>().is_some_and(problem::Problem::may_pass);
            OpenError::Unusable { cluster: cluster.to_string(), problem, may_pass }
        };
        cluster.revision().await.map_err(unusable)?;
        let closed = CancellationToken::new();
        let commits = Commits::new(keys.clone(), cluster.clone(), &closed);
        let reads = Reads::new(cluster.clone(), &closed);
        Ok(Self { keys, cluster, commits, reads, _closing: closed.clone().drop_guard(), closed })
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore").field("cluster", &self.cluster.to_string()).finish_non_exhaustive()
    }
}

/// Why an etcd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file of `[etcd]` in the configuration.
    #[error(transparent)]
    Access(#[from] access::AccessError),
    /// None of its members lets this broker read.
    #[error("the etcd at {cluster} cannot be used: {problem}")]
    Unusable {
        /// Its members.
        cluster: String,
        /// What is wrong, and what to do.
        problem: Box<dyn std::error::Error + Send + Sync>,
        /// Whether it may be another matter in a moment.
        may_pass: bool,
    },
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        let found = self.reads.get(&self.keys.of(key)).await?;
        Ok(found.map(|found| {
            let version = version(found.mod_revision());
            Versioned { value: found.into_key_value().1, version }
        }))
    }

    async fn list(&self, page: Page) -> Result<Vec<(Key, Versioned)>, StoreError> {
        // No limit is what etcd takes zero for.
        let Some(limit) = i64::try_from(page.limit).ok().filter(|limit| *limit > 0) else { return Ok(Vec::new()) };
        let (first, end) = self.keys.range(&page.prefix);
        // A zero byte behind a key is the smallest key behind it.
        let from = page.after.map_or(first, |after| [&self.keys.of(&after)[..], b"\0"].concat());
        let mut found = self.cluster.read(&from, &GetOptions::new().with_range(end).with_limit(limit)).await?;
        let entries = found.take_kvs().into_iter().map(|found| {
            let version = version(found.mod_revision());
            let (key, value) = found.into_key_value();
            Ok((self.keys.read(&key)?, Versioned { value, version }))
        });
        entries.collect()
    }

    async fn watch(&self, prefix: &str) -> Result<Watch, StoreError> {
        watch::begin(self.cluster.clone(), self.keys.clone(), prefix, self.closed.clone()).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        check(&writes)?;
        if writes.is_empty() {
            return self.cluster.revision().await;
        }
        self.commits.commit(&writes).await
    }
}

/// How keys are called in etcd.
#[derive(Clone, Debug)]
struct Keys {
    /// With the slash at its end.
    prefix: String,
}

impl Keys {
    fn of(&self, key: &Key) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_str().as_bytes()].concat()
    }

    /// The first key with a prefix, and the first behind all of them. What is the store's own begins with a point,
    /// which is before all letters and digits.
    fn range(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let whole = format!("{}{prefix}", self.prefix).into_bytes();
        let first = if prefix.is_empty() { [&whole[..], b"0"].concat() } else { whole.clone() };
        let mut end = whole;
        // Keys are text: no byte of them is the greatest one.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        (first, end)
    }

    fn read(&self, key: &[u8]) -> Result<Key, StoreError> {
        let text = key.strip_prefix(self.prefix.as_bytes()).and_then(|key| std::str::from_utf8(key).ok());
        text.map(|text| Key(text.to_owned())).ok_or(StoreError::Corrupt("key"))
    }
}

fn version(mod_revision: i64) -> Version {
    Version(mod_revision.unsigned_abs())
}
