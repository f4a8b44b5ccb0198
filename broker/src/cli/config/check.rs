//! `homeward-broker config check`.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::bail;
use rustix::fs::{Access, access};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::cli::output::{Output, print_line};
use crate::cli::serve;
use crate::clock::Clock;
use crate::config::Config;
use crate::outbound;
use crate::secret::{KekSource, KeyEncryptionKey, is_open_to_others};
use crate::storage::address::StoreAddress;
use crate::tls;

/// What was found.
#[derive(Default)]
struct Findings {
    /// A broker would not start.
    refused: Vec<String>,
    /// It would, and ops should know.
    remarks: Vec<String>,
}

/// The file was read already: what is wrong in it has been said.
pub(super) async fn run(config: &Config, file: &Path, output: Output) -> anyhow::Result<()> {
    let mut found = Findings::default();
    found.keys(config).await;
    found.etcd(config);
    if let Some(path) = &config.telemetry.otlp_ca_file {
        found.pem("telemetry.otlp_ca_file", path, &certificates);
    }
    found.folders(config, file);
    if let Err(error) = outbound::roots("outbound.ca_file", config.outbound_ca_file.as_deref()) {
        found.refused.push(error.to_string());
    }
    if let Some(https) = &config.https {
        let host = config.named.federation().map(|federation| federation.issuer.host()).ok();
        match tls::check(&https.certificate, host.as_deref(), Clock::system().now()).await {
            Ok(remark) => found.remarks.extend(remark),
            Err(refused) => found.refused.push(refused.to_string()),
        }
    }
    found.remarks.extend(serve::unproxied(config));
    if config.named.federation().is_err() {
        let sentence = "public_url, agent_url and trust_domain are not all named: the store has to say the others";
        found.remarks.push(sentence.to_owned());
    }
    let (ok, public_url) = (found.refused.is_empty(), config.named.text("public_url"));
    match output {
        Output::Table => found.remarks.iter().for_each(|remark| print_line(&format_args!("note: {remark}"))),
        Output::Json => {
            print_line(
                &json!({"ok": ok, "public_url": public_url, "refused": found.refused, "remarks": found.remarks}),
            );
        }
    }
    if !ok {
        bail!("a broker would not start: {}", found.refused.join("; "));
    }
    if output == Output::Table {
        print_line(&"The configuration can be used.");
    }
    Ok(())
}

impl Findings {
    async fn keys(&mut self, config: &Config) {
        match (&config.kek.current, KeyEncryptionKey::look(&config.kek.current).await) {
            (_, Ok(_)) => {}
            // Only a process of the unit is given it.
            (KekSource::Credential(_), Err(error)) => self.remarks.push(format!("not looked at: {}", chain(&error))),
            (_, Err(error)) => self.refused.push(chain(&error)),
        }
        if let Some(previous) = &config.kek.previous
            && let Err(error) = KeyEncryptionKey::look(previous).await
        {
            self.remarks.push(format!("the previous key-encryption key cannot be used: {}", chain(&error)));
        }
    }

    fn etcd(&mut self, config: &Config) {
        let etcd = &config.etcd;
        if let Some(path) = &etcd.ca_file {
            self.pem("etcd.ca_file", path, &certificates);
        }
        if let Some((certificate, key)) = &etcd.certificate_and_key_files {
            self.pem("etcd.certificate_file", certificate, &certificates);
            self.pem("etcd.private_key_file", key, &|pem| PrivateKeyDer::from_pem_slice(pem).is_ok());
            self.private("etcd.private_key_file", key);
        }
        if let Some((_, password)) = &etcd.user_and_password_file {
            self.pem("etcd.password_file", password, &|text| std::str::from_utf8(text).is_ok());
            self.private("etcd.password_file", password);
        }
    }

    fn pem(&mut self, option: &str, path: &Path, is: &dyn Fn(&[u8]) -> bool) {
        match std::fs::read(path) {
            Ok(text) if is(&text) => {}
            Ok(_) => self.refused.push(format!("{option}: {} does not hold what it should", path.display())),
            Err(error) => self.refused.push(format!("{option}: {} cannot be read: {error}", path.display())),
        }
    }

    fn private(&mut self, option: &str, path: &Path) {
        // That it is not there has been said.
        let Ok(file) = path.metadata() else { return };
        if is_open_to_others(path, &file) {
            let path = path.display();
            self.refused.push(format!("{option}: {path} may be read by others than its owner: chmod 600 {path}"));
        }
    }

    fn folders(&mut self, config: &Config, file: &Path) {
        if let Some(folder) = &config.data_dir {
            self.folder("data_dir", folder, file);
        }
        if let StoreAddress::Sled(folder) = &config.store
            && config.data_dir.as_ref().is_none_or(|data_dir| data_dir.exists())
        {
            self.folder("store", folder, file);
        }
        let socket = config.admin_socket.parent().filter(|folder| !folder.as_os_str().is_empty());
        // Made at the start where it is missing, if that is allowed.
        if let Some(folder) = socket.and_then(|folder| folder.ancestors().find(|folder| folder.exists()))
            && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err()
        {
            self.refused.push(format!("admin_socket: nothing may be made in {} by this user", folder.display()));
        }
    }

    fn folder(&mut self, option: &str, folder: &Path, file: &Path) {
        let shown = folder.display();
        let Ok(found) = folder.metadata() else {
            let init = format!("homeward-broker --config {} init", file.display());
            return self.refused.push(format!("{option}: {shown} does not exist: make it by `{init}`"));
        };
        if !found.is_dir() {
            self.refused.push(format!("{option}: {shown} is no folder"));
        } else if access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
            self.refused.push(format!("{option}: {shown} may not be read and written by this user"));
        } else if is_listed_by_others(&found) {
            self.remarks.push(format!("{option}: {shown} is open to others than its owner: chmod 700 {shown}"));
        }
    }
}

fn is_listed_by_others(folder: &Metadata) -> bool {
    folder.permissions().mode() & 0o077 != 0
}

fn certificates(pem: &[u8]) -> bool {
    let mut found = CertificateDer::pem_slice_iter(pem).peekable();
    found.peek().is_some() && found.all(|certificate| certificate.is_ok())
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}
