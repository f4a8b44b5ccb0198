//! The HTTP listener: so many connections at once, headers within a time, and an end that lets answers finish.
//!
//! `axum::serve` bounds neither; a stranger who sends one byte a minute would keep a connection for ever.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{debug, warn};

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

/// Serves until `shutdown`, then lets answers finish.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(HEADER_BYTES);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(64).max_header_list_size(16 * 1024);
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
        let service = hyper::service::service_fn(answer(router.clone(), peer));
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, %error, "a connection ended badly");
            }
            drop(slot);
        });
    }
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        warn!("some connections were cut because they did not end in time");
    }
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
