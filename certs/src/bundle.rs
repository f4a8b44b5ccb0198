//! The trust bundle: CA certificates to accept, versioned, and how one version leads to the next.
//!
//! Every version comes with a [`BundleStatement`]: a signature over it by a CA that the version before it trusts. Whoever
//! has an old bundle [follows](TrustBundle::follow) the statements to the newest, over whatever connection they came: a
//! chain with a gap, another order or another signer leads nowhere.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use x509_parser::prelude::{FromDer, X509Certificate};

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

    /// Whether it trusts the CA with this key.
    pub fn trusts(&self, pin: &SpkiPin) -> bool {
        self.certificates().any(|der| SpkiPin::of_certificate(der).as_ref() == Some(pin))
    }

    /// The bundle that the statements lead to from this one: the last of them, or this one if there are none.
    ///
    /// # Errors
    /// When they are not the next versions, each once and in order, each signed by a CA of the one before it.
    pub fn follow(&self, statements: &[BundleStatement]) -> Result<Self, BundleError> {
        statements.iter().try_fold(self.clone(), |bundle, statement| {
            bundle.accept(statement)?;
            Ok(statement.bundle.clone())
        })
    }

    fn accept(&self, statement: &BundleStatement) -> Result<(), BundleError> {
        // A lower version would bring back a CA that was given up, a gap might hide one that was.
        if self.version.checked_add(1) != Some(statement.bundle.version) {
            return Err(BundleError::NotNext { held: self.version, stated: statement.bundle.version });
        }
        let signer = self.certificates().find(|der| SpkiPin::of_certificate(der) == Some(statement.signer));
        let signer = signer.ok_or(BundleError::StrangeSigner)?;
        statement.verify(signer)?;
        statement.bundle.roots().map(drop)
    }

    /// What a statement's signature covers. Begins like no certificate does, which the same keys sign.
    pub(crate) fn to_be_signed(&self) -> Vec<u8> {
        let mut bytes = b"hw-bundle-1".to_vec();
        bytes.extend(self.version.to_be_bytes());
        self.certificates().for_each(|der| bytes.extend(digest(&SHA256, der).as_ref()));
        bytes
    }
}

/// A trust bundle and the word for it of a CA that the version before it trusts. The first version's is its own CA's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleStatement {
    /// The bundle.
    pub bundle: TrustBundle,
    /// Whose word it is.
    pub signer: SpkiPin,
    /// ECDSA P-256 with SHA-256, DER.
    pub signature: Vec<u8>,
}

impl BundleStatement {
    fn verify(&self, signer: &[u8]) -> Result<(), BundleError> {
        let (_, signer) = X509Certificate::from_der(signer).map_err(|_| BundleError::Unusable)?;
        let key = &signer.tbs_certificate.subject_pki.subject_public_key.data;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.as_ref())
            .verify(&self.bundle.to_be_signed(), &self.signature)
            .map_err(|_| BundleError::Forged)
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
    /// A gap, a repetition or a step back.
    #[error("trust bundle {stated} does not follow trust bundle {held}")]
    NotNext {
        /// Version of the bundle that is trusted.
        held: u64,
        /// Version that was to follow it.
        stated: u64,
    },
    /// The signer is no CA of the bundle before.
    #[error("the trust bundle is signed by a CA that the one before it does not trust")]
    StrangeSigner,
    /// The signature is wrong.
    #[error("the signature of the trust bundle is wrong")]
    Forged,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::authority::CertificateAuthority;

    fn ca() -> CertificateAuthority {
        let domain = "example.org".parse().unwrap();
        let day = Duration::from_secs(86_400);
        CertificateAuthority::generate(domain, SystemTime::UNIX_EPOCH + day, 100 * day).unwrap()
    }

    fn bundle(version: u64, authorities: &[&CertificateAuthority]) -> TrustBundle {
        TrustBundle::new(version, authorities.iter().map(|ca| ca.certificate().to_vec()).collect()).unwrap()
    }

    #[test]
    fn statements_lead_from_an_old_bundle_to_the_newest_and_nowhere_else() {
        let (old, next, thief) = (ca(), ca(), ca());
        let first = bundle(1, &[&old]);
        let both = old.state(bundle(2, &[&old, &next])).unwrap();
        let last = next.state(bundle(3, &[&next])).unwrap();
        assert_eq!(first.follow(&[]), Ok(first.clone()));
        assert_eq!(first.follow(&[both.clone(), last.clone()]), Ok(last.bundle.clone()));
        assert_eq!(both.bundle.follow(std::slice::from_ref(&last)), Ok(last.bundle.clone()));

        let of_a_thief = thief.state(bundle(2, &[&thief])).unwrap();
        let by_one_who_comes = next.state(bundle(2, &[&old, &next])).unwrap();
        let in_anothers_name = BundleStatement { signer: both.signer, ..of_a_thief.clone() };
        let another_version = BundleStatement { bundle: bundle(2, &[&next]), ..last.clone() };
        let other_certificates = BundleStatement { bundle: bundle(2, &[&old, &thief]), ..both.clone() };
        let empty = BundleStatement { bundle: TrustBundle { version: 2, certificates: Vec::new() }, ..both.clone() };
        let repeated = old.state(bundle(1, &[&old])).unwrap();
        use BundleError::{Forged, NotNext, StrangeSigner};
        for (held, statements, expected) in [
            (&first, vec![last.clone()], NotNext { held: 1, stated: 3 }),
            (&first, vec![last.clone(), both.clone()], NotNext { held: 1, stated: 3 }),
            (&first, vec![both.clone(), both.clone()], NotNext { held: 2, stated: 2 }),
            (&both.bundle, vec![repeated.clone()], NotNext { held: 2, stated: 1 }),
            (&last.bundle, vec![both.clone(), last.clone()], NotNext { held: 3, stated: 2 }),
            (&bundle(u64::MAX, &[&old]), vec![repeated], NotNext { held: u64::MAX, stated: 1 }),
            (&first, vec![of_a_thief], StrangeSigner),
            (&first, vec![by_one_who_comes], StrangeSigner),
            (&first, vec![in_anothers_name], Forged),
            (&first, vec![BundleStatement { signer: both.signer, ..another_version }], Forged),
            (&first, vec![other_certificates], Forged),
            (&first, vec![BundleStatement { signature: Vec::new(), ..both.clone() }], Forged),
            (&first, vec![empty], Forged),
        ] {
            assert_eq!(held.follow(&statements), Err(expected));
        }
    }
}
