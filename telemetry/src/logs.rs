//! The log: to standard error, for people or for programs.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _, registry};

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// As it is written in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

/// Begins to log what the filter lets through.
///
/// # Errors
/// When somebody else has begun already.
pub fn start(format: Format, filter: EnvFilter) -> Result<(), TryInitError> {
    let lines = layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    registry().with(filter).with(lines).try_init()
}
