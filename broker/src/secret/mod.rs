//! Secrets: made, hashed, compared and sealed here and nowhere else.
//!
//! * [`OpaqueSecret`]: 256 random bits as text, for codes, tokens, handles, session ids and client secrets. The store
//!   holds its [`SecretHash`] only; SHA-256 is enough for what cannot be guessed.
//! * [`SealingKeys`]: seals what must be read again. Each [`Purpose`] has a key of its own, so that something
//!   sealed for one purpose never opens for another.
//! * [`KeyEncryptionKey`]: the one key that is not in the store. It seals nothing but *data keys*, the ones that
//!   [`SealingKeys`] are made from, and comes from a file, from systemd or stays in a token.
//!
//! A data key goes from pending to active to retired and is then deleted; [`KeyTurn`] moves it. Exactly one is active:
//! it seals. All of them open, because a sealed value does not say by which it was sealed.

mod adoption;
mod data_key;
mod error;
mod kek;
mod keyed_hash;
mod opaque;
mod private_file;
mod purpose;
mod ring;
mod sealed;
mod sealed_table;
mod token;
mod turn;

pub use adoption::{adopt, first_key};
pub use data_key::{DataKeyState, StoredDataKey};
pub use error::{SealingKeyError, SecretError};
pub use kek::{Created, KekId, KekSource, KekSources, KeyEncryptionKey, KeyEncryptionKeys};
pub use keyed_hash::KeyedHash;
pub use opaque::{OpaqueSecret, SecretHash};
pub use private_file::is_open_to_others;
pub use purpose::Purpose;
pub use ring::SealingKeys;
pub use sealed::Sealed;
pub use sealed_table::{HoldsSealed, SealedTable};
pub use token::TokenSource;
pub use turn::{KeyStatus, KeyTurn, Progress, TurnFoundations, Turned};

/// So many random bytes.
///
/// # Errors
/// When the machine has no randomness to give.
pub fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SecretError::NoRandomness)?;
    Ok(bytes)
}
