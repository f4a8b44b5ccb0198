//! Connections to the broker: TCP, TLS by the certs crate's rules, HTTP/2. Dialling is done here and not by tonic, so
//! that a failure has a name, and with it a sentence that says what to do.
//!
//! The broker's name may stand for several brokers of one federation, each at an address of its own. Any of them will do:
//! they are tried in an order that is drawn anew each time, so that agents spread over them, and one that did not answer,
//! or let this agent go, is tried last for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
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
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use url::Url;

use crate::identity::Identity;
use crate::random;

/// For the name, for TCP and for TLS, each.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The same while there is another address to try.
const NEXT_AFTER: Duration = Duration::from_secs(3);
/// How long an address that did not do is tried last.
const SHUNNED_FOR: Duration = Duration::from_secs(60);
/// How often a silent connection is asked whether it lives, and how long it may think about it: a broker that was cut off
/// from the network says no goodbye, and another one is there to go to.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Where the broker takes agents' calls.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    url: Url,
    /// Until when they are tried last.
    shunned: Arc<Mutex<HashMap<SocketAddr, Instant>>>,
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
        url.map(|url| Self { url, shunned: Arc::default() }).ok_or_else(|| DialError::Address(text.into()))
    }

    /// One TLS connection. When this returns, the other end is the broker, or one of them.
    pub(crate) async fn dial(&self, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| DialError::Address(self.url.as_str().into()))?;
        let port = self.url.port_or_known_default().unwrap_or(443);
        let found = within(DIAL_TIMEOUT, lookup_host((host, port))).await.map_err(|error| self.unreachable(error))?;
        // Boxed: TLS makes a large future.
        Box::pin(self.dial_any(found.collect(), &name, &tls)).await
    }

    /// The first of these addresses at which the broker is.
    async fn dial_any(
        &self,
        addresses: Vec<SocketAddr>,
        name: &ServerName<'static>,
        tls: &Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let mut left = self.in_order(addresses).into_iter();
        let mut refusal = self.unreachable(std::io::ErrorKind::NotFound.into());
        while let Some(address) = left.next() {
            let patience = if left.len() == 0 { DIAL_TIMEOUT } else { NEXT_AFTER };
            match self.dial_at(address, (name.clone(), tls.clone()), patience).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    self.shun(address);
                    // What does not go away by itself is what the operator has to know.
                    if refusal.is_temporary() {
                        refusal = error;
                    }
                }
            }
        }
        Err(refusal)
    }

    async fn dial_at(
        &self,
        address: SocketAddr,
        (name, tls): (ServerName<'static>, Arc<ClientConfig>),
        patience: Duration,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let tcp = within(patience, TcpStream::connect(address)).await.map_err(|error| self.unreachable(error))?;
        // Small messages, each of which somebody waits for.
        let _ = tcp.set_nodelay(true);
        let handshake = within(patience, TlsConnector::from(tls).connect(name, tcp)).await;
        handshake.map_err(|error| self.refused(error))
    }

    /// In which order they are tried.
    fn in_order(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let now = Instant::now();
        let mut shunned = self.shunned.lock().unwrap_or_else(PoisonError::into_inner);
        shunned.retain(|_, until| *until > now);
        let drawn = addresses.into_iter().map(|address| (shunned.contains_key(&address), random::fraction(), address));
        let mut drawn: Vec<_> = drawn.collect();
        drawn.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        drawn.into_iter().map(|(_, _, address)| address).collect()
    }

    /// Another address is tried first for a while.
    fn shun(&self, address: SocketAddr) {
        let mut shunned = self.shunned.lock().unwrap_or_else(PoisonError::into_inner);
        shunned.insert(address, Instant::now() + SHUNNED_FOR);
    }

    fn unreachable(&self, source: std::io::Error) -> DialError {
        DialError::Unreachable { url: Box::new(self.url.clone()), source }
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
    /// Where the caller's own connection went last.
    connected_to: Mutex<Option<SocketAddr>>,
}

impl Broker {
    /// The one that the identity was enrolled with.
    pub(crate) fn new(identity: Arc<Identity>) -> Result<Arc<Self>, DialError> {
        let clock = Arc::new(DefaultTimeProvider);
        let tls = instance_config(identity.live(), identity.bundle(), identity.trust_domain(), clock)?;
        let address = Address::parse(&identity.agent_url())?;
        Ok(Arc::new(Self {
            address,
            identity,
            tls: Arc::new(tls),
            shared: Mutex::default(),
            connected_to: Mutex::default(),
        }))
    }

    /// The issuer that it was enrolled with.
    pub(crate) fn issuer(&self) -> String {
        self.identity.issuer()
    }

    /// A connection of the caller's own, with the certificate of this moment.
    pub(crate) async fn connect(&self) -> Result<Channel, DialError> {
        let stream = self.address.dial(self.tls.clone()).await?;
        let peer = stream.get_ref().0.peer_addr().ok();
        *self.connected_to.lock().unwrap_or_else(PoisonError::into_inner) = peer;
        self.address.channel(stream).await
    }

    /// The broker that [`Self::connect`] reached last has let this agent go, or is gone itself: the next connections are
    /// to another one, if there is one; those of logins, too.
    pub(crate) fn go_elsewhere(&self) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(address) = self.connected_to.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.address.shun(address);
        }
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

async fn within<T>(patience: Duration, attempt: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let timed_out = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(patience, attempt).await.map_err(timed_out)?
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

    #[tokio::test]
    async fn of_several_brokers_one_that_answers_is_found_and_one_that_let_the_agent_go_is_tried_last() {
        let authority = TestAuthority::new(clock::now());
        let tls = enrolment_config(authority.bundle().pins(), trust_domain(), Arc::new(DefaultTimeProvider)).unwrap();
        let (tls, name) = (Arc::new(tls), ServerName::try_from("127.0.0.1").unwrap());
        let at = async || -> SocketAddr { broker(&authority).await.strip_prefix("https://").unwrap().parse().unwrap() };
        let (one, other) = (at().await, at().await);
        // Nobody is there; somebody is there and says nothing.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent_at = silent.local_addr().unwrap();
        let address = Address::parse("https://127.0.0.1:1").unwrap();
        let mut reached = std::collections::HashSet::new();
        for _ in 0..64 {
            let stream = address.dial_any(vec![gone, one, silent_at, other], &name, &tls).await.unwrap();
            reached.insert(stream.get_ref().0.peer_addr().unwrap());
        }
        assert_eq!(reached, [one, other].into(), "agents spread over them");
        address.shun(one);
        for _ in 0..16 {
            let stream = address.dial_any(vec![one, other], &name, &tls).await.unwrap();
            assert_eq!(stream.get_ref().0.peer_addr().unwrap(), other);
        }
        // The only one there is is not shunned for ever.
        assert!(address.dial_any(vec![one], &name, &tls).await.is_ok());
        let refused = address.dial_any(vec![gone], &name, &tls).await.unwrap_err();
        assert!(matches!(refused, DialError::Unreachable { .. }), "{refused}");
    }
}
