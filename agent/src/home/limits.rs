//! How often passwords and codes may be tried, before the application hears of it. Pure: `now` is a parameter.
//!
//! A source may make so many tries, whatever comes of them. Of failures there may be fewer: a try is charged when it
//! begins, so that a hundred at once are not all free, and paid back when it succeeds. Three things have a budget of them:
//!
//! * a source, whatever names it tries: an application that counts by address is never brought to lock a whole office out;
//! * a source with one name: what an honest user needs who has forgotten which password it was;
//! * a name, from wherever: three times that, so that no single source can use it up and lock the user out.
//!
//! Memory is constant: sources and names are hashed into a fixed number of buckets, under a key that changes with every
//! start, so that nobody can aim at somebody else's bucket.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Buckets of each kind: so many to one is the chance that one who guesses uses up what somebody else has. A mebibyte in all.
const BUCKETS: u64 = 16_384;
/// A household or an office behind one address: thirty at once, then one in two seconds.
const PER_SOURCE: Budget = Budget { burst: 30, period: Duration::from_secs(2) };
/// One user: ten at once, then one in ten seconds. A limit per name must leave the user a way in.
const PER_SOURCE_AND_NAME: Budget = Budget { burst: 10, period: Duration::from_secs(10) };
/// How many sources it takes to use up what a name has.
const SOURCES_PER_NAME: u32 = 3;

/// Counts tries.
#[derive(Debug)]
pub(crate) struct Limits {
    buckets: Arc<Buckets>,
    hashing: RandomState,
}

/// A try that was charged: a failure, unless it says otherwise.
#[derive(Debug)]
#[must_use]
pub(crate) struct Try {
    buckets: Arc<Buckets>,
    source: usize,
    pair: usize,
    name: usize,
}

/// So many failures at once, then one a period.
#[derive(Debug, Clone, Copy)]
struct Budget {
    burst: u32,
    period: Duration,
}

#[derive(Debug)]
struct Buckets {
    tries: Bucket,
    sources: Bucket,
    pairs: Bucket,
    names: Bucket,
}

/// For each bucket the time at which all that was charged is forgotten (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
struct Bucket {
    budget: Budget,
    settled_at: Mutex<Vec<Option<Instant>>>,
}

impl Limits {
    /// The usual budgets; or so many failures a minute, below the limit of an application that locks by address.
    pub(super) fn new(per_minute: Option<NonZeroU32>) -> Self {
        let own = per_minute.map(|tries| Budget { burst: tries.get(), period: Duration::from_secs(60) / tries.get() });
        let pair = own.unwrap_or(PER_SOURCE_AND_NAME);
        let name =
            Budget { burst: pair.burst.saturating_mul(SOURCES_PER_NAME), period: pair.period / SOURCES_PER_NAME };
        let buckets = Buckets {
            tries: Bucket::new(PER_SOURCE),
            sources: Bucket::new(own.unwrap_or(PER_SOURCE)),
            pairs: Bucket::new(pair),
            names: Bucket::new(name),
        };
        Self { buckets: Arc::new(buckets), hashing: RandomState::new() }
    }

    /// Charges one try; `None` if it must not be made.
    pub(super) fn begin(&self, source: IpAddr, name: &str, now: Instant) -> Option<Try> {
        let (network, name) = (network(source), name.trim().to_lowercase());
        let charged = Try {
            source: self.bucket(network),
            pair: self.bucket((network, &name)),
            name: self.bucket(&name),
            buckets: self.buckets.clone(),
        };
        // The source first: one that has used up its own budget takes nothing from the names that it tries.
        let Buckets { tries, sources, pairs, names } = &*self.buckets;
        let within = tries.charge(charged.source, now)
            && sources.charge(charged.source, now)
            && pairs.charge(charged.pair, now)
            && names.charge(charged.name, now);
        within.then_some(charged)
    }

    fn bucket(&self, key: impl Hash) -> usize {
        usize::try_from(self.hashing.hash_one(key) % BUCKETS).unwrap_or_default()
    }
}

impl Try {
    /// It was no failure.
    pub(super) fn pay_back(self) {
        self.buckets.sources.pay_back(self.source);
        self.buckets.pairs.pay_back(self.pair);
        self.buckets.names.pay_back(self.name);
    }
}

impl Bucket {
    fn new(budget: Budget) -> Self {
        let buckets = usize::try_from(BUCKETS).unwrap_or_default();
        Self { budget, settled_at: Mutex::new(vec![None; buckets]) }
    }

    fn charge(&self, bucket: usize, now: Instant) -> bool {
        let mut settled_at = self.settled_at.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = settled_at.get_mut(bucket) else { return false };
        let charged = slot.map_or(now, |at| at.max(now)) + self.budget.period;
        let within = charged <= now + self.budget.period * self.budget.burst;
        if within {
            *slot = Some(charged);
        }
        within
    }

    fn pay_back(&self, bucket: usize) {
        let mut settled_at = self.settled_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = settled_at.get_mut(bucket) {
            *slot = slot.and_then(|at| at.checked_sub(self.budget.period));
        }
    }
}

/// One IPv6 customer has a /64 to choose addresses from.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => (address.to_bits() & !u128::from(u64::MAX)).to_be_bytes().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    #[test]
    fn a_name_is_slowed_down_and_no_single_source_uses_it_up() {
        let (limits, now) = (Limits::new(None), Instant::now());
        let failures = |n, name: &str| (0..40).filter(|_| limits.begin(source(n), name, now).is_some()).count();
        assert_eq!(failures(1, "alice"), 10);
        assert_eq!(failures(1, " ALICE "), 0, "spelling does not help");
        assert_eq!(failures(2, "alice"), 10, "alice herself has a way in");
        assert_eq!(failures(3, "alice"), 10);
        assert_eq!(failures(4, "alice"), 0, "guessing from everywhere is slow too");
        assert_eq!(failures(5, "bob"), 10);
    }

    #[test]
    fn one_source_is_slowed_down_whatever_name_it_tries() {
        let (limits, now) = (Limits::new(None), Instant::now());
        let tries = |now| (0..100).filter(|n| limits.begin(source(1), &format!("user{n}"), now).is_some()).count();
        assert_eq!(tries(now), 30);
        assert_eq!(tries(now + Duration::from_secs(20)), 10, "one in two seconds");
    }

    #[test]
    fn success_costs_nothing_but_a_try() {
        let (limits, now) = (Limits::new(NonZeroU32::new(2)), Instant::now());
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
        let (limits, now) = (Limits::new(NonZeroU32::new(2)), Instant::now());
        let tries = |now| (0..10).filter(|n| limits.begin(source(1), &format!("user{n}"), now).is_some()).count();
        assert_eq!((tries(now), tries(now + Duration::from_secs(29))), (2, 0));
        assert_eq!(tries(now + Duration::from_secs(30)), 1);
        assert!(limits.begin(source(2), "alice", now).is_some(), "others are not behind that address");
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
