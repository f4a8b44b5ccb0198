//! The trust bundle: CA certificates to accept, versioned.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::pin::SpkiPin;

/// CA certificates (DER) that a broker or agent accepts at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustBundle {
    /// Counts up from 1.
    pub version: u64,
    certificates: Vec<ByteBuf>,
}

impl TrustBundle {
    /// A bundle of at least one CA certificate (DER).
    ///
    /// # Errors
    /// When it is empty or one of them is not a certificate that can be trusted.
    pub fn new(version: u64, certificates: Vec<Vec<u8>>) -> Result<Self, BundleError> {
        let bundle = Self { version, certificates: certificates.into_iter().map(ByteBuf::from).collect() };
        bundle.roots()?;
        Ok(bundle)
    }

    /// The certificates (DER).
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(|der| der.as_slice())
    }

    /// Pins of all its keys.
    pub fn pins(&self) -> Vec<SpkiPin> {
        self.certificates().filter_map(SpkiPin::of_certificate).collect()
    }

    /// The certificates as rustls takes them.
    ///
    /// # Errors
    /// When there is none or one cannot be a root.
    pub fn roots(&self) -> Result<RootCertStore, BundleError> {
        let mut roots = RootCertStore::empty();
        for der in self.certificates() {
            roots.add(CertificateDer::from(der)).map_err(|_| BundleError::Unusable)?;
        }
        if roots.is_empty() { Err(BundleError::Empty) } else { Ok(roots) }
    }
}

/// Why a bundle cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Nothing to trust.
    #[error("the trust bundle is empty")]
    Empty,
    /// Not a CA certificate.
    #[error("a certificate of the trust bundle cannot be read")]
    Unusable,
}
