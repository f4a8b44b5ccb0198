//! How an etcd knows this broker, and this broker the etcd: from files to what is sent.

use std::path::{Path, PathBuf};

use etcd_client::{Certificate, Identity, TlsOptions};
use rustls::RootCertStore;

use crate::storage::address::EtcdAccess;

/// What was in the files.
pub(super) struct Access {
    /// For members that are reached by https.
    pub(super) tls: TlsOptions,
    /// User and password.
    pub(super) user: Option<(String, String)>,
}

/// A file of `[etcd]` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("etcd.{option}: {} cannot be read: {error}", path.display())]
pub struct AccessError {
    option: &'static str,
    path: PathBuf,
    error: std::io::Error,
}

pub(super) async fn load(access: &EtcdAccess) -> Result<Access, AccessError> {
    let mut tls = TlsOptions::new();
    tls = match &access.ca_file {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read("ca_file", path).await?)),
        None => {
            let mut machine = RootCertStore::empty();
            machine.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            tls.trust_anchors(machine.roots)
        }
    };
    if let Some((certificate, key)) = &access.certificate_and_key_files {
        let (certificate, key) = (read("certificate_file", certificate).await?, read("private_key_file", key).await?);
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let user = match &access.user_and_password_file {
        None => None,
        Some((user, path)) => {
            let text = String::from_utf8(read("password_file", path).await?).map_err(|_| AccessError {
                option: "password_file",
                path: path.clone(),
                error: std::io::ErrorKind::InvalidData.into(),
            })?;
            Some((user.clone(), text.trim_end_matches(['\r', '\n']).to_owned()))
        }
    };
    Ok(Access { tls, user })
}

async fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, AccessError> {
    tokio::fs::read(path).await.map_err(|error| AccessError { option, path: path.to_owned(), error })
}
