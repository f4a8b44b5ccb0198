//! sled's files, open: whether there is one broker for them, and room for what it writes.

use std::fs::{DirBuilder, File};
use std::io::Error as IoError;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Advice, StatVfsMountFlags, fadvise, fstatvfs};
use sled::{Batch, IVec};
use tracing::debug;

/// sled's page cache, in bytes: small, because what is hot lives in snapshots above the store and in
/// [`Recent`](super::Recent).
const CACHE: u64 = 4 * 1024 * 1024;

/// How often, and in what pauses, a folder is tried that is in use.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Bytes that stay free: sled does not survive a write that fails, and needs some to be opened again.
const RESERVE: u64 = 16 * 1024 * 1024;

/// Holds the revision of the last commit. Sorts before all tables.
const REVISION_KEY: &[u8] = b"\0revision";

/// Why the folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// sled locks the folder.
    #[error("{} is in use by another broker: stop that one first", .0.display())]
    InUse(PathBuf),
    /// sled cannot read it.
    #[error("the store cannot be opened")]
    Sled(#[source] sled::Error),
    /// The operating system says no.
    #[error("the store's file cannot be opened")]
    File(#[source] IoError),
    /// Not written by this program.
    #[error("the store holds no readable revision")]
    Revision,
}

/// Why nothing can be written, though nothing is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRoom {
    /// Nearly.
    #[error("the disk of the store is full: make room, at least {} MiB", RESERVE / 1024 / 1024)]
    Full,
    /// As a file system becomes after errors of its disk.
    #[error("the file system of the store is read-only: mount it for writing again")]
    ReadOnly,
}

/// The database of a folder.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) db: sled::Db,
    /// Of the last commit.
    pub(super) revision: u64,
    file: File,
}

impl Opened {
    /// Opens the folder, or makes it.
    #[expect(clippy::disallowed_methods, reason = "before anything runs; sled tells nobody when it lets go")]
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        make_private(folder).map_err(OpenError::File)?;
        let mut tries = 1..LOCK_TRIES;
        let db = loop {
            match sled::Config::new().path(folder).cache_capacity(CACHE).flush_every_ms(None).open() {
                Ok(db) => break db,
                // A store that was closed is let go of when the last of sled's own threads is done with it.
                Err(sled::Error::Io(io)) if is_lock_error(&io) => match tries.next() {
                    Some(_) => std::thread::sleep(LOCK_PAUSE),
                    None => return Err(OpenError::InUse(folder.to_owned())),
                },
                Err(error) => return Err(OpenError::Sled(error)),
            }
        };
        let file = File::open(folder.join("db")).map_err(OpenError::File)?;
        make_files_durable(folder).map_err(OpenError::File)?;
        let revision = db.get(REVISION_KEY).map_err(OpenError::Sled)?;
        let revision = match revision.as_deref().map(<[u8; 8]>::try_from) {
            None => 0,
            Some(Ok(bytes)) => u64::from_be_bytes(bytes),
            Some(Err(_)) => return Err(OpenError::Revision),
        };
        Ok(Self { db, revision, file })
    }

    /// Whether a commit can be tried. Asked before each: it is two microseconds, and sled is in no state to go on after
    /// a write that failed.
    pub(super) fn has_room(&self) -> Result<(), NoRoom> {
        // Who cannot be asked is no obstacle: the write will tell.
        let Ok(found) = fstatvfs(&self.file) else { return Ok(()) };
        if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(NoRoom::ReadOnly);
        }
        if found.f_bavail.saturating_mul(found.f_frsize) < RESERVE { Err(NoRoom::Full) } else { Ok(()) }
    }

    /// Writes a batch to the tree, with the revision it makes.
    pub(super) fn apply(&mut self, mut batch: Batch, revision: u64) -> Result<(), sled::Error> {
        batch.insert(REVISION_KEY, IVec::from(&revision.to_be_bytes()));
        self.db.apply_batch(batch)?;
        self.revision = revision;
        Ok(())
    }

    /// Makes durable what was applied.
    pub(super) fn sync(&self) -> Result<(), sled::Error> {
        self.db.flush()?;
        Ok(self.file.sync_data()?)
    }

    /// Closes it after an error of the disk. What the kernel could not write it takes for written from then on, so its
    /// memory of the file is no witness: whoever opens it next is to read the disk.
    pub(super) fn close(self) {
        let Self { db, file, .. } = self;
        // It panics if it cannot sync what it has, and the kernel is to forget that all the same.
        drop(catch_unwind(AssertUnwindSafe(|| drop(db))));
        if let Err(error) = fadvise(&file, 0, None, Advice::DontNeed) {
            debug!(%error, "what the kernel remembers of the store's file is read again as it is");
        }
    }
}

/// Makes the folder for its owner only, if it is not there: sled leaves that to the umask.
fn make_private(folder: &Path) -> Result<(), IoError> {
    if folder.exists() { Ok(()) } else { DirBuilder::new().recursive(true).mode(0o700).create(folder) }
}

/// sled writes its settings when it makes a folder, and syncs neither these nor the names of its files: a store whose
/// settings are lost with the power does not open.
fn make_files_durable(folder: &Path) -> Result<(), IoError> {
    File::open(folder.join("conf"))?.sync_all()?;
    for folder in [Some(folder.join("blobs")).as_deref(), Some(folder), folder.parent()].into_iter().flatten() {
        // The folder that a relative path is in has no name.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn is_lock_error(error: &IoError) -> bool {
    error.to_string().contains("could not acquire lock")
}
