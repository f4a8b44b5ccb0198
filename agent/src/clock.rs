//! The only place that reads the clock. Everything else takes `now`.

use time::OffsetDateTime;

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
