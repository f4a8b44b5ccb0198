//! Connections on the agents' port whose handshake is done: so many of one instance, so many of one network that shows no
//! certificate, and an end to those on which nothing is called.
//!
//! Who shows a certificate is bounded by its name, and not by where he comes from: all agents of a company stand behind one
//! address. Who shows none comes to enrol, or to come back, and for nothing that takes long: he is bounded by his network,
//! and with all like him, and does not stay. None of them can take the open files that agents need.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use homeward_certs::identity::{InstanceName, PeerIdentity, TrustDomain};
use http::Request;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::rate_limit::{Door, Met, network, site};
use crate::telemetry::Limits;
use crate::web::Requests;

/// Of one network, of those that show no certificate of an instance; further ones are closed.
const OF_ONE_NETWORK: usize = 64;

/// The same, of all networks together: who has many addresses takes no agent's place either.
const OF_STRANGERS: usize = 2048;

/// The same, of one site: who has many networks (RFC 6177) keeps nobody else from enrolling.
const OF_ONE_SITE: usize = OF_STRANGERS / 4;

/// Of one certificate of an instance: its agent's, and those of its application, which shows the same one where it redeems
/// codes (RFC 8705). Further ones are closed. What an agent has lost is found out by the keepalive, before they are so many.
const OF_ONE_CERTIFICATE: usize = 64;

/// Of one instance, by whatever certificates: a thief who holds on to one that was replaced takes no place of the new one.
const OF_ONE_INSTANCE: usize = 4 * OF_ONE_CERTIFICATE;

/// So long nothing may be called. Not of agents: HTTP/2 asks them whether they are there, and their streams are silent.
const REST: Duration = Duration::from_secs(30);

/// So long somebody may stay who shows no certificate, whatever he calls; and so long what he called then may still take.
const STAY: Duration = Duration::from_secs(300);
const LAST_CALL: Duration = super::TIMEOUT;

/// What a request is told of the connection that it came over.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// The address of the other end.
    pub(super) peer: SocketAddr,
    /// The certificate that it showed, verified in the handshake.
    pub(super) leaf: Option<Arc<CertificateDer<'static>>>,
    /// What is called over it.
    pub(super) requests: Requests,
}

impl Connection {
    /// That a request came over: known of each on the agents' port.
    pub(super) fn of<B>(request: &Request<B>) -> Option<&Self> {
        request.extensions().get()
    }
}

/// Who may have how many connections, and for how long.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    trust_domain: TrustDomain,
    certificates: Door<Arc<CertificateDer<'static>>>,
    instances: Door<InstanceName>,
    networks: Door<IpAddr>,
    sites: Door<IpAddr>,
    strangers: Arc<Semaphore>,
    met: Limits,
}

impl Bounds {
    /// Nobody is there yet. Whoever is turned away is counted here.
    pub(super) fn new(trust_domain: TrustDomain, met: Limits) -> Self {
        let (certificates, instances) = (Door::new(OF_ONE_CERTIFICATE, 0), Door::new(OF_ONE_INSTANCE, 0));
        let (networks, strangers) = (Door::new(OF_ONE_NETWORK, 0), Arc::new(Semaphore::new(OF_STRANGERS)));
        let sites = Door::new(OF_ONE_SITE, 0);
        Self { trust_domain, certificates, instances, networks, sites, strangers, met }
    }

    /// Counts the handshakes that are turned away.
    pub(super) fn handshakes(&self) -> &Met {
        &self.met.handshakes
    }

    /// Takes a connection in, if it is not one too many.
    pub(super) async fn admit(
        &self,
        stream: TlsStream<TcpStream>,
        peer: SocketAddr,
    ) -> Option<Held<TlsStream<TcpStream>>> {
        let tls = stream.get_ref().1;
        let leaf = tls.peer_certificates().and_then(|certificates| certificates.first()).cloned().map(Arc::new);
        let asks = tls.alpn_protocol() == Some(b"h2");
        let who = leaf.as_ref().and_then(|leaf| match PeerIdentity::of_leaf(leaf, &self.trust_domain) {
            Ok(PeerIdentity::Instance(name)) => Some(name),
            Ok(_) | Err(_) => None,
        });
        let terms = match &who {
            Some(_) if asks => Terms::AGENT,
            Some(_) => Terms::APPLICATION,
            None => Terms::STRANGER,
        };
        let place = match (who, leaf.clone()) {
            (Some(name), Some(leaf)) => self.of_instance(name, leaf).await,
            _ => self.of_network(peer.ip()).await,
        };
        let connection = Connection { peer, leaf, requests: Requests::default() };
        Some(Held::new(stream, connection, terms, place?))
    }

    // Nobody waits before these doors.
    async fn of_instance(&self, name: InstanceName, leaf: Arc<CertificateDer<'static>>) -> Option<Place> {
        let (one, all) = (self.certificates.enter(leaf).await, self.instances.enter(name).await);
        noted(one.zip(all).map(|inside| Box::new(inside) as Place), &self.met.instances)
    }

    async fn of_network(&self, peer: IpAddr) -> Option<Place> {
        let inside = self.networks.enter(network(peer)).await.zip(self.sites.enter(site(peer)).await);
        let one = self.strangers.clone().try_acquire_owned().ok();
        noted(inside.zip(one).map(|place| Box::new(place) as Place), &self.met.strangers)
    }
}

fn noted(place: Option<Place>, met: &Met) -> Option<Place> {
    if place.is_none() {
        met.note();
    }
    place
}

/// What a connection takes from others, until this is dropped.
type Place = Box<dyn Send + Sync>;

/// How long a connection may stay.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// So long without a call; for ever if unset.
    rest: Option<Duration>,
    /// So long in all, if anything is set; and then what is being called may take so long.
    stay: Option<(Duration, Duration)>,
}

impl Terms {
    const AGENT: Self = Self { rest: None, stay: None };
    const APPLICATION: Self = Self { rest: Some(REST), stay: None };
    const STRANGER: Self = Self { rest: Some(REST), stay: Some((STAY, LAST_CALL)) };

    /// Ends when the connection has to.
    async fn outstayed(self, requests: Requests) {
        let rested = async {
            match self.rest {
                Some(rest) => requests.rested(rest).await,
                None => std::future::pending().await,
            }
        };
        let stayed = async {
            let Some((stay, last_call)) = self.stay else { return std::future::pending().await };
            tokio::time::sleep(stay).await;
            // What is being answered may end, or not: there is no more time for it.
            drop(tokio::time::timeout(last_call, requests.rested(Duration::ZERO)).await);
        };
        tokio::select! {
            () = rested => {}
            () = stayed => {}
        }
    }
}

/// A connection in its place: it says that the other side has gone when it has stayed for too long.
pub(super) struct Held<S> {
    stream: S,
    connection: Connection,
    outstayed: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
    _place: Place,
}

impl<S> Held<S> {
    fn new(stream: S, connection: Connection, terms: Terms, place: Place) -> Self {
        let outstayed = Box::pin(terms.outstayed(connection.requests.clone()));
        Self { stream, connection, outstayed, is_over: false, _place: place }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.is_over = self.is_over || self.outstayed.as_mut().poll(context).is_ready();
        self.is_over
    }
}

fn timed_out<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Nothing read is the end.
        if self.is_over(context) { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stream).poll_read(context, into) }
    }
}

/// Who takes nothing is not waited for any longer than who says nothing.
impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending if self.is_over(context) => timed_out(),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending if self.is_over(context) => timed_out(),
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending if self.is_over(context) => timed_out(),
            shut => shut,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, bytes) {
            Poll::Pending if self.is_over(context) => timed_out(),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S> Connected for Held<S> {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    const REST: Duration = Duration::from_millis(200);
    const MOMENT: Duration = Duration::from_millis(20);

    /// A connection on these terms, and its other end.
    fn held(terms: Terms) -> (Held<DuplexStream>, Requests, DuplexStream) {
        let (ours, theirs) = duplex(64);
        let (peer, requests) = ("192.0.2.1:1".parse().unwrap(), Requests::default());
        let connection = Connection { peer, leaf: None, requests: requests.clone() };
        (Held::new(ours, connection, terms, Box::new(())), requests, theirs)
    }

    /// After how many rests it ends on which somebody writes a byte now and then, which is no call; nothing if it lasts for
    /// ten.
    async fn rests(mut held: Held<DuplexStream>, mut theirs: DuplexStream) -> Option<u128> {
        let began = Instant::now();
        let noise = async {
            while theirs.write_all(b".").await.is_ok() {
                tokio::time::sleep(MOMENT).await;
            }
        };
        let ended = async { while held.read(&mut [0; 8]).await.unwrap() > 0 {} };
        tokio::select! {
            () = ended => Some(began.elapsed().as_millis() / REST.as_millis()),
            () = tokio::time::sleep(REST * 10) => None,
            () = noise => panic!("it was dropped"),
        }
    }

    /// Calls that take no time, one after the other.
    async fn calls(requests: Requests) {
        loop {
            drop(requests.begin());
            tokio::time::sleep(MOMENT).await;
        }
    }

    #[tokio::test]
    async fn who_calls_nothing_does_not_stay_whatever_he_sends() {
        let (held_one, requests, theirs) = held(Terms { rest: Some(REST), stay: None });
        let (agents, _requests, agent) = held(Terms::AGENT);
        let (stayed, agent_stayed) = tokio::join!(rests(held_one, theirs), rests(agents, agent));
        assert!(stayed.is_some_and(|rests| (1..5).contains(&rests)), "{stayed:?}");
        assert_eq!(agent_stayed, None);
        drop(requests);
    }

    #[tokio::test]
    async fn a_stranger_who_calls_again_and_again_leaves_all_the_same() {
        let limited = Terms { rest: Some(REST), stay: Some((REST * 3, REST)) };
        let (strangers, requests, stranger) = held(limited);
        let (applications, other_requests, application) = held(Terms { stay: None, ..limited });
        let calling = [requests, other_requests].map(|requests| tokio::spawn(calls(requests)));
        let (stayed, application_stayed) = tokio::join!(rests(strangers, stranger), rests(applications, application));
        assert!(stayed.is_some_and(|rests| (3..8).contains(&rests)), "{stayed:?}");
        assert_eq!(application_stayed, None);
        calling.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn what_is_being_answered_is_waited_for_but_not_for_ever() {
        let terms = Terms { rest: Some(REST), stay: Some((REST * 2, REST * 3)) };
        let (held, requests, theirs) = held(terms);
        let _running = requests.begin();
        let stayed = rests(held, theirs).await;
        assert!(stayed.is_some_and(|rests| (5..9).contains(&rests)), "{stayed:?}");
    }

    #[tokio::test]
    async fn who_takes_no_answer_is_not_waited_for() {
        let (mut held, _requests, _theirs) = held(Terms { rest: Some(REST), stay: None });
        let written = tokio::time::timeout(REST * 10, held.write_all(&[0; 4096])).await.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn networks_and_instances_have_their_places_and_take_no_others() {
        let met = Limits::default();
        let bounds = Bounds::new("federation.example".parse().unwrap(), met.clone());
        let address = |n: u16| IpAddr::from([0x2001, 0xdb8, n / 50, n, 0, 0, 0, 1]);
        let name = |name: &str| name.parse::<InstanceName>().unwrap();
        let leaf = |text: &str| Arc::new(CertificateDer::from(text.as_bytes().to_vec()));
        let mut places = Vec::new();
        for n in 0..100 {
            places.extend(bounds.of_network(address(n / 80)).await);
        }
        assert_eq!((places.len(), met.strangers.times()), (64 + 20, 16));
        for n in 0..100 {
            places.extend(bounds.of_instance(name(if n < 80 { "alpha" } else { "beta" }), leaf("first")).await);
        }
        // Both show one here.
        assert_eq!((places.len(), met.instances.times()), (64 + 20 + 64, 36));
        assert!(
            bounds.of_instance(name("alpha"), leaf("renewed")).await.is_some(),
            "it is not locked out by its old one"
        );
        let mut thiefs = Vec::new();
        for n in 0..OF_ONE_INSTANCE {
            thiefs.extend(bounds.of_instance(name("alpha"), leaf(&n.to_string())).await);
        }
        assert_eq!(thiefs.len(), OF_ONE_INSTANCE - 64);
        assert!(bounds.of_instance(name("beta"), leaf("second")).await.is_some());
        drop(places);
        assert!(bounds.of_network(address(0)).await.is_some(), "who has left takes no place");
        let mut everywhere = Vec::new();
        for n in 0..50 {
            for _ in 0..OF_ONE_NETWORK {
                everywhere.extend(bounds.of_network(address(n)).await);
            }
        }
        assert_eq!(everywhere.len(), OF_ONE_SITE, "a site with fifty networks");
        for n in 50..300 {
            for _ in 0..OF_ONE_NETWORK {
                everywhere.extend(bounds.of_network(address(n)).await);
            }
        }
        assert_eq!(everywhere.len(), OF_STRANGERS);
        assert!(bounds.of_instance(name("alpha"), leaf("first")).await.is_some());
    }
}
