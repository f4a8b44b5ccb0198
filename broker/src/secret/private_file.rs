//! Files with something that only their owner may read.

use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::secret::SecretError;

/// More than any key or PIN takes, in bytes.
const LONGEST: usize = 4096;

/// Text that only its owner may read.
pub(super) fn private_text(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let unreadable = |error| SecretError::KeyFile(path.to_owned(), error);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    if is_open_to_others(path, &file.metadata().map_err(unreadable)?) {
        return Err(SecretError::KeyFileMode(path.to_owned()));
    }
    // Room for all of it at once: no copy stays behind where a smaller buffer was.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST));
    file.take(LONGEST as u64).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// Whether others than its owner may read a file.
pub fn is_open_to_others(path: &Path, file: &Metadata) -> bool {
    // systemd lets the unit's user in by an ACL, whose mask shows in the mode; the folder is closed to everyone else.
    let of_systemd = credentials().is_some_and(|folder| path.starts_with(folder));
    !of_systemd && file.permissions().mode() & 0o077 != 0
}

/// Where systemd puts the credentials of this process (systemd.exec(5)).
#[expect(clippy::disallowed_methods, reason = "systemd says it in no other way")]
pub(super) fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}
