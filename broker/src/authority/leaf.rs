//! The broker's own certificate: made over a new key whenever a broker starts, at half of its life, and when another CA
//! begins to sign brokers. Never stored.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homeward_certs::authority::{CertificateAuthority, Validity};
use homeward_certs::csr::InstanceKey;
use homeward_certs::pin::SpkiPin;
use homeward_certs::tls::LiveIdentity;
use rustls::pki_types::ServerName;
use tracing::info;

use crate::authority::CaError;
use crate::clock::Timestamp;

/// How long a leaf lasts.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// The leaf that this broker shows.
#[derive(Debug)]
pub(super) struct BrokerLeaf {
    identity: Arc<LiveIdentity>,
    host: Option<ServerName<'static>>,
    shown: Mutex<Shown>,
}

/// What is shown, and what a connection may still have seen.
#[derive(Clone, Copy, Debug)]
struct Shown {
    key: SpkiPin,
    previous_key: SpkiPin,
    authority: SpkiPin,
    renew_at: Timestamp,
}

impl BrokerLeaf {
    /// The first leaf, of a broker at this host.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new(
        ca: &CertificateAuthority,
        host: Option<ServerName<'static>>,
        now: Timestamp,
    ) -> Result<Self, CaError> {
        let (chain, key) = made(ca, host.as_ref(), now)?;
        let identity = LiveIdentity::new(chain, &key.to_private_key())?;
        let pin = key.pin();
        let shown = Shown { key: pin, previous_key: pin, authority: ca.pin(), renew_at: now + LIFETIME / 2 };
        Ok(Self { identity, host, shown: Mutex::new(shown) })
    }

    /// For TLS.
    pub(super) fn identity(&self) -> Arc<LiveIdentity> {
        self.identity.clone()
    }

    /// Keys of the leaves that the other end of a live connection may have been shown, newest first.
    pub(super) fn pins(&self) -> [SpkiPin; 2] {
        let shown = *self.lock();
        [shown.key, shown.previous_key]
    }

    /// Its end.
    pub(super) fn expires_at(&self) -> Timestamp {
        self.lock().renew_at + LIFETIME / 2
    }

    /// How long the leaf is still fresh.
    pub(super) fn fresh_for(&self, now: Timestamp) -> Duration {
        self.lock().renew_at.since(now)
    }

    /// Makes a new leaf if this one is half through its life or of another CA. Open connections go on; later ones see
    /// the new leaf.
    ///
    /// # Errors
    /// When it cannot be made; the old one stays.
    pub(super) fn refresh(&self, ca: &CertificateAuthority, now: Timestamp) -> Result<(), CaError> {
        let mut shown = self.lock();
        if shown.authority == ca.pin() && now < shown.renew_at {
            return Ok(());
        }
        let (chain, key) = made(ca, self.host.as_ref(), now)?;
        self.identity.swap(chain, &key.to_private_key())?;
        *shown = Shown { key: key.pin(), previous_key: shown.key, authority: ca.pin(), renew_at: now + LIFETIME / 2 };
        info!(key = %key.pin(), authority = %ca.pin(), "the broker's certificate was renewed");
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn made(
    ca: &CertificateAuthority,
    host: Option<&ServerName<'_>>,
    now: Timestamp,
) -> Result<(Vec<Vec<u8>>, InstanceKey), CaError> {
    let key = InstanceKey::generate()?;
    let leaf = ca.issue_broker(&key, host, Validity { now: now.to_system_time(), lifetime: LIFETIME })?;
    Ok((vec![leaf.certificate, ca.certificate().to_vec()], key))
}
