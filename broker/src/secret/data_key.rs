//! A data key in the store.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::secret::kek::{KekId, KeyEncryptionKey};
use crate::secret::{Sealed, SealingKeyError, random};
use crate::storage::table::Record;

/// A data key as it is stored, under its id: sealed by a key-encryption key, which seals nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDataKey {
    /// Where it is in its life.
    pub state: DataKeyState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is in its state.
    pub state_since: Timestamp,
    /// By which key-encryption key it is sealed.
    pub wrapped_by: KekId,
    /// The 32 bytes. Their id is authenticated, so that no key can be put in another's place.
    pub(super) wrapped: Sealed,
    /// A broker that could not open it when it was new, and the key-encryption keys that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unknown_to: Option<String>,
}

impl Record for StoredDataKey {
    const TABLE: &'static str = "sealing_key";
}

/// Where a data key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataKeyState {
    /// Seals nothing yet: every broker is to know it before one uses it.
    Pending,
    /// Seals: exactly one.
    Active,
    /// Opens only.
    Retired {
        /// When it is deleted; not before everything that is stored was sealed again.
        gone_at: Option<Timestamp>,
    },
}

impl StoredDataKey {
    /// A data key of these bytes. Blocks while a token works.
    pub(super) fn wrap(
        (id, bytes): (&str, &[u8; 32]),
        kek: &KeyEncryptionKey,
        state: DataKeyState,
        now: Timestamp,
    ) -> Result<Self, SealingKeyError> {
        Ok(Self {
            state,
            created_at: now,
            state_since: now,
            wrapped_by: kek.id().clone(),
            wrapped: kek.wrap(id, bytes)?,
            unknown_to: None,
        })
    }

    /// The key in another state from now on.
    pub(super) fn moved(self, state: DataKeyState, now: Timestamp) -> Self {
        Self { state, state_since: now, ..self }
    }
}

/// An id that no data key has yet.
pub(super) fn new_id() -> Result<String, SealingKeyError> {
    Ok(random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}
