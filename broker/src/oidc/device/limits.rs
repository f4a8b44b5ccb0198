//! How often codes of devices may be entered (RFC 8628 5.1). A code has 34 bits and lives for ten minutes: at this rate,
//! with a hundred devices waiting, somebody who guesses for all that time finds one in a hundred thousand times.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::rate_limit::{KeyedLimiter, network};
use crate::secret::SecretHash;

/// Codes that one network may enter at once: a school is one network. Then ten a minute.
const PER_NETWORK: Quota = Quota::per_minute(NonZeroU32::new(10).unwrap()).allow_burst(NonZeroU32::new(30).unwrap());

/// Codes that one browser may enter at once, and in a minute.
const PER_BROWSER: Quota = Quota::per_minute(NonZeroU32::new(10).unwrap());

/// Codes a second from everywhere.
const OVERALL: Quota = Quota::per_second(NonZeroU32::new(5).unwrap()).allow_burst(NonZeroU32::new(100).unwrap());

/// Limits the entering of codes.
#[derive(Debug)]
pub(in crate::oidc) struct DeviceLimits {
    per_network: KeyedLimiter<IpAddr>,
    per_browser: KeyedLimiter<String>,
    overall: DefaultDirectRateLimiter,
}

/// From there, from this browser, or from everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many codes were entered")]
pub(in crate::oidc) struct TooManyCodes;

impl DeviceLimits {
    /// Nobody has tried yet.
    pub(in crate::oidc) fn new() -> Self {
        Self {
            per_network: KeyedLimiter::new(PER_NETWORK),
            per_browser: KeyedLimiter::new(PER_BROWSER),
            overall: RateLimiter::direct(OVERALL),
        }
    }

    /// Lets a code through.
    ///
    /// # Errors
    /// When there were too many.
    pub(in crate::oidc) fn admit(&self, address: IpAddr, browser: &str) -> Result<(), TooManyCodes> {
        let (network, browser) = (network(address), SecretHash::of(browser).as_str().to_owned());
        let flooded = self.per_network.is_flooded() || self.per_browser.is_flooded();
        let limited = flooded
            || !self.per_network.admits(&network)
            || !self.per_browser.admits(&browser)
            || self.overall.check().is_err();
        if limited { Err(TooManyCodes) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::rate_limit::REMEMBERED;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn neither_new_browsers_nor_new_addresses_help_for_long() {
        let limits = DeviceLimits::new();
        assert_eq!((0..20).filter(|_| limits.admit(HERE, "one").is_ok()).count(), 10);
        let others = (0..50).filter(|n| limits.admit(HERE, &n.to_string()).is_ok()).count();
        assert!((20..=21).contains(&others) || others == 10, "{others}");
        let everywhere =
            (0..500_u32).filter(|n| limits.admit(Ipv4Addr::from_bits(*n).into(), &format!("b{n}")).is_ok());
        assert!(everywhere.count() <= 105);
    }

    #[test]
    fn a_flood_is_not_remembered_without_bound() {
        let limits = DeviceLimits::new();
        for n in 0..30_000_u32 {
            let _ = limits.admit(Ipv4Addr::from_bits(n).into(), &n.to_string());
        }
        assert!(limits.per_network.remembered() <= REMEMBERED && limits.per_browser.remembered() <= REMEMBERED);
    }
}
