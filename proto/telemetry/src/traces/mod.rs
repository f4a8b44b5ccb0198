//! Traces of logins, over OTLP.
//!
//! A login goes through browsers, which carry nothing of a trace that strangers could not set. So the id of its trace *is*
//! that of its transaction: whoever opens the sealed transaction, at the broker or at the home, or a code that was sealed at
//! its end, knows where his step belongs, and ops find the trace of a login by the id that stands in the audit and in the
//! log. Calls between the two programs carry `traceparent` (W3C Trace Context) in their metadata, so that one is seen within
//! the other; whoever calls says with it within which step of this login he is, and nothing else.
//!
//! Only spans of [`step`], [`continued`] and [`decided`] are told: the names of steps, the id, and how the login ended.
//! Nothing else of a login gets there.

mod collector;
mod whole;

use std::collections::HashMap;
use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use serde::{Deserialize, Serialize};
use tracing::field::Empty;
use tracing::{Instrument as _, Level, Span, info_span, span_enabled};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub use collector::{Traces, TracesError};

/// What spans of logins are told apart by from all others.
pub(crate) const TARGET: &str = "homeward::login";

/// The header, and the key of metadata, that says within which span a call is made.
pub const TRACEPARENT: &str = "traceparent";

/// The field that says how a step ended, by its name at OpenTelemetry's side.
const STATUS: &str = "otel.status_code";

/// Longest name of a parent that is read: the header has 55 characters.
const LONGEST_PARENT: usize = 64;

/// When a login began, for its trace and for nothing else: no rule is judged by it. In milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Began(i64);

impl Began {
    /// Now, as spans have it: they take the machine's time, too.
    #[expect(clippy::disallowed_methods, reason = "decides nothing")]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or_default())
    }
}

/// A step of the login with this transaction.
pub fn step(name: &'static str, transaction: impl Display) -> Span {
    let span = new(name, &transaction);
    if !span.is_disabled()
        && let Some(login) = context_of(&transaction.to_string())
    {
        within(&span, login);
    }
    span
}

/// What is done for the one who calls: a step of the login that the call is about, within the step that he names, if that is
/// of the same login. Nobody puts a span into the trace of another login, nor chooses which are told. The login is only asked
/// for if somebody is told of it; a call that is about none is no step.
pub fn continued<T: Display>(
    name: &'static str,
    traceparent: Option<&str>,
    transaction: impl FnOnce() -> Option<T>,
) -> Span {
    if !span_enabled!(target: TARGET, Level::INFO) {
        return Span::none();
    }
    let Some(transaction) = transaction() else { return Span::none() };
    let Some(login) = context_of(&transaction.to_string()) else { return Span::none() };
    let named = traceparent.filter(|parent| parent.len() <= LONGEST_PARENT).map(|parent| {
        let headers = HashMap::from([(TRACEPARENT.to_owned(), parent.to_owned())]);
        TraceContextPropagator::new().extract_with_context(&Context::new(), &headers)
    });
    let (trace, caller) = (login.span().span_context().trace_id(), named.unwrap_or_default());
    let caller = caller.span().span_context().clone();
    let parent = match caller.is_valid() && caller.trace_id() == trace {
        true => Context::new().with_remote_span_context(of(trace, caller.span_id())),
        false => login,
    };
    let span = new(name, &transaction);
    within(&span, parent);
    span
}

/// Does the work of a step. One that fails is told as such, and not why.
///
/// # Errors
/// Those of the work.
pub async fn during<T, E>(step: Span, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    // On the heap: what is traced is what is large.
    let done = Box::pin(work.instrument(step.clone())).await;
    if done.is_err() {
        step.record(STATUS, "ERROR");
    }
    done
}

/// The login itself, in which all steps are: told when it was decided how it ends, from its begin on. Whoever goes back in
/// his browser, and has it decided again, finds it twice.
pub fn decided(transaction: impl Display, began: Began, outcome: &'static str) {
    let whole = info_span!(
        target: TARGET,
        "login",
        otel.name = "login",
        transaction = %transaction,
        outcome = outcome,
        began = began.0,
    );
    if !whole.is_disabled()
        && let Some(login) = context_of(&transaction.to_string())
    {
        within(&whole, login);
    }
}

/// What to send along with a call that is made within this span; nothing if nobody is told.
pub fn traceparent(span: &Span) -> Option<String> {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
    headers.remove(TRACEPARENT)
}

fn new(name: &'static str, transaction: &impl Display) -> Span {
    info_span!(target: TARGET, "login", otel.name = name, transaction = %transaction, otel.status_code = Empty)
}

fn within(span: &Span, parent: Context) {
    // Fails only for a span that somebody has entered.
    let _ = span.set_parent(parent);
}

/// The login itself: a trace of the transaction's id, which is 16 bytes in base64url, within which all steps are.
fn context_of(transaction: &str) -> Option<Context> {
    let id: [u8; 16] = URL_SAFE_NO_PAD.decode(transaction).ok()?.try_into().ok()?;
    let [a, b, c, d, e, f, g, h, ..] = id;
    let login = of(TraceId::from_bytes(id), SpanId::from_bytes([a, b, c, d, e, f, g, h]));
    login.is_valid().then(|| Context::new().with_remote_span_context(login))
}

/// All logins are told, or none.
fn of(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const TRANSACTION: &str = "CvdlGRbNQ92ESOshHIAxnA";
    const ANOTHER: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

    fn told(span: &Span) -> String {
        traceparent(span).unwrap()
    }

    fn trace_of(parent: &str) -> &str {
        parent.split('-').nth(1).unwrap()
    }

    fn traced(test: impl FnOnce()) {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), test);
    }

    #[test]
    fn steps_of_one_login_are_in_one_trace_and_calls_within_them() {
        traced(|| {
            let (here, there) = (step("here", TRANSACTION), step("there", TRANSACTION));
            let (one, other) = (told(&here), told(&there));
            assert!(one.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && one.ends_with("-01"), "{one}");
            assert_eq!(trace_of(&one), trace_of(&other));
            assert_ne!(one, other);
            assert_eq!(trace_of(&told(&continued("call", Some(&one), || Some(TRANSACTION)))), trace_of(&one));
            assert_ne!(trace_of(&told(&step("no id", "nonsense"))), trace_of(&one));
        });
    }

    #[test]
    fn whoever_calls_chooses_neither_the_trace_nor_whether_it_is_told() {
        traced(|| {
            let of_another = told(&step("there", ANOTHER));
            let unsampled = told(&step("here", TRANSACTION)).replace("-01", "-00");
            let strangers = [None, Some("nonsense"), Some(&*of_another), Some(&*unsampled), Some(&*"0".repeat(1000))];
            for stranger in strangers {
                let call = told(&continued("call", stranger, || Some(TRANSACTION)));
                assert_eq!(trace_of(&call), "0af7651916cd43dd8448eb211c80319c", "{stranger:?}");
                assert!(call.ends_with("-01"), "{stranger:?}: {call}");
            }
            assert!(continued("call", Some(&of_another), || None::<&str>).is_disabled(), "about no login");
            assert!(continued("call", Some(&of_another), || Some("nonsense")).is_disabled());
        });
        let asked = || -> Option<&str> { panic!("nobody is told") };
        assert!(continued("call", None, asked).is_disabled());
    }
}
