//! Connections to the broker: TCP, TLS by the certs crate's rules, HTTP/2. Dialling is done here and not by tonic, so
//! that a failure has a name, and with it a sentence that says what to do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homeward_certs::tls::{
    PeerError, TlsError, instance_config, recovery_config, unverified_config_for_bundle_statements,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;
use rustls::{CertificateError, ClientConfig};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use url::Url;

use crate::identity::Identity;

/// For TCP and for TLS, each.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection is asked whether it lives, and how long it may think about it.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// Where the broker takes agents' calls.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    url: Url,
}

/// Why there is no connection. The sentences are for the operator.
#[derive(Debug, Error)]
pub enum DialError {
    /// Not an address.
    #[error("the broker's address {0:?} is no https address with a host; ask ops for a new join token")]
    Address(Box<str>),
    /// No TCP connection.
    #[error("the broker does not answer at {url} ({source}); check the network and whether the broker runs")]
    Unreachable {
        /// Where.
        url: Box<Url>,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Somebody answers who is not the broker.
    #[error(
        "{url} is not the broker that this agent was told to trust ({source}); nothing was sent. Check for a proxy that ends TLS, and that the join token is of this broker"
    )]
    NotTheBroker {
        /// Where.
        url: Box<Url>,
        /// How it was noticed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Whoever answers has a certificate of a CA that this agent does not know.
    #[error(
        "the CA of {url} is not one that this agent trusts; nothing was sent. Check for a proxy that ends TLS; if ops have replaced the CA, see homeward-agent rebootstrap"
    )]
    UnknownAuthority {
        /// Where.
        url: Box<Url>,
    },
    /// A certificate of the future, or of the past.
    #[error("the broker's certificate is not valid at {now}, which is the time on this machine; set its clock", now = crate::clock::rfc3339(*now))]
    Clock {
        /// The time on this machine.
        now: time::OffsetDateTime,
    },
    /// TLS failed otherwise.
    #[error("no TLS connection to the broker at {url}: {source}")]
    Tls {
        /// Where.
        url: Box<Url>,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// TLS cannot be configured.
    #[error(transparent)]
    Configuration(#[from] TlsError),
    /// The connection broke before HTTP/2 was up.
    #[error("the broker at {url} does not speak HTTP/2 ({source}); check for a proxy in between")]
    Http2 {
        /// Where.
        url: Box<Url>,
        /// What happened.
        #[source]
        source: tonic::transport::Error,
    },
}

impl DialError {
    /// Whether it may go away by itself.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Tls { .. } | Self::Http2 { .. } => true,
            Self::Address(_)
            | Self::NotTheBroker { .. }
            | Self::UnknownAuthority { .. }
            | Self::Clock { .. }
            | Self::Configuration(_) => false,
        }
    }
}

impl Address {
    /// From a join token.
    pub(crate) fn parse(text: &str) -> Result<Self, DialError> {
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.has_host());
        url.map(|url| Self { url }).ok_or_else(|| DialError::Address(text.into()))
    }

    /// One TLS connection. When this returns, the other end is the broker.
    pub(crate) async fn dial(&self, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| DialError::Address(self.url.as_str().into()))?;
        let port = self.url.port_or_known_default().unwrap_or(443);
        let connected = within(TcpStream::connect((host, port))).await;
        let tcp = connected.map_err(|source| DialError::Unreachable { url: Box::new(self.url.clone()), source })?;
        // Small messages, each of which somebody waits for.
        let _ = tcp.set_nodelay(true);
        let handshake = within(TlsConnector::from(tls).connect(name, tcp)).await;
        handshake.map_err(|error| self.refused(error))
    }

    /// HTTP/2 over a connection that was dialled.
    pub(crate) async fn channel(&self, stream: TlsStream<TcpStream>) -> Result<Channel, DialError> {
        let mut stream = Some(stream);
        let connector = service_fn(move |_| {
            let stream = stream.take().map(TokioIo::new);
            // One connection is all there is: whoever needs another dials again, with a wait of its own.
            async move { stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
        });
        let connected = self.endpoint()?.connect_with_connector(connector).await;
        connected.map_err(|source| DialError::Http2 { url: Box::new(self.url.clone()), source })
    }

    fn endpoint(&self) -> Result<Endpoint, DialError> {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or(443);
        // "http" only here: TLS is beneath, where tonic does not see it.
        let endpoint = Endpoint::from_shared(format!("http://{host}:{port}"));
        let endpoint = endpoint.map_err(|_| DialError::Address(self.url.as_str().into()))?;
        Ok(endpoint
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .keep_alive_while_idle(false))
    }

    fn refused(&self, error: std::io::Error) -> DialError {
        let url = Box::new(self.url.clone());
        let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) else {
            return DialError::Tls { url, source: error };
        };
        // The refusals of our own have better words than rustls has for them.
        if let Some(refusal) = PeerError::within(cause) {
            return DialError::NotTheBroker { url, source: Box::new(*refusal) };
        }
        match cause {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
                | CertificateError::Expired
                | CertificateError::ExpiredContext { .. },
            ) => DialError::Clock { now: crate::clock::now() },
            // A CA that has turned has the name of the one before it: its signature is wrong under the old key.
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                DialError::UnknownAuthority { url }
            }
            rustls::Error::InvalidCertificate(_) => DialError::NotTheBroker { url, source: Box::new(cause.clone()) },
            _ => DialError::Tls { url, source: error },
        }
    }
}

/// The broker, for an instance that is enrolled.
#[derive(Debug)]
pub(crate) struct Broker {
    address: Address,
    identity: Arc<Identity>,
    tls: Arc<ClientConfig>,
    shared: Mutex<Option<(u64, Channel)>>,
}

impl Broker {
    /// The one that the identity was enrolled with.
    pub(crate) fn new(identity: Arc<Identity>) -> Result<Arc<Self>, DialError> {
        let clock = Arc::new(DefaultTimeProvider);
        let tls = instance_config(identity.live(), identity.bundle(), identity.trust_domain(), clock)?;
        let address = Address::parse(&identity.agent_url())?;
        Ok(Arc::new(Self { address, identity, tls: Arc::new(tls), shared: Mutex::default() }))
    }

    /// The issuer that it was enrolled with.
    pub(crate) fn issuer(&self) -> String {
        self.identity.issuer()
    }

    /// A connection of the caller's own, with the certificate of this moment.
    pub(crate) async fn connect(&self) -> Result<Channel, DialError> {
        let stream = self.address.dial(self.tls.clone()).await?;
        self.address.channel(stream).await
    }

    /// A connection without certificate, to a broker that the kept bundle vouches for: for recoveries.
    pub(crate) async fn connect_without_certificate(&self) -> Result<Channel, DialError> {
        let identity = &self.identity;
        let tls = recovery_config(identity.bundle(), identity.trust_domain(), Arc::new(DefaultTimeProvider))?;
        self.address.channel(self.address.dial(Arc::new(tls)).await?).await
    }

    /// A connection to whoever answers. Nothing that is said there is believed but what carries its own proof.
    pub(crate) async fn connect_unverified_for_bundle_statements(&self) -> Result<Channel, DialError> {
        let clock = Arc::new(DefaultTimeProvider);
        let tls = unverified_config_for_bundle_statements(self.identity.trust_domain(), clock)?;
        self.address.channel(self.address.dial(Arc::new(tls)).await?).await
    }

    /// The connection that logins and probes share: made at the first one, again when it broke, and anew for a new certificate. It
    /// does not wait for the Sync stream's backoff: a user is looking at the page.
    pub(crate) fn shared(self: &Arc<Self>) -> Result<Channel, DialError> {
        let generation = *self.identity.generation().borrow();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made_for, channel)) = &*shared
            && *made_for == generation
        {
            return Ok(channel.clone());
        }
        let broker = self.clone();
        let connector = service_fn(move |_| {
            let broker = broker.clone();
            async move { broker.address.dial(broker.tls.clone()).await.map(TokioIo::new) }
        });
        let channel = self.address.endpoint()?.connect_with_connector_lazy(connector);
        *shared = Some((generation, channel.clone()));
        Ok(channel)
    }
}

async fn within<T>(attempt: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let timed_out = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(DIAL_TIMEOUT, attempt).await.map_err(timed_out)?
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use homeward_certs::tls::enrolment_config;
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock;
    use crate::test_authority::{TestAuthority, trust_domain};

    async fn dial(url: &str, trusted: &TestAuthority) -> Result<(), DialError> {
        let pins = trusted.bundle().pins();
        let tls = enrolment_config(pins, trust_domain(), Arc::new(DefaultTimeProvider)).unwrap();
        Address::parse(url)?.dial(Arc::new(tls)).await.map(drop)
    }

    /// A broker of this authority, whose connections are only accepted.
    async fn broker(authority: &TestAuthority) -> String {
        let (url, incoming) = authority.listen().await;
        tokio::spawn(incoming.for_each(|accepted| async move { drop(accepted) }));
        url
    }

    #[tokio::test]
    async fn only_the_broker_that_is_pinned_is_talked_to() {
        let (ours, theirs) = (TestAuthority::new(clock::now()), TestAuthority::new(clock::now()));
        let url = broker(&ours).await;
        dial(&url, &ours).await.unwrap();
        let refused = dial(&url, &theirs).await.unwrap_err();
        assert!(matches!(refused, DialError::NotTheBroker { .. }) && !refused.is_temporary(), "{refused}");
    }

    #[tokio::test]
    async fn a_broker_of_another_ca_is_told_from_an_impostor() {
        let (ours, theirs) = (TestAuthority::new(clock::now()), TestAuthority::new(clock::now()));
        let folder = tempfile::tempdir().unwrap();
        let identity = Arc::new(ours.enrol(folder.path(), broker(&theirs).await));
        let refused = Broker::new(identity).unwrap().connect().await.unwrap_err();
        assert!(matches!(refused, DialError::UnknownAuthority { .. }) && !refused.is_temporary(), "{refused}");
    }

    #[tokio::test]
    async fn a_wrong_clock_is_called_that() {
        for shift in [time::Duration::DAY, -time::Duration::DAY] {
            let authority = TestAuthority::new(clock::now() + shift);
            let refused = dial(&broker(&authority).await, &authority).await.unwrap_err();
            assert!(
                matches!(refused, DialError::Clock { .. }) && refused.to_string().contains("set its clock"),
                "{refused}"
            );
        }
    }

    #[tokio::test]
    async fn a_broker_that_is_down_may_come_back() {
        let authority = TestAuthority::new(clock::now());
        let refused = dial("https://127.0.0.1:1", &authority).await.unwrap_err();
        assert!(matches!(refused, DialError::Unreachable { .. }) && refused.is_temporary(), "{refused}");
        // Somebody answers, and hangs up.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
            }
        });
        assert!(matches!(dial(&url, &authority).await, Err(DialError::Tls { .. })));
        for bad in ["http://127.0.0.1:1", "nonsense", "https://"] {
            assert!(matches!(dial(bad, &authority).await, Err(DialError::Address(_))), "{bad}");
        }
    }
}
