//! The certificate that handshakes show.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use homeward_certs::public::Validity;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::clock::Timestamp;

/// Ops are told so long before a certificate ends, or when a fifth of its life is left if that is less.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Whether a certificate that is good from then until then ends so soon that it should have been renewed.
pub(crate) fn ends_soon(from: Timestamp, until: Timestamp, now: Timestamp) -> bool {
    until.since(now) < SOON.min(until.since(from) / 5)
}

/// The certificate that handshakes show from now on; none until there is one.
#[derive(Default)]
pub(super) struct Shown(ArcSwapOption<Served>);

impl Shown {
    pub(super) fn show(&self, served: Option<Served>) {
        self.0.store(served.map(Arc::new));
    }

    pub(super) fn served(&self) -> Option<Arc<Served>> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|served| served.key.clone())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load().as_ref().map(|served| served.not_after()).fmt(f)
    }
}

/// A chain with its key, and how long it is good.
#[derive(Clone, Debug)]
pub struct Served {
    key: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Served {
    /// This chain, leaf first, with this key.
    ///
    /// # Errors
    /// When there is no certificate, or the key is not the leaf's.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, Unusable> {
        let leaf = chain.first().ok_or(Unusable::NoCertificate)?;
        let validity = Validity::of(leaf).ok_or(Unusable::NoCertificate)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Unusable::OtherKey,
            _ => Unusable::Key,
        })?;
        let [not_before, not_after] = [validity.not_before, validity.not_after].map(Timestamp::from_secs);
        Ok(Self { key: Arc::new(key), not_before, not_after })
    }

    /// From when it is good.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Until when it is good.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it is for this host.
    pub fn is_for(&self, host: &str) -> bool {
        let leaf = self.key.end_entity_cert().ok().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        let name = ServerName::try_from(host).ok();
        leaf.zip(name).is_some_and(|(leaf, name)| verify_server_name(&leaf, &name).is_ok())
    }

    /// What browsers do not like about it, or soon will not.
    pub(super) fn remark(&self, host: &str, now: Timestamp) -> Option<String> {
        let until = self.not_after;
        if now < self.not_before {
            let from = self.not_before;
            Some(format!(
                "the certificate of the public address is good from {from} only: is this machine's clock right?"
            ))
        } else if now >= until {
            Some(format!("the certificate of the public address ended at {until}, and browsers refuse it: renew it"))
        } else if ends_soon(self.not_before, until, now) {
            Some(format!("the certificate of the public address ends at {until}, and was not renewed: renew it"))
        } else if !self.is_for(host) {
            Some(format!("the certificate is not for {host}, which public_url names: browsers refuse it"))
        } else {
            None
        }
    }
}

/// Why a chain and a key are no certificate to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Nothing, or something else.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// The key of another certificate.
    #[error("the private key is not that of the certificate")]
    OtherKey,
    /// Of a kind that TLS has no use for.
    #[error("the private key cannot be used")]
    Key,
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate for login.example.org of the whole of the year 2030, and its key.
    pub(in crate::tls) fn of_2030() -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec!["login.example.org".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2031, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    #[test]
    fn ops_hear_of_a_certificate_before_browsers_refuse_it() {
        let (chain, key) = of_2030();
        let served = Served::new(chain, key).unwrap();
        let remark = |at: &str| served.remark("login.example.org", at.parse().unwrap());
        assert_eq!(remark("2030-12-17"), None);
        assert!(remark("2030-12-19").unwrap().contains("ends at 2031-01-01T00:00:00Z"));
        assert!(remark("2031-01-01").unwrap().contains("browsers refuse it"));
        assert!(remark("2029-12-31").unwrap().contains("clock"));
        let of_another = served.remark("login.example.com", "2030-06-01".parse().unwrap());
        assert!(of_another.unwrap().contains("is not for login.example.com"));
    }

    #[test]
    fn the_key_of_another_certificate_is_none() {
        let ((chain, _), (_, key)) = (of_2030(), of_2030());
        assert_eq!(Served::new(chain, key.clone_key()).unwrap_err(), Unusable::OtherKey);
        assert_eq!(Served::new(Vec::new(), key).unwrap_err(), Unusable::NoCertificate);
    }
}
