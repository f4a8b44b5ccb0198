//! The log: to standard error, for people or for programs.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, registry};

use crate::settings::Settings;
use crate::traces::{TARGET, Traces};

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

/// Begins to log what `filter` lets through, and to send traces, if somebody takes them. Within the runtime. What comes back
/// is to be [ended](Traces::end).
///
/// # Errors
/// When somebody else has begun already.
pub fn start(settings: &Settings, program: &'static str, filter: &str) -> Result<Option<Traces>, LogError> {
    // Nobody pays for spans that nobody takes; in the log, the id of a login stands in each line already. That a collector
    // is away is told once, by us.
    let filter = EnvFilter::builder().parse_lossy(format!("opentelemetry=off,{filter},{TARGET}=off"));
    let (traces, problem) = match Traces::begin(settings, program) {
        Ok(traces) => (traces, None),
        // A program without traces is watched all the same, one without a log is not.
        Err(error) => (None, Some(error)),
    };
    match &traces {
        Some(traces) => {
            // Where in the code it was, and by which thread, is nobody's business.
            let told = tracing_opentelemetry::layer().with_tracer(traces.tracer());
            let told = told.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
            // The level is said, too: else every line of every library would be asked for that nobody wants to read.
            let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
            let told = told.with_filter(ours.with_max_level_hint(LevelFilter::INFO));
            registry().with(told).with(lines(settings.log).with_filter(filter)).try_init()?;
        }
        None => registry().with(filter).with(lines(settings.log)).try_init()?,
    }
    if let Some(error) = problem {
        let error: &dyn std::error::Error = &error;
        tracing::error!(error, "telemetry.otlp cannot be used: there are no traces of logins");
    }
    Ok(traces)
}

fn lines<S>(format: Format) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let lines = layer().with_writer(std::io::stderr).with_target(false);
    match format {
        Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is one.
    #[error(transparent)]
    Begun(#[from] TryInitError),
}
