//! `[telemetry]` of either program's configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::Uri;
use http::uri::{Authority, Scheme};
use serde::Deserialize;

use crate::logs::Format;

/// Who watches, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Settings {
    /// Where /metrics listens; nowhere if unset.
    pub metrics: Option<SocketAddr>,
    /// Who gets traces of logins; nobody if unset.
    pub otlp: Option<Collector>,
    /// Who vouches for him, as PEM; the CAs of this machine if unset.
    pub otlp_ca_file: Option<PathBuf>,
    /// What a line of the log looks like.
    pub log: Format,
}

/// As it stands in the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    metrics: Option<SocketAddr>,
    otlp: Option<Collector>,
    otlp_ca_file: Option<PathBuf>,
    log: Format,
}

impl TryFrom<Written> for Settings {
    type Error = &'static str;

    fn try_from(Written { metrics, otlp, otlp_ca_file, log }: Written) -> Result<Self, Self::Error> {
        if otlp_ca_file.is_some() && !otlp.as_ref().is_some_and(Collector::speaks_tls) {
            return Err("telemetry.otlp_ca_file needs an otlp of https://host:port");
        }
        Ok(Self { metrics, otlp, otlp_ca_file, log })
    }
}

/// Where a collector takes OTLP over gRPC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Collector {
    written: String,
    uri: Uri,
}

impl Collector {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Its address.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether what is told goes there by TLS.
    pub fn speaks_tls(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }
}

impl TryFrom<String> for Collector {
    type Error = &'static str;

    /// With its port, because OTLP has one of its own; without a path, because gRPC has none.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let named = |authority: &Authority| {
            !authority.host().is_empty() && authority.port_u16().is_some() && !authority.as_str().contains('@')
        };
        let usable = |uri: &Uri| {
            let known = uri.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
            known && uri.path() == "/" && uri.query().is_none() && uri.authority().is_some_and(named)
        };
        match text.parse() {
            Ok(uri) if usable(&uri) => Ok(Self { written: text, uri }),
            _ => Err(
                "telemetry.otlp must be http://host:port or https://host:port of a collector that takes OTLP over gRPC",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_host_and_a_port() {
        let is_one = |text: &str| Collector::try_from(text.to_owned()).is_ok();
        for text in
            ["http://127.0.0.1:4317", "http://otel-collector:4317/", "http://[::1]:4317", "https://otlp.example:4317"]
        {
            assert!(is_one(text), "{text}");
        }
        for text in [
            "",
            "collector:4317",
            "http://",
            "http://:4317",
            "http://collector",
            "http://a:b:4317",
            "http://a:99999",
            "http://a:4317/v1/traces",
            "http://user@a:4317",
            "https://a",
            "ftp://a:4317",
        ] {
            assert!(!is_one(text), "{text}");
        }
    }

    #[test]
    fn a_ca_is_named_for_a_collector_behind_tls_only() {
        let settings = |otlp: Option<&str>| {
            let otlp = otlp.map(|text| Collector::try_from(text.to_owned()).unwrap());
            let otlp_ca_file = Some("/etc/collector.pem".into());
            Settings::try_from(Written { otlp, otlp_ca_file, ..Written::default() })
        };
        assert!(settings(Some("https://a:4317")).is_ok());
        assert!(settings(Some("http://a:4317")).is_err() && settings(None).is_err());
    }
}
