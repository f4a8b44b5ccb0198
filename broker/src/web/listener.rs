//! The listeners for HTTP and HTTPS: so many connections at once, and so many of them of one network; handshake and headers
//! within a time; an end to connections that nothing is asked on; and one of all that lets answers finish.
//!
//! `axum::serve` bounds neither; a stranger who sends one byte a minute would keep a connection for ever.

mod doors;
mod preface;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;
use tracing::debug;

use crate::config::TrustedProxies;
use crate::open_files::{self, NotAccepting};
use crate::rate_limit::Met;
use crate::tls::PublicTls;
use crate::web::running::Requests;
use doors::{Doors, Guest};

/// The headers of a request arrive in this time, or the connection ends; also how long it may rest before and between
/// requests.
const HEADERS: Duration = Duration::from_secs(30);

/// Most bytes of headers.
pub(super) const HEADER_BYTES: usize = 64 * 1024;

/// The same over HTTP/2, where there are many requests at once and the address is one of the headers (RFC 9113 8.3.1): the
/// longest that is answered, and as much again for all others.
const HEADER_LIST: u32 = 32 * 1024;

/// How long answers may take to finish when a connection ends.
const GRACE: Duration = Duration::from_secs(10);

/// Pause after `accept` failed: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A handshake that is not done in this time ends. So long one waits for a place at most before it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where browsers and applications come; at one of them at least, or nobody does.
#[derive(Debug, Default)]
pub struct PublicListeners {
    /// Plain HTTP.
    pub http: Option<TcpListener>,
    /// HTTPS.
    pub https: Option<TcpListener>,
    /// Plain HTTP, where everybody is sent on.
    pub redirect: Option<TcpListener>,
}

impl PublicListeners {
    /// For plain HTTP only.
    pub fn http(listener: TcpListener) -> Self {
        Self { http: Some(listener), ..Self::default() }
    }

    /// Where pages are, for ops.
    pub fn addresses(&self) -> String {
        let addresses = [&self.https, &self.http].into_iter().flatten().filter_map(|it| it.local_addr().ok());
        addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// Serves these pages at all of them until `shutdown`, and lets answers finish. These proxies, before which many people
    /// stand, may have as many connections as there are; who is turned away is counted.
    pub async fn serve(
        self,
        pages: Router,
        sent_on: Router,
        tls: PublicTls,
        (proxies, turned_away): (TrustedProxies, Met),
        shutdown: CancellationToken,
    ) {
        let terms = |router| {
            let (proxies, turned_away) = (proxies.clone(), turned_away.clone());
            Terms { router, rest: HEADERS, proxies, turned_away, shutdown: shutdown.clone() }
        };
        let http = async {
            if let Some(listener) = self.http {
                serve_plain(listener, terms(pages.clone())).await;
            }
        };
        let https = async {
            if let Some(listener) = self.https {
                serve_tls(listener, tls, terms(pages.clone())).await;
            }
        };
        let redirect = async {
            if let Some(listener) = self.redirect {
                serve_plain(listener, terms(sent_on)).await;
            }
        };
        tokio::join!(http, https, redirect);
        // Without listeners there is nothing to serve, and no reason to stop.
        shutdown.cancelled().await;
    }
}

/// Serves plain HTTP until `shutdown`, then lets answers finish.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let (proxies, turned_away) = (TrustedProxies::new(Vec::new()), Met::default());
    serve_plain(listener, Terms { router, rest: HEADERS, proxies, turned_away, shutdown }).await;
}

/// Without TLS a proxy may begin with HTTP/2 at once (RFC 9113 3.3).
async fn serve_plain(listener: TcpListener, terms: Terms) {
    let rest = terms.rest;
    let greet = move |stream: TcpStream| async move {
        let heard = tokio::time::timeout(rest, preface::heard(stream)).await;
        heard.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(Some)
    };
    accept(listener, terms, greet).await;
}

async fn serve_tls(listener: TcpListener, tls: PublicTls, terms: Terms) {
    let greet = move |stream: TcpStream| {
        let tls = tls.clone();
        async move {
            let shaken = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await;
            let shaken = shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok::<_, io::Error>(shaken.map(|stream| {
                let version = Version::agreed(&stream);
                (stream, version)
            }))
        }
    };
    accept(listener, terms, greet).await;
}

/// What is spoken on a connection. It is known before a connection is served: hyper would wait for ever to choose.
#[derive(Clone, Copy, Debug)]
enum Version {
    Http1,
    Http2,
}

impl Version {
    fn agreed(stream: &TlsStream<TcpStream>) -> Self {
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Self::Http2 } else { Self::Http1 }
    }
}

/// Accepts connections and has each greeted by itself; what is nothing after that has no requests.
async fn accept<S, F>(listener: TcpListener, terms: Terms, greet: impl Fn(TcpStream) -> F + Send + 'static)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<Option<(S, Version)>>> + Send + 'static,
{
    let most = open_files::share();
    let (doors, slots) = (Doors::new(most, terms.turned_away.clone()), Arc::new(Semaphore::new(most)));
    let mut not_accepting = NotAccepting::default();
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &slots) => accepted,
            () = terms.shutdown.cancelled() => break,
        };
        let (slot, stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                not_accepting.warn(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let guest = if terms.is_limited(peer.ip()) { doors.come(peer.ip()).await } else { Some(Guest::default()) };
        let Some(mut guest) = guest else {
            debug!(%peer, "a connection is closed: its network has too many");
            continue;
        };
        // Fails only on a connection that is gone already.
        drop(stream.set_nodelay(true));
        let (greeted, terms) = (greet(stream), terms.clone());
        connections.spawn(async move {
            let seated = async {
                guest.sit_down(HANDSHAKE).await?;
                greeted.await
            };
            let greeted = tokio::select! {
                greeted = seated => greeted,
                () = terms.shutdown.cancelled() => Ok(None),
            };
            match greeted {
                Ok(Some((stream, version))) => terms.converse(stream, version, peer).await,
                Ok(None) => {}
                Err(error) => debug!(%peer, %error, "a handshake failed"),
            }
            drop((slot, guest));
        });
    }
    connections.close();
    // Each ends by itself, in a bounded time.
    connections.wait().await;
}

/// The next connection, as soon as there is room for one.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((slot, stream, peer))
}

/// What holds for all connections of a listener.
#[derive(Clone)]
struct Terms {
    router: Router,
    /// So long nothing may be asked.
    rest: Duration,
    /// Of whom there may be as many connections as there are.
    proxies: TrustedProxies,
    /// How many were one too many.
    turned_away: Met,
    shutdown: CancellationToken,
}

impl Terms {
    fn is_limited(&self, peer: IpAddr) -> bool {
        !peer.to_canonical().is_loopback() && !self.proxies.contains(peer)
    }

    /// Answers until the other side has had enough, has asked nothing for too long, or the broker stops.
    async fn converse<S>(&self, stream: S, version: Version, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, router) = (Requests::default(), self.router.clone());
        let rested = requests.rested(self.rest);
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request: Request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            // The router is always ready.
            let (answer, running) = (router.clone().call(request), requests.begin());
            async move {
                let _running = running;
                answer.await
            }
        });
        let connection = builder(version).serve_connection(TokioIo::new(stream), service).into_owned();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = rested => None,
            () = self.shutdown.cancelled() => None,
        };
        let ended = match ended {
            Some(ended) => Ok(ended),
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(GRACE.min(self.rest), connection).await
            }
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%peer, %error, "a connection ended badly"),
            Err(_) => debug!(%peer, "a connection was cut because it did not end in time"),
        }
    }
}

fn builder(version: Version) -> auto::Builder<TokioExecutor> {
    let server = auto::Builder::new(TokioExecutor::new());
    let mut server = match version {
        Version::Http1 => server.http1_only(),
        Version::Http2 => server.http2_only(),
    };
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(HEADER_BYTES);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(64).max_header_list_size(HEADER_LIST);
    server
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What the other side gets that says this after its handshake, and then nothing.
    async fn said(version: Version, words: &[u8]) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, proxies) = (CancellationToken::new(), TrustedProxies::new(Vec::new()));
        let rest = Duration::from_millis(200);
        let (router, turned_away) = (Router::new(), Met::default());
        let terms = Terms { router, rest, proxies, turned_away, shutdown: shutdown.clone() };
        let serving = tokio::spawn(accept(listener, terms, move |stream| async move { Ok(Some((stream, version))) }));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(words).await.unwrap();
        let mut got = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut got)).await;
        ended.unwrap_or_else(|_| panic!("a connection on which nothing is asked is kept: {version:?}")).unwrap();
        shutdown.cancel();
        serving.await.unwrap();
        got
    }

    /// The status that comes back from a router without pages.
    async fn status(version: Version, path: &str) -> http::StatusCode {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (shutdown, proxies) = (CancellationToken::new(), TrustedProxies::new(Vec::new()));
        let (router, turned_away) = (Router::new(), Met::default());
        let terms = Terms { router, rest: HEADERS, proxies, turned_away, shutdown: shutdown.clone() };
        let serving = tokio::spawn(serve_plain(listener, terms));
        let request = hyper::Request::get(path).header("host", "a.example").header("cookie", "c".repeat(4000));
        let request = request.body(axum::body::Body::empty()).unwrap();
        let answer = match version {
            Version::Http1 => {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await
            }
            Version::Http2 => {
                let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
                let (mut sender, connection) = shaken.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await
            }
        };
        let status = answer.unwrap().status();
        shutdown.cancel();
        serving.await.unwrap();
        status
    }

    #[tokio::test]
    async fn an_address_as_long_as_may_be_comes_through_whatever_is_spoken() {
        let path = format!("/authorize?request={}", "r".repeat(16_000));
        assert_eq!(status(Version::Http1, &path).await, 404);
        assert_eq!(status(Version::Http2, &format!("http://a.example{path}")).await, 404);
        let endless = format!("http://a.example/{}", "r".repeat(34_000));
        assert_eq!(status(Version::Http2, &endless).await, 431);
    }

    #[tokio::test]
    async fn who_says_nothing_after_the_handshake_does_not_stay() {
        assert!(said(Version::Http1, b"").await.is_empty());
        said(Version::Http2, b"").await;
        // The preface and its settings, and never a request.
        said(Version::Http2, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let answer = said(Version::Http1, b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
        assert!(answer.starts_with(b"HTTP/1.1 404 "));
    }

    #[test]
    fn proxies_and_this_machine_may_have_more_connections_than_others() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (router, turned_away, shutdown) = (Router::new(), Met::default(), CancellationToken::new());
        let proxies = TrustedProxies::new(vec![address("192.0.2.1").into()]);
        let terms = Terms { router, rest: HEADERS, proxies, turned_away, shutdown };
        for unlimited in ["192.0.2.1", "::ffff:192.0.2.1", "127.0.0.1", "::1"] {
            assert!(!terms.is_limited(address(unlimited)), "{unlimited}");
        }
        assert!(terms.is_limited(address("192.0.2.2")));
    }
}
