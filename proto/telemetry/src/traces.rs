//! Traces of logins, over OTLP.
//!
//! A login goes through browsers, which carry nothing of a trace that strangers could not set. So the id of its trace *is*
//! that of its transaction: whoever opens the sealed transaction, at the broker or at the home, knows where his step belongs,
//! and ops find the trace of a login by the id that stands in the audit and in the log. Calls between the two programs carry
//! `traceparent` (W3C Trace Context) in their metadata, so that one is seen within the other.
//!
//! Only spans of [`step`] and [`continued`] are told: the names of steps, and the id. Nothing else of a login gets there.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::settings::Collector;

/// What spans of logins are told apart by from all others.
pub(crate) const TARGET: &str = "homeward::login";

/// The header, and the key of metadata, that says within which span a call is made.
pub const TRACEPARENT: &str = "traceparent";

/// A collector that does not answer in this time misses what it was told.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest name of a parent that is read: the header has 55 characters.
const LONGEST_PARENT: usize = 64;

/// The way to a collector.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// To this collector, in the name of this program. Nobody waits for it, and what it does not take is lost. To be called
    /// within the runtime.
    ///
    /// # Errors
    /// When the address is none.
    pub fn to(collector: &Collector, program: &'static str) -> Result<Self, ExporterBuildError> {
        let exporter =
            SpanExporter::builder().with_tonic().with_endpoint(collector.as_str()).with_timeout(TIMEOUT).build()?;
        let named = [KeyValue::new("service.name", program), KeyValue::new("service.namespace", "homeward")];
        let resource = Resource::builder_empty().with_attributes(named).build();
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        self.0.tracer("homeward")
    }

    /// Tells what is left, for some seconds. To be called within the runtime.
    pub async fn end(self) {
        // It waits for the collector without letting others work.
        let last = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(TIMEOUT));
        if let Ok(Err(error)) = last.await {
            tracing::warn!(%error, "the last traces did not reach the collector");
        }
    }
}

/// A step of the login with this transaction.
pub fn step(name: &'static str, transaction: impl std::fmt::Display) -> Span {
    let span = info_span!(target: TARGET, "login", otel.name = name, transaction = %transaction);
    if !span.is_disabled()
        && let Some(login) = context_of(&transaction.to_string())
    {
        // Fails only for a span that somebody has entered.
        let _ = span.set_parent(login);
    }
    span
}

/// What is done for the one who calls.
pub fn continued(name: &'static str, traceparent: Option<&str>) -> Span {
    let span = info_span!(target: TARGET, "login", otel.name = name);
    if let (false, Some(parent)) = (span.is_disabled(), traceparent.filter(|parent| parent.len() <= LONGEST_PARENT)) {
        let headers = HashMap::from([(TRACEPARENT.to_owned(), parent.to_owned())]);
        // Fails only for a span that somebody has entered.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&headers));
    }
    span
}

/// What to send along with a call that is made within this span; nothing if nobody is told.
pub fn traceparent(span: &Span) -> Option<String> {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
    headers.remove(TRACEPARENT)
}

/// The login itself: a trace of the transaction's id, which is 16 bytes in base64url, within which all steps are.
fn context_of(transaction: &str) -> Option<Context> {
    let id: [u8; 16] = URL_SAFE_NO_PAD.decode(transaction).ok()?.try_into().ok()?;
    let [a, b, c, d, e, f, g, h, ..] = id;
    let (trace, root) = (TraceId::from_bytes(id), SpanId::from_bytes([a, b, c, d, e, f, g, h]));
    let login = SpanContext::new(trace, root, TraceFlags::SAMPLED, true, TraceState::NONE);
    login.is_valid().then(|| Context::new().with_remote_span_context(login))
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const TRANSACTION: &str = "CvdlGRbNQ92ESOshHIAxnA";

    #[test]
    fn steps_of_one_login_are_in_one_trace_and_calls_within_them() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let (here, there) = (step("here", TRANSACTION), step("there", TRANSACTION));
            let told = |span: &Span| traceparent(span).unwrap();
            let (one, other) = (told(&here), told(&there));
            assert!(one.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && one.ends_with("-01"), "{one}");
            assert_eq!(one.split('-').nth(1), other.split('-').nth(1));
            assert_ne!(one, other);
            assert_eq!(told(&continued("call", Some(&one))).split('-').nth(1), one.split('-').nth(1));
            for stranger in [None, Some("nonsense"), Some(&*"0".repeat(1000))] {
                assert_ne!(told(&continued("call", stranger)).split('-').nth(1), one.split('-').nth(1));
            }
            assert_ne!(told(&step("no id", "nonsense")).split('-').nth(1), one.split('-').nth(1));
        });
    }
}
