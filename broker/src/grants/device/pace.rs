//! How fast a device may ask whether its user has answered (RFC 8628 3.5). Kept in memory: whoever starts a broker anew
//! forgives those who were too fast.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// What is added when a device was too fast, for the rest of its request's life.
const SLOWER: Duration = Duration::from_secs(5);

/// No device waits longer.
const SLOWEST: Duration = Duration::from_secs(60);

/// Requests of which the pace is known. They are of clients that have a code that waits, so only a flood of these gets
/// there; then all may ask once more.
const MOST: usize = 10_000;

/// The pace of each request.
#[derive(Debug, Default)]
pub(super) struct Paces(Mutex<HashMap<String, Pace>>);

#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: Duration,
    not_before: Timestamp,
}

/// The device is to wait five seconds longer from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooFast;

impl Paces {
    /// Between two polls.
    pub(super) const FIRST: Duration = Duration::from_secs(5);

    /// Notes a poll for a request.
    ///
    /// # Errors
    /// When it came too early.
    pub(super) fn poll(&self, id: &str, now: Timestamp) -> Result<(), TooFast> {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paces.len() >= MOST && !paces.contains_key(id) {
            paces.retain(|_, pace| now < pace.not_before + SLOWEST);
            if paces.len() >= MOST {
                paces.clear();
            }
        }
        let pace = paces.entry(id.to_owned()).or_insert(Pace { interval: Self::FIRST, not_before: now });
        let early = now < pace.not_before;
        if early {
            pace.interval = (pace.interval + SLOWER).min(SLOWEST);
        }
        pace.not_before = now + pace.interval;
        if early { Err(TooFast) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn who_was_too_fast_waits_five_seconds_longer_each_time() {
        let paces = Paces::default();
        let polls = [(0, true), (5, true), (9, false), (18, false), (33, true), (47, false), (67, true)];
        for (at, good) in polls {
            assert_eq!(paces.poll("a", NOW + Duration::from_secs(at)).is_ok(), good, "{at}");
        }
        assert!(paces.poll("b", NOW).is_ok());
    }

    #[test]
    fn a_flood_is_not_remembered_without_bound() {
        let paces = Paces::default();
        for n in 0..25_000 {
            paces.poll(&n.to_string(), NOW).unwrap();
        }
        assert!(paces.0.lock().unwrap().len() <= MOST);
    }
}
