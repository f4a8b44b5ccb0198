//! The tables whose records hold something sealed, each with a way through its records.

use crate::secret::{Purpose, Sealed, SealingKeys, SecretError};
use crate::storage::StoreError;
use crate::storage::table::{Record, decode, encode};

/// A record that holds something sealed.
pub trait HoldsSealed: Record {
    /// Everything sealed in it, and for what.
    fn sealed(&mut self) -> Vec<(Purpose, &mut Sealed)>;
}

/// A table of such records, for who walks all of them.
#[derive(Clone, Copy, Debug)]
pub struct SealedTable {
    pub(super) name: &'static str,
    pub(super) reseal: fn(&[u8], &SealingKeys) -> Result<Resealed, Unreadable>,
}

/// A record after everything in it was opened.
pub(super) struct Resealed {
    /// How many sealed things it holds.
    pub(super) opened: usize,
    /// The record with all of it sealed by the active data key, if it was not before.
    pub(super) value: Option<Vec<u8>>,
}

/// Why a record cannot be sealed again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// It is no such record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No data key opens it.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl SealedTable {
    /// The table of these records.
    pub const fn of<T: HoldsSealed>() -> Self {
        Self { name: T::TABLE, reseal: reseal::<T> }
    }

    /// The prefix of its keys.
    pub(super) fn prefix(&self) -> String {
        format!("{}/", self.name)
    }
}

fn reseal<T: HoldsSealed>(value: &[u8], sealing: &SealingKeys) -> Result<Resealed, Unreadable> {
    let mut record: T = decode(value)?;
    let (mut opened, mut changed) = (0, false);
    for (purpose, sealed) in record.sealed() {
        changed |= sealing.reseal(purpose, sealed)?;
        opened += 1;
    }
    let value = if changed { Some(encode(&record)?) } else { None };
    Ok(Resealed { opened, value })
}
