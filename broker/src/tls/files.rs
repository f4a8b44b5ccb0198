//! A certificate and its key in files, which somebody else renews.
//!
//! Looked at every few seconds: by name, so that it does not matter whether they were written anew, renamed into their place
//! or are symbolic links that lead elsewhere now. Two files cannot change at once, so they are read when they have been left
//! alone since the last look.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::secret::is_open_to_others;
use crate::tls::{Served, Unusable};

/// Between two looks.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// What tells a file from the one that was there before: where it is, how long it is, and when it or its mode changed.
type Face = [i64; 6];

/// The files.
#[derive(Debug)]
pub(super) struct Files {
    paths: Paths,
    /// How they looked last; when they were read last, unless that failed and may work the next time; and when what is shown
    /// was read.
    seen: Option<[Face; 2]>,
    read: Option<[Face; 2]>,
    shown: Option<[Face; 2]>,
    at_once: bool,
    problem: Option<String>,
}

#[derive(Clone, Debug)]
struct Paths {
    certificate: PathBuf,
    private_key: PathBuf,
}

impl Files {
    /// Reads them.
    pub(super) async fn open(certificate: PathBuf, private_key: PathBuf) -> Result<(Self, Served), FilesError> {
        let paths = Paths { certificate, private_key };
        // First the look: what changes after it is seen by the next.
        let seen = blocking(paths.clone(), |paths| Ok(paths.faces())).await?;
        let served = blocking(paths.clone(), Paths::read).await?;
        Ok((Self { paths, seen, read: seen, shown: seen, at_once: false, problem: None }, served))
    }

    /// Does not wait until they have been left alone.
    pub(super) fn look_at_once(&mut self) {
        self.at_once = true;
    }

    /// What is in them, if that is something new.
    pub(super) async fn look(&mut self) -> Option<Served> {
        let at_once = std::mem::take(&mut self.at_once);
        let now = blocking(self.paths.clone(), |paths| Ok(paths.faces())).await.ok().flatten();
        let settled = at_once || now == self.seen;
        self.seen = now;
        if !settled || (now == self.read && !at_once) {
            return None;
        }
        match blocking(self.paths.clone(), Paths::read).await {
            Ok(served) => {
                let is_new = now != self.shown;
                (self.read, self.shown, self.problem) = (now, now, None);
                is_new.then_some(served)
            }
            Err(error) => {
                // What is in them will not get better by itself; that they cannot be read may.
                self.read = now.filter(|_| !matches!(error, FilesError::Unreadable(..)));
                self.problem = Some(format!("the certificate of before is shown: {error}"));
                None
            }
        }
    }

    /// Why what is in them is not shown.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// Off the runtime's threads: they may be on a network's file system.
async fn blocking<T: Send + 'static>(
    paths: Paths,
    act: impl FnOnce(&Paths) -> Result<T, FilesError> + Send + 'static,
) -> Result<T, FilesError> {
    let of = paths.certificate.clone();
    let done = tokio::task::spawn_blocking(move || act(&paths)).await;
    done.map_err(|error| FilesError::Unreadable(CERTIFICATE, of, io::Error::other(error)))?
}

const CERTIFICATE: &str = "certificate_file";
const PRIVATE_KEY: &str = "private_key_file";

impl Paths {
    fn faces(&self) -> Option<[Face; 2]> {
        let face = |path: &PathBuf| path.metadata().ok().map(|file| face(&file));
        Some([face(&self.certificate)?, face(&self.private_key)?])
    }

    fn read(&self) -> Result<Served, FilesError> {
        let Self { certificate, private_key } = self;
        let unreadable = |error| FilesError::Unreadable(PRIVATE_KEY, private_key.clone(), error);
        if is_open_to_others(private_key, &private_key.metadata().map_err(unreadable)?) {
            return Err(FilesError::Open(private_key.clone()));
        }
        let key = Zeroizing::new(std::fs::read(private_key).map_err(unreadable)?);
        let key = PrivateKeyDer::from_pem_slice(&key);
        let key = key.map_err(|_| FilesError::Unusable(private_key.clone(), Unusable::Key))?;
        let chain = std::fs::read(certificate);
        let chain = chain.map_err(|error| FilesError::Unreadable(CERTIFICATE, certificate.clone(), error))?;
        let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>();
        let unusable = |why| FilesError::Unusable(certificate.clone(), why);
        Served::new(chain.map_err(|_| unusable(Unusable::NoCertificate))?, key).map_err(unusable)
    }
}

fn face(file: &Metadata) -> Face {
    let place = [file.dev(), file.ino(), file.size()].map(u64::cast_signed);
    [place[0], place[1], place[2], file.mtime(), file.mtime_nsec(), file.ctime() ^ file.ctime_nsec().rotate_left(32)]
}

/// Why the files of `[tls]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Not there, or not for this user.
    #[error("tls.{0}: {path} cannot be read by the broker's user: {2}", path = .1.display())]
    Unreadable(&'static str, PathBuf, #[source] io::Error),
    /// Others than the owner may read it.
    #[error("tls.private_key_file: {path} may be read by others than its owner: chmod 600 {path}", path = .0.display())]
    Open(PathBuf),
    /// Something else is in it.
    #[error("[tls] {path}: {1}; put the chain, leaf first, and its key there as PEM", path = .0.display())]
    Unusable(PathBuf, #[source] Unusable),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "files of a test")]
    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[tokio::test]
    async fn what_is_broken_or_does_not_fit_is_not_taken_up_and_what_fits_again_is() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let ((first, first_key), (second, second_key)) = (pair(), pair());
        write(&certificate, &first);
        write(&key, &first_key);
        let (mut files, _) = Files::open(certificate.clone(), key.clone()).await.unwrap();
        assert!(files.look().await.is_none(), "nothing changed");
        // Only half of it is there yet.
        write(&certificate, &second);
        assert!(files.look().await.is_none() && files.problem().is_none(), "the other half may be on its way");
        assert!(files.look().await.is_none());
        assert!(files.problem().unwrap().contains("not that of the certificate"), "{:?}", files.problem());
        // The other half, renamed into its place.
        let beside = folder.path().join("key.new");
        write(&beside, &second_key);
        std::fs::rename(&beside, &key).unwrap();
        assert!(files.look().await.is_none());
        assert!(files.look().await.is_some() && files.problem().is_none(), "{:?}", files.problem());
        for (text, why) in [
            ("", "no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "no certificate"),
        ] {
            write(&certificate, text);
            files.look_at_once();
            assert!(files.look().await.is_none() && files.problem().unwrap().contains(why), "{:?}", files.problem());
        }
        std::fs::remove_file(&certificate).unwrap();
        assert!(files.look().await.is_none());
        assert!(files.look().await.is_none() && files.problem().unwrap().contains("cannot be read"));
        write(&certificate, &second);
        files.look_at_once();
        assert!(files.look().await.is_some() && files.problem().is_none(), "{:?}", files.problem());
    }

    #[tokio::test]
    async fn files_that_are_away_for_a_moment_are_read_again_and_are_nothing_new() {
        let folder = tempfile::tempdir().unwrap();
        let (here, away) = (folder.path().join("here"), folder.path().join("away"));
        std::fs::create_dir(&here).unwrap();
        let (certificate, key) = (here.join("chain.pem"), here.join("key.pem"));
        let (chain, private) = pair();
        write(&certificate, &chain);
        write(&key, &private);
        let (mut files, _) = Files::open(certificate, key).await.unwrap();
        // As a network's file system that does not answer.
        std::fs::rename(&here, &away).unwrap();
        files.look_at_once();
        assert!(files.look().await.is_none() && files.problem().unwrap().contains("cannot be read"));
        std::fs::rename(&away, &here).unwrap();
        assert!(files.look().await.is_none());
        assert!(files.look().await.is_none() && files.problem().is_none(), "{:?}", files.problem());
    }

    #[tokio::test]
    async fn a_key_that_others_can_read_is_refused_until_they_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let (chain, private) = pair();
        write(&certificate, &chain);
        write(&key, &private);
        let chmod = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        chmod(0o640);
        let refused = Files::open(certificate.clone(), key.clone()).await.unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        chmod(0o600);
        let (mut files, _) = Files::open(certificate.clone(), key.clone()).await.unwrap();
        chmod(0o640);
        assert!(files.look().await.is_none() && files.look().await.is_none());
        assert!(files.problem().unwrap().contains("chmod 600"));
        chmod(0o600);
        assert!(files.look().await.is_none());
        assert!(files.look().await.is_some() && files.problem().is_none(), "a mode is a change, too");
    }
}
