//! The data keys in use: one seals, all of them open.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{error, info};
use zeroize::Zeroizing;

use crate::secret::data_key::{DataKeyState, StoredDataKey};
use crate::secret::kek::KeyEncryptionKeys;
use crate::secret::{Purpose, Sealed, SealingKeyError, SecretError};
use crate::storage::table::Table;
use crate::storage::{Store, StoreError};

/// Pause before the store is read again after it failed.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);

/// Pause before data keys are tried again that could not be used: a token comes back, or ops mend something.
const REPAIR_PAUSE: Duration = Duration::from_secs(10);

/// Longest wait until this broker knows what it has just written.
const REACH: Duration = Duration::from_secs(5);

/// A data key, ready for use: a key for each purpose. The 32 bytes that they are made from are not kept.
pub(super) struct DataKey {
    id: String,
    keys: [RandomizedNonceKey; Purpose::ALL.len()],
}

impl DataKey {
    /// Makes the keys of all purposes.
    pub(super) fn new(id: &str, bytes: &[u8; 32]) -> Result<Self, SecretError> {
        // The text is older than data keys: what a broker from before sealed with the bytes of its key file still opens.
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"homeward key encryption key").extract(bytes);
        let key = |purpose: Purpose| -> Result<RandomizedNonceKey, aws_lc_rs::error::Unspecified> {
            let mut key = Zeroizing::new([0; 32]);
            root.expand(&[purpose.text().as_bytes()], hkdf::HKDF_SHA256)?.fill(&mut *key)?;
            RandomizedNonceKey::new(&AES_256_GCM_SIV, &*key)
        };
        let keys: Result<Vec<_>, _> = Purpose::ALL.into_iter().map(key).collect();
        let keys = keys.ok().and_then(|keys| keys.try_into().ok()).ok_or(SecretError::NotAKey)?;
        Ok(Self { id: id.to_owned(), keys })
    }

    fn open(&self, purpose: Purpose, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let (nonce, text) = sealed.parts::<NONCE_LEN>()?;
        let mut text = Zeroizing::new(text.to_vec());
        let plain = self.keys[purpose as usize]
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut text)
            .map_err(|_| SecretError::NotSealedForThis)?
            .len();
        text.truncate(plain);
        Ok(text)
    }
}

/// All data keys at one moment.
struct Ring {
    active: Arc<DataKey>,
    /// Open only; a handful.
    others: Vec<Arc<DataKey>>,
}

impl Ring {
    fn key(&self, id: &str) -> Option<&Arc<DataKey>> {
        std::iter::once(&self.active).chain(&self.others).find(|key| key.id == id)
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.active).chain(&self.others).map(|key| key.id.as_str())
    }
}

/// What seals secrets, and opens them again.
pub struct SealingKeys {
    ring: watch::Sender<Arc<Ring>>,
}

impl SealingKeys {
    /// With this one data key.
    pub(super) fn of(key: DataKey) -> Self {
        Self { ring: watch::Sender::new(Arc::new(Ring { active: Arc::new(key), others: Vec::new() })) }
    }

    /// Loads the data keys of the store, for the broker of this machine. The future follows the store and must be run.
    ///
    /// # Errors
    /// When there are none, or the key-encryption key does not fit.
    pub async fn load(
        store: &Arc<dyn Store>,
        keks: Arc<KeyEncryptionKeys>,
        broker: &str,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + use<>), SealingKeyError> {
        // Begun before the table is read, so that no change falls between.
        let mut changes = store.watch(&Table::<StoredDataKey>::prefix()).await?;
        let source = Source { table: Table::new(store.clone()), keks, broker: broker.to_owned() };
        let ring = source.load(None).await?;
        let sealing = Arc::new(Self { ring: watch::Sender::new(Arc::new(ring)) });
        let own = sealing.clone();
        // On the heap: it lives as long as the broker, and would make the caller's own future large.
        let follow = Box::pin(async move {
            while changes.next().await.is_some() {
                let known = own.ring();
                let next = source.reload(&known).await;
                if !next.ids().eq(known.ids()) {
                    info!(active = %next.active.id, keys = next.others.len() + 1, "the data keys have changed");
                    own.ring.send_replace(Arc::new(next));
                }
            }
        });
        Ok((sealing, follow))
    }

    fn ring(&self) -> Arc<Ring> {
        self.ring.borrow().clone()
    }

    /// Waits until this data key is the one that seals.
    pub(super) async fn seals_with(&self, id: &str) -> Result<(), SealingKeyError> {
        let mut ring = self.ring.subscribe();
        match tokio::time::timeout(REACH, ring.wait_for(|ring| ring.active.id == id)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(SealingKeyError::Behind),
        }
    }

    /// Seals: random nonce, ciphertext and tag (28 bytes more than `plain`).
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn seal(&self, purpose: Purpose, plain: &[u8]) -> Result<Sealed, SecretError> {
        let mut text = plain.to_vec();
        let nonce = self.ring().active.keys[purpose as usize]
            .seal_in_place_append_tag(Aad::empty(), &mut text)
            .map_err(|_| SecretError::NoRandomness)?;
        Ok(Sealed::new(nonce.as_ref(), &text))
    }

    /// Seals a value that is short-lived, and read by brokers of this version only, as text.
    ///
    /// # Errors
    /// When it cannot be written, or the machine has no randomness to give.
    pub fn seal_value(&self, purpose: Purpose, value: &impl Serialize) -> Result<String, SecretError> {
        let plain = Zeroizing::new(postcard::to_allocvec(value).map_err(|_| SecretError::NotSealedForThis)?);
        Ok(self.seal(purpose, &plain)?.to_text())
    }

    /// Opens the text of a value that was sealed for the same purpose.
    ///
    /// # Errors
    /// When it was not, or was altered, also in bits that base64 does not need.
    pub fn open_value<T: serde::de::DeserializeOwned>(&self, purpose: Purpose, text: &str) -> Result<T, SecretError> {
        let plain = self.open(purpose, &Sealed::from_text(text)?)?;
        postcard::from_bytes(&plain).map_err(|_| SecretError::NotSealedForThis)
    }

    /// Opens what was sealed for the same purpose, by whichever data key. Whoever sends rubbish costs us one try a data
    /// key, and there are never more than a handful.
    ///
    /// # Errors
    /// When it was not, or was altered.
    pub fn open(&self, purpose: Purpose, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let ring = self.ring();
        let first = ring.active.open(purpose, sealed);
        ring.others.iter().fold(first, |opened, key| opened.or_else(|_| key.open(purpose, sealed)))
    }

    /// Seals with the active data key what another one sealed; says whether there was anything to do.
    ///
    /// # Errors
    /// When it cannot be opened or sealed.
    pub(super) fn reseal(&self, purpose: Purpose, sealed: &mut Sealed) -> Result<bool, SecretError> {
        if self.ring().active.open(purpose, sealed).is_ok() {
            return Ok(false);
        }
        *sealed = self.seal(purpose, &self.open(purpose, sealed)?)?;
        Ok(true)
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKeys(…)")
    }
}

/// Where rings are made from.
struct Source {
    table: Table<StoredDataKey>,
    keks: Arc<KeyEncryptionKeys>,
    /// The machine of this broker, for whoever is refused because of it.
    broker: String,
}

impl Source {
    /// The ring after a change. Until it can be made, the one before has to do: whoever stayed with that for good would
    /// seal with a key that the others delete one day.
    async fn reload(&self, known: &Ring) -> Ring {
        loop {
            let pause = match self.load(Some(known)).await {
                Ok(ring) => return ring,
                Err(SealingKeyError::Store(error @ (StoreError::Unavailable(_) | StoreError::Conflict))) => {
                    error!(%error, "the data keys cannot be read; trying again");
                    RELOAD_PAUSE
                }
                Err(error) => {
                    error!(%error, "the data keys in the store cannot be used; the ones from before stay in use");
                    REPAIR_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Keys that `known` holds already are not opened again: an id never names another key.
    async fn load(&self, known: Option<&Ring>) -> Result<Ring, SealingKeyError> {
        let (mut active, mut others) = (Vec::new(), Vec::new());
        for (id, stored) in self.table.all().await? {
            let key = match known.and_then(|known| known.key(&id)) {
                Some(key) => key.clone(),
                None => match self.keks.unwrap(&id, &stored.record).await {
                    Ok(bytes) => Arc::new(DataKey::new(&id, &bytes)?),
                    // It seals nothing yet, and will not: who turns the keys asks before.
                    Err(error) if stored.record.state == DataKeyState::Pending => {
                        // One objection is enough, and each is a change that every broker looks at.
                        if stored.record.unknown_to.is_none() {
                            error!(%error, "a new data key cannot be opened here");
                            self.object(&id).await?;
                        }
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if stored.record.state == DataKeyState::Active { active.push(key) } else { others.push(key) }
        }
        match active.pop() {
            None if others.is_empty() => Err(SealingKeyError::NoKeys),
            Some(key) if active.is_empty() => Ok(Ring { active: key, others }),
            last => Err(SealingKeyError::NotOneActive(active.len() + usize::from(last.is_some()))),
        }
    }

    /// Writes to a pending data key that this broker could not open it.
    async fn object(&self, id: &str) -> Result<(), StoreError> {
        let known = format!("{}, which has {}", self.broker, self.keks);
        let objected = |old: Option<StoredDataKey>| match old {
            Some(key) if key.unknown_to.is_some() => Err(StoreError::Corrupt("an objection that stands")),
            Some(key) => Ok(StoredDataKey { unknown_to: Some(known.clone()), ..key }),
            None => Err(StoreError::Corrupt("a data key that has gone")),
        };
        match self.table.update::<StoreError>(id, objected).await {
            Ok(_) | Err(StoreError::Corrupt(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::random;

    impl SealingKeys {
        /// One that nobody has used.
        pub(crate) fn new_for_test() -> Arc<Self> {
            Arc::new(Self::of(DataKey::new("test", &random::<32>().unwrap()).unwrap()))
        }
    }

    #[test]
    fn sealed_values_open_for_their_purpose_only() {
        let sealing = SealingKeys::new_for_test();
        for (index, purpose) in Purpose::ALL.into_iter().enumerate() {
            assert_eq!(index, purpose as usize);
            let sealed = Sealed::from_text(&sealing.seal(purpose, b"secret").unwrap().to_text()).unwrap();
            assert_eq!(sealing.open(purpose, &sealed).unwrap().as_slice(), b"secret");
            for other in Purpose::ALL.into_iter().filter(|other| *other != purpose) {
                assert!(sealing.open(other, &sealed).is_err(), "{purpose:?} opened as {other:?}");
            }
        }
    }

    #[test]
    fn altered_and_foreign_values_do_not_open() {
        let sealing = SealingKeys::new_for_test();
        let sealed = sealing.seal(Purpose::Ticket, b"x").unwrap();
        let (nonce, text) = sealed.parts::<NONCE_LEN>().unwrap();
        let bytes = [nonce.as_slice(), text].concat();
        for index in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[index] ^= 1;
            assert!(sealing.open(Purpose::Ticket, &Sealed::new(&[], &altered)).is_err(), "byte {index}");
        }
        assert!(SealingKeys::new_for_test().open(Purpose::Ticket, &sealed).is_err());
        assert!(sealing.open(Purpose::Ticket, &Sealed::new(&[], &[])).is_err());
    }
}
