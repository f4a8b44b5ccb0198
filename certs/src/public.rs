//! Certificates by which browsers know the broker: those of public CAs, for a name, and not of the federation's own CA.
//!
//! What is asked of such a CA ([`ServerKey`]), what answers its challenge ([`challenge_certificate`]), and what may be read
//! from what it gave ([`Validity`]).

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::csr::KeyError;

/// A new private key (P-256) for a name.
pub struct ServerKey(KeyPair);

impl ServerKey {
    /// A new key.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(|_| KeyError::NotMade)
    }

    /// PKCS#8 (DER): to be sealed.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// A signing request (DER) for this name and nothing else.
    ///
    /// # Errors
    /// When it is no name of a host, or signing fails.
    pub fn csr(&self, name: &str) -> Result<Vec<u8>, KeyError> {
        let request = params(name)?.serialize_request(&self.0).map_err(|_| KeyError::NotMade)?;
        Ok(request.der().to_vec())
    }
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKey(…)")
    }
}

/// What a host shows to prove that it is the name's (RFC 8737 3): a certificate (DER) by itself, with the digest of the key
/// authorization in it, and its key.
///
/// # Errors
/// When it is no name of a host, no SHA-256, or the machine has no randomness.
pub fn challenge_certificate(name: &str, digest: &[u8]) -> Result<(Vec<u8>, PrivateKeyDer<'static>), KeyError> {
    let digest: &[u8; 32] = digest.try_into().map_err(|_| KeyError::NotMade)?;
    let mut params = params(name)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| KeyError::NotMade)?;
    let certificate = params.self_signed(&key).map_err(|_| KeyError::NotMade)?;
    Ok((certificate.der().to_vec(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
}

fn params(name: &str) -> Result<CertificateParams, KeyError> {
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(|_| KeyError::NotMade)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

/// From when until when a certificate is good: seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From.
    pub not_before: i64,
    /// Until.
    pub not_after: i64,
}

impl Validity {
    /// Of this certificate (DER); nothing if it is none.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let validity = certificate.validity();
        Some(Self { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_answered_with_its_digest_for_its_name() {
        let digest = [7; 32];
        let (certificate, _) = challenge_certificate("login.example.org", &digest).unwrap();
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        // RFC 8737 3: critical, and an OCTET STRING in the extension's OCTET STRING.
        let extension = parsed.extensions().iter().find(|it| it.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4, 32][..], &digest].concat());
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        assert!(challenge_certificate("login.example.org", &[7; 31]).is_err());
    }

    #[test]
    fn a_request_names_the_host_and_nothing_else() {
        let csr = ServerKey::generate().unwrap().csr("login.example.org").unwrap();
        let text = String::from_utf8_lossy(&csr).into_owned();
        assert!(text.contains("login.example.org") && !text.contains("rcgen"), "{text}");
    }
}
