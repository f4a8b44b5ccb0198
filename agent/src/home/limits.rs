//! How often passwords may be tried, before the application hears of it: per source and per user name.
//!
//! Memory is constant: names and addresses are hashed into a fixed number of buckets, under a key that changes with every
//! start, so that nobody can aim at somebody else's bucket.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Buckets of each kind.
const BUCKETS: u64 = 4096;
/// A household or an office behind one address: thirty at once, then one in two seconds.
const PER_SOURCE: (u32, Duration) = (30, Duration::from_secs(2));
/// One user: ten at once, then one in ten seconds. A limit per name must leave the user a way in.
const PER_NAME: (u32, Duration) = (10, Duration::from_secs(10));

/// Counts tries.
#[derive(Debug)]
pub(crate) struct Limits {
    sources: DefaultKeyedRateLimiter<u64>,
    names: DefaultKeyedRateLimiter<u64>,
    hashing: RandomState,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self { sources: limiter(PER_SOURCE), names: limiter(PER_NAME), hashing: RandomState::new() }
    }

    /// Counts one try, and says whether it may be made.
    pub(super) fn allow(&self, source: IpAddr, name: &str) -> bool {
        // Both are counted in any case: one that is refused must not leave the other untouched.
        let by_source = self.sources.check_key(&self.bucket(network(source))).is_ok();
        let by_name = self.names.check_key(&self.bucket(name.trim().to_lowercase())).is_ok();
        by_source && by_name
    }

    fn bucket(&self, key: impl Hash) -> u64 {
        self.hashing.hash_one(key) % BUCKETS
    }
}

fn limiter((burst, period): (u32, Duration)) -> DefaultKeyedRateLimiter<u64> {
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    RateLimiter::keyed(quota.allow_burst(burst))
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

    #[test]
    fn one_name_is_slowed_down_and_others_are_not() {
        let limits = Limits::new();
        let tries = |name: &str| (0..20).filter(|&n| limits.allow([10, 0, 1, n].into(), name)).count();
        assert_eq!(tries("alice"), 10);
        assert_eq!(tries(" ALICE "), 0, "spelling does not help");
        assert!(tries("bob") > 0);
    }

    #[test]
    fn one_source_is_slowed_down_whatever_name_it_tries() {
        let limits = Limits::new();
        let allowed = (0..100).filter(|n| limits.allow([10, 0, 0, 1].into(), &format!("user{n}"))).count();
        assert!((25..=31).contains(&allowed), "{allowed}");
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
