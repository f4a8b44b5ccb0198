//! What can be wrong with secrets and with the keys that seal them.

use std::path::PathBuf;

use crate::secret::KekId;
use crate::secret::token::TokenError;
use crate::storage::StoreError;

/// What can be wrong with a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The operating system gave no random bytes.
    #[error("the machine has no randomness to give")]
    NoRandomness,
    /// The key-encryption key, or the PIN of its token, cannot be read.
    #[error("{} cannot be read: the key-encryption key, or the way to it, is configured to be there", .0.display())]
    KeyFile(PathBuf, #[source] std::io::Error),
    /// Others than the owner may read it.
    #[error("{file} may be read by others than its owner: chmod 600 {file}", file = .0.display())]
    KeyFileMode(PathBuf),
    /// Something else.
    #[error("{} holds no key-encryption key", .0.display())]
    NoKeyInFile(PathBuf, #[source] Box<Self>),
    /// Nothing is overwritten.
    #[error("{} exists already, and only a new key-encryption key is written", .0.display())]
    KeyFileExists(PathBuf),
    /// It cannot be written.
    #[error("{} cannot be written", .0.display())]
    KeyFileNotMade(PathBuf, #[source] std::io::Error),
    /// systemd gave no credentials.
    #[error(
        "the key-encryption key is configured to be the credential {0:?}, and systemd gave none to this process: name it in \
         LoadCredentialEncrypted= of the unit, or run the command under `systemd-run` with that property"
    )]
    NoCredentials(String),
    /// Not 32 bytes in base64.
    #[error("a key-encryption key is 32 bytes in base64")]
    NotAKey,
    /// Not 32 bytes in base64url.
    #[error("a SHA-256 hash is 43 characters of base64url")]
    NotAHash,
    /// Altered, sealed for another purpose or by another key.
    #[error("a sealed value cannot be opened: was it altered, or the key-encryption key replaced?")]
    NotSealedForThis,
}

/// Why the sealing keys cannot be used, or do not turn.
#[derive(Debug, thiserror::Error)]
pub enum SealingKeyError {
    /// A key cannot be read or made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The token does not do it.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another key-encryption key.
    #[error(
        "the store was sealed with the key-encryption key {wrapped_by}, and the configuration names {known}: name that one, \
         or, while a key is turned, the old one as `previous_…` beside the new one"
    )]
    AnotherKek {
        /// Which it takes.
        wrapped_by: KekId,
        /// Which there are.
        known: String,
    },
    /// The right name, and another key or another text.
    #[error(
        "the key-encryption key {0} does not open what it sealed: bring back the key that was replaced, or a backup of the store"
    )]
    KekReplaced(KekId),
    /// A store of the release before, and a key that is not its own.
    #[error(
        "the key-encryption key {0} opens nothing in the store: name the key file that it was made with, and turn the key \
         (`homeward-broker kek rotate`) when the broker runs"
    )]
    NothingOpens(String),
    /// Nothing to open.
    #[error("the store holds no keys: run `homeward-broker init` on an empty store")]
    NoKeys,
    /// No turn leaves it so.
    #[error("{0} data keys are active in the store, and only one may be: restore the store from a backup")]
    NotOneActive(usize),
    /// It hangs.
    #[error(
        "the key-encryption key did not answer within 10 seconds: see whether its PKCS#11 token, or the disk that it is on, \
         works, and try again"
    )]
    Silent,
    /// This very broker is behind.
    #[error("this broker does not follow the store: try again")]
    Behind,
    /// Somebody could not open what would be sealed.
    #[error(
        "the new key-encryption key is not known to the broker of {0}: configure both keys there, restart it, and try again"
    )]
    NotKnownEverywhere(String),
    /// Turned too often.
    #[error(
        "there are {0} data keys already: the next turn has to wait until one has gone, see `homeward-broker kek show`"
    )]
    TooMany(usize),
}
