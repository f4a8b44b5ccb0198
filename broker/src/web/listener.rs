//! The listeners for HTTP and HTTPS: so many connections and handshakes at once, handshake and headers within a time, and
//! an end that lets answers finish.
//!
//! `axum::serve` bounds neither; a stranger who sends one byte a minute would keep a connection for ever.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{debug, warn};

use crate::tls::PublicTls;

/// Connections at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 4096;

/// The headers of a request arrive in this time, or the connection ends; also how long it may rest between requests.
const HEADERS: Duration = Duration::from_secs(30);

/// Most bytes of headers.
const HEADER_BYTES: usize = 64 * 1024;

/// How long answers may take to finish when the broker stops.
const GRACE: Duration = Duration::from_secs(10);

/// Pause after `accept` failed: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Handshakes at once; further ones wait. One that is not done in this time ends.
const HANDSHAKES: usize = 1024;
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

    /// Serves these pages at all of them until `shutdown`, and lets answers finish.
    pub async fn serve(self, pages: Router, sent_on: Router, tls: PublicTls, shutdown: CancellationToken) {
        let http = async {
            if let Some(listener) = self.http {
                serve(listener, pages.clone(), shutdown.clone()).await;
            }
        };
        let https = async {
            if let Some(listener) = self.https {
                serve_tls(listener, tls, pages.clone(), shutdown.clone()).await;
            }
        };
        let redirect = async {
            if let Some(listener) = self.redirect {
                serve(listener, sent_on, shutdown.clone()).await;
            }
        };
        tokio::join!(http, https, redirect);
        // Without listeners there is nothing to serve, and no reason to stop.
        shutdown.cancelled().await;
    }
}

/// Serves plain HTTP until `shutdown`, then lets answers finish.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    accept(listener, router, shutdown, async |stream| Ok(Some(stream))).await;
}

/// Serves HTTPS until `shutdown`, then lets answers finish.
async fn serve_tls(listener: TcpListener, tls: PublicTls, router: Router, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    let greet = move |stream| {
        let (tls, slots) = (tls.clone(), slots.clone());
        async move {
            let _slot = slots.acquire_owned().await.map_err(io::Error::other)?;
            let shaken = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await;
            shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        }
    };
    accept(listener, router, shutdown, greet).await;
}

/// Accepts connections and has each greeted by itself; what is nothing after that has no requests.
async fn accept<S, F>(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    greet: impl Fn(TcpStream) -> F + Clone + Send + 'static,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<Option<S>>> + Send + 'static,
{
    let server = builder();
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "connections cannot be accepted: is the limit of open files too low?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Fails only on a connection that is gone already.
        drop(stream.set_nodelay(true));
        let (greeted, watcher) = (greet(stream), graceful.watcher());
        let (server, router, shutdown) = (server.clone(), router.clone(), shutdown.clone());
        tokio::spawn(async move {
            let greeted = tokio::select! {
                greeted = greeted => greeted,
                () = shutdown.cancelled() => Ok(None),
            };
            match greeted {
                Ok(Some(stream)) => {
                    let service = hyper::service::service_fn(answer(router, peer));
                    let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
                    if let Err(error) = watcher.watch(connection).await {
                        debug!(%peer, %error, "a connection ended badly");
                    }
                }
                Ok(None) => {}
                Err(error) => debug!(%peer, %error, "a handshake failed"),
            }
            drop(slot);
        });
    }
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        warn!("some connections were cut because they did not end in time");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(HEADER_BYTES);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(64).max_header_list_size(16 * 1024);
    server
}

/// Passes a request of this peer to the router, which is always ready.
fn answer(
    router: Router,
    peer: SocketAddr,
) -> impl Fn(hyper::Request<Incoming>) -> axum::routing::future::RouteFuture<Infallible> {
    move |request| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request)
    }
}
