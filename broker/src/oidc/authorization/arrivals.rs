//! How often browsers may come back from identity providers. A login that a stranger began costs nothing; one that comes
//! back is a record, and a request to the provider.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::Quota;

use crate::rate_limit::{KeyedLimiter, network};

/// From one network, a second: a company that comes to work is one. And at once.
const PER_NETWORK: Quota = Quota::per_second(NonZeroU32::new(5).unwrap()).allow_burst(NonZeroU32::new(200).unwrap());

/// Limits the answers of providers that browsers bring.
#[derive(Debug)]
pub(in crate::oidc) struct ArrivalLimits(KeyedLimiter<IpAddr>);

impl ArrivalLimits {
    /// Nobody has come yet.
    pub(in crate::oidc) fn new() -> Self {
        Self(KeyedLimiter::new(PER_NETWORK))
    }

    /// Whether another answer from there is taken.
    pub(in crate::oidc) fn admits(&self, address: IpAddr) -> bool {
        !self.0.is_flooded() && self.0.admits(&network(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_does_not_come_back_without_end_and_holds_nobody_else_up() {
        let limits = ArrivalLimits::new();
        let of_network = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, n]);
        let admitted = (0..1000).filter(|n| limits.admits(of_network(*n))).count();
        assert!((200..220).contains(&admitted), "{admitted}");
        assert!(limits.admits(IpAddr::from([0x2001, 0xdb8, 0, 8, 0, 0, 0, 1])));
    }
}
