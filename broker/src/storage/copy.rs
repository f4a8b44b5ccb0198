//! A consistent copy of a whole store, through nothing but the trait, while others write.
//!
//! A watch of everything is begun before the first page is read. When the last one was read, a mark is written: all that
//! was changed between is known when the watch has said the mark. The pages, and then the changes over them, are the store
//! exactly as it was at the mark.
//!
//! The changes are held in memory until then, each key once, and no more than [`HELD_BACK`]: a copy that is taken too slowly
//! for that ends, and lets go of all of them at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::storage::table::{Record, Table};
use crate::storage::{Expect, Key, Page, Revision, Store, StoreError, Watch, WatchEvent};

/// What is of no use elsewhere: who is running, what they are asking each other, and marks. And what the place itself is.
const NOT_COPIED: [&str; 5] = ["broker/", "copy/", "duty/", "question/", "schema/"];

/// Entries that are read at once.
const PAGE: usize = 256;

/// How long the watch may take to say the mark.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of changed keys and values that are held back at most. (Tests are smaller.)
const HELD_BACK: usize = if cfg!(test) { 256 * 1024 } else { 64 * 1024 * 1024 };

/// What a key has, or that it has nothing.
pub type Change = (Key, Option<Vec<u8>>);

/// Whether a copy contains the key.
pub fn is_copied(key: &Key) -> bool {
    !NOT_COPIED.iter().any(|table| key.as_str().starts_with(table))
}

/// A copy under way.
#[derive(Debug)]
pub struct Copy {
    store: Arc<dyn Store>,
    mark: Mark,
    follower: Follower,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The next page begins behind this key.
    Pages(Option<Key>),
    /// What was changed while pages were read.
    Changes(Revision, std::collections::btree_map::IntoIter<Key, Option<Vec<u8>>>),
}

/// What the watch must say before the copy is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    of: Uuid,
}

impl Record for Mark {
    const TABLE: &'static str = "copy";
}

const MARK: &str = "mark";

impl Copy {
    /// Begins a copy.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn begin(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let changes = store.watch("").await?;
        let mark = Mark { of: Uuid::new_v4() };
        let follower = Follower(tokio::spawn(gather(changes, mark.clone())));
        Ok(Self { store, mark, follower, stage: Stage::Pages(None) })
    }

    /// The next portion: whoever applies all of them in order has the store. Nothing once it was all.
    ///
    /// # Errors
    /// When the store does not answer, or so much was changed meanwhile that the copy has to begin again.
    pub async fn next(&mut self) -> Result<Option<Vec<Change>>, CopyError> {
        loop {
            match &mut self.stage {
                // It has seen no mark: there is none yet.
                Stage::Pages(_) if self.follower.0.is_finished() => {
                    return Err((&mut self.follower.0).await.ok().and_then(Result::err).unwrap_or(CopyError::Missed));
                }
                Stage::Pages(after) => {
                    let page = Page { prefix: String::new(), after: after.clone(), limit: PAGE };
                    let found = self.store.list(page).await?;
                    match found.last() {
                        Some((last, _)) => *after = Some(last.clone()),
                        None => self.mark().await?,
                    }
                    let copied = found.into_iter().filter(|(key, _)| is_copied(key));
                    let portion: Vec<_> = copied.map(|(key, found)| (key, Some(found.value))).collect();
                    if !portion.is_empty() {
                        return Ok(Some(portion));
                    }
                }
                Stage::Changes(_, changes) => {
                    let portion: Vec<_> = changes.by_ref().take(PAGE).collect();
                    return Ok((!portion.is_empty()).then_some(portion));
                }
            }
        }
    }

    /// As of which revision the copy is; nothing before it is complete.
    pub fn revision(&self) -> Option<Revision> {
        match self.stage {
            Stage::Pages(_) => None,
            Stage::Changes(revision, _) => Some(revision),
        }
    }

    /// Writes the mark and waits until the watch has said it.
    async fn mark(&mut self) -> Result<(), CopyError> {
        let write = Table::new(self.store.clone()).put(MARK, &self.mark, Expect::Any)?;
        let revision = self.store.commit(vec![write]).await?;
        let gathered = tokio::time::timeout(PATIENCE, &mut self.follower.0).await;
        let changes = gathered.ok().and_then(Result::ok).unwrap_or(Err(CopyError::Missed))?;
        self.stage = Stage::Changes(revision, changes.into_iter());
        Ok(())
    }
}

/// Follows the store beside whoever takes portions, however slowly he does.
#[derive(Debug)]
struct Follower(JoinHandle<Result<Changes, CopyError>>);

/// What was changed, as it is last.
type Changes = BTreeMap<Key, Option<Vec<u8>>>;

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The last value of everything that is changed until the mark comes.
async fn gather(mut changes: Watch, mark: Mark) -> Result<Changes, CopyError> {
    let (mut gathered, mut bytes) = (Changes::new(), 0);
    let key = Key::new(Mark::TABLE, MARK);
    loop {
        match changes.next().await.ok_or(CopyError::Missed)? {
            WatchEvent::Reload => return Err(CopyError::Missed),
            WatchEvent::Changed { key: changed, value, .. } if changed == key => {
                let said = value.and_then(|value| crate::storage::table::decode::<Mark>(&value).ok());
                if said.is_some_and(|said| said == mark) {
                    return Ok(gathered);
                }
            }
            WatchEvent::Changed { key, value, .. } if is_copied(&key) => {
                let size = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
                bytes += key.as_str().len() + size(&value);
                let known = key.as_str().len();
                if let Some(old) = gathered.insert(key, value) {
                    bytes -= known + size(&old);
                }
                if bytes > HELD_BACK {
                    return Err(CopyError::TooSlow);
                }
            }
            WatchEvent::Changed { .. } => {}
        }
    }
}

/// Why a copy is not complete.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The watch could not keep up.
    #[error("the store is changed faster than it can be copied: try again when there is less to do")]
    Missed,
    /// Whoever takes the copy is too slow for what happens.
    #[error(
        "while the copy was taken, more was changed than can be held back ({} MiB): take it onto a faster disk, or when there is \
         less to do",
        HELD_BACK / 1024 / 1024
    )]
    TooSlow,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::storage::Write;
    use crate::storage::sled::SledStore;

    fn put(id: usize, value: u64) -> Write {
        Write {
            key: Key::new("x", &format!("{id:05}")),
            expect: Expect::Any,
            value: Some(value.to_be_bytes().to_vec()),
        }
    }

    /// Two keys are always written together: in no copy do they differ. One key counts up, another one is deleted: the copy
    /// has what was there at its revision.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_is_of_one_moment_while_others_write() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        for chunk in (0..2000).collect::<Vec<_>>().chunks(100) {
            store.commit(chunk.iter().map(|id| put(*id, 0)).collect()).await.unwrap();
        }
        let ended = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (store, ended) = (store.clone(), ended.clone());
            async move {
                let mut round = 1;
                while !ended.load(Ordering::Relaxed) {
                    let far = 1999 - (round as usize % 700);
                    let deleted = Key::new("x", &format!("{:05}", 5 + round as usize % 900));
                    let delete = Write { key: deleted, expect: Expect::Any, value: None };
                    store.commit(vec![put(0, round), put(1999, round), put(far, round), delete]).await.unwrap();
                    round += 1;
                }
            }
        });
        for _ in 0..5 {
            let mut copy = Copy::begin(store.clone()).await.unwrap();
            let mut copied = BTreeMap::new();
            while let Some(portion) = copy.next().await.unwrap() {
                for (key, value) in portion {
                    match value {
                        Some(value) => drop(copied.insert(key, value)),
                        None => drop(copied.remove(&key)),
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let value = |id: &str| u64::from_be_bytes(copied[&Key::new("x", id)].as_slice().try_into().unwrap());
            let round = value("00000");
            assert!(round > 0 && copy.revision().is_some());
            assert_eq!(value("01999"), round);
            let gone = Key::new("x", &format!("{:05}", 5 + round as usize % 900));
            assert!(!copied.contains_key(&gone), "{round}");
            assert!(copied.keys().all(|key| key.as_str().starts_with("x/")));
        }
        ended.store(true, Ordering::Relaxed);
        writer.await.unwrap();
    }
}
