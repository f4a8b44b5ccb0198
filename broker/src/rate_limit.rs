//! How often somebody may do something of whom nothing is known but where he comes from, in bounded memory.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Of so many at most it is remembered what they did.
pub const REMEMBERED: usize = 10_000;

/// Who is one to be limited as: an IPv4 address, or the IPv6 network of which anybody has all addresses (RFC 6177).
pub fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// A limit for each of many, who are forgotten when they were idle for as long as their quota needs to be full again.
#[derive(Debug)]
pub struct KeyedLimiter<K: Clone + Eq + Hash>(DefaultKeyedRateLimiter<K>);

impl<K: Clone + Eq + Hash> KeyedLimiter<K> {
    /// With this quota for each.
    pub fn new(quota: Quota) -> Self {
        Self(RateLimiter::keyed(quota))
    }

    /// Whether so many are remembered, who all came lately, that no other one can be: a flood. It may cost us answers, but
    /// no memory.
    pub fn is_flooded(&self) -> bool {
        if self.remembered() >= REMEMBERED {
            self.0.retain_recent();
        }
        self.remembered() >= REMEMBERED
    }

    /// Counts this one, and says whether he is within his quota.
    pub fn admits(&self, who: &K) -> bool {
        self.0.check_key(who).is_ok()
    }

    /// Of how many it is remembered what they did.
    pub fn remembered(&self) -> usize {
        self.0.len()
    }
}
