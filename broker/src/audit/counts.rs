//! How many logins came to their end, and how many did not: by five minutes, for two days. Pure; no larger after a million of
//! them than after one in each five minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::event::{Event, Kind, Outcome};
use crate::clock::Timestamp;
use crate::storage::table::Record;

/// How many such times are kept: two days.
const KEPT: i64 = 576;

/// What a relying party is told that asks silently whether somebody is signed in: nobody wanted to log in.
const SILENT: [&str; 3] = ["login_required", "consent_required", "interaction_required"];

/// Logins of one broker, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LoginCounts(BTreeMap<i64, (u32, u32)>);

/// What happened within five minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginCount {
    /// From when on.
    pub at: Timestamp,
    /// Users who came in: a relying party got its code, or a device was let in.
    pub logins: u32,
    /// Logins that were refused, and browsers that got a page that says why theirs cannot go on.
    pub failures: u32,
}

impl LoginCounts {
    /// What one count is of.
    pub const PERIOD: Duration = Duration::from_secs(300);

    /// For how long counts are kept.
    pub const KEPT: Duration = Duration::from_secs(300 * KEPT as u64);

    /// Whether it is one of the two.
    pub(super) fn concerns(event: &Event) -> bool {
        of(event).is_some()
    }

    /// Counts what is noted; says whether it is one of the two.
    pub(super) fn note(&mut self, event: &Event, now: Timestamp) -> bool {
        let Some(counted) = of(event) else { return false };
        // What a clock has left here that was ahead would push out what happens now.
        drop(self.0.split_off(&ahead(now)));
        self.put(slot(now), counted);
        true
    }

    /// Adds what another broker has counted, without what its clock says of days to come: that would push out what happens
    /// now. Clocks may differ by some minutes.
    pub fn add(&mut self, other: &Self, now: Timestamp) {
        other.0.range(..ahead(now)).for_each(|(slot, counted)| self.put(*slot, *counted));
    }

    /// The two days up to now, the oldest five minutes first, and those in which nothing happened as well.
    pub fn up_to(&self, now: Timestamp) -> Vec<LoginCount> {
        let newest = slot(now);
        let count = |slot| {
            let (logins, failures) = self.0.get(&slot).copied().unwrap_or_default();
            LoginCount { at: Timestamp::from_secs(slot * period()), logins, failures }
        };
        (newest - KEPT + 1..=newest).map(count).collect()
    }

    fn put(&mut self, slot: i64, (logins, failures): (u32, u32)) {
        let counted = self.0.entry(slot).or_default();
        *counted = (counted.0.saturating_add(logins), counted.1.saturating_add(failures));
        // By number and not by age: a clock that was ahead for a moment must not make all others old.
        while self.0.len() > KEPT as usize {
            self.0.pop_first();
        }
    }
}

/// Logins and failures that an event stands for.
fn of(event: &Event) -> Option<(u32, u32)> {
    match (event.kind, event.outcome) {
        (Kind::LoginDecided | Kind::DeviceDecided, Outcome::Done) => Some((1, 0)),
        _ if event.reason.as_deref().is_some_and(|reason| SILENT.contains(&reason)) => None,
        (Kind::LoginDecided | Kind::DeviceDecided, Outcome::Refused) | (Kind::LoginRefused, _) => Some((0, 1)),
        _ => None,
    }
}

/// From here on nothing can have happened, whichever clock says so.
fn ahead(now: Timestamp) -> i64 {
    slot(now) + 2
}

fn slot(at: Timestamp) -> i64 {
    at.as_secs().div_euclid(period())
}

const fn period() -> i64 {
    LoginCounts::PERIOD.as_secs() as i64
}

/// What the store keeps of one chain's counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredCounts {
    pub(super) counts: LoginCounts,
    at: Timestamp,
}

impl StoredCounts {
    /// As they are now.
    pub(super) fn new(counts: LoginCounts, now: Timestamp) -> Self {
        Self { counts, at: now }
    }
}

impl Record for StoredCounts {
    const TABLE: &'static str = "login_count";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.at + LoginCounts::KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_secs(1_800_057_600);

    fn login() -> Event {
        Event::new(Kind::LoginDecided)
    }

    #[test]
    fn logins_and_failures_are_told_apart_and_nothing_else_counts() {
        let mut counts = LoginCounts::default();
        for event in [
            login(),
            login().refused("access_denied"),
            Event::new(Kind::DeviceDecided),
            Event::new(Kind::LoginRefused).refused("That request cannot be understood"),
        ] {
            assert!(counts.note(&event, T0), "{event:?}");
        }
        for kind in Kind::ALL {
            let counted = matches!(kind, Kind::LoginDecided | Kind::DeviceDecided | Kind::LoginRefused);
            assert_eq!(LoginCounts::default().note(&Event::new(kind), T0), counted, "{kind}");
        }
        let last = counts.up_to(T0).pop();
        assert_eq!(last, Some(LoginCount { at: T0, logins: 2, failures: 2 }));
    }

    #[test]
    fn a_silent_question_is_no_failure() {
        let mut counts = LoginCounts::default();
        for reason in SILENT {
            assert!(!counts.note(&login().refused(reason), T0), "{reason}");
        }
        assert_eq!(counts, LoginCounts::default());
    }

    #[test]
    fn a_clock_that_was_days_ahead_does_not_stop_the_counts() {
        let mut counts = LoginCounts::default();
        for nth in 0..600 {
            counts.note(&login(), T0 + Duration::from_secs(3 * 86_400 + nth * 300));
        }
        counts.note(&login(), T0);
        assert_eq!(counts.up_to(T0).pop().map(|count| count.logins), Some(1));
    }

    #[test]
    fn two_days_are_kept_and_no_more() {
        let mut counts = LoginCounts::default();
        for minute in 0..10_000 {
            counts.note(&login(), T0 + Duration::from_secs(minute * 60));
        }
        assert_eq!(counts.0.len(), 576);
        let now = T0 + Duration::from_secs(10_000 * 60 - 1);
        let kept = counts.up_to(now);
        assert_eq!(kept.len(), 576);
        assert!(kept.iter().all(|count| count.logins == 5), "{kept:?}");
        assert_eq!(now.since(kept[0].at), LoginCounts::KEPT - Duration::from_secs(1));
        let later = counts.up_to(now + LoginCounts::KEPT);
        assert!(later.iter().all(|count| count.logins == 0));
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_moment_loses_nothing() {
        let mut counts = LoginCounts::default();
        counts.note(&login(), T0);
        counts.note(&login(), T0 + Duration::from_secs(400 * 86_400));
        counts.note(&login(), T0);
        assert_eq!(counts.up_to(T0).pop().map(|count| count.logins), Some(2));
    }

    #[test]
    fn another_broker_s_clock_that_is_days_ahead_hides_nothing() {
        let (mut own, mut ahead) = (LoginCounts::default(), LoginCounts::default());
        own.note(&login(), T0);
        for nth in 0..600 {
            ahead.note(&login(), T0 + Duration::from_secs(3 * 86_400 + nth * 300));
        }
        own.add(&ahead, T0);
        assert_eq!(own.up_to(T0).pop().map(|count| count.logins), Some(1));
        // Some minutes are no matter.
        let mut fast = LoginCounts::default();
        fast.note(&login(), T0 + LoginCounts::PERIOD);
        own.add(&fast, T0);
        let sum: u32 = own.up_to(T0 + LoginCounts::PERIOD).iter().map(|count| count.logins).sum();
        assert_eq!(sum, 2);
    }

    #[test]
    fn counts_of_several_brokers_are_summed() {
        let (mut one, mut other) = (LoginCounts::default(), LoginCounts::default());
        one.note(&login(), T0);
        other.note(&login(), T0);
        other.note(&login().refused("x"), T0 + LoginCounts::PERIOD);
        one.add(&other, T0 + LoginCounts::PERIOD);
        let kept = one.up_to(T0 + LoginCounts::PERIOD);
        let last: Vec<(u32, u32)> = kept[574..].iter().map(|count| (count.logins, count.failures)).collect();
        assert_eq!(last, [(2, 0), (0, 1)]);
    }
}
