//! Why a rotation is refused.

use homeward_certs::identity::InstanceName;

use crate::authority::CaError;
use crate::keys::KeyError;
use crate::rotation::record::RotationSubject;
use crate::secret::SecretError;
use crate::storage::StoreError;

/// Why a rotation is refused.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// It proves itself by nothing that could turn here.
    #[error("{0} has no client credential that could turn: its instance certificate says who it is")]
    NoCredential(InstanceName),
    /// One at a time.
    #[error("{0} turns already: see `rotation status`; it can be taken back first")]
    AlreadyTurning(RotationSubject),
    /// Nothing to take back or to resume.
    #[error("{0} does not turn: see `rotation status`")]
    NotTurning(RotationSubject),
    /// The old value is gone.
    #[error("{0} cannot be taken back any more: the old value is gone; it can only be turned again")]
    TooLate(RotationSubject),
    /// It waits for nothing that ops could waive.
    #[error("{0} has not paused: it goes on by itself")]
    NotPaused(RotationSubject),
    /// Not enrolled, or cut off.
    #[error("there is no active instance {0}: see `instance list`")]
    UnknownInstance(InstanceName),
    /// It has no client.
    #[error("{0} is not a relying party: it has no client secret")]
    NoRelyingParty(InstanceName),
    /// A key of an algorithm is missing.
    #[error("no active signing key is stored: restore the store from a backup")]
    NoActiveKey,
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The CA did not take the step.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// A secret could not be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}
