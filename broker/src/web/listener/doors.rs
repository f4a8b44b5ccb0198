//! Who comes in at a listener. Strangers are many: so many of one network, so many of a wider one, so many of all, and some
//! wait. There is always room for proxies and this machine, before whom many people stand.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::rate_limit::{Door, Inside, Met, network, site};

/// The doors of one listener.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    network: Door<IpAddr>,
    site: Door<IpAddr>,
    all: Door<()>,
    turned_away: Met,
}

/// Who has come in, until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Guest {
    _of_network: Option<Inside<IpAddr>>,
    _of_site: Option<Inside<IpAddr>>,
    place: Option<Inside<()>>,
    /// Before which he waits.
    all: Option<(Door<()>, Met)>,
}

impl Doors {
    /// Of a listener with so many connections, of which strangers have three quarters, an eighth waits, and an eighth is for
    /// whoever is none. Whoever is turned away is counted here.
    pub(super) fn new(connections: usize, turned_away: Met) -> Self {
        Self {
            network: Door::new(connections / 4, 0),
            site: Door::new(connections / 4, 0),
            all: Door::new(connections / 4 * 3, connections / 8),
            turned_away,
        }
    }

    /// Lets a stranger in at once, or not at all; nobody waits before these doors.
    pub(super) async fn come(&self, peer: IpAddr) -> Option<Guest> {
        let (of_network, of_site) = (self.network.enter(network(peer)).await, self.site.enter(site(peer)).await);
        if of_network.is_none() || of_site.is_none() {
            self.turned_away.note();
            return None;
        }
        let all = Some((self.all.clone(), self.turned_away.clone()));
        Some(Guest { _of_network: of_network, _of_site: of_site, place: None, all })
    }
}

impl Guest {
    /// Waits so long at most until there is a place for one more stranger. Who is none has his.
    ///
    /// # Errors
    /// When too many wait already, or it takes too long.
    pub(super) async fn sit_down(&mut self, wait: Duration) -> io::Result<()> {
        let Some((all, turned_away)) = self.all.take() else { return Ok(()) };
        let place = tokio::time::timeout(wait, all.enter(())).await.ok().flatten();
        if place.is_none() {
            turned_away.note();
        }
        self.place = Some(place.ok_or_else(|| io::Error::other("too many strangers are here"))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn come(doors: &Doors, peer: &str) -> Option<Guest> {
        doors.come(peer.parse().unwrap()).await
    }

    #[tokio::test]
    async fn a_site_with_many_networks_is_one_stranger() {
        let (doors, mut inside) = (Doors::new(64, Met::default()), Vec::new());
        for network in 0..32 {
            inside.extend(come(&doors, &format!("2001:db8:0:{network:x}::1")).await);
        }
        assert_eq!(inside.len(), 16);
        assert!(come(&doors, "2001:db8:1::1").await.is_some(), "of another site");
        assert!(come(&doors, "192.0.2.1").await.is_some() && come(&doors, "::ffff:192.0.2.2").await.is_some());
        inside.clear();
        assert!(come(&doors, "2001:db8:0:7::1").await.is_some());
        for _ in 0..32 {
            inside.extend(come(&doors, "::ffff:192.0.2.1").await);
        }
        assert_eq!(inside.len(), 16, "an IPv4 address, however it is written");
    }

    #[tokio::test]
    async fn all_strangers_together_leave_room_for_proxies() {
        let (met, mut seated, wait) = (Met::default(), Vec::new(), Duration::from_millis(500));
        let doors = Doors::new(64, met.clone());
        for n in 0..48 {
            let mut guest = come(&doors, &format!("192.0.2.{n}")).await.unwrap();
            guest.sit_down(wait).await.unwrap();
            seated.push(guest);
        }
        let mut waiting = tokio::task::JoinSet::new();
        for n in 100..110 {
            let mut guest = come(&doors, &format!("192.0.2.{n}")).await.unwrap();
            waiting.spawn(async move { guest.sit_down(wait).await.map(|()| guest) });
        }
        tokio::time::sleep(wait / 5).await;
        assert_eq!(met.times(), 2, "two were too many");
        Guest::default().sit_down(wait).await.unwrap();
        seated.pop();
        // One has the place that became free, and seven have waited for too long.
        let seats = waiting.join_all().await;
        assert_eq!(seats.iter().filter(|seated| seated.is_ok()).count(), 1);
        assert_eq!(met.times(), 9);
    }
}
