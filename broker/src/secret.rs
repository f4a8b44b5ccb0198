//! Secrets: made, hashed, compared and sealed here and nowhere else.
//!
//! * [`OpaqueSecret`]: 256 random bits as text, for codes, tokens, handles, session ids and client secrets. The store
//!   holds its [`SecretHash`] only; SHA-256 is enough for what cannot be guessed.
//! * [`SealingKeys`]: seals what must be read again. Each [`Purpose`] has a key of its own, so that something
//!   sealed for one purpose never opens for another.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// So many random bytes.
///
/// # Errors
/// When the machine has no randomness to give.
pub fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SecretError::NoRandomness)?;
    Ok(bytes)
}

/// 256 random bits as 43 characters of base64url.
#[derive(Clone)]
pub struct OpaqueSecret(SecretString);

impl OpaqueSecret {
    /// Length of the text.
    pub const LENGTH: usize = 43;

    /// A new one.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> Result<Self, SecretError> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random::<32>()?).into()))
    }

    /// The text, for the one party that it is made for.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What the store keeps of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.expose())
    }
}

impl fmt::Debug for OpaqueSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpaqueSecret(…)")
    }
}

/// SHA-256 of an [`OpaqueSecret`]. Its text is the key under which the store finds what the secret stands for, so a
/// look-up takes no time that depends on the secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(String);

impl SecretHash {
    /// The hash of a text that somebody sent, whatever it is.
    pub fn of(text: &str) -> Self {
        Self(URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes())))
    }

    /// 43 characters of base64url: a key of the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` has this hash, in constant time.
    pub fn matches(&self, text: &str) -> bool {
        self == &Self::of(text)
    }
}

impl FromStr for SecretHash {
    type Err = SecretError;

    /// Reads a hash that somebody else made: the S256 code challenge of RFC 7636 4.2 is one.
    fn from_str(text: &str) -> Result<Self, SecretError> {
        let digest = URL_SAFE_NO_PAD.decode(text).map_err(|_| SecretError::NotAHash)?;
        if digest.len() == 32 { Ok(Self(text.to_owned())) } else { Err(SecretError::NotAHash) }
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SecretHash {}

impl Hash for SecretHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for SecretHash {
    /// Enough to tell two apart in a log, too little to look one up by.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretHash({}…)", self.0.get(..6).unwrap_or_default())
    }
}

/// What something is sealed for. The texts are stored: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The CA's private key.
    AuthorityKey,
    /// A private key that signs ID tokens.
    SigningKey,
    /// The key that makes subjects.
    SubjectKey,
    /// The key that a join token's proof is checked with.
    JoinToken,
    /// A client secret on its way to its agent.
    ClientSecret,
    /// A login transaction in the user's hands, before the home is chosen.
    LoginTransaction,
    /// A login transaction in the user's hands, on the way to the home.
    Ticket,
    /// What an agent has to sign to come back by its recovery key.
    RecoveryChallenge,
    /// An authorization code.
    Code,
    /// An access token.
    AccessToken,
    /// A refresh token.
    RefreshToken,
    /// A login transaction in the user's hands, while consent is asked for.
    Consent,
    /// A value that a client has to put into its proofs (RFC 9449 8).
    DpopNonce,
    /// The broker's own client secret at an identity provider.
    UpstreamSecret,
    /// What a browser keeps of a login while it is at an identity provider.
    UpstreamLogin,
    /// What an agent of another broker is asked, and answers.
    Question,
}

impl Purpose {
    const ALL: [Self; 16] = [
        Self::AuthorityKey,
        Self::SigningKey,
        Self::SubjectKey,
        Self::JoinToken,
        Self::ClientSecret,
        Self::LoginTransaction,
        Self::Ticket,
        Self::RecoveryChallenge,
        Self::Code,
        Self::AccessToken,
        Self::RefreshToken,
        Self::Consent,
        Self::DpopNonce,
        Self::UpstreamSecret,
        Self::UpstreamLogin,
        Self::Question,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::AuthorityKey => "homeward authority key 1",
            Self::SigningKey => "homeward signing key 1",
            Self::SubjectKey => "homeward subject key 1",
            Self::JoinToken => "homeward join token 1",
            Self::ClientSecret => "homeward client secret 1",
            Self::LoginTransaction => "homeward login transaction 1",
            Self::Ticket => "homeward ticket 1",
            Self::RecoveryChallenge => "homeward recovery challenge 1",
            Self::Code => "homeward code 1",
            Self::AccessToken => "homeward access token 1",
            Self::RefreshToken => "homeward refresh token 1",
            Self::Consent => "homeward consent 1",
            Self::DpopNonce => "homeward dpop nonce 1",
            Self::UpstreamSecret => "homeward upstream secret 1",
            Self::UpstreamLogin => "homeward upstream login 1",
            Self::Question => "homeward question 1",
        }
    }
}

/// The key that seals secrets: 256 bits from a file that is not the store.
pub struct SealingKeys {
    keys: [RandomizedNonceKey; Purpose::ALL.len()],
}

impl SealingKeys {
    /// A new key as the text of its file: 32 bytes in base64 and a newline.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate_text() -> Result<SecretString, SecretError> {
        Ok(format!("{}\n", STANDARD.encode(*Zeroizing::new(random::<32>()?))).into())
    }

    /// Reads the key from its file.
    ///
    /// # Errors
    /// When the file is missing, others may read it, or it holds no key.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        use std::os::unix::fs::PermissionsExt as _;
        let unreadable = |error| SecretError::KeyFile(path.to_owned(), error);
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(SecretError::KeyFileMode(path.to_owned()));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
        Self::from_text(&text).map_err(|error| SecretError::NoKeyInFile(path.to_owned(), Box::new(error)))
    }

    /// Reads the key from the text of its file.
    ///
    /// # Errors
    /// When it is not 32 bytes in base64.
    pub fn from_text(text: &str) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| SecretError::NotAKey)?);
        if bytes.len() != 32 {
            return Err(SecretError::NotAKey);
        }
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"homeward key encryption key").extract(&bytes);
        let key = |purpose: Purpose| -> Result<RandomizedNonceKey, aws_lc_rs::error::Unspecified> {
            let mut key = Zeroizing::new([0; 32]);
            root.expand(&[purpose.text().as_bytes()], hkdf::HKDF_SHA256)?.fill(&mut *key)?;
            RandomizedNonceKey::new(&AES_256_GCM_SIV, &*key)
        };
        let keys: Result<Vec<_>, _> = Purpose::ALL.into_iter().map(key).collect();
        let keys = keys.ok().and_then(|keys| keys.try_into().ok()).ok_or(SecretError::NotAKey)?;
        Ok(Self { keys })
    }

    /// Seals: random nonce, ciphertext and tag (28 bytes more than `plain`).
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn seal(&self, purpose: Purpose, plain: &[u8]) -> Result<Sealed, SecretError> {
        let mut text = plain.to_vec();
        let nonce = self.keys[purpose as usize]
            .seal_in_place_append_tag(Aad::empty(), &mut text)
            .map_err(|_| SecretError::NoRandomness)?;
        Ok(Sealed(ByteBuf::from([nonce.as_ref().as_slice(), &text].concat())))
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

    /// Opens what was sealed for the same purpose.
    ///
    /// # Errors
    /// When it was not, or was altered.
    pub fn open(&self, purpose: Purpose, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let (nonce, text) = sealed.0.split_first_chunk::<NONCE_LEN>().ok_or(SecretError::NotSealedForThis)?;
        let mut text = Zeroizing::new(text.to_vec());
        let plain = self.keys[purpose as usize]
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut text)
            .map_err(|_| SecretError::NotSealedForThis)?
            .len();
        text.truncate(plain);
        Ok(text)
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKeys(…)")
    }
}

/// Something sealed by a [`SealingKeys`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(ByteBuf);

impl Sealed {
    /// base64url without padding: for the store and for addresses.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    /// Reads [`Sealed::to_text`].
    ///
    /// # Errors
    /// When it is not base64url.
    pub fn from_text(text: &str) -> Result<Self, SecretError> {
        URL_SAFE_NO_PAD.decode(text).map(|bytes| Self(ByteBuf::from(bytes))).map_err(|_| SecretError::NotSealedForThis)
    }
}

impl Serialize for Sealed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_text(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// HMAC-SHA256 under a stored key: for identifiers that must be stable and tell nothing.
pub struct KeyedHash(hmac::Key);

impl KeyedHash {
    /// With this key.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The 32 bytes for a list of parts; each is preceded by its length, so that `ab|c` and `a|bc` differ.
    pub fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.sign().as_ref());
        bytes
    }
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash(…)")
    }
}

/// What can be wrong with a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The operating system gave no random bytes.
    #[error("the machine has no randomness to give")]
    NoRandomness,
    /// The key-encryption key cannot be read.
    #[error("the key-encryption key file {} cannot be read", .0.display())]
    KeyFile(PathBuf, #[source] std::io::Error),
    /// Others than the owner may read it.
    #[error("the key-encryption key file {file} may be read by others than its owner: chmod 600 {file}", file = .0.display())]
    KeyFileMode(PathBuf),
    /// Something else.
    #[error("the key-encryption key file {} holds no key", .0.display())]
    NoKeyInFile(PathBuf, #[source] Box<Self>),
    /// Not 32 bytes in base64.
    #[error("a key-encryption key is 32 bytes in base64")]
    NotAKey,
    /// Not 32 bytes in base64url.
    #[error("a SHA-256 hash is 43 characters of base64url")]
    NotAHash,
    /// Altered, sealed for another purpose or by another key.
    #[error("a sealed value cannot be opened: was the key-encryption key replaced?")]
    NotSealedForThis,
}

#[cfg(test)]
mod tests {
    use super::*;

    impl SealingKeys {
        /// One that nobody has used.
        pub(crate) fn new_for_test() -> std::sync::Arc<Self> {
            std::sync::Arc::new(Self::from_text(Self::generate_text().unwrap().expose_secret()).unwrap())
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
        for index in 0..sealed.0.len() {
            let mut altered = sealed.clone();
            altered.0[index] ^= 1;
            assert!(sealing.open(Purpose::Ticket, &altered).is_err(), "byte {index}");
        }
        assert!(SealingKeys::new_for_test().open(Purpose::Ticket, &sealed).is_err());
        assert!(sealing.open(Purpose::Ticket, &Sealed(ByteBuf::new())).is_err());
    }

    #[test]
    fn secrets_differ_and_are_never_printed() {
        let (one, two) = (OpaqueSecret::generate().unwrap(), OpaqueSecret::generate().unwrap());
        assert_ne!(one.expose(), two.expose());
        assert_eq!(one.expose().len(), OpaqueSecret::LENGTH);
        assert!(one.hash().matches(one.expose()) && !one.hash().matches(two.expose()));
        assert!(!format!("{one:?} {:?}", one.hash()).contains(one.expose()));
    }

    #[test]
    fn a_keyed_hash_tells_its_parts_apart() {
        let hash = KeyedHash::new(b"key");
        assert_ne!(hash.of(&[b"ab", b"c"]), hash.of(&[b"a", b"bc"]));
        assert_ne!(hash.of(&[b"a"]), KeyedHash::new(b"other").of(&[b"a"]));
    }
}
