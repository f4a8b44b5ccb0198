//! Who may watch this broker, and what its log looks like.

use std::net::SocketAddr;

use homeward_telemetry::logs::Format;
use serde::Deserialize;

/// Who may watch this broker, and what its log looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// Where /metrics listens; nowhere if unset.
    pub metrics: Option<SocketAddr>,
    /// What a line of the log looks like.
    pub log: Format,
}
