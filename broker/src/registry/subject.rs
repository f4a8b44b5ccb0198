//! Subjects: what a relying party knows a user by.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::registry::InstanceId;
use crate::secret::{HoldsSealed, KeyedHash, Purpose, Sealed, SealedTable, SealingKeys, SecretError, random};
use crate::storage::table::{Record, Table};
use crate::storage::{Expect, Store, StoreError, Write};

/// Stable, opaque identifier of a user: 43 characters. Made from the installation and the home's own id of the user, so
/// that neither a new email address nor a recycled name ever makes somebody else of him.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(String);

impl Subject {
    /// As relying parties see it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the broker itself knows a user: 22 characters, told to nobody, so that it may stand in keys of the store. Another
/// installation's user, or another user of this one, has another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(String);

impl UserId {
    /// As in keys of the store: without `/` and `.`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether relying parties know a user by one subject (OpenID Connect Core 8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectType {
    /// By the same.
    #[default]
    Public,
    /// By another one in each sector.
    Pairwise {
        /// A host name (8.1).
        sector: String,
    },
}

/// The key that makes subjects: as old as the federation, never replaced.
#[derive(Clone, Debug)]
pub struct SubjectKey(Arc<KeyedHash>);

impl SubjectKey {
    /// Where it is kept, for who seals it again.
    pub const SEALED: SealedTable = SealedTable::of::<StoredSubjectKey>();

    /// The write that gives a new broker its key.
    ///
    /// # Errors
    /// When it cannot be made or sealed.
    pub fn first(store: &Arc<dyn Store>, sealing: &SealingKeys) -> Result<Write, SubjectKeyError> {
        let sealed = sealing.seal(Purpose::SubjectKey, &random::<32>()?)?;
        Ok(Table::new(store.clone()).put(ID, &StoredSubjectKey { sealed }, Expect::Absent)?)
    }

    /// Loads the key.
    ///
    /// # Errors
    /// When it is missing or cannot be opened.
    pub async fn load(store: &Arc<dyn Store>, sealing: &SealingKeys) -> Result<Self, SubjectKeyError> {
        let stored = Table::<StoredSubjectKey>::new(store.clone()).get(ID).await?.ok_or(SubjectKeyError::Missing)?;
        let key = sealing.open(Purpose::SubjectKey, &stored.record.sealed)?;
        Ok(Self(Arc::new(KeyedHash::new(&key))))
    }

    /// How the broker itself knows a home's user: told to nobody.
    pub fn user(&self, home: InstanceId, home_user_id: &str) -> UserId {
        let hash = self.0.of(&[b"user", home.as_bytes(), home_user_id.as_bytes()]);
        UserId(URL_SAFE_NO_PAD.encode(hash.split_at(16).0))
    }

    /// The subject by which a relying party knows a home's user (OpenID Connect Core 8), unless he is linked to another one:
    /// see [`SubjectKey::known_as`].
    pub(in crate::registry) fn subject_for(&self, kind: &SubjectType, home: InstanceId, home_user_id: &str) -> Subject {
        match kind {
            SubjectType::Public => self.subject(home, home_user_id),
            SubjectType::Pairwise { sector } => {
                let hash = self.0.of(&[b"pairwise", sector.as_bytes(), home.as_bytes(), home_user_id.as_bytes()]);
                Subject(URL_SAFE_NO_PAD.encode(hash))
            }
        }
    }

    /// The subject of a home's user that all relying parties share, but those who asked for one of their own.
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

impl HoldsSealed for StoredSubjectKey {
    fn sealed(&mut self) -> Vec<(Purpose, &mut Sealed)> {
        vec![(Purpose::SubjectKey, &mut self.sealed)]
    }
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
