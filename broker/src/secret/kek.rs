//! The key-encryption key: the one key that is not in the store.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};
use tracing::warn;
use zeroize::Zeroizing;

use crate::secret::data_key::StoredDataKey;
use crate::secret::private_file::{credentials, private_text};
use crate::secret::token::{TokenKey, TokenSource};
use crate::secret::{Sealed, SealingKeyError, SecretError, random};

/// How long a token, or the disk with a key, may take: a network HSM takes a second.
const ANSWER: Duration = Duration::from_secs(10);

/// Which key-encryption key: tells two apart, and nothing about either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KekId(String);

impl KekId {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a key-encryption key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KekSource {
    /// In a file: 32 bytes in base64.
    File(PathBuf),
    /// The same text, given to the process by systemd under this name.
    Credential(String),
    /// In a PKCS#11 token, which it never leaves.
    Token(TokenSource),
}

/// The key-encryption keys that a broker is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekSources {
    /// The one to use.
    pub current: KekSource,
    /// The one before it, while the key is turned.
    pub previous: Option<KekSource>,
}

/// What became of [`KekSource::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// There is a new key.
    Made,
    /// Somebody else makes such keys, or has made this one.
    WasThere,
}

impl KekSource {
    /// Makes the key: a file that did not exist, or a key in the token if it has none of this label.
    ///
    /// # Errors
    /// When it cannot be made, or the file exists.
    pub async fn create(&self) -> Result<Created, SealingKeyError> {
        let source = self.clone();
        blocking(move || source.make()).await
    }

    fn make(&self) -> Result<Created, SealingKeyError> {
        match self {
            Self::File(path) => {
                let (bytes, mut text) = (Zeroizing::new(random::<32>()?), Zeroizing::new(String::with_capacity(64)));
                STANDARD.encode_string(bytes.as_slice(), &mut text);
                text.push('\n');
                write_private(path, &text).map_err(|error| match error.kind() {
                    std::io::ErrorKind::AlreadyExists => SecretError::KeyFileExists(path.clone()),
                    _ => SecretError::KeyFileNotMade(path.clone(), error),
                })?;
                Ok(Created::Made)
            }
            Self::Credential(_) => Ok(Created::WasThere),
            Self::Token(source) => Ok(source.create()?),
        }
    }
}

impl fmt::Display for KekSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Credential(name) => write!(f, "systemd credential {name}"),
            Self::Token(source) => write!(f, "PKCS#11 {source}"),
        }
    }
}

/// A key-encryption key. It seals data keys, and nothing else.
pub enum KeyEncryptionKey {
    /// In the memory of this process.
    Local(LocalKey),
    /// In a token.
    Token(TokenKey),
}

/// 32 bytes from a file or from systemd.
pub struct LocalKey {
    id: KekId,
    bytes: Zeroizing<[u8; 32]>,
    wrapping: RandomizedNonceKey,
}

impl KeyEncryptionKey {
    /// Reads the key, or finds it in its token.
    ///
    /// # Errors
    /// When it is not there, others may read it, or it is no key.
    pub fn load(source: &KekSource) -> Result<Self, SealingKeyError> {
        let (path, text) = match source {
            KekSource::File(path) => (path.clone(), private_text(path)?),
            KekSource::Credential(name) => credential(name)?,
            KekSource::Token(source) => return Ok(Self::Token(TokenKey::open(source)?)),
        };
        let key = LocalKey::parse(&text).map_err(|error| SecretError::NoKeyInFile(path, Box::new(error)))?;
        Ok(Self::Local(key))
    }

    /// Whether the key can be used, as at a start.
    ///
    /// # Errors
    /// As [`KeyEncryptionKey::load`]; when a token does not answer in time.
    pub async fn look(source: &KekSource) -> Result<KekId, SealingKeyError> {
        let source = source.clone();
        blocking(move || Ok(Self::load(&source)?.id().clone())).await
    }

    /// Which it is.
    pub fn id(&self) -> &KekId {
        match self {
            Self::Local(key) => &key.id,
            Self::Token(key) => key.id(),
        }
    }

    /// Seals a data key. Blocks while a token works.
    pub(super) fn wrap(&self, id: &str, bytes: &[u8; 32]) -> Result<Sealed, SealingKeyError> {
        match self {
            Self::Local(key) => Ok(key.wrap(id, bytes)?),
            Self::Token(key) => Ok(key.wrap(id, bytes)?),
        }
    }

    /// Opens a data key. Blocks while a token works.
    fn unwrap(&self, id: &str, wrapped: &Sealed) -> Result<Zeroizing<[u8; 32]>, SealingKeyError> {
        let opened = match self {
            Self::Local(key) => key.unwrap(id, wrapped).ok(),
            Self::Token(key) => key.unwrap(id, wrapped)?,
        };
        opened.ok_or_else(|| SealingKeyError::KekReplaced(self.id().clone()))
    }

    /// The bytes with which brokers from before there were data keys sealed everything.
    pub(super) fn bytes_of_old(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Local(key) => Some(&key.bytes),
            Self::Token(_) => None,
        }
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyEncryptionKey({})", self.id())
    }
}

impl LocalKey {
    fn parse(text: &str) -> Result<Self, SecretError> {
        let decoded = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| SecretError::NotAKey)?);
        let bytes = Zeroizing::new(<[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| SecretError::NotAKey)?);
        // Other texts than those of data keys: the first data key of an old federation has the very same bytes.
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"homeward key that wraps keys").extract(&*bytes);
        let derive = |text: &'static str, out: &mut [u8]| -> Result<(), SecretError> {
            let info = [text.as_bytes()];
            let expanded = root.expand(&info, hkdf::HKDF_SHA256).map_err(|_| SecretError::NotAKey)?;
            expanded.fill(out).map_err(|_| SecretError::NotAKey)
        };
        let (mut name, mut wrapping) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        derive("homeward key fingerprint 1", &mut *name)?;
        derive("homeward data key 1", &mut *wrapping)?;
        let fingerprint: String = name.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let wrapping = RandomizedNonceKey::new(&AES_256_GCM_SIV, &*wrapping).map_err(|_| SecretError::NotAKey)?;
        Ok(Self { id: KekId(format!("local:{fingerprint}")), bytes, wrapping })
    }

    fn wrap(&self, id: &str, bytes: &[u8; 32]) -> Result<Sealed, SecretError> {
        let mut text = bytes.to_vec();
        let nonce = self.wrapping.seal_in_place_append_tag(Aad::from(id.as_bytes()), &mut text);
        Ok(Sealed::new(nonce.map_err(|_| SecretError::NoRandomness)?.as_ref(), &text))
    }

    fn unwrap(&self, id: &str, wrapped: &Sealed) -> Result<Zeroizing<[u8; 32]>, SecretError> {
        let (nonce, text) = wrapped.parts::<NONCE_LEN>()?;
        let (nonce, mut text) = (Nonce::assume_unique_for_key(*nonce), Zeroizing::new(text.to_vec()));
        let plain = self.wrapping.open_in_place(nonce, Aad::from(id.as_bytes()), &mut text);
        let plain = plain.map_err(|_| SecretError::NotSealedForThis)?;
        Ok(Zeroizing::new((&*plain).try_into().map_err(|_| SecretError::NotSealedForThis)?))
    }
}

/// The key-encryption keys that this process can use.
#[derive(Debug)]
pub struct KeyEncryptionKeys {
    /// What data keys are to be sealed with.
    pub current: KeyEncryptionKey,
    /// What they may be sealed with still.
    pub previous: Option<KeyEncryptionKey>,
    /// Where the current one is.
    pub source: KekSource,
}

impl KeyEncryptionKeys {
    /// Reads them. A previous one that is not there any more is missed only if something needs it.
    ///
    /// # Errors
    /// When the current one cannot be used.
    pub async fn load(sources: KekSources) -> Result<Arc<Self>, SealingKeyError> {
        blocking(move || {
            let current = KeyEncryptionKey::load(&sources.current)?;
            let previous = sources.previous.and_then(|source| match KeyEncryptionKey::load(&source) {
                Ok(key) => Some(key),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    warn!(
                        error,
                        "the previous key-encryption key cannot be used: if it is turned, configure it no more"
                    );
                    None
                }
            });
            Ok(Arc::new(Self { current, previous, source: sources.current }))
        })
        .await
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &KeyEncryptionKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// Opens a data key.
    pub(super) async fn unwrap(
        self: &Arc<Self>,
        id: &str,
        stored: &StoredDataKey,
    ) -> Result<Zeroizing<[u8; 32]>, SealingKeyError> {
        let (keks, id) = (self.clone(), id.to_owned());
        let StoredDataKey { wrapped, wrapped_by, .. } = stored.clone();
        blocking(move || match keks.all().find(|kek| *kek.id() == wrapped_by) {
            Some(kek) => kek.unwrap(&id, &wrapped),
            None => Err(SealingKeyError::AnotherKek { wrapped_by, known: keks.to_string() }),
        })
        .await
    }
}

impl fmt::Display for KeyEncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.previous {
            None => write!(f, "{}", self.current.id()),
            Some(previous) => write!(f, "{} and {}", self.current.id(), previous.id()),
        }
    }
}

/// One key is asked at a time: a token that hangs holds one thread, however often it is tried again.
static ASKED: Semaphore = Semaphore::const_new(1);

/// What reads files and asks tokens, where nobody waits for it but the caller, and he not for ever: no token can be made to
/// answer.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SealingKeyError> + Send + 'static,
) -> Result<T, SealingKeyError> {
    within(ANSWER, work).await
}

async fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> Result<T, SealingKeyError> + Send + 'static,
) -> Result<T, SealingKeyError> {
    let asked = async {
        // Never closed.
        let permit = ASKED.acquire().await.map_err(|_| SealingKeyError::Silent)?;
        let (answer, answered) = oneshot::channel();
        // No thread of the runtime, which would wait for it at its end.
        std::thread::spawn(move || {
            let done = work();
            drop(permit);
            // Whoever has gone away needs no answer.
            drop(answer.send(done));
        });
        answered.await.unwrap_or(Err(SealingKeyError::Silent))
    };
    tokio::time::timeout(patience, asked).await.unwrap_or(Err(SealingKeyError::Silent))
}

fn credential(name: &str) -> Result<(PathBuf, Zeroizing<String>), SecretError> {
    let path = credentials().ok_or_else(|| SecretError::NoCredentials(name.to_owned()))?.join(name);
    let text = private_text(&path)?;
    Ok((path, text))
}

/// Writes a file that did not exist, for its owner only, and waits until it is on the disk with its name.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn made() -> (tempfile::TempDir, PathBuf, KeyEncryptionKey) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let source = KekSource::File(path.clone());
        assert_eq!(source.make().unwrap(), Created::Made);
        (folder, path, KeyEncryptionKey::load(&source).unwrap())
    }

    #[test]
    fn a_data_key_opens_under_its_own_id_and_key_only() {
        let ((_a, _, kek), (_b, _, other)) = (made(), made());
        let wrapped = kek.wrap("one", &[7; 32]).unwrap();
        assert_eq!(*kek.unwrap("one", &wrapped).unwrap(), [7; 32]);
        assert!(matches!(kek.unwrap("two", &wrapped), Err(SealingKeyError::KekReplaced(_))));
        assert!(matches!(other.unwrap("one", &wrapped), Err(SealingKeyError::KekReplaced(_))));
        assert_ne!(kek.id(), other.id());
    }

    #[tokio::test]
    async fn a_token_that_hangs_is_given_up_and_holds_one_thread() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let patience = Duration::from_millis(100);
        let hung = within(patience, move || {
            // Until it is released.
            held.recv().map_err(|_| SealingKeyError::Behind)
        });
        let refused = hung.await.unwrap_err();
        assert!(refused.to_string().contains("did not answer within 10 seconds"), "{refused}");
        let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let asks = asked.clone();
        let again = within(patience, move || {
            asks.store(true, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        });
        assert!(again.await.is_err());
        assert!(!asked.load(std::sync::atomic::Ordering::SeqCst), "a second thread hangs on it");
        drop(release);
    }

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        let (_folder, path, kek) = made();
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = format!("{kek:?} {}", kek.id());
        let key = text.trim();
        assert!(!shown.contains(key) && key.len() == 44);
        let refused = KekSource::File(path.clone()).make().unwrap_err().to_string();
        assert!(refused.contains("exists already"), "{refused}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = KeyEncryptionKey::load(&KekSource::File(path)).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
    }
}
