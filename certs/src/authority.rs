//! The federation's CA: what certificates it makes, and the making.
//!
//! A certificate is built from the profile here and a public key. Nothing else of what the applicant sent is used.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SerialNumber, SigningKey as _,
    SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::bundle::{BundleStatement, TrustBundle};
use crate::csr::{CsrPublicKey, InstanceKey};
use crate::identity::{InstanceName, PeerIdentity, TrustDomain};
use crate::pin::SpkiPin;

/// How far a certificate's start lies before its making: the clocks of a federation differ.
pub const BACKDATE: Duration = Duration::from_secs(60);

/// A CA that can sign.
pub struct CertificateAuthority {
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
    trust_domain: TrustDomain,
}

impl CertificateAuthority {
    /// A new CA, P-256, good for `lifetime` from `now`.
    ///
    /// # Errors
    /// When key or certificate cannot be made.
    pub fn generate(trust_domain: TrustDomain, now: SystemTime, lifetime: Duration) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::NotMade)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Homeward CA of {trust_domain}"));
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + lifetime).into();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(AuthorityError::NotMade)?.der().to_vec();
        Ok(Self { certificate, issuer: Issuer::new(params, key), not_after: now + lifetime, trust_domain })
    }

    /// A CA from its certificate and PKCS#8 key (both DER).
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn load(trust_domain: TrustDomain, certificate: Vec<u8>, pkcs8: &[u8]) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ECDSA_P256_SHA256)
            .map_err(AuthorityError::Unreadable)?;
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(certificate.as_slice()), key)
            .map_err(AuthorityError::Unreadable)?;
        let (_, read) = X509Certificate::from_der(&certificate).map_err(|_| AuthorityError::Key)?;
        let not_after = read.validity().not_after.to_datetime().into();
        Ok(Self { certificate, issuer, not_after, trust_domain })
    }

    /// Its certificate (DER).
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Its private key, PKCS#8 (DER): to be sealed at once.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.issuer.key().serialize_der())
    }

    /// Its certificate's end.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Pin of its key.
    pub fn pin(&self) -> SpkiPin {
        SpkiPin::of_spki(&self.issuer.key().subject_public_key_info())
    }

    /// Its word for a trust bundle.
    ///
    /// # Errors
    /// When signing fails.
    pub fn state(&self, bundle: TrustBundle) -> Result<BundleStatement, AuthorityError> {
        let signature = self.issuer.key().sign(&bundle.to_be_signed()).map_err(AuthorityError::NotMade)?;
        Ok(BundleStatement { bundle, signer: self.pin(), signature })
    }

    /// The federation it signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// A leaf for an instance: client authentication only, one URI SAN, the key of its signing request.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue_instance(
        &self,
        name: &InstanceName,
        key: &CsrPublicKey,
        validity: Validity,
    ) -> Result<IssuedLeaf, AuthorityError> {
        let key = SubjectPublicKeyInfo::from_der(key.spki()).map_err(AuthorityError::NotMade)?;
        let mut profile = self.leaf(&PeerIdentity::Instance(name.clone()), validity)?;
        profile.params.distinguished_name.push(DnType::CommonName, name.as_str());
        profile.params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        profile.signed(|params| params.signed_by(&key, &self.issuer))
    }

    /// A leaf for the broker itself: server authentication only. Agents know it by its SPIFFE id; the host name, if there
    /// is one, is for applications, whose TLS knows servers by nothing else.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue_broker(
        &self,
        key: &InstanceKey,
        host: Option<&ServerName<'_>>,
        validity: Validity,
    ) -> Result<IssuedLeaf, AuthorityError> {
        let csr = key.csr().map_err(|_| AuthorityError::Key)?;
        let key = CsrPublicKey::from_csr(&csr).map_err(|_| AuthorityError::Key)?;
        let key = SubjectPublicKeyInfo::from_der(key.spki()).map_err(AuthorityError::NotMade)?;
        let mut profile = self.leaf(&PeerIdentity::Broker, validity)?;
        profile.params.distinguished_name.push(DnType::CommonName, "Homeward broker");
        profile.params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        profile.params.subject_alt_names.extend(host.map(alternative_name).transpose()?.flatten());
        profile.signed(|params| params.signed_by(&key, &self.issuer))
    }

    fn leaf(&self, identity: &PeerIdentity, validity: Validity) -> Result<LeafProfile, AuthorityError> {
        let uri = identity.spiffe_id(&self.trust_domain).try_into().map_err(AuthorityError::NotMade)?;
        let serial = Serial::generate()?;
        let not_after = validity.now + validity.lifetime;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        params.not_before = (validity.now - BACKDATE).into();
        params.not_after = not_after.into();
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(LeafProfile { params, serial, not_after })
    }
}

/// A host as certificates name it.
fn alternative_name(host: &ServerName<'_>) -> Result<Option<SanType>, AuthorityError> {
    match host {
        ServerName::DnsName(name) => {
            let name = name.as_ref().try_into().map_err(AuthorityError::NotMade)?;
            Ok(Some(SanType::DnsName(name)))
        }
        ServerName::IpAddress(address) => Ok(Some(SanType::IpAddress((*address).into()))),
        // There is no third kind today.
        _ => Ok(None),
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateAuthority({})", self.trust_domain)
    }
}

/// When a leaf begins (60 s before `now`) and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// The issuer's clock.
    pub now: SystemTime,
    /// From `now`.
    pub lifetime: Duration,
}

/// Serial number of a certificate: 128 random bits, of which the first is 0 so that it stays positive (RFC 5280 4.1.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    fn generate() -> Result<Self, AuthorityError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AuthorityError::Key)?;
        // Neither negative nor shortened by DER, so that the stored form is the certificate's form.
        bytes[0] = (bytes[0] & 0x7f) | 0x40;
        Ok(Self(bytes))
    }

    /// The serial of a certificate (DER), or nothing if it is none of ours.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        certificate.tbs_certificate.raw_serial().try_into().ok().map(Self)
    }
}

impl fmt::Display for Serial {
    /// 32 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A leaf that was just made.
#[derive(Clone, Debug)]
pub struct IssuedLeaf {
    /// DER.
    pub certificate: Vec<u8>,
    /// For the checks of every later call.
    pub serial: Serial,
    /// Its end.
    pub not_after: SystemTime,
}

struct LeafProfile {
    params: CertificateParams,
    serial: Serial,
    not_after: SystemTime,
}

impl LeafProfile {
    fn signed(
        self,
        sign: impl FnOnce(CertificateParams) -> Result<Certificate, rcgen::Error>,
    ) -> Result<IssuedLeaf, AuthorityError> {
        let certificate = sign(self.params).map_err(AuthorityError::NotMade)?.der().to_vec();
        Ok(IssuedLeaf { certificate, serial: self.serial, not_after: self.not_after })
    }
}

/// Why the CA did not sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// rcgen could not make it.
    #[error("the certificate could not be made")]
    NotMade(#[source] rcgen::Error),
    /// What was stored is no CA.
    #[error("the stored CA cannot be read")]
    Unreadable(#[source] rcgen::Error),
    /// No randomness, or a key that cannot sign.
    #[error("the key of the certificate cannot be used")]
    Key,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;
    const DAY: Duration = Duration::from_secs(86_400);

    fn authority() -> CertificateAuthority {
        CertificateAuthority::generate("example.org".parse().unwrap(), NOW + DAY, 100 * DAY).unwrap()
    }

    fn instance_leaf(authority: &CertificateAuthority, csr: &[u8]) -> IssuedLeaf {
        let key = CsrPublicKey::from_csr(csr).unwrap();
        let validity = Validity { now: NOW + 2 * DAY, lifetime: DAY };
        authority.issue_instance(&"alpha".parse().unwrap(), &key, validity).unwrap()
    }

    #[test]
    fn leaf_has_the_profile_and_only_the_key_of_a_greedy_request() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names = vec![SanType::URI("spiffe://example.org/broker".try_into().unwrap())];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = params.serialize_request(&key).unwrap();

        let authority = authority();
        let issued = instance_leaf(&authority, csr.der());
        let (_, leaf) = X509Certificate::from_der(&issued.certificate).unwrap();
        assert_eq!(leaf.tbs_certificate.subject_pki.raw, key.subject_public_key_info());
        assert!(!leaf.is_ca());
        let eku = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(eku.client_auth && !eku.server_auth);
        assert_eq!(leaf.validity().not_before.timestamp(), 2 * 86_400 - 60);
        assert_eq!(leaf.validity().not_after.timestamp(), 3 * 86_400);
        assert_eq!(Serial::of_certificate(&issued.certificate), Some(issued.serial));
        assert_eq!(
            PeerIdentity::of_leaf(&issued.certificate, authority.trust_domain()),
            Ok(PeerIdentity::Instance("alpha".parse().unwrap()))
        );
    }

    #[test]
    fn a_loaded_authority_signs_like_the_generated_one() {
        let made = authority();
        let loaded =
            CertificateAuthority::load(made.trust_domain().clone(), made.certificate().to_vec(), &made.to_pkcs8())
                .unwrap();
        let issued = instance_leaf(&loaded, &InstanceKey::generate().unwrap().csr().unwrap());
        let (_, ca) = X509Certificate::from_der(made.certificate()).unwrap();
        let (_, leaf) = X509Certificate::from_der(&issued.certificate).unwrap();
        assert_eq!(leaf.issuer(), ca.subject());
        assert!(ca.is_ca());
        assert_eq!(SpkiPin::of_certificate(made.certificate()), Some(loaded.pin()));
        assert_eq!((made.not_after(), loaded.not_after()), (NOW + 101 * DAY, NOW + 101 * DAY));
    }
}
