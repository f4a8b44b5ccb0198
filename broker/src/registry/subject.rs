//! Subjects: what a relying party knows a user by.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::registry::InstanceId;
use crate::secret::{KeyEncryptionKey, KeyedHash, Purpose, Sealed, SecretError, random};
use crate::storage::table::{Record, Table};
use crate::storage::{Expect, Store, StoreError, Write};

/// Stable, opaque identifier of a user: 43 characters. Made from the installation and the home's own id of the user, so
/// that neither a new email address nor a recycled name ever makes somebody else of him.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(String);

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key that makes subjects: as old as the federation, never replaced.
#[derive(Clone, Debug)]
pub struct SubjectKey(Arc<KeyedHash>);

impl SubjectKey {
    /// The write that gives a new broker its key.
    ///
    /// # Errors
    /// When it cannot be made or sealed.
    pub fn first(store: &Arc<dyn Store>, kek: &KeyEncryptionKey) -> Result<Write, SubjectKeyError> {
        let sealed = kek.seal(Purpose::SubjectKey, &random::<32>()?)?;
        Ok(Table::new(store.clone()).put(ID, &StoredSubjectKey { sealed }, Expect::Absent)?)
    }

    /// Loads the key.
    ///
    /// # Errors
    /// When it is missing or cannot be opened.
    pub async fn load(store: &Arc<dyn Store>, kek: &KeyEncryptionKey) -> Result<Self, SubjectKeyError> {
        let stored = Table::<StoredSubjectKey>::new(store.clone()).get(ID).await?.ok_or(SubjectKeyError::Missing)?;
        let key = kek.open(Purpose::SubjectKey, &stored.record.sealed)?;
        Ok(Self(Arc::new(KeyedHash::new(&key))))
    }

    /// The subject of a home's user.
    pub fn subject(&self, home: InstanceId, home_user_id: &str) -> Subject {
        Subject(URL_SAFE_NO_PAD.encode(self.0.of(&[home.as_bytes(), home_user_id.as_bytes()])))
    }
}

const ID: &str = "1";

#[derive(Serialize, Deserialize)]
struct StoredSubjectKey {
    sealed: Sealed,
}

impl Record for StoredSubjectKey {
    const TABLE: &'static str = "subject_key";
}

/// What can be wrong with the key.
#[derive(Debug, thiserror::Error)]
pub enum SubjectKeyError {
    /// `init` did not finish.
    #[error("the subject key is missing: run `homeward-broker init` on an empty data_dir")]
    Missing,
    /// The key-encryption key does not fit.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
