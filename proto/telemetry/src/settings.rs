//! `[telemetry]` of either program's configuration.

use std::net::SocketAddr;

use http::Uri;
use http::uri::Authority;
use serde::Deserialize;

use crate::logs::Format;

/// Who watches, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where /metrics listens; nowhere if unset.
    pub metrics: Option<SocketAddr>,
    /// Who gets traces of logins; nobody if unset.
    pub otlp: Option<Collector>,
    /// What a line of the log looks like.
    pub log: Format,
}

/// Where a collector takes OTLP over gRPC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Collector(String);

impl Collector {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Collector {
    type Error = &'static str;

    /// A collector is on this machine or beside it: what goes there is no secret, and it is told apart by nothing.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let named = |authority: &Authority| {
            !authority.host().is_empty() && authority.port_u16().is_some() && !authority.as_str().contains('@')
        };
        let usable = text.parse::<Uri>().is_ok_and(|uri| {
            let plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
            plain && uri.authority().is_some_and(named)
        });
        if usable {
            Ok(Self(text))
        } else {
            Err("telemetry.otlp must be http://host:port of a collector that takes OTLP over gRPC")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_host_and_a_port() {
        let is_one = |text: &str| Collector::try_from(text.to_owned()).is_ok();
        for text in ["http://127.0.0.1:4317", "http://otel-collector:4317/", "http://[::1]:4317"] {
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
            "https://a:4317",
        ] {
            assert!(!is_one(text), "{text}");
        }
    }
}
