//! HTTPS by the broker itself: where, and by which certificate.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use crate::config::ConfigError;

/// HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// Where.
    pub listen: SocketAddr,
    /// What is shown there.
    pub certificate: CertificateSource,
}

/// Where the certificate of the public address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// From files that somebody else renews.
    Files {
        /// The chain, leaf first, as PEM.
        certificate: PathBuf,
        /// Its key as PEM, for the broker's user only.
        private_key: PathBuf,
    },
    /// From a CA that the broker asks itself.
    Acme(AcmeSettings),
}

/// The CA, and who asks it (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// Its directory.
    pub directory: Url,
    /// Whom it may write to.
    pub contact: Vec<String>,
    /// CAs by which its server is known, beside those of the machine, as PEM.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    certificate_file: Option<PathBuf>,
    private_key_file: Option<PathBuf>,
    acme: Option<RawAcme>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAcme {
    directory: String,
    #[serde(default)]
    contact: Vec<String>,
    #[serde(default)]
    accept_terms: bool,
    ca_file: Option<PathBuf>,
}

/// What the two sections say together.
pub(super) fn https(listen: Option<SocketAddr>, tls: Option<RawTls>) -> Result<Option<Https>, ConfigError> {
    match (listen, tls) {
        (None, None) => Ok(None),
        (Some(listen), Some(tls)) => Ok(Some(Https { listen, certificate: tls.try_into()? })),
        _ => Err(ConfigError::HttpsWithoutTls),
    }
}

impl TryFrom<RawTls> for CertificateSource {
    type Error = ConfigError;

    fn try_from(raw: RawTls) -> Result<Self, ConfigError> {
        match (raw.certificate_file, raw.private_key_file, raw.acme) {
            (Some(certificate), Some(private_key), None) => Ok(Self::Files { certificate, private_key }),
            (None, None, Some(acme)) => acme.try_into().map(Self::Acme),
            _ => Err(ConfigError::Certificate),
        }
    }
}

impl TryFrom<RawAcme> for AcmeSettings {
    type Error = ConfigError;

    fn try_from(raw: RawAcme) -> Result<Self, ConfigError> {
        let directory = Url::parse(&raw.directory).ok().filter(|url| url.scheme() == "https" && url.has_host());
        let directory = directory.ok_or(ConfigError::AcmeDirectory)?;
        if !raw.accept_terms {
            return Err(ConfigError::AcmeTerms);
        }
        let wrong = raw.contact.iter().find(|contact| !contact.starts_with("mailto:") || !contact.contains('@'));
        match wrong {
            Some(wrong) => Err(ConfigError::AcmeContact(wrong.clone())),
            None => Ok(Self { directory, contact: raw.contact, ca_file: raw.ca_file }),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{CertificateSource, Config};

    const STORE: &str = "data_dir = \"/d\"\n";
    const HTTPS: &str = "[listen]\nhttps = \"0.0.0.0:443\"\n";
    const ACME: &str = "[tls.acme]\ndirectory = \"https://ca.example/dir\"\n";

    #[test]
    fn https_takes_the_place_of_http_unless_both_are_wanted() {
        let files = "[tls]\ncertificate_file = \"/c\"\nprivate_key_file = \"/k\"";
        let config = Config::parse(&format!("{STORE}{HTTPS}{files}")).unwrap();
        assert!(config.http.is_none() && config.redirect.is_none());
        assert!(matches!(config.https.unwrap().certificate, CertificateSource::Files { .. }));
        let config = Config::parse(&format!("{STORE}{HTTPS}http = \"127.0.0.1:8080\"\n{files}")).unwrap();
        assert!(config.http.is_some() && config.https.is_some());
        assert!(Config::parse(STORE).unwrap().http.is_some());
        let acme = Config::parse(&format!("{STORE}{HTTPS}{ACME}accept_terms = true")).unwrap();
        assert!(matches!(acme.https.unwrap().certificate, CertificateSource::Acme(_)));
    }

    #[test]
    fn half_of_it_is_refused_with_a_sentence() {
        for (text, sentence) in [
            (HTTPS.to_owned(), "belong together"),
            ("[tls]\ncertificate_file = \"/c\"\nprivate_key_file = \"/k\"".to_owned(), "belong together"),
            (format!("{HTTPS}[tls]\ncertificate_file = \"/c\""), "either certificate_file and private_key_file"),
            (format!("{HTTPS}[tls]\nprivate_key_file = \"/k\"\n{ACME}accept_terms = true"), "either certificate_file"),
            (format!("{HTTPS}{ACME}"), "accept_terms must be true"),
            (format!("{HTTPS}[tls.acme]\ndirectory = \"http://ca\"\naccept_terms = true"), "https URL"),
            (format!("{HTTPS}{ACME}accept_terms = true\ncontact = [\"ops\"]"), "mailto:ops@example.org"),
        ] {
            let refused = Config::parse(&format!("{STORE}{text}")).unwrap_err().to_string();
            assert!(refused.contains(sentence), "{text}: {refused}");
        }
    }
}
