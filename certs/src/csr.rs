//! The instance's key, and the signing request (PKCS#10) that carries its public half to the broker.

use std::fmt;

use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::pin::SpkiPin;

/// The private key of an instance certificate: P-256, made on the instance's machine, never leaves it.
pub struct InstanceKey(KeyPair);

impl InstanceKey {
    /// A new key.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(|_| KeyError::NotMade)
    }

    /// Reads PKCS#8 (DER).
    ///
    /// # Errors
    /// When it is not a P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|_| KeyError::Unreadable)
    }

    /// PKCS#8 (DER): for a file of mode 0600 and nothing else.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// The key as rustls takes it.
    pub fn to_private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }

    /// Fingerprint of the public half.
    pub fn pin(&self) -> SpkiPin {
        SpkiPin::of_spki(&self.0.subject_public_key_info())
    }

    /// A signing request (DER) that asks for nothing: name and profile are the CA's to decide.
    ///
    /// # Errors
    /// When signing fails.
    pub fn csr(&self) -> Result<Vec<u8>, KeyError> {
        let request = CertificateParams::default().serialize_request(&self.0).map_err(|_| KeyError::NotMade)?;
        Ok(request.der().to_vec())
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceKey({})", self.pin())
    }
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Key generation or signing failed.
    #[error("the key could not be made")]
    NotMade,
    /// Stored bytes are no such key.
    #[error("the stored key cannot be read")]
    Unreadable,
}

/// The public key of a signing request whose self-signature was verified: proof that the sender holds the private half.
#[derive(Clone)]
pub struct CsrPublicKey {
    spki: Vec<u8>,
}

impl CsrPublicKey {
    /// Takes the public key, and only that, out of a signing request (PKCS#10, DER). rcgen would copy names, key usages
    /// and even `CA:true` from the request into the certificate; nothing of that is looked at here.
    ///
    /// # Errors
    /// When the request is malformed, not signed by its own key, or over another kind of key than P-256.
    pub fn from_csr(der: &[u8]) -> Result<Self, CsrError> {
        let der = CertificateSigningRequestDer::from(der);
        let request = CertificateSigningRequestParams::from_der(&der).map_err(|_| CsrError::Malformed)?;
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(CsrError::KeyType);
        }
        Ok(Self { spki: request.public_key.subject_public_key_info() })
    }

    /// SubjectPublicKeyInfo (DER).
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Its fingerprint.
    pub fn pin(&self) -> SpkiPin {
        SpkiPin::of_spki(&self.spki)
    }
}

/// Why a signing request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not PKCS#10, or its signature does not verify.
    #[error("the signing request cannot be read or is not signed by its own key")]
    Malformed,
    /// Only P-256 is taken.
    #[error("the signing request is not over a P-256 key")]
    KeyType,
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, IsCa, PKCS_ED25519, SanType};

    use super::*;

    #[test]
    fn public_key_of_a_request_is_the_senders() {
        let key = InstanceKey::generate().unwrap();
        assert_eq!(CsrPublicKey::from_csr(&key.csr().unwrap()).unwrap().pin(), key.pin());
        assert_eq!(InstanceKey::from_pkcs8(&key.to_pkcs8()).unwrap().pin(), key.pin());
    }

    #[test]
    fn altered_foreign_and_other_key_types_are_refused() {
        let mut csr = InstanceKey::generate().unwrap().csr().unwrap();
        let last = csr.len() - 5;
        csr[last] ^= 1;
        assert_eq!(CsrPublicKey::from_csr(&csr).err(), Some(CsrError::Malformed));
        assert_eq!(CsrPublicKey::from_csr(b"").err(), Some(CsrError::Malformed));
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let csr = CertificateParams::default().serialize_request(&ed25519).unwrap();
        assert_eq!(CsrPublicKey::from_csr(csr.der()).err(), Some(CsrError::KeyType));
    }

    #[test]
    fn debug_output_has_no_private_key() {
        assert!(format!("{:?}", InstanceKey::generate().unwrap()).starts_with("InstanceKey(sha256/"));
    }

    /// The certificate made for such a request is looked at in `authority`.
    pub(crate) fn greedy_csr() -> (KeyPair, Vec<u8>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names = vec![
            SanType::URI("spiffe://example.org/broker".try_into().unwrap()),
            SanType::DnsName("evil".try_into().unwrap()),
        ];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = params.serialize_request(&key).unwrap().der().to_vec();
        (key, csr)
    }

    #[test]
    fn a_greedy_request_gives_its_key_and_nothing_else() {
        let (key, csr) = greedy_csr();
        assert_eq!(CsrPublicKey::from_csr(&csr).unwrap().spki(), key.subject_public_key_info());
    }
}
