//! A set of files that changes all at once: each version in a folder of its own, and a link `current` to the one in use.
//! An application that opens a file through the link never sees half a set, and a crash at any step leaves the old set or
//! the new one.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::owner::Owner;
use super::render::RenderedFile;
use crate::disk::sync_folder;

/// The link.
pub(crate) const CURRENT: &str = "current";
/// The link that is about to become `current`.
const NEXT: &str = ".current.next";

/// Where an application's credential files are.
#[derive(Debug)]
pub(crate) struct FileSet {
    folder: PathBuf,
    owner: Owner,
}

/// What a write replaced, for the way back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Swapped {
    version: OsString,
    previous: Option<OsString>,
}

/// Why a set of files is not in place.
#[derive(Debug, Error)]
pub(crate) enum FilesError {
    /// A step failed; `current` leads where it led before.
    #[error("cannot {step} {path}: {source}; check the disk, the owner and that the agent may change it", path = path.display())]
    Failed {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something else has the name of the link.
    #[error("{path} is no link of the agent's; move it away", path = .0.display())]
    NotALink(PathBuf),
}

impl FileSet {
    /// The set in this folder.
    pub(crate) fn at(folder: &Path, owner: Owner) -> Self {
        Self { folder: folder.to_owned(), owner }
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder, if there is none. Others may enter it, but each version in it is closed to everyone but its
    /// owner.
    pub(super) fn make(&self) -> Result<(), FilesError> {
        if self.folder.is_dir() {
            return Ok(());
        }
        let made = DirBuilder::new().recursive(true).create(&self.folder);
        // Also under the umask of the systemd unit, with which the application's user could not enter.
        let opened = made.and_then(|()| std::fs::set_permissions(&self.folder, Permissions::from_mode(0o755)));
        opened.map_err(failed("create", &self.folder))
    }

    /// Whether `current` has exactly these files, with nothing open to others.
    pub(crate) fn holds(&self, files: &[RenderedFile]) -> bool {
        let Ok(Some(version)) = self.current() else { return false };
        let version = self.folder.join(version);
        let same = |file: &RenderedFile| {
            let path = version.join(&file.name);
            let closed = path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0);
            closed && std::fs::read(&path).is_ok_and(|bytes| bytes == file.expose_bytes())
        };
        let count = std::fs::read_dir(&version).map_or(0, Iterator::count);
        count == files.len() && files.iter().all(same)
    }

    /// Writes a version and swaps it in.
    pub(crate) fn write(&self, revision: u64, files: &[RenderedFile]) -> Result<Swapped, FilesError> {
        let previous = self.current()?;
        let version = self.free_name(revision, previous.as_ref())?;
        let path = self.folder.join(&version);
        let written = self.write_version(&path, files).and_then(|()| self.point_to(&version));
        if let Err(error) = written {
            // What is half written must not stay: it may hold the secret. `current` does not lead here.
            let _ = std::fs::remove_dir_all(&path);
            return Err(error);
        }
        Ok(Swapped { version, previous })
    }

    /// Makes `current` lead where it led before, and removes the version that failed. What is gone already is no failure.
    pub(crate) fn roll_back(&self, swapped: &Swapped) -> Result<(), FilesError> {
        match &swapped.previous {
            Some(previous) => self.point_to(previous)?,
            None => {
                let link = self.folder.join(CURRENT);
                gone(std::fs::remove_file(&link)).map_err(failed("remove", &link))?;
                sync_folder(&self.folder).map_err(failed("sync", &self.folder))?;
            }
        }
        let path = self.folder.join(&swapped.version);
        gone(std::fs::remove_dir_all(&path)).map_err(failed("remove", &path))
    }

    /// Removes all versions but the one in use and the one before it.
    pub(crate) fn forget_older(&self, swapped: &Swapped) -> Result<(), FilesError> {
        for entry in std::fs::read_dir(&self.folder).map_err(failed("list", &self.folder))? {
            let name = entry.map_err(failed("list", &self.folder))?.file_name();
            let kept = name == swapped.version || Some(&name) == swapped.previous.as_ref();
            if is_version(&name) && !kept {
                let path = self.folder.join(name);
                std::fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Where `current` leads.
    fn current(&self) -> Result<Option<OsString>, FilesError> {
        let link = self.folder.join(CURRENT);
        match std::fs::read_link(&link) {
            Ok(target) if target.file_name().is_some_and(|name| name == target.as_os_str() && is_version(name)) => {
                Ok(Some(target.into_os_string()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Ok(_) | Err(_) => Err(FilesError::NotALink(link)),
        }
    }

    /// `v<revision>`, or with a suffix if that is in use. What a crash left behind is not in use.
    fn free_name(&self, revision: u64, current: Option<&OsString>) -> Result<OsString, FilesError> {
        let plain = OsString::from(format!("v{revision}"));
        let name = if current == Some(&plain) { OsString::from(format!("v{revision}.1")) } else { plain };
        let path = self.folder.join(&name);
        match std::fs::remove_dir_all(&path) {
            Ok(()) => Ok(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(name),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }

    fn write_version(&self, path: &Path, files: &[RenderedFile]) -> Result<(), FilesError> {
        DirBuilder::new().mode(0o700).create(path).map_err(failed("create", path))?;
        for file in files {
            let path = path.join(&file.name);
            self.write_file(&path, file.expose_bytes()).map_err(failed("write", &path))?;
        }
        let folder = File::open(path).map_err(failed("open", path))?;
        self.give_away(&folder).map_err(failed("give away", path))?;
        folder.sync_all().map_err(failed("sync", path))
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // Before there is anything in it: at no moment does another owner's file hold the secret.
        self.give_away(&file)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn give_away(&self, file: &File) -> io::Result<()> {
        if self.owner == Owner::default() {
            return Ok(());
        }
        Ok(rustix::fs::fchown(file, self.owner.user, self.owner.group)?)
    }

    /// Swaps the link: rename(2) replaces it in one step.
    fn point_to(&self, version: &OsString) -> Result<(), FilesError> {
        let next = self.folder.join(NEXT);
        match std::fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &next)(error)),
            Ok(()) | Err(_) => {}
        }
        symlink(version, &next).map_err(failed("link", &next))?;
        let current = self.folder.join(CURRENT);
        std::fs::rename(&next, &current).map_err(failed("swap", &current))?;
        sync_folder(&self.folder).map_err(failed("sync", &self.folder))
    }
}

fn is_version(name: &std::ffi::OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix('v'));
    digits.is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit()) && rest.chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Failed { step, path, source }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::render::tests::files;
    use crate::apply::render::{Addresses, Credential, Credentials, render};
    use crate::recipe::Recipe;

    fn rendered(secret: &str) -> Vec<RenderedFile> {
        let credentials = Credentials {
            addresses: Addresses::of("https://login.example"),
            issuer: "https://login.example".to_owned(),
            client_id: "beta".to_owned(),
            secret_version: 1,
            credential: Credential::Secret(secret.into()),
        };
        let recipe = Recipe::embedded("django-allauth").unwrap().relying_party.unwrap();
        render(files(&recipe), &credentials.values()).unwrap()
    }

    fn file_set() -> (tempfile::TempDir, FileSet) {
        let parent = tempfile::tempdir().unwrap();
        let set = FileSet::at(&parent.path().join("credentials"), Owner::default());
        set.make().unwrap();
        (parent, set)
    }

    fn in_use(set: &FileSet) -> Option<String> {
        std::fs::read_to_string(set.folder.join("current/homeward_allauth.json")).ok()
    }

    fn versions(set: &FileSet) -> Vec<String> {
        let entries = std::fs::read_dir(&set.folder).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_set_is_swapped_whole_and_closed_to_others() {
        let (_parent, set) = file_set();
        assert!(!set.holds(&rendered("one")));
        set.write(7, &rendered("one")).unwrap();
        assert!(set.holds(&rendered("one")) && !set.holds(&rendered("two")));
        let version = set.folder.join("current");
        assert_eq!(std::fs::read_link(&version).unwrap(), Path::new("v7"));
        assert_eq!(version.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let file = version.join("homeward_allauth.json");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_the_version_before_is_kept() {
        let (_parent, set) = file_set();
        for (revision, secret) in [(1, "one"), (2, "two"), (3, "three")] {
            let swapped = set.write(revision, &rendered(secret)).unwrap();
            set.forget_older(&swapped).unwrap();
        }
        assert_eq!(versions(&set), ["current", "v2", "v3"]);
    }

    #[test]
    fn a_rollback_leads_back_even_to_nothing() {
        let (_parent, set) = file_set();
        let first = set.write(1, &rendered("one")).unwrap();
        set.roll_back(&first).unwrap();
        assert_eq!(in_use(&set), None);
        assert_eq!(versions(&set), Vec::<String>::new());
        set.write(1, &rendered("one")).unwrap();
        let second = set.write(2, &rendered("two")).unwrap();
        set.roll_back(&second).unwrap();
        assert!(set.holds(&rendered("one")));
        assert_eq!(versions(&set), ["current", "v1"]);
    }

    #[test]
    fn the_same_revision_can_be_written_again() {
        let (_parent, set) = file_set();
        set.write(5, &rendered("one")).unwrap();
        let again = set.write(5, &rendered("two")).unwrap();
        assert!(set.holds(&rendered("two")));
        set.forget_older(&again).unwrap();
        set.write(5, &rendered("three")).unwrap();
        assert!(set.holds(&rendered("three")));
    }

    #[test]
    fn what_a_crash_left_behind_is_written_over() {
        let (_parent, set) = file_set();
        std::fs::create_dir_all(set.folder.join("v3/half")).unwrap();
        symlink("v3", set.folder.join(NEXT)).unwrap();
        set.write(3, &rendered("three")).unwrap();
        assert!(set.holds(&rendered("three")));
    }

    #[test]
    fn a_failed_step_leaves_the_old_set_and_no_secret_behind() {
        let (_parent, set) = file_set();
        set.write(1, &rendered("one")).unwrap();
        // A file that cannot be written: its name is taken by a folder of the same version.
        let mut files = rendered("two");
        files.push(rendered("two").remove(0));
        assert!(matches!(set.write(2, &files), Err(FilesError::Failed { step: "write", .. })));
        assert!(set.holds(&rendered("one")));
        assert_eq!(versions(&set), ["current", "v1"]);
        // A link that cannot be swapped.
        std::fs::create_dir_all(set.folder.join(NEXT).join("in the way")).unwrap();
        assert!(matches!(set.write(2, &rendered("two")), Err(FilesError::Failed { step: "remove", .. })));
        assert!(set.holds(&rendered("one")));
        assert!(!set.folder.join("v2").exists());
    }

    #[test]
    fn a_foreign_current_is_left_alone() {
        let (_parent, set) = file_set();
        std::fs::create_dir(set.folder.join(CURRENT)).unwrap();
        assert!(matches!(set.write(1, &rendered("one")), Err(FilesError::NotALink(_))));
        std::fs::remove_dir(set.folder.join(CURRENT)).unwrap();
        symlink("/etc", set.folder.join(CURRENT)).unwrap();
        assert!(matches!(set.write(1, &rendered("one")), Err(FilesError::NotALink(_))));
    }
}
