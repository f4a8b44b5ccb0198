//! An agent that does what a test wants: the enrolment protocol by hand, so that every step can be done wrong.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use homeward_certs::bundle::TrustBundle;
use homeward_certs::csr::{CsrPublicKey, InstanceKey};
use homeward_certs::identity::TrustDomain;
use homeward_certs::join_token::JoinToken;
use homeward_certs::pin::SpkiPin;
use homeward_certs::proof::{EnrolmentTranscript, ProofKey};
use homeward_certs::recovery::RecoveryKey;
use homeward_certs::tls::{LiveBundle, LiveIdentity, enrolment_config, instance_config};
use homeward_proto::v1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;
use rustls::{ClientConfig, pki_types};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// Somebody with a join token and keys.
#[derive(Debug)]
pub struct Applicant {
    /// What it goes by.
    pub token: JoinToken,
    /// The key to be certified.
    pub key: InstanceKey,
    /// The key that is not.
    pub recovery: RecoveryKey,
    /// The same in every retry.
    pub request_id: Uuid,
}

impl Applicant {
    /// Reads a join token and makes keys.
    ///
    /// # Errors
    /// When the token is none.
    pub fn new(token: &str) -> anyhow::Result<Self> {
        Ok(Self {
            token: token.parse()?,
            key: InstanceKey::generate()?,
            recovery: RecoveryKey::generate()?,
            request_id: Uuid::new_v4(),
        })
    }

    /// A connection to the broker without a certificate, and the key of the leaf that it showed.
    ///
    /// # Errors
    /// When the broker is not the pinned one or not there.
    pub async fn connect(&self) -> anyhow::Result<(Channel, SpkiPin)> {
        let tls =
            enrolment_config(self.token.pins.clone(), self.token.trust_domain.clone(), Arc::new(DefaultTimeProvider))?;
        connect(&self.token.agent_url, tls).await
    }

    /// The request that a good agent sends over a connection with this leaf.
    ///
    /// # Errors
    /// When a key cannot sign.
    pub fn request(&self, leaf: &SpkiPin) -> anyhow::Result<v1::EnrolRequest> {
        let csr = self.key.csr()?;
        let pin = CsrPublicKey::from_csr(&csr)?.pin();
        let public = self.recovery.public();
        let transcript = EnrolmentTranscript::new(&pin, &public, leaf, self.request_id.as_bytes());
        Ok(v1::EnrolRequest {
            token_id: self.token.id.as_bytes().to_vec(),
            request_id: self.request_id.to_string(),
            csr,
            recovery_key: public.as_bytes().to_vec(),
            proof: ProofKey::derive(&self.token.secret)?.prove(&transcript),
            recovery_signature: self.recovery.sign(transcript.as_bytes()),
            agent_version: "test".into(),
            profile: Some(v1::InstanceProfile {
                public_url: "https://alpha.example".into(),
                display_name: "Alpha".into(),
                redirect_uris: vec!["https://alpha.example/callback".into()],
                portal_url: "https://alpha.example/homeward/login".into(),
                ..v1::InstanceProfile::default()
            }),
        })
    }

    /// Enrols like a good agent.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn enrol(&self) -> anyhow::Result<v1::EnrolResponse> {
        let (channel, leaf) = self.connect().await?;
        let mut client = v1::enrolment_service_client::EnrolmentServiceClient::new(channel);
        Ok(client.enrol(self.request(&leaf)?).await?.into_inner())
    }

    /// A connection with the certificate that this answer brought.
    ///
    /// # Errors
    /// When it cannot be used.
    pub async fn connect_enrolled(&self, answer: &v1::EnrolResponse) -> anyhow::Result<Channel> {
        let bundle = answer.trust_bundle.clone().context("trust bundle")?;
        self.connect_with(&self.key, answer.certificate_chain.clone(), bundle).await
    }

    /// A connection with this key and chain.
    ///
    /// # Errors
    /// When they do not fit together or the broker is not there.
    pub async fn connect_with(
        &self,
        key: &InstanceKey,
        chain: Vec<Vec<u8>>,
        bundle: v1::TrustBundle,
    ) -> anyhow::Result<Channel> {
        let bundle = TrustBundle::new(bundle.version, bundle.certificates)?;
        let tls = instance_config(
            LiveIdentity::new(chain, &key.to_private_key())?,
            LiveBundle::new(&bundle)?,
            self.trust_domain().clone(),
            Arc::new(DefaultTimeProvider),
        )?;
        Ok(connect(&self.token.agent_url, tls).await?.0)
    }

    /// The federation that the token names.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.token.trust_domain
    }
}

/// A connection over this TLS configuration, and the key of the leaf at the other end.
///
/// # Errors
/// When the handshake fails.
pub async fn connect(address: &str, tls: ClientConfig) -> anyhow::Result<(Channel, SpkiPin)> {
    let connector = TlsConnector::from(Arc::new(tls));
    let seen: Arc<Mutex<Option<SpkiPin>>> = Arc::default();
    let note = seen.clone();
    let connect = tower::service_fn(move |uri: Uri| {
        let (connector, note) = (connector.clone(), note.clone());
        async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let tcp = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
            // Small messages, each of which somebody waits for.
            tcp.set_nodelay(true)?;
            let name: ServerName<'static> = ServerName::try_from(host).map_err(std::io::Error::other)?;
            let stream = connector.connect(name, tcp).await?;
            let leaf: Option<&pki_types::CertificateDer<'_>> =
                stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            *note.lock().unwrap_or_else(PoisonError::into_inner) = leaf.and_then(|leaf| SpkiPin::of_certificate(leaf));
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // Longer than the broker lets a call take: it is the broker who ends one.
    let endpoint = Endpoint::from_shared(address.replacen("https://", "http://", 1))?.timeout(Duration::from_secs(45));
    let channel = endpoint.connect_with_connector(connect).await?;
    let leaf = seen.lock().unwrap_or_else(PoisonError::into_inner).context("no certificate was shown")?;
    Ok((channel, leaf))
}

/// The machine-readable reason of a refusal: `CODE/REASON`.
pub fn reason(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    format!("{:?}/{reason}", status.code())
}

/// The reason of a refusal inside an error.
pub fn reason_of(error: &anyhow::Error) -> String {
    error.downcast_ref::<Status>().map_or_else(|| format!("{error:#}"), reason)
}
