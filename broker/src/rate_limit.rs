//! How often, and how many at a time, somebody may do something of whom nothing is known but where he comes from, in
//! bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of so many at most it is remembered what they did.
pub const REMEMBERED: usize = 10_000;

/// Who is one to be limited as: an IPv4 address, however it is written, or the IPv6 network of which anybody has all
/// addresses (RFC 6177).
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Of an IPv6 address so many bits are those of a site: what customers get is a /56 or a /48 (RFC 6177), and so any number of
/// networks.
const SITE: u32 = 48;

/// Who has come from the same house, by whichever of his networks.
pub fn site(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> (128 - SITE) << (128 - SITE)).into(),
    }
}

/// How often a limit was met: somebody was turned away, or something left out, that no answer and no other metric tells of.
#[derive(Clone, Debug, Default)]
pub struct Met(Arc<AtomicU64>);

impl Met {
    /// Once more.
    pub fn note(&self) {
        self.add(1);
    }

    /// So often.
    pub fn add(&self, times: u64) {
        self.0.fetch_add(times, Ordering::Relaxed);
    }

    /// Since the broker has started.
    pub fn times(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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

/// So many of one kind (of a network, or of an instance) are inside at a time and so many wait before it; who comes then is
/// turned away. The kinds do not know of each other: one that sends its thousands keeps nobody else out.
#[derive(Debug)]
pub struct Door<K: Eq + Hash> {
    inside: usize,
    waiting: usize,
    /// Only those of whom somebody is here.
    crowds: Arc<Mutex<HashMap<K, Crowd>>>,
}

#[derive(Debug)]
struct Crowd {
    /// Inside and waiting.
    here: usize,
    room: Arc<Semaphore>,
}

impl<K: Clone + Eq + Hash> Clone for Door<K> {
    fn clone(&self) -> Self {
        Self { inside: self.inside, waiting: self.waiting, crowds: self.crowds.clone() }
    }
}

impl<K: Clone + Eq + Hash> Door<K> {
    /// With room for so many of each.
    pub fn new(inside: usize, waiting: usize) -> Self {
        Self { inside, waiting, crowds: Arc::default() }
    }

    /// Lets somebody in as soon as there is room for his kind; not if too many of it wait already.
    pub async fn enter(&self, kind: K) -> Option<Inside<K>> {
        let (mut visitor, room) = self.come(kind)?;
        // It is never closed.
        visitor.permit = Some(room.acquire_owned().await.ok()?);
        Some(visitor)
    }

    fn come(&self, kind: K) -> Option<(Inside<K>, Arc<Semaphore>)> {
        let mut crowds = self.crowds();
        let new = || Crowd { here: 0, room: Arc::new(Semaphore::new(self.inside)) };
        let crowd = crowds.entry(kind.clone()).or_insert_with(new);
        if crowd.here >= self.inside + self.waiting {
            return None;
        }
        crowd.here += 1;
        Some((Inside { door: self.clone(), kind, permit: None }, crowd.room.clone()))
    }

    fn crowds(&self) -> MutexGuard<'_, HashMap<K, Crowd>> {
        self.crowds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is inside, or waits for that, until this is dropped.
#[derive(Debug)]
pub struct Inside<K: Clone + Eq + Hash> {
    door: Door<K>,
    kind: K,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Clone + Eq + Hash> Drop for Inside<K> {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut crowds = self.door.crowds();
        if let Some(crowd) = crowds.get_mut(&self.kind) {
            crowd.here -= 1;
            if crowd.here == 0 {
                crowds.remove(&self.kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_network_waits_for_itself_and_for_nobody_else() {
        let door = Door::new(2, 1);
        let peer = |text: &str| network(text.parse().unwrap());
        let one = door.enter(peer("2001:db8::1")).await.unwrap();
        let _two = door.enter(peer("2001:db8::2")).await.unwrap();
        let mut third = Box::pin(door.enter(peer("2001:db8::3")));
        assert!(tokio::time::timeout(Duration::from_millis(10), &mut third).await.is_err());
        assert!(door.enter(peer("2001:db8::4")).await.is_none(), "too many wait");
        assert!(door.enter(peer("2001:db8:0:1::1")).await.is_some(), "of another network");
        drop(one);
        assert!(third.await.is_some());
    }

    #[test]
    fn an_ipv4_address_is_one_however_it_is_written() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("::ffff:192.0.2.1"), of("::ffff:192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
    }

    #[tokio::test]
    async fn who_left_or_gave_up_is_not_remembered() {
        let door = Door::new(1, 1);
        let peer = IpAddr::from([192, 0, 2, 1]);
        let inside = door.enter(peer).await.unwrap();
        let waiting = door.enter(peer);
        assert!(tokio::time::timeout(Duration::from_millis(10), waiting).await.is_err());
        assert_eq!(door.crowds().get(&peer).unwrap().here, 1);
        drop(inside);
        assert!(door.crowds().is_empty());
    }
}
