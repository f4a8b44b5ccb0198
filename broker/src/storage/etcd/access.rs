//! How an etcd knows this broker, and this broker the etcd: from files to what is sent.
//!
//! The files are read again whenever a member is connected to anew, and when it does not accept what was in them: a
//! certificate that was renewed, or a password that was changed, is taken up without a restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use etcd_client::{Certificate, Identity, TlsOptions};
use rustls::RootCertStore;
use tracing::warn;

use crate::secret::is_open_to_others;
use crate::storage::address::EtcdAccess;

/// The files, and what was in them when they could be read last.
pub(super) struct Credentials {
    files: EtcdAccess,
    last: Mutex<Arc<Access>>,
}

/// What was in the files.
pub(super) struct Access {
    /// For members that are reached by https.
    pub(super) tls: TlsOptions,
    /// User and password.
    pub(super) user: Option<(String, String)>,
    /// Tells it from what is in them at another time.
    hash: Vec<u8>,
}

/// A file of `[etcd]` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Not there, or not for this user.
    #[error("etcd.{option}: {path} cannot be read: {error}", path = path.display())]
    Unreadable {
        /// Which.
        option: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Others than the owner may read it.
    #[error("etcd.{option}: {path} may be read by others than its owner: chmod 600 {path}", path = path.display())]
    Open {
        /// Which.
        option: &'static str,
        /// Where.
        path: PathBuf,
    },
}

impl Credentials {
    /// Reads the files.
    pub(super) async fn load(files: &EtcdAccess) -> Result<Self, AccessError> {
        let last = Mutex::new(Arc::new(load(files).await?));
        Ok(Self { files: files.clone(), last })
    }

    /// Who this broker says that it is.
    pub(super) fn user(&self) -> Option<&str> {
        self.files.user_and_password_file.as_ref().map(|(user, _)| user.as_str())
    }

    /// What is in the files now; while they are being replaced, what was in them before.
    pub(super) async fn read(&self) -> Arc<Access> {
        match load(&self.files).await {
            Ok(access) => {
                let access = Arc::new(access);
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = access.clone();
                access
            }
            Err(error) => {
                warn!(%error, "what was in the files of [etcd] before is used for now");
                self.last()
            }
        }
    }

    /// Whether there is something else in the files than when they were read last.
    pub(super) async fn are_new(&self) -> bool {
        let last = self.last().hash.clone();
        load(&self.files).await.is_ok_and(|access| access.hash != last)
    }

    fn last(&self) -> Arc<Access> {
        // Nothing panics while it is held.
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn load(files: &EtcdAccess) -> Result<Access, AccessError> {
    let (mut tls, mut hash) = (TlsOptions::new(), Context::new(&SHA256));
    tls = match &files.ca_file {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read("ca_file", path, &mut hash).await?)),
        None => {
            let mut machine = RootCertStore::empty();
            machine.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            tls.trust_anchors(machine.roots)
        }
    };
    if let Some((certificate, key)) = &files.certificate_and_key_files {
        let certificate = read("certificate_file", certificate, &mut hash).await?;
        private("private_key_file", key).await?;
        tls = tls.identity(Identity::from_pem(certificate, read("private_key_file", key, &mut hash).await?));
    }
    let user = match &files.user_and_password_file {
        None => None,
        Some((user, path)) => {
            private("password_file", path).await?;
            let text = read("password_file", path, &mut hash).await?;
            let unreadable = |_| AccessError::Unreadable {
                option: "password_file",
                path: path.clone(),
                error: std::io::ErrorKind::InvalidData.into(),
            };
            let text = String::from_utf8(text).map_err(unreadable)?;
            Some((user.clone(), text.trim_end_matches(['\r', '\n']).to_owned()))
        }
    };
    Ok(Access { tls, user, hash: hash.finish().as_ref().to_vec() })
}

async fn read(option: &'static str, path: &Path, hash: &mut Context) -> Result<Vec<u8>, AccessError> {
    let text = tokio::fs::read(path).await;
    let text = text.map_err(|error| AccessError::Unreadable { option, path: path.to_owned(), error })?;
    // The length first: no two sets of files are one text.
    hash.update(&text.len().to_be_bytes());
    hash.update(&text);
    Ok(text)
}

/// What is secret is for the broker's user alone.
async fn private(option: &'static str, path: &Path) -> Result<(), AccessError> {
    match tokio::fs::metadata(path).await {
        Ok(file) if is_open_to_others(path, &file) => Err(AccessError::Open { option, path: path.to_owned() }),
        // That it is not there is said by who reads it.
        _ => Ok(()),
    }
}
