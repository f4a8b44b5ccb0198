//! How much is written of what strangers do: so much of one network, and so much of all. The rest is counted, and told in
//! one record. Counters and metrics know of all of it.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::rate_limit::{KeyedLimiter, Met};

/// Records of what strangers do, from one network: so many a second, and so many at once.
const OF_STRANGERS: (NonZeroU32, NonZeroU32) = (NonZeroU32::new(50).unwrap(), NonZeroU32::new(1000).unwrap());

/// The same, from everywhere: who has ten thousand addresses fills no disk either. A record has some 300 bytes, so this is at
/// most 13 GB a day.
const OF_ALL_STRANGERS: (NonZeroU32, NonZeroU32) = (NonZeroU32::new(500).unwrap(), NonZeroU32::new(5000).unwrap());

/// Bounds what strangers can have written.
#[derive(Debug)]
pub(super) struct Strangers {
    of_one: KeyedLimiter<IpAddr>,
    of_all: DefaultDirectRateLimiter,
    /// Since it was told last, and when that was.
    left_out: AtomicU64,
    told_at: AtomicI64,
    ever: Met,
}

impl Strangers {
    /// Nothing was written yet.
    pub(super) fn new() -> Self {
        let quota = |(a_second, at_once): (NonZeroU32, NonZeroU32)| Quota::per_second(a_second).allow_burst(at_once);
        Self {
            of_one: KeyedLimiter::new(quota(OF_STRANGERS)),
            of_all: RateLimiter::direct(quota(OF_ALL_STRANGERS)),
            left_out: AtomicU64::new(0),
            told_at: AtomicI64::new(0),
            ever: Met::default(),
        }
    }

    /// Whether this is written, which comes from there: always, if it is nothing that anybody could do. Else it is counted.
    pub(super) fn admit(&self, kind: Kind, source: Option<IpAddr>) -> bool {
        let Some(source) = source.filter(|_| kind.is_of_strangers()) else { return true };
        // Who has had his share takes nothing of all others'.
        let admitted = !self.of_one.is_flooded() && self.of_one.admits(&source) && self.of_all.check().is_ok();
        if !admitted {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            self.ever.note();
        }
        admitted
    }

    /// The record of what was left out, if there is something to tell: before whatever is no stranger's, and else once a
    /// second, or a flood would be written twice.
    pub(super) fn to_tell(&self, before: Option<Kind>, now: Timestamp) -> Option<Event> {
        let now = now.as_secs();
        let due = |told_at: i64| before.is_none_or(|kind| !kind.is_of_strangers()) || told_at != now;
        if self.left_out.load(Ordering::Relaxed) == 0 || !due(self.told_at.load(Ordering::Relaxed)) {
            return None;
        }
        self.told_at.store(now, Ordering::Relaxed);
        let count = self.left_out.swap(0, Ordering::Relaxed);
        (count > 0).then(|| Event::new(Kind::RecordsLeftOut).detail(count.to_string()))
    }

    /// How many were left out since the broker has started.
    pub(super) fn ever(&self) -> u64 {
        self.ever.times()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn whoever_has_many_addresses_fills_no_disk_and_keeps_nothing_else_out() {
        let strangers = Strangers::new();
        let (mut written, source) = (0, |n: u32| Some(IpAddr::from(n.to_be_bytes())));
        for n in 0..40_000 {
            written += u64::from(strangers.admit(Kind::LoginBegun, source(n % 8000)));
        }
        assert!((5000..6000).contains(&written), "{written}");
        assert_eq!(written + strangers.ever(), 40_000);
        for kind in [Kind::LoginDecided, Kind::TokensIssued, Kind::AdminRefused, Kind::CloneAlarm] {
            assert!((0..1000).all(|n| strangers.admit(kind, source(n))), "{kind}");
        }
        assert!(strangers.admit(Kind::LoginBegun, None), "of nobody on the network");
    }

    #[test]
    fn who_has_had_his_share_takes_nothing_of_the_others() {
        let strangers = Strangers::new();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let written = |source| (0..20_000).filter(|_| strangers.admit(Kind::LoginBegun, Some(source))).count();
        assert!((1000..1500).contains(&written(one)));
        assert!((1000..1500).contains(&written(other)));
    }

    #[test]
    fn what_is_left_out_is_told_once_a_second_and_before_what_is_no_strangers() {
        let strangers = Strangers::new();
        let told = |before, now| strangers.to_tell(before, now).map(|event| event.detail.unwrap().into_owned());
        let more = |count: u64| strangers.left_out.fetch_add(count, Ordering::Relaxed);
        assert_eq!(told(Some(Kind::LoginBegun), NOW), None);
        more(3);
        assert_eq!(told(Some(Kind::LoginBegun), NOW).unwrap(), "3");
        more(2);
        assert_eq!(told(Some(Kind::LoginBegun), NOW), None);
        assert_eq!(told(Some(Kind::LoginDecided), NOW).unwrap(), "2");
        more(4);
        let later = NOW + std::time::Duration::from_secs(1);
        assert_eq!(told(Some(Kind::LoginBegun), later).unwrap(), "4");
        more(1);
        assert_eq!(told(None, later).unwrap(), "1");
    }
}
