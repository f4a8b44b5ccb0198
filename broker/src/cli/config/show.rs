//! `homeward-broker config show`.

use std::path::Path;

use anyhow::Context as _;
use homeward_proto::v1;
use serde_json::{Value, json};

use crate::cli::admin::{connect, refusal};
use crate::cli::output::{Output, Row, time};
use crate::config::{CertificateSource, Config};

/// A setting and where it comes from.
struct Shown {
    name: String,
    value: Value,
    from: String,
    remark: String,
}

pub(super) async fn run(config: &Config, file: &Path, output: Output) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let mut shown = own(config, &text.parse().context("the file is no TOML")?);
    let request = v1::ListSettingsRequest {};
    let settings = connect(config).await?.list_settings(request).await.map_err(|status| refusal(&status))?;
    shown.extend(settings.into_inner().settings.into_iter().map(of_federation));
    output.list(&shown);
    Ok(())
}

fn of_federation(setting: v1::Setting) -> Shown {
    let json = |text: &str| text.parse::<Value>().unwrap_or_default();
    let from = match setting.named_by.as_str() {
        "" => "store, since the federation was made".to_owned(),
        broker => format!("store, by the file of {broker} at {}", time(setting.named_time.as_ref())),
    };
    let mut remark = Vec::new();
    if !setting.until_restart_value_json.is_empty() {
        remark.push(format!("this broker goes by {} until it is restarted", setting.until_restart_value_json));
    }
    if !setting.file_value_json.is_empty() && setting.file_value_json != setting.value_json {
        remark.push(format!("the file of this broker says {}", setting.file_value_json));
    }
    let value = json(&setting.value_json);
    Shown { name: setting.name, value, from, remark: remark.join("; ") }
}

/// What each broker has for itself.
fn own(config: &Config, file: &toml::Table) -> Vec<Shown> {
    let named = |name: &str| match name.split_once('.') {
        None => file.contains_key(name),
        Some((head, name)) => file.get(head).and_then(toml::Value::as_table).is_some_and(|it| it.contains_key(name)),
    };
    let shown = |name: &str, ways: &[&str], value: Option<String>| {
        let from = if ways.iter().any(|way| named(way)) { "file" } else { "default" };
        let value = value.map(Value::from)?;
        Some(Shown { name: name.to_owned(), value, from: from.to_owned(), remark: String::new() })
    };
    let path = |path: &Path| path.display().to_string();
    let (certificate, key) = config.etcd.certificate_and_key_files.clone().unzip();
    let (user, password) = config.etcd.user_and_password_file.clone().unzip();
    let (files, acme) = match config.https.as_ref().map(|https| &https.certificate) {
        Some(CertificateSource::Files { certificate, private_key }) => (Some((certificate, private_key)), None),
        Some(CertificateSource::Acme(acme)) => (None, Some(acme)),
        None => (None, None),
    };
    let (public_certificate, public_key) = files.map(|(chain, key)| (path(chain), path(key))).unzip();
    let rows = [
        shown("data_dir", &["data_dir"], config.data_dir.as_deref().map(path)),
        shown("store", &["store"], Some(config.store.to_string())),
        shown(
            "key_encryption_key",
            &["key_encryption_key_file", "key_encryption_key_credential", "pkcs11"],
            Some(config.kek.current.to_string()),
        ),
        shown(
            "previous_key_encryption_key",
            &["previous_key_encryption_key_file", "previous_key_encryption_key_credential", "previous_pkcs11"],
            config.kek.previous.as_ref().map(ToString::to_string),
        ),
        shown("admin_socket", &["admin_socket"], Some(path(&config.admin_socket))),
        shown("trusted_proxies", &["trusted_proxies"], Some(config.trusted_proxies.to_string())),
        shown("listen.http", &["listen.http"], config.http.map(|at| at.to_string())),
        shown("listen.https", &["listen.https"], config.https.as_ref().map(|https| https.listen.to_string())),
        shown("listen.redirect", &["listen.redirect"], config.redirect.map(|at| at.to_string())),
        shown("listen.grpc", &["listen.grpc"], Some(config.grpc.to_string())),
        shown("etcd.ca_file", &["etcd.ca_file"], config.etcd.ca_file.as_deref().map(path)),
        shown("etcd.certificate_file", &["etcd.certificate_file"], certificate.as_deref().map(path)),
        shown("etcd.private_key_file", &["etcd.private_key_file"], key.as_deref().map(path)),
        shown("etcd.user", &["etcd.user"], user),
        shown("etcd.password_file", &["etcd.password_file"], password.as_deref().map(path)),
        shown("tls.certificate_file", &["tls.certificate_file"], public_certificate),
        shown("tls.private_key_file", &["tls.private_key_file"], public_key),
        shown("tls.acme.directory", &["tls.acme"], acme.map(|acme| acme.directory.to_string())),
        shown("tls.acme.contact", &["tls.acme"], acme.map(|acme| acme.contact.join(", "))),
        shown("tls.acme.ca_file", &["tls.acme"], acme.and_then(|acme| acme.ca_file.as_deref()).map(path)),
        shown("telemetry.metrics", &["telemetry.metrics"], config.telemetry.metrics.map(|at| at.to_string())),
        shown("telemetry.otlp", &["telemetry.otlp"], config.telemetry.otlp.as_ref().map(|to| to.as_str().to_owned())),
        shown(
            "telemetry.otlp_ca_file",
            &["telemetry.otlp_ca_file"],
            config.telemetry.otlp_ca_file.as_deref().map(path),
        ),
        shown("telemetry.log", &["telemetry.log"], Some(config.telemetry.log.as_str().to_owned())),
        shown("outbound.ca_file", &["outbound.ca_file"], config.outbound_ca_file.as_deref().map(path)),
    ];
    rows.into_iter().flatten().collect()
}

impl Row for Shown {
    const COLUMNS: &'static [&'static str] = &["SETTING", "VALUE", "FROM", "REMARK"];

    fn cells(&self) -> Vec<String> {
        let value = self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned);
        vec![self.name.clone(), value, self.from.clone(), self.remark.clone()]
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "value": self.value, "from": self.from, "remark": self.remark })
    }
}
