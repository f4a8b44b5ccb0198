//! The broker's order to have a certificate of a certain CA within some time. Each agent draws one moment, evenly, and
//! keeps it: a restart does not draw again, and ten thousand agents that are told at once do not come at once.

use std::time::Duration;

use homeward_certs::pin::SpkiPin;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::disk::{DiskError, PrivateDir};

/// The file.
const FILE: &str = "renewal-order.json";

/// The order that stands, if one does.
#[derive(Debug)]
pub(crate) struct Orders {
    data: PrivateDir,
    standing: watch::Sender<Option<Order>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    authority_pin: [u8; 32],
    within_seconds: u64,
    /// Seconds since 1970.
    renew_at: i64,
}

impl Orders {
    /// The one on disk.
    pub(crate) fn open(data: PrivateDir) -> Result<Self, DiskError> {
        let standing = data.load(FILE)?;
        Ok(Self { data, standing: watch::Sender::new(standing) })
    }

    /// Takes an order. The same CA again is the same order: its moment stays.
    pub(crate) fn take(
        &self,
        authority: SpkiPin,
        within: Duration,
        now: OffsetDateTime,
        fraction: f64,
    ) -> Result<(), DiskError> {
        if self.standing.borrow().as_ref().is_some_and(|order| order.authority_pin == *authority.as_bytes()) {
            return Ok(());
        }
        let renew_at = moment(now, within, fraction);
        tracing::info!(%authority, ?within, "the broker wants a certificate of this CA");
        self.set(Some(Order { authority_pin: *authority.as_bytes(), within_seconds: within.as_secs(), renew_at }))
    }

    /// The broker took it back, or the CA has turned.
    pub(crate) fn withdraw(&self) -> Result<(), DiskError> {
        if self.standing.borrow().is_none() { Ok(()) } else { self.set(None) }
    }

    /// The moment is past and the broker had no room: another one, in the next window. Not exponentially: who waits has a
    /// certificate that is still good, and the window is as wide as the broker needs.
    pub(crate) fn postpone(&self, now: OffsetDateTime, fraction: f64) -> Result<(), DiskError> {
        let Some(order) = self.standing.borrow().clone() else { return Ok(()) };
        let renew_at = moment(now, Duration::from_secs(order.within_seconds), fraction);
        self.set(Some(Order { renew_at, ..order }))
    }

    /// When to renew, if the certificate's CA is not the one that is wanted.
    pub(crate) fn due(&self, authority: Option<SpkiPin>) -> Option<OffsetDateTime> {
        let order = self.standing.borrow();
        let order = order.as_ref().filter(|order| authority.map(|pin| *pin.as_bytes()) != Some(order.authority_pin))?;
        OffsetDateTime::from_unix_timestamp(order.renew_at).ok()
    }

    /// Told of every change.
    pub(crate) fn watch(&self) -> watch::Receiver<impl Sized + use<>> {
        self.standing.subscribe()
    }

    fn set(&self, order: Option<Order>) -> Result<(), DiskError> {
        match &order {
            Some(order) => self.data.store(FILE, order)?,
            None => self.data.remove(FILE)?,
        }
        self.standing.send_replace(order);
        Ok(())
    }
}

fn moment(now: OffsetDateTime, within: Duration, fraction: f64) -> i64 {
    (now + within.mul_f64(fraction.clamp(0.0, 1.0))).unix_timestamp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(100);

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn orders() -> (tempfile::TempDir, Orders) {
        let folder = tempfile::tempdir().unwrap();
        let data = PrivateDir::open(&folder.path().join("data")).unwrap();
        (folder, Orders::open(data).unwrap())
    }

    #[test]
    fn the_moment_lies_in_the_window_and_is_drawn_once() {
        let (_folder, orders) = orders();
        let (old, next) = (SpkiPin::from_bytes([1; 32]), SpkiPin::from_bytes([2; 32]));
        orders.take(next, WITHIN, at(1000), 0.25).unwrap();
        assert_eq!(orders.due(Some(old)), Some(at(1025)));
        orders.take(next, WITHIN, at(1010), 0.75).unwrap();
        assert_eq!(orders.due(Some(old)), Some(at(1025)), "told again, drawn once");
        assert_eq!(Orders::open(orders.data.clone()).unwrap().due(Some(old)), Some(at(1025)), "nor by a restart");
        assert_eq!(orders.due(Some(next)), None, "a certificate of that CA needs nothing");
    }

    #[test]
    fn refused_for_want_of_room_it_waits_for_the_next_window() {
        let (_folder, orders) = orders();
        orders.take(SpkiPin::from_bytes([2; 32]), WITHIN, at(1000), 0.5).unwrap();
        for round in 1..20 {
            let now = at(1000 + 100 * round);
            orders.postpone(now, 1.0).unwrap();
            assert_eq!(orders.due(None), Some(now + WITHIN), "never further away than one window");
        }
        orders.withdraw().unwrap();
        assert_eq!(orders.due(None), None);
        assert_eq!(Orders::open(orders.data.clone()).unwrap().due(None), None);
    }
}
