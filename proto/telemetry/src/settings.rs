//! `[telemetry]` of either program's configuration.

use std::net::SocketAddr;

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
        let address = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.:[]_".contains(c);
        match address {
            Some(address) if !address.is_empty() && address.chars().all(plain) => Ok(Self(text)),
            _ => Err("telemetry.otlp must be http://host:port of a collector that takes OTLP over gRPC"),
        }
    }
}
