//! How often somebody may fail: what succeeds is never counted, so that nobody who does everything right is ever slowed
//! down, however busy he is; and how much may be kept for somebody who has proved nothing. Time is a parameter; memory is
//! bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::rate_limit::network;
use crate::registry::ClientId;

/// Failures that are forgiven to one client from one network at once; then one a second.
const OF_CLIENT: Allowance = Allowance { at_once: 30, a_second: 1 };

/// Failures that are forgiven to one network at once; then so many a second. Many applications may share an address, and
/// some of them fail at each login before they succeed.
const OF_NETWORK: Allowance = Allowance { at_once: 300, a_second: 30 };

/// Requests of public clients that are kept for one network at once; then one a second. A public client's name is known
/// to everybody.
const OF_STRANGERS: Allowance = Allowance { at_once: 60, a_second: 1 };

/// The same, from everywhere: who has many addresses fills no store either.
const OF_ALL_STRANGERS: Allowance = Allowance { at_once: 1000, a_second: 20 };

/// Most of whom failures are remembered. When there are more, all is forgotten: secrets here have 256 bits, and what is
/// being saved is our time, not they.
const MOST: usize = 10_000;

/// Counts the failures of strangers.
#[derive(Debug, Default)]
pub(in crate::oidc) struct Throttle {
    clients: Failures<(ClientId, IpAddr)>,
    networks: Failures<IpAddr>,
    strangers: Failures<IpAddr>,
    all_strangers: Failures<()>,
}

#[derive(Clone, Copy, Debug)]
struct Allowance {
    at_once: u64,
    a_second: u64,
}

#[derive(Debug)]
struct Failures<K>(Mutex<HashMap<K, Failed>>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u64,
    last_at: Timestamp,
}

impl Throttle {
    /// How long this client has to wait when it comes from there; nothing if it need not.
    pub(super) fn wait(&self, client: Option<&ClientId>, address: IpAddr, now: Timestamp) -> Option<Duration> {
        let network = network(address);
        let of_client = client.and_then(|client| self.clients.wait(&(client.clone(), network), OF_CLIENT, now));
        of_client.max(self.networks.wait(&network, OF_NETWORK, now))
    }

    /// Lets a request be kept that somebody makes without proving who he is; else says how long he has to wait.
    ///
    /// # Errors
    /// When there were too many from there.
    pub(super) fn keep_for_stranger(&self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let network = network(address);
        let here = self.strangers.wait(&network, OF_STRANGERS, now);
        if let Some(wait) = here.max(self.all_strangers.wait(&(), OF_ALL_STRANGERS, now)) {
            return Err(wait);
        }
        self.strangers.note(network, OF_STRANGERS, now);
        self.all_strangers.note((), OF_ALL_STRANGERS, now);
        Ok(())
    }

    /// Notes a failure. A client is counted by itself only if it is known.
    pub(in crate::oidc) fn note(&self, client: Option<&ClientId>, address: IpAddr, now: Timestamp) {
        let network = network(address);
        self.networks.note(network, OF_NETWORK, now);
        if let Some(client) = client {
            self.clients.note((client.clone(), network), OF_CLIENT, now);
        }
    }
}

impl<K: Eq + Hash> Failures<K> {
    fn wait(&self, who: &K, allowance: Allowance, now: Timestamp) -> Option<Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = all.get(who)?.remembered(allowance, now);
        let over = (times + 1).checked_sub(allowance.at_once).filter(|over| *over > 0)?;
        Some(Duration::from_secs(over.div_ceil(allowance.a_second)))
    }

    fn note(&self, who: K, allowance: Allowance, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST && !all.contains_key(&who) {
            all.retain(|_, failed| failed.remembered(allowance, now) > 0);
            if all.len() >= MOST {
                all.clear();
            }
        }
        let failed = all.entry(who).or_insert(Failed { times: 0, last_at: now });
        *failed = Failed { times: failed.remembered(allowance, now) + 1, last_at: now };
    }
}

impl Failed {
    fn remembered(self, allowance: Allowance, now: Timestamp) -> u64 {
        self.times.saturating_sub(now.since(self.last_at).as_secs().saturating_mul(allowance.a_second))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn failures_until_wait(throttle: &Throttle, client: Option<&ClientId>, address: IpAddr) -> usize {
        let mut failures = 0;
        while throttle.wait(client, address, NOW).is_none() {
            throttle.note(client, address, NOW);
            failures += 1;
        }
        failures
    }

    // S12
    #[test]
    fn who_fails_too_often_waits_and_nobody_else() {
        let throttle = Throttle::default();
        let beta: ClientId = serde_json::from_str("\"beta-1\"").unwrap();
        let delta: ClientId = serde_json::from_str("\"delta-1\"").unwrap();
        let (here, there) = (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into());
        assert_eq!(failures_until_wait(&throttle, Some(&beta), here), 30);
        assert_eq!(throttle.wait(Some(&beta), here, NOW), Some(Duration::from_secs(1)));
        assert_eq!(throttle.wait(Some(&beta), there, NOW), None);
        assert_eq!(throttle.wait(Some(&delta), here, NOW), None);
        assert_eq!(throttle.wait(Some(&beta), here, NOW + Duration::from_secs(1)), None);
        assert_eq!(failures_until_wait(&throttle, None, here), 270);
        assert_eq!(throttle.wait(Some(&delta), here, NOW), Some(Duration::from_secs(1)));
    }

    // RFC 9126 7.1
    #[test]
    fn little_is_kept_for_strangers_from_one_network_and_from_all() {
        let throttle = Throttle::default();
        let kept = |network: u32| {
            (0..200).filter(|_| throttle.keep_for_stranger(Ipv4Addr::from_bits(network).into(), NOW).is_ok()).count()
        };
        assert_eq!((kept(1), kept(1), kept(2)), (60, 0, 60));
        assert_eq!((3..100).map(kept).sum::<usize>(), 880);
        assert_eq!(throttle.keep_for_stranger(Ipv4Addr::LOCALHOST.into(), NOW), Err(Duration::from_secs(1)));
    }

    #[test]
    fn a_network_is_one_however_many_addresses_it_has() {
        let throttle = Throttle::default();
        let neighbour = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 1, n, 0, 0, n).into();
        for n in 0..300 {
            throttle.note(None, neighbour(n), NOW);
        }
        assert!(throttle.wait(None, neighbour(999), NOW).is_some());
    }

    #[test]
    fn a_flood_is_not_remembered_without_bound() {
        let throttle = Throttle::default();
        for n in 0..30_000_u32 {
            throttle.note(None, Ipv4Addr::from_bits(n).into(), NOW);
        }
        assert!(throttle.networks.0.lock().unwrap().len() <= MOST);
    }
}
