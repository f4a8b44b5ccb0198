//! Files of the operator's with a secret in them: read where it is used, refused if everybody on the machine can read it,
//! overwritten when it has been used, and never printed.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

/// No secret is longer.
const LARGEST_FILE: u64 = 64 * 1024;

/// Why there is no secret. Nothing of it is in it.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// The file.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A secret that is none any more.
    #[error("everybody on this machine can read {path}; run: chmod o= {path}", path = .0.display())]
    Open(PathBuf),
    /// Too long, or no text.
    #[error("{path} is no text of at most 64 KiB", path = .0.display())]
    NoText(PathBuf),
    /// Nothing in it that would keep anybody out.
    #[error("{path} must hold a secret of at least {least} characters", path = .path.display())]
    TooShort {
        /// Which.
        path: PathBuf,
        /// What is enough.
        least: usize,
    },
}

/// What is in a file, without the spaces and line ends around it.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    read_all(path).map(|text| Zeroizing::new(text.trim().to_owned()))
}

/// What is in a file; less than so many characters would keep nobody out.
pub(crate) fn read_of(path: &Path, least: usize) -> Result<Zeroizing<String>, SecretFileError> {
    let secret = read(path)?;
    if secret.len() < least {
        return Err(SecretFileError::TooShort { path: path.to_owned(), least });
    }
    Ok(secret)
}

/// All that is in a file.
pub(crate) fn read_all(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let unreadable = |source| SecretFileError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(SecretFileError::Open(path.to_owned()));
    }
    let no_text = || SecretFileError::NoText(path.to_owned());
    if metadata.len() > LARGEST_FILE {
        return Err(no_text());
    }
    // With the whole length from the beginning, so that no half of it stays behind when it grows.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1));
    match file.take(LARGEST_FILE).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(source) if source.kind() == io::ErrorKind::InvalidData => Err(no_text()),
        Err(source) => Err(unreadable(source)),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "operators write files as they like")]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_secret_is_a_text_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let put = |bytes: &[u8], mode| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        assert!(matches!(read(&path), Err(SecretFileError::Unreadable { .. })));
        put(b" canary \r\n", 0o640);
        assert_eq!((read(&path).unwrap().as_str(), read_all(&path).unwrap().as_str()), ("canary", " canary \r\n"));
        let error = read_of(&path, 16).unwrap_err();
        assert!(matches!(error, SecretFileError::TooShort { .. }) && !format!("{error} {error:?}").contains("canary"));
        put(b"canary", 0o644);
        assert!(matches!(read(&path), Err(SecretFileError::Open(_))));
        put(&[0xff, 0xfe], 0o600);
        assert!(matches!(read(&path), Err(SecretFileError::NoText(_))));
    }
}
