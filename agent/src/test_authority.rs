//! For tests: a federation's CA, with a broker's listener and an enrolled alpha made from it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use homeward_certs::authority::{CertificateAuthority, Validity};
use homeward_certs::bundle::TrustBundle;
use homeward_certs::csr::{CsrPublicKey, InstanceKey};
use homeward_certs::identity::{InstanceName, TrustDomain};
use homeward_certs::recovery::RecoveryKey;
use homeward_certs::tls::{LiveBundle, LiveIdentity, broker_config};
use rustls::time_provider::DefaultTimeProvider;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;

use crate::clock;
use crate::disk::PrivateDir;
use crate::identity::{Certificate, Identity, Record, SecretBytes};

/// A CA, and for how long its certificates are good.
pub(crate) struct TestAuthority {
    authority: CertificateAuthority,
    validity: Validity,
}

impl TestAuthority {
    /// Certificates are good for ten minutes from `now`.
    pub(crate) fn new(now: OffsetDateTime) -> Self {
        let validity = Validity { now: now.into(), lifetime: Duration::from_secs(600) };
        let authority = CertificateAuthority::generate(trust_domain(), validity.now, validity.lifetime).unwrap();
        Self { authority, validity }
    }

    /// Whom to trust.
    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::new(1, vec![self.authority.certificate().to_vec()]).unwrap()
    }

    /// A broker's address, and the connections that arrive there.
    pub(crate) async fn listen(&self) -> (String, impl Stream<Item = std::io::Result<TlsStream<TcpStream>>> + use<>) {
        let key = InstanceKey::generate().unwrap();
        let leaf = self.authority.issue_broker(&key, None, self.validity).unwrap().certificate;
        let chain = vec![leaf, self.authority.certificate().to_vec()];
        let live = LiveIdentity::new(chain, &key.to_private_key()).unwrap();
        let bundle = LiveBundle::new(&self.bundle()).unwrap();
        let tls = broker_config(live, bundle, trust_domain(), Arc::new(DefaultTimeProvider)).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let incoming = TcpListenerStream::new(listener).then(move |tcp| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(tcp?).await }
        });
        (url, incoming)
    }

    /// Alpha, with its identity below `data`.
    pub(crate) fn enrol(&self, data: &Path, agent_url: String) -> Identity {
        let record = Record {
            instance: "alpha".parse().unwrap(),
            trust_domain: trust_domain(),
            agent_url,
            issuer: "https://login.example".to_owned(),
            recovery_key: SecretBytes(RecoveryKey::generate().unwrap().to_pkcs8().to_vec().into()),
            certificate: self.certify("alpha", 1),
            bundle: self.bundle(),
        };
        Identity::store(PrivateDir::open(&data.join("agent")).unwrap(), record).unwrap()
    }

    /// A certificate over a new key.
    pub(crate) fn certify(&self, instance: &str, generation: u64) -> Certificate {
        let key = InstanceKey::generate().unwrap();
        let instance: InstanceName = instance.parse().unwrap();
        let name = (&instance, &trust_domain());
        Certificate::accept(vec![self.leaf(instance.as_str(), &key)], generation, &key, name, clock::now()).unwrap()
    }

    /// A leaf (DER) for this instance and key.
    pub(crate) fn leaf(&self, instance: &str, key: &InstanceKey) -> Vec<u8> {
        let csr = CsrPublicKey::from_csr(&key.csr().unwrap()).unwrap();
        self.authority.issue_instance(&instance.parse().unwrap(), &csr, self.validity).unwrap().certificate
    }
}

/// The federation.
pub(crate) fn trust_domain() -> TrustDomain {
    "example.org".parse().unwrap()
}
