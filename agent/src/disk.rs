//! What the agent keeps: private files, each replaced whole (write, fsync, rename, fsync of the folder), so that a crash
//! leaves the old file or the new one and never half of one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::Zeroizing;

/// No file of ours comes near this; a larger one is not ours.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// What can go wrong with a private file. The paths are for the operator, the causes too; contents are never named.
#[derive(Debug, Error)]
pub enum DiskError {
    /// Reading or writing failed.
    #[error("cannot {action} {path}: {source}; check the disk and who owns the folder", path = path.display())]
    Failed {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others can read it.
    #[error("{path} is open to other users; run: chmod go-rwx {path}", path = path.display())]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
    },
    /// It is not what the agent wrote.
    #[error("{path} is damaged; restore it from a backup or move it away and enrol again with a new join token", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Another agent has this data directory.
    #[error("another homeward-agent uses {path}; stop it first", path = path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
}

/// A folder that only the agent can read.
#[derive(Debug, Clone)]
pub struct PrivateDir {
    path: PathBuf,
}

/// Held while an agent runs; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl PrivateDir {
    /// Makes the folder if there is none. One that others can read is refused, not mended: they may have read it.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))?;
        let metadata = path.metadata().map_err(failed("read", path))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(DiskError::TooOpen { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that no second agent works on the folder.
    pub fn lock(&self) -> Result<DirLock, DiskError> {
        let path = self.path.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DirLock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DiskError::InUse { path: self.path.clone() }),
            Err(errno) => Err(DiskError::Failed { action: "lock", path, source: errno.into() }),
        }
    }

    /// Reads a file; `None` if there is none.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DiskError> {
        let path = self.path.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let metadata = file.metadata().map_err(failed("read", &path))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(DiskError::TooOpen { path });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default()));
        file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|source| DiskError::Damaged { path, source })
    }

    /// Replaces a file. When this returns, the new contents survive a power cut.
    pub fn store<T: Serialize>(&self, name: &str, contents: &T) -> Result<(), DiskError> {
        let path = self.path.join(name);
        let bytes = serde_json::to_vec(contents).map_err(|source| DiskError::Damaged { path: path.clone(), source })?;
        let bytes = Zeroizing::new(bytes);
        replace_private(&path, &bytes).map_err(|source| DiskError::Failed { action: "write", path, source })
    }

    /// Removes a file, if there is one.
    pub fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => sync_folder(&self.path).map_err(failed("write", &self.path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }
}

/// Makes what was renamed, linked or removed in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Replaces a file with one that only its owner can read. When this returns, the new contents survive a power cut.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let suffix = crate::random::bytes::<8>().map_err(io::Error::other)?;
    let temporary = folder.join(format!(".{name}.{:016x}", u64::from_be_bytes(suffix)));
    let written = write_new(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path))
        .and_then(|()| sync_folder(folder));
    if written.is_err() {
        // Nothing to be done if it stays: the next write takes another name.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Failed { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn private_dir() -> (tempfile::TempDir, PrivateDir) {
        let parent = tempfile::tempdir().unwrap();
        let dir = PrivateDir::open(&parent.path().join("data")).unwrap();
        (parent, dir)
    }

    #[test]
    fn what_was_stored_is_loaded_and_private() {
        let (_parent, dir) = private_dir();
        assert_eq!(dir.load::<String>("a.json").unwrap(), None);
        dir.store("a.json", &"one").unwrap();
        dir.store("a.json", &"two").unwrap();
        assert_eq!(dir.load::<String>("a.json").unwrap().as_deref(), Some("two"));
        let path = dir.path().join("a.json");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(dir.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file may stay");
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let (_parent, dir) = private_dir();
        dir.store("a.json", &"secret").unwrap();
        std::fs::set_permissions(dir.path().join("a.json"), Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(dir.load::<String>("a.json"), Err(DiskError::TooOpen { .. })));
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(PrivateDir::open(dir.path()), Err(DiskError::TooOpen { .. })));
    }

    #[test]
    fn a_damaged_file_is_named_and_not_quoted() {
        let (_parent, dir) = private_dir();
        write_new(&dir.path().join("a.json"), b"{\"key\": \"canary").unwrap();
        let error = dir.load::<String>("a.json").unwrap_err();
        assert!(matches!(error, DiskError::Damaged { .. }));
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[test]
    fn a_second_agent_is_refused() {
        let (_parent, dir) = private_dir();
        let lock = dir.lock().unwrap();
        assert!(matches!(dir.lock(), Err(DiskError::InUse { .. })));
        drop(lock);
        dir.lock().unwrap();
    }
}
