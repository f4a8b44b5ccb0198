//! A signing key in the store.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::keys::{KeyError, Signer, SigningAlgorithm};
use crate::secret::{HoldsSealed, Purpose, Sealed, SealingKeys};
use crate::storage::table::{Record, Table};
use crate::storage::{Expect, Store, Write};

/// A signing key as it is stored, under its `kid`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredKey {
    /// What it signs with.
    pub algorithm: SigningAlgorithm,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it was made, and published.
    pub created_at: Timestamp,
    /// Since when it is in its state, if that is not since it was made.
    #[serde(default)]
    pub state_since: Option<Timestamp>,
    /// PKCS#8 (DER), sealed for [`Purpose::SigningKey`].
    pub(super) private: Sealed,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Published, and signs nothing yet.
    Pending,
    /// Published and signing: exactly one key of each algorithm.
    Active,
    /// Published, because tokens that it signed still live. Signs for relying parties that asked for the newest key
    /// that they have acknowledged.
    Retired {
        /// When it is deleted.
        gone_at: Timestamp,
    },
}

impl KeyState {
    /// As ops read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retired { .. } => "retired",
        }
    }
}

impl StoredKey {
    /// A new pending key and its `kid`.
    ///
    /// # Errors
    /// When it cannot be made or sealed.
    pub fn generate(
        sealing: &SealingKeys,
        algorithm: SigningAlgorithm,
        now: Timestamp,
    ) -> Result<(String, Self), KeyError> {
        let pkcs8 = generate(algorithm)?;
        let kid = Signer::load(algorithm, &pkcs8)?.kid().to_owned();
        let private = sealing.seal(Purpose::SigningKey, &pkcs8)?;
        Ok((kid, Self { algorithm, state: KeyState::Pending, created_at: now, state_since: None, private }))
    }

    /// The key in another state from now on.
    pub fn moved(self, state: KeyState, now: Timestamp) -> Self {
        Self { state, state_since: Some(now), ..self }
    }

    /// Since when it is in its state.
    pub fn since(&self) -> Timestamp {
        self.state_since.unwrap_or(self.created_at)
    }
}

impl Record for StoredKey {
    const TABLE: &'static str = "signing_key";
}

impl HoldsSealed for StoredKey {
    fn sealed(&mut self) -> Vec<(Purpose, &mut Sealed)> {
        vec![(Purpose::SigningKey, &mut self.private)]
    }
}

/// The writes that give a new broker its first keys: one for RS256, which every relying party understands, and one for
/// ES256.
///
/// # Errors
/// When keys cannot be made or sealed.
pub fn first_keys(store: &Arc<dyn Store>, sealing: &SealingKeys, now: Timestamp) -> Result<Vec<Write>, KeyError> {
    let table = Table::<StoredKey>::new(store.clone());
    let mut writes = Vec::new();
    for algorithm in [SigningAlgorithm::Rs256, SigningAlgorithm::Es256] {
        let (kid, key) = StoredKey::generate(sealing, algorithm, now)?;
        writes.push(table.put(&kid, &StoredKey { state: KeyState::Active, ..key }, Expect::Absent)?);
    }
    Ok(writes)
}

pub(super) fn generate(algorithm: SigningAlgorithm) -> Result<zeroize::Zeroizing<Vec<u8>>, KeyError> {
    let pkcs8 = match algorithm {
        SigningAlgorithm::Rs256 => {
            let key = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::NotMade)?;
            key.as_der().map_err(|_| KeyError::NotMade)?.as_ref().to_vec()
        }
        SigningAlgorithm::Es256 => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::NotMade)?;
            key.to_pkcs8v1().map_err(|_| KeyError::NotMade)?.as_ref().to_vec()
        }
    };
    Ok(zeroize::Zeroizing::new(pkcs8))
}
