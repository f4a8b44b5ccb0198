//! The only place that reads the clock. Everything else takes `now`.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// As protobuf says it.
pub(crate) fn timestamp(at: OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or_default() }
}

/// From protobuf; `None` if no calendar has such a time.
pub(crate) fn from_timestamp(timestamp: &prost_types::Timestamp) -> Option<OffsetDateTime> {
    let nanos = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
}

/// As people and programs read it: RFC 3339, whole seconds.
pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// A span as people say it, in its largest unit that makes two; nothing is shorter than no time.
pub(crate) fn lasting(span: Duration) -> String {
    let counted = |count: i64, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    match (span.whole_days(), span.whole_hours(), span.whole_minutes()) {
        (days, ..) if days >= 2 => counted(days, "day"),
        (_, hours, _) if hours >= 2 => counted(hours, "hour"),
        (.., minutes) => counted(minutes.max(0), "minute"),
    }
}
