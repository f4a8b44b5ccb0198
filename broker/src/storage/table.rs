//! Types on top of the store: a [`Table`] is all keys `<name>/…`, whose values are one type of record.
//!
//! A value is eight bytes, the moment at which the record expires (all ones for never), and the record as JSON: the
//! sweeper judges the first without knowing the second.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::storage::{Expect, Key, MAX_WRITES, Page, Revision, Store, StoreError, Version, Watch, Write};

/// How many entries are read at once when a table is read whole.
const PAGE: usize = 256;

/// How often [`Table::update`] decides again when others keep changing the same record.
const UPDATE_TRIES: usize = 16;

/// A type that has a table.
pub trait Record: Serialize + DeserializeOwned + Send + Sync {
    /// The table's name: unique, lower case, without slash.
    const TABLE: &'static str;

    /// When the sweeper may delete it; never if unset. Whoever reads a record still judges its age himself.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}

/// All records of one type.
#[derive(Debug)]
pub struct Table<T> {
    store: Arc<dyn Store>,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), record: PhantomData }
    }
}

/// A record as it was read.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The record.
    pub record: T,
    /// To be expected by a write that rests on what was read.
    pub version: Version,
}

impl<T: Record> Table<T> {
    /// The table in this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, record: PhantomData }
    }

    /// The prefix of its keys.
    pub fn prefix() -> String {
        format!("{}/", T::TABLE)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When the store does not answer or holds something else.
    pub async fn get(&self, id: &str) -> Result<Option<Stored<T>>, StoreError> {
        let Some(found) = self.store.get(&Key::new(T::TABLE, id)).await? else { return Ok(None) };
        Ok(Some(Stored { record: decode(&found.value)?, version: found.version }))
    }

    /// Reads at most `limit` records behind the id `after`, with their ids, in their order.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub async fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, Stored<T>)>, StoreError> {
        let after = after.map(|id| Key::new(T::TABLE, id));
        let found = self.store.list(Page { prefix: Self::prefix(), after, limit }).await?;
        let decoded = found.into_iter().map(|(key, found)| {
            Ok((key.id().to_owned(), Stored { record: decode(&found.value)?, version: found.version }))
        });
        decoded.collect()
    }

    /// Reads all records whose ids begin so, with their ids: for ids that are made of an owner and what is his.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub async fn beginning(&self, prefix: &str) -> Result<Vec<(String, Stored<T>)>, StoreError> {
        let (prefix, mut all) = (format!("{}/{prefix}", T::TABLE), Vec::new());
        let mut after = None;
        loop {
            let page = self.store.list(Page { prefix: prefix.clone(), after, limit: PAGE }).await?;
            let ended = page.len() < PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (key, found) in page {
                all.push((key.id().to_owned(), Stored { record: decode(&found.value)?, version: found.version }));
            }
            if ended {
                return Ok(all);
            }
        }
    }

    /// Reads at most `limit` of those.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub async fn some_beginning(&self, prefix: &str, limit: usize) -> Result<Vec<(String, Stored<T>)>, StoreError> {
        let prefix = format!("{}/{prefix}", T::TABLE);
        let found = self.store.list(Page { prefix, after: None, limit }).await?.into_iter();
        let decoded = found.map(|(key, found)| {
            Ok((key.id().to_owned(), Stored { record: decode(&found.value)?, version: found.version }))
        });
        decoded.collect()
    }

    /// Reads all records: for small tables.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub async fn all(&self) -> Result<Vec<(String, Stored<T>)>, StoreError> {
        let mut all: Vec<(String, Stored<T>)> = Vec::new();
        loop {
            let page = self.page(all.last().map(|(id, _)| id.as_str()), PAGE).await?;
            let ended = page.len() < PAGE;
            all.extend(page);
            if ended {
                return Ok(all);
            }
        }
    }

    /// Every change of its records behind the answer.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn watch(&self) -> Result<Watch, StoreError> {
        self.store.watch(&Self::prefix()).await
    }

    /// A write of this record, for a commit.
    ///
    /// # Errors
    /// When the record cannot be JSON.
    pub fn put(&self, id: &str, record: &T, expect: Expect) -> Result<Write, StoreError> {
        Ok(Write { key: Key::new(T::TABLE, id), expect, value: Some(encode(record)?) })
    }

    /// A deletion, for a commit.
    pub fn delete(&self, id: &str, expect: Expect) -> Write {
        Write { key: Key::new(T::TABLE, id), expect, value: None }
    }

    /// Applies writes of this and other tables at once.
    ///
    /// # Errors
    /// When an expectation does not hold or the store does not answer.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        self.store.commit(writes).await
    }

    /// Applies `last`, and before it what may as well happen alone: all in one commit if it fits into one.
    ///
    /// # Errors
    /// As [`Table::commit`]. Some of `before` may have happened then.
    pub async fn commit_after(&self, mut before: Vec<Write>, last: Vec<Write>) -> Result<Revision, StoreError> {
        while before.len() + last.len() > MAX_WRITES && !before.is_empty() {
            let part = before.drain(..before.len().min(MAX_WRITES)).collect();
            self.store.commit(part).await?;
        }
        before.extend(last);
        self.store.commit(before).await
    }

    /// Replaces a record by what `decide` makes of it, again and again until nobody came in between.
    ///
    /// # Errors
    /// What `decide` says, or the store.
    pub async fn update<E: From<StoreError>>(
        &self,
        id: &str,
        decide: impl Fn(Option<T>) -> Result<T, E>,
    ) -> Result<Revision, E> {
        for _ in 0..UPDATE_TRIES {
            let (old, expect) = match self.get(id).await? {
                Some(stored) => (Some(stored.record), Expect::Version(stored.version)),
                None => (None, Expect::Absent),
            };
            let write = self.put(id, &decide(old)?, expect)?;
            match self.store.commit(vec![write]).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done?),
            }
        }
        Err(StoreError::Conflict.into())
    }
}

/// Reads a value of a table, for watchers.
///
/// # Errors
/// When it is no such record.
pub fn decode<T: Record>(value: &[u8]) -> Result<T, StoreError> {
    let (_, json) = value.split_first_chunk::<8>().ok_or(StoreError::Corrupt(T::TABLE))?;
    serde_json::from_slice(json).map_err(|_| StoreError::Corrupt(T::TABLE))
}

/// When a value of any table expires: never for what cannot be read.
pub(super) fn expires_at(value: &[u8]) -> Option<Timestamp> {
    let (head, _) = value.split_first_chunk::<8>()?;
    Some(Timestamp::from_secs(i64::from_be_bytes(*head))).filter(|at| at.as_secs() != NEVER)
}

const NEVER: i64 = -1;

/// Writes a value of a table, for who knows it by its prefix only.
///
/// # Errors
/// When the record cannot be JSON.
pub fn encode<T: Record>(record: &T) -> Result<Vec<u8>, StoreError> {
    let mut value = record.expires_at().map_or(NEVER, Timestamp::as_secs).to_be_bytes().to_vec();
    serde_json::to_writer(&mut value, record).map_err(|_| StoreError::Corrupt(T::TABLE))?;
    Ok(value)
}
