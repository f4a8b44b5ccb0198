//! rustls configurations for the channel between agents and broker: TLS 1.3, HTTP/2, and certificates and trust that
//! change under a running program.
//!
//! Identity decides, not the host name: the agent accepts a broker by its SPIFFE id under the trust bundle (or, before
//! it has one, under the pins of its join token), the broker accepts an instance by its. Session resumption is off, so
//! that every connection shows its certificate and every certificate is judged by the bundle of that moment.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme, version,
};

use crate::bundle::{BundleError, TrustBundle};
use crate::identity::{IdentityError, PeerIdentity, TrustDomain};
use crate::pin::SpkiPin;

/// Certificate and key of this side; a new one is used from the next handshake on.
#[derive(Debug)]
pub struct LiveIdentity(ArcSwap<CertifiedKey>);

impl LiveIdentity {
    /// Begins with this chain (leaf first, DER) and key.
    ///
    /// # Errors
    /// When the key cannot sign or does not belong to the leaf.
    pub fn new(chain: Vec<Vec<u8>>, key: &PrivateKeyDer<'static>) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from(certified_key(chain, key)?))))
    }

    /// Replaces both.
    ///
    /// # Errors
    /// As [`LiveIdentity::new`]; the old ones stay.
    pub fn swap(&self, chain: Vec<Vec<u8>>, key: &PrivateKeyDer<'static>) -> Result<(), TlsError> {
        self.0.store(certified_key(chain, key)?);
        Ok(())
    }
}

fn certified_key(chain: Vec<Vec<u8>>, key: &PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let key = aws_lc_rs::sign::any_supported_type(key).map_err(TlsError::Key)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(TlsError::Key)?;
    Ok(Arc::new(certified))
}

impl ResolvesServerCert for LiveIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl rustls::client::ResolvesClientCert for LiveIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The trust bundle; a new one judges from the next handshake on.
#[derive(Debug)]
pub struct LiveBundle(ArcSwap<Judges>);

/// What judges by one bundle. Built once a bundle: with ten thousand agents that come back together, handshakes are what
/// a broker does.
#[derive(Debug)]
struct Judges {
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Judges {
    fn by(bundle: &TrustBundle) -> Result<Arc<Self>, BundleError> {
        let roots = Arc::new(bundle.roots()?);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider()).build();
        Ok(Arc::new(Self { roots, clients: clients.map_err(|_| BundleError::Unusable)? }))
    }
}

impl LiveBundle {
    /// Begins with this bundle.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn new(bundle: &TrustBundle) -> Result<Arc<Self>, BundleError> {
        Ok(Arc::new(Self(ArcSwap::from(Judges::by(bundle)?))))
    }

    /// Replaces it.
    ///
    /// # Errors
    /// When the new one cannot be used; the old one stays.
    pub fn swap(&self, bundle: &TrustBundle) -> Result<(), BundleError> {
        self.0.store(Judges::by(bundle)?);
        Ok(())
    }
}

/// The broker's side: clients may come without certificate (to enrol); one that is shown must be an instance's. Agents
/// speak HTTP/2; HTTP/1.1 is for applications that show their instance's certificate (RFC 8705).
///
/// # Errors
/// When TLS 1.3 cannot be had from the provider.
pub fn broker_config(
    identity: Arc<LiveIdentity>,
    bundle: Arc<LiveBundle>,
    trust_domain: TrustDomain,
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, TlsError> {
    let verifier = InstanceVerifier { bundle, trust_domain, provider: provider() };
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Configuration)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The agent's side before it is enrolled: no certificate of its own, the broker's under one of the pinned CA keys.
///
/// # Errors
/// When TLS 1.3 cannot be had from the provider.
pub fn enrolment_config(
    pins: Vec<SpkiPin>,
    trust_domain: TrustDomain,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, TlsError> {
    let verifier = BrokerVerifier { trust: Trust::Pins(pins), trust_domain, provider: provider() };
    let config = client_builder(verifier, clock)?.with_no_client_auth();
    Ok(for_http2(config))
}

/// The agent's side once it is enrolled.
///
/// # Errors
/// When TLS 1.3 cannot be had from the provider.
pub fn instance_config(
    identity: Arc<LiveIdentity>,
    bundle: Arc<LiveBundle>,
    trust_domain: TrustDomain,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, TlsError> {
    let verifier = BrokerVerifier { trust: Trust::Bundle(bundle), trust_domain, provider: provider() };
    let config = client_builder(verifier, clock)?.with_client_cert_resolver(identity);
    Ok(for_http2(config))
}

/// The agent's side when its certificate has expired: none of its own, the broker's under the bundle that it kept.
///
/// # Errors
/// When TLS 1.3 cannot be had from the provider.
pub fn recovery_config(
    bundle: Arc<LiveBundle>,
    trust_domain: TrustDomain,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, TlsError> {
    let verifier = BrokerVerifier { trust: Trust::Bundle(bundle), trust_domain, provider: provider() };
    Ok(for_http2(client_builder(verifier, clock)?.with_no_client_auth()))
}

/// The agent's side when its bundle is too old to know the broker's CA. **Verifies nobody**: whatever comes over such a
/// connection must carry its own proof, as bundle statements do ([`TrustBundle::follow`]), and nothing else does.
///
/// # Errors
/// When TLS 1.3 cannot be had from the provider.
pub fn unverified_config_for_bundle_statements(
    trust_domain: TrustDomain,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, TlsError> {
    let verifier = BrokerVerifier { trust: Trust::Nothing, trust_domain, provider: provider() };
    Ok(for_http2(client_builder(verifier, clock)?.with_no_client_auth()))
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(verifier: BrokerVerifier, clock: Arc<dyn TimeProvider>) -> Result<ClientBuilder, TlsError> {
    Ok(ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Configuration)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn for_http2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificate and key do not fit together, or rustls cannot use the key.
    #[error("the certificate's key cannot be used")]
    Key(#[source] Error),
    /// The provider lacks TLS 1.3.
    #[error("TLS cannot be configured")]
    Configuration(#[source] Error),
}

/// Why the party at the other end is refused, where rustls has no word for it. Found inside the handshake's error by
/// [`PeerError::within`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No CA certificate in the chain has a pinned key.
    #[error("the other end is not the broker that the join token was made by")]
    NotPinned,
    /// The chain is good, the identity is not the wanted one.
    #[error("the other end is not who it should be")]
    OtherParty,
    /// The chain is good, the certificate names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl PeerError {
    /// The refusal inside a failed handshake's error, if it was one of these.
    pub fn within(error: &Error) -> Option<&Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.downcast_ref(),
            _ => None,
        }
    }

    fn into_error(self) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(self))))
    }
}

/// Accepts the broker's certificate.
#[derive(Debug)]
struct BrokerVerifier {
    trust: Trust,
    trust_domain: TrustDomain,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trust {
    Pins(Vec<SpkiPin>),
    Bundle(Arc<LiveBundle>),
    /// Anybody will do.
    Nothing,
}

impl Trust {
    /// The roots to judge a chain by, if it is to be judged: with pins, those certificates that came along whose key is
    /// pinned.
    fn roots(&self, intermediates: &[CertificateDer<'_>]) -> Result<Option<Arc<RootCertStore>>, Error> {
        let pins = match self {
            Self::Nothing => return Ok(None),
            Self::Bundle(bundle) => return Ok(Some(bundle.0.load().roots.clone())),
            Self::Pins(pins) => pins,
        };
        let mut roots = RootCertStore::empty();
        for certificate in intermediates {
            if SpkiPin::of_certificate(certificate).is_some_and(|pin| pins.contains(&pin)) {
                roots.add(certificate.clone().into_owned())?;
            }
        }
        if roots.is_empty() { Err(PeerError::NotPinned.into_error()) } else { Ok(Some(Arc::new(roots))) }
    }
}

impl ServerCertVerifier for BrokerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = self.trust.roots(intermediates)? else { return Ok(ServerCertVerified::assertion()) };
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, algorithms)?;
        match PeerIdentity::of_leaf(end_entity, &self.trust_domain) {
            Ok(PeerIdentity::Broker) => Ok(ServerCertVerified::assertion()),
            Ok(PeerIdentity::Instance(_)) => Err(PeerError::OtherParty.into_error()),
            Err(error) => Err(PeerError::from(error).into_error()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts instances' certificates, and clients without one.
#[derive(Debug)]
struct InstanceVerifier {
    bundle: Arc<LiveBundle>,
    trust_domain: TrustDomain,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for InstanceVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.bundle.0.load().clients.verify_client_cert(end_entity, intermediates, now)?;
        match PeerIdentity::of_leaf(end_entity, &self.trust_domain) {
            Ok(PeerIdentity::Instance(_)) => Ok(ClientCertVerified::assertion()),
            Ok(PeerIdentity::Broker) => Err(PeerError::OtherParty.into_error()),
            Err(error) => Err(PeerError::from(error).into_error()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
