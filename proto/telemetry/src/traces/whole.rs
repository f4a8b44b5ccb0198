//! The login as a whole. A span is told when it ends, by the process that made it; a login begins at one broker and may end at
//! another, and between them it is nobody's. So all steps have a parent that follows from the transaction's id, and whoever
//! decides how the login ends tells that parent, as a step of it that knows when the login began. Here it takes its place.

use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanProcessor};

/// The attribute that makes a span the whole login: when that began, in milliseconds since 1970.
pub(super) const BEGAN: &str = "began";

/// Hands spans on, each in its place.
#[derive(Debug)]
pub(super) struct InPlace(pub(super) BatchSpanProcessor);

impl SpanProcessor for InPlace {
    fn on_start(&self, span: &mut Span, within: &Context) {
        self.0.on_start(span, within);
    }

    fn on_end(&self, span: SpanData) {
        self.0.on_end(placed(span));
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn placed(mut span: SpanData) -> SpanData {
    let Some(at) = span.attributes.iter().position(|attribute| attribute.key.as_str() == BEGAN) else { return span };
    if let Value::I64(began) = span.attributes.remove(at).value {
        // A login that ended before it began went over to a broker whose clock is behind.
        let began = UNIX_EPOCH + Duration::from_millis(began.unsigned_abs());
        span.start_time = began.min(span.end_time);
    }
    let trace = span.span_context.trace_id();
    span.span_context = SpanContext::new(trace, span.parent_span_id, TraceFlags::SAMPLED, false, TraceState::NONE);
    (span.parent_span_id, span.parent_span_is_remote) = (SpanId::INVALID, false);
    span
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use opentelemetry::KeyValue;
    use opentelemetry::trace::{SpanKind, Status, TraceId};

    use super::*;

    fn span(began: Option<i64>) -> SpanData {
        let context =
            SpanContext::new(TraceId::from(7_u128), SpanId::from(8_u64), TraceFlags::SAMPLED, false, TraceState::NONE);
        SpanData {
            span_context: context,
            parent_span_id: SpanId::from(9_u64),
            parent_span_is_remote: true,
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed("login"),
            start_time: UNIX_EPOCH + Duration::from_secs(60),
            end_time: UNIX_EPOCH + Duration::from_secs(60),
            attributes: began.map(|began| KeyValue::new(BEGAN, began)).into_iter().collect(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: Status::Unset,
            instrumentation_scope: Default::default(),
        }
    }

    #[test]
    fn the_whole_takes_the_place_of_its_parent_and_begins_with_the_login() {
        let whole = placed(span(Some(15_000)));
        assert_eq!((whole.span_context.span_id(), whole.parent_span_id), (SpanId::from(9_u64), SpanId::INVALID));
        assert_eq!(whole.span_context.trace_id(), TraceId::from(7_u128));
        assert_eq!(whole.start_time, UNIX_EPOCH + Duration::from_secs(15));
        assert!(whole.attributes.is_empty() && !whole.parent_span_is_remote);
        // The clock of the broker that ended it is behind.
        assert_eq!(placed(span(Some(90_000))).start_time, whole.end_time);
        assert_eq!(placed(span(None)), span(None), "a step stays where it is");
    }
}
