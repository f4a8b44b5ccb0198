//! How often strangers may try.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use homeward_certs::identity::InstanceName;

use crate::enrolment::EnrolmentError;
use crate::rate_limit::{KeyedLimiter, network};

/// Tries that one network has at once; then one a second.
const BURST_PER_NETWORK: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// Tries a second from everywhere.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();

/// Limits calls that need no certificate.
#[derive(Debug)]
pub(super) struct Limiter {
    per_network: KeyedLimiter<IpAddr>,
    overall: DefaultDirectRateLimiter,
}

impl Limiter {
    /// Nobody has tried yet.
    pub(super) fn new() -> Self {
        let per_network = Quota::per_second(NonZeroU32::MIN).allow_burst(BURST_PER_NETWORK);
        Self {
            per_network: KeyedLimiter::new(per_network),
            overall: RateLimiter::direct(Quota::per_second(PER_SECOND)),
        }
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// When there were too many, from there or from everywhere.
    pub(super) fn admit(&self, peer: IpAddr) -> Result<(), EnrolmentError> {
        let here = || self.per_network.admits(&network(peer));
        let admitted = !self.per_network.is_flooded() && here() && self.overall.check().is_ok();
        if admitted { Ok(()) } else { Err(EnrolmentError::RateLimited) }
    }
}

/// Calls of one instance that this broker's picture refuses, and that ask the store all the same: at once, and then one a
/// second.
const REFUSED_BURST: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// Limits what an instance that is cut off makes the store do: it has a certificate, and nobody else's.
#[derive(Debug)]
pub(super) struct RefusedLimiter(KeyedLimiter<InstanceName>);

impl RefusedLimiter {
    /// Nobody was refused yet.
    pub(super) fn new() -> Self {
        Self(KeyedLimiter::new(Quota::per_second(NonZeroU32::MIN).allow_burst(REFUSED_BURST)))
    }

    /// Whether the store may be asked about this one.
    pub(super) fn admits(&self, name: &InstanceName) -> bool {
        !self.0.is_flooded() && self.0.admits(name)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::rate_limit::REMEMBERED;

    #[test]
    fn a_network_has_ten_tries_however_many_addresses_it_has() {
        let limiter = Limiter::new();
        let neighbour = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 1, n, 0, 0, n).into();
        let admitted = (0..20).filter(|n| limiter.admit(neighbour(*n)).is_ok()).count();
        assert!((10..=11).contains(&admitted), "{admitted}");
        assert!(limiter.admit(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1).into()).is_ok());
    }

    #[test]
    fn a_flood_is_not_remembered_without_bound() {
        let limiter = Limiter::new();
        for n in 0..20_000_u32 {
            drop(limiter.admit(Ipv4Addr::from_bits(n).into()));
        }
        assert!(limiter.per_network.remembered() <= REMEMBERED);
    }

    #[test]
    fn an_instance_that_is_cut_off_asks_the_store_a_few_times_and_holds_up_nobody_else() {
        let limiter = RefusedLimiter::new();
        let name = |text: &str| text.parse::<InstanceName>().unwrap();
        let admitted = (0..50).filter(|_| limiter.admits(&name("beta"))).count();
        assert!((5..=6).contains(&admitted), "{admitted}");
        assert!(limiter.admits(&name("gamma")));
    }
}
