//! How often passwords and codes may be tried, before the application hears of it. Pure: `now` is a parameter.
//!
//! A source may make so many tries, whatever comes of them. Of failures there may be fewer: a try is charged when it
//! begins, so that a hundred at once are not all free, and paid back when it succeeds. One that must not be made is charged
//! to nobody. These have a budget of failures:
//!
//! * a source, whatever names it tries: an application that counts by address is never brought to lock a whole office out;
//! * a source with one name: what an honest user needs who has forgotten which password it was;
//! * a name, from wherever: three times that, so that no single source can use it up and lock the user out. Where who judges
//!   passwords locks accounts by a count of its own (`[home] failures`), it is counted as it is there, and stops before;
//! * codes of a name, which whoever tries them has the password of: these are few.
//!
//! Memory is constant: sources and names are hashed into a fixed number of buckets, under a key that changes with every
//! start, so that nobody can aim at somebody else's bucket.

#[cfg(not(test))]
use std::hash::RandomState as Hashing;
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use crate::config::home::Failures;

/// Buckets of each kind: so many to one is the chance that one who guesses uses up what somebody else has. Half a mebibyte
/// in all.
const BUCKETS: u64 = 4096;
/// A household or an office behind one address: thirty at once, then one in two seconds.
const PER_SOURCE: Rule = Rule::Rate { burst: 30, period: Duration::from_secs(2) };
/// One user: ten at once, then one in ten seconds. A limit per name must leave the user a way in.
const PER_SOURCE_AND_NAME: (u32, Duration) = (10, Duration::from_secs(10));
/// How many sources it takes to use up what a name has.
const SOURCES_PER_NAME: u32 = 3;
/// Of six digits there are a million: at this rate it takes years to try one in ten.
const CODES_PER_NAME: Rule = Rule::Rate { burst: 10, period: Duration::from_secs(600) };

/// Counts tries.
#[derive(Debug)]
pub(crate) struct Limits {
    buckets: Arc<Buckets>,
    hashing: Hashing,
}

/// A try that was charged: a failure, unless it says otherwise.
#[derive(Debug)]
#[must_use]
pub(crate) struct Try {
    buckets: Arc<Buckets>,
    charged: Vec<(Kind, usize)>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tries,
    Sources,
    Pairs,
    Names,
    Codes,
}

/// How much is too much.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// So many at once, then one a period (the generic cell rate algorithm, ITU-T I.371).
    Rate { burst: u32, period: Duration },
    /// So many, and then none until so long after the last: as directory servers count before they lock an account.
    Lockout { most: u32, window: Duration },
}

#[derive(Debug)]
struct Buckets {
    tries: Bucket,
    sources: Bucket,
    pairs: Bucket,
    names: Bucket,
    codes: Bucket,
}

#[derive(Debug)]
struct Bucket {
    rule: Rule,
    slots: Mutex<Vec<Slot>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Of a rate: when all that was charged is forgotten. Of a lockout: when the last was charged.
    at: Option<Instant>,
    /// Of a lockout.
    count: u32,
}

impl Limits {
    /// The usual budgets; or so many failures a minute, below the limit of an application that locks by address; or so many
    /// of one name, below the limit of a directory that locks accounts.
    pub(super) fn new(per_minute: Option<NonZeroU32>, of_name: Option<Failures>) -> Self {
        let own = per_minute.map(|tries| (tries.get(), Duration::from_secs(60) / tries.get()));
        let (burst, period) = own.unwrap_or(PER_SOURCE_AND_NAME);
        let name = Rule::Rate { burst: burst.saturating_mul(SOURCES_PER_NAME), period: period / SOURCES_PER_NAME };
        let lockout = |failures: Failures| {
            let window = Duration::from_secs(60).saturating_mul(failures.minutes.get());
            Rule::Lockout { most: failures.most.get(), window }
        };
        let buckets = Buckets {
            tries: Bucket::new(PER_SOURCE),
            sources: Bucket::new(own.map_or(PER_SOURCE, |(burst, period)| Rule::Rate { burst, period })),
            pairs: Bucket::new(Rule::Rate { burst, period }),
            names: Bucket::new(of_name.map_or(name, lockout)),
            codes: Bucket::new(CODES_PER_NAME),
        };
        Self { buckets: Arc::new(buckets), hashing: Hashing::default() }
    }

    /// Charges one try of a password; `None` if it must not be made.
    pub(super) fn begin(&self, source: IpAddr, name: &str, now: Instant) -> Option<Try> {
        let (network, name) = (network(source), folded(name));
        let pair = self.slot((network, &name));
        let (source, name) = (self.slot(network), self.slot(&name));
        let budgets = [(Kind::Tries, source), (Kind::Sources, source), (Kind::Pairs, pair), (Kind::Names, name)];
        self.charge(budgets.to_vec(), now)
    }

    /// Charges one try of a code.
    pub(super) fn begin_code(&self, source: IpAddr, name: &str, now: Instant) -> Option<Try> {
        let (source, name) = (self.slot(network(source)), self.slot(folded(name)));
        self.charge(vec![(Kind::Tries, source), (Kind::Sources, source), (Kind::Codes, name)], now)
    }

    /// All of them, or none: a name that others have used up costs its owner's office nothing.
    fn charge(&self, budgets: Vec<(Kind, usize)>, now: Instant) -> Option<Try> {
        let refused = budgets.iter().position(|(kind, slot)| !self.buckets.of(*kind).charge(*slot, now));
        let Some(refused) = refused else { return Some(Try { buckets: self.buckets.clone(), charged: budgets }) };
        for (kind, slot) in &budgets[..refused] {
            self.buckets.of(*kind).pay_back(*slot);
        }
        None
    }

    fn slot(&self, key: impl Hash) -> usize {
        usize::try_from(self.hashing.hash_one(key) % BUCKETS).unwrap_or_default()
    }
}

impl Try {
    /// It was no failure.
    pub(super) fn pay_back(self) {
        for (kind, slot) in self.charged.into_iter().filter(|(kind, _)| *kind != Kind::Tries) {
            self.buckets.of(kind).pay_back(slot);
        }
    }

    /// The password was right: who counts the failures of this name begins again.
    pub(super) fn succeed(self) {
        let name = self.charged.iter().find(|(kind, _)| *kind == Kind::Names).map(|(_, slot)| *slot);
        let buckets = self.buckets.clone();
        self.pay_back();
        if let Some(name) = name {
            buckets.names.begin_again(name);
        }
    }
}

impl Buckets {
    fn of(&self, kind: Kind) -> &Bucket {
        match kind {
            Kind::Tries => &self.tries,
            Kind::Sources => &self.sources,
            Kind::Pairs => &self.pairs,
            Kind::Names => &self.names,
            Kind::Codes => &self.codes,
        }
    }
}

impl Bucket {
    fn new(rule: Rule) -> Self {
        let slots = usize::try_from(BUCKETS).unwrap_or_default();
        Self { rule, slots: Mutex::new(vec![Slot::default(); slots]) }
    }

    fn charge(&self, slot: usize, now: Instant) -> bool {
        self.change(slot, |slot| match self.rule {
            Rule::Rate { burst, period } => {
                let charged = slot.at.map_or(now, |at| at.max(now)) + period;
                let within = charged <= now + period * burst;
                if within {
                    slot.at = Some(charged);
                }
                within
            }
            Rule::Lockout { most, window } => {
                if slot.at.is_none_or(|last| now.duration_since(last) >= window) {
                    slot.count = 0;
                }
                let within = slot.count < most;
                if within {
                    *slot = Slot { at: Some(now), count: slot.count + 1 };
                }
                within
            }
        })
    }

    fn pay_back(&self, slot: usize) {
        self.change(slot, |slot| match self.rule {
            Rule::Rate { period, .. } => slot.at = slot.at.and_then(|at| at.checked_sub(period)),
            Rule::Lockout { .. } => slot.count = slot.count.saturating_sub(1),
        });
    }

    fn begin_again(&self, slot: usize) {
        if let Rule::Lockout { .. } = self.rule {
            self.change(slot, |slot| *slot = Slot::default());
        }
    }

    fn change<T: Default>(&self, slot: usize, change: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get_mut(slot).map(change).unwrap_or_default()
    }
}

/// One name in all the spellings that directories and databases take for it: whatever its case, accents, widths and spaces.
fn folded(name: &str) -> String {
    // What RFC 4518 2.2 maps to nothing.
    let is_nothing = |c: &char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    let letters = name.nfkd().flat_map(char::to_lowercase);
    let letters: String = letters.filter(|c| !is_combining_mark(*c) && !is_nothing(c)).collect();
    letters.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One IPv6 customer has a /64 to choose addresses from.
pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => (address.to_bits() & !u128::from(u64::MAX)).to_be_bytes().into(),
    }
}

/// The same in every run: two names of a test that share a bucket would do so always, and not once in some hundred runs.
#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "nothing that is stored or sent rests on it")]
type Hashing = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    #[test]
    fn a_name_is_slowed_down_and_no_single_source_uses_it_up() {
        let (limits, now) = (Limits::new(None, None), Instant::now());
        let failures = |n, name: &str| (0..40).filter(|_| limits.begin(source(n), name, now).is_some()).count();
        assert_eq!(failures(1, "alice"), 10);
        for spelling in [" ALICE ", "álice", "ａlice", "al\u{ad}ice", "A\u{301}lice"] {
            assert_eq!(failures(1, spelling), 0, "{spelling} does not help");
        }
        assert_eq!(failures(2, "alice"), 10, "alice herself has a way in");
        assert_eq!(failures(3, "alice"), 10);
        assert_eq!(failures(4, "alice"), 0, "guessing from everywhere is slow too");
        assert_eq!(failures(5, "bob"), 10);
    }

    #[test]
    fn one_source_is_slowed_down_whatever_name_it_tries() {
        let (limits, now) = (Limits::new(None, None), Instant::now());
        let tries = |now| (0..100).filter(|n| limits.begin(source(1), &format!("user{n}"), now).is_some()).count();
        assert_eq!(tries(now), 30);
        assert_eq!(tries(now + Duration::from_secs(20)), 10, "one in two seconds");
    }

    #[test]
    fn success_costs_nothing_but_a_try() {
        let (limits, now) = (Limits::new(NonZeroU32::new(2), None), Instant::now());
        let succeed = |now, user: &str| limits.begin(source(1), user, now).map(Try::pay_back);
        for user in 0..29 {
            succeed(now, &format!("user{user}")).unwrap();
        }
        assert!(
            succeed(now, "alice").is_some() && succeed(now, "alice").is_none(),
            "not even a machine logs in so often"
        );
        assert!(succeed(now + Duration::from_secs(2), "alice").is_some());
    }

    #[test]
    fn an_applications_limit_is_never_reached() {
        let (limits, now) = (Limits::new(NonZeroU32::new(2), None), Instant::now());
        let tries = |now| (0..10).filter(|n| limits.begin(source(1), &format!("user{n}"), now).is_some()).count();
        assert_eq!((tries(now), tries(now + Duration::from_secs(29))), (2, 0));
        assert_eq!(tries(now + Duration::from_secs(30)), 1);
        assert!(limits.begin(source(2), "alice", now).is_some(), "others are not behind that address");
    }

    #[test]
    fn a_try_that_is_not_made_costs_nobody_anything() {
        let (limits, now) = (Limits::new(None, None), Instant::now());
        let failures =
            |n, name: &str, times| (0..times).filter(|_| limits.begin(source(n), name, now).is_some()).count();
        assert_eq!([2, 3, 4].map(|n| failures(n, "alice", 10)), [10; 3]);
        assert_eq!(failures(1, "alice", 50), 0, "strangers have used her name up");
        assert_eq!(failures(1, "bob", 10), 10);
        assert_eq!((failures(1, "carol", 10), failures(1, "dora", 20)), (10, 10), "her office has all of its own");
    }

    #[test]
    fn an_account_is_never_locked_by_whom_a_directory_counts() {
        let four = Failures { most: NonZeroU32::new(4).unwrap(), minutes: NonZeroU32::new(30).unwrap() };
        let (limits, now) = (Limits::new(None, Some(four)), Instant::now());
        let minute = |n: u64| now + Duration::from_secs(60 * n);
        let begin = |n: u8, minutes| limits.begin(source(n), "alice", minute(minutes));
        // Active Directory begins again only when the last failure is so long ago.
        for (n, minutes) in [(1, 0), (2, 20), (3, 40), (4, 60)] {
            assert!(begin(n, minutes).is_some());
        }
        assert!(begin(5, 61).is_none() && begin(5, 89).is_none());
        assert!(begin(5, 90).is_some());
        begin(5, 91).unwrap().succeed();
        assert_eq!((0..9).filter(|_| begin(6, 92).is_some()).count(), 4);
    }

    #[test]
    fn codes_of_a_name_are_few() {
        let (limits, now) = (Limits::new(None, None), Instant::now());
        let codes = |n, now| (0..20).filter(|_| limits.begin_code(source(n), "otto", now).is_some()).count();
        assert_eq!((codes(1, now), codes(2, now)), (10, 0));
        assert!(limits.begin(source(3), "otto", now).is_some(), "passwords are counted apart");
        assert_eq!(codes(1, now + Duration::from_secs(600)), 1);
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let address = |text: &str| network(text.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
    }
}
