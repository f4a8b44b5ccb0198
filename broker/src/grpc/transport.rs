//! Accepts TLS connections. A handshake is work for a stranger: so many at once, so long, and none of them holds up
//! another, least of all one of another network.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::grpc::connections::{Bounds, Held};
use crate::open_files::{self, NotAccepting};
use crate::rate_limit::{Door, network};

/// Connections whose handshake is not done; further ones wait in the kernel's queue.
const BEGUN: usize = 4096;

/// Of one network: handshakes at once, and connections that wait for theirs; further ones are closed. Who is silent holds up
/// those who share his network, for a while.
const HANDSHAKES: usize = 64;
const WAITING: usize = 960;

/// A connection whose handshake is not done in this time is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after `accept` failed: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Open files that are no connection of others: the store, the audit's files, and what the broker asks others.
const OTHER_FILES: u64 = 256;

/// How many agents can be connected at once; no limit if unset.
pub(super) fn most_agents() -> Option<u64> {
    open_files::but_for_shares().map(|files| files.saturating_sub(OTHER_FILES))
}

/// Connections whose handshake is done, and that are within these bounds, until `shutdown`.
pub(super) fn incoming(
    listener: TcpListener,
    tls: ServerConfig,
    bounds: Bounds,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<Held<TlsStream<TcpStream>>>> {
    let (ready, stream) = mpsc::channel(16);
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let slots = Arc::new(Semaphore::new(BEGUN.min(open_files::share())));
    let (door, mut not_accepting) = (Door::new(HANDSHAKES, WAITING), NotAccepting::default());
    tokio::spawn(async move {
        // The semaphore is never closed.
        while let Ok(slot) = slots.clone().acquire_owned().await {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            let (connection, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    not_accepting.warn(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (acceptor, ready, door, bounds) = (acceptor.clone(), ready.clone(), door.clone(), bounds.clone());
            tokio::spawn(async move {
                // Fails only on a connection that is gone already.
                drop(connection.set_nodelay(true));
                let shaken = async {
                    let Some(_inside) = door.enter(network(peer.ip())).await else { return Ok(None) };
                    acceptor.accept(connection).await.map(Some)
                };
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaken).await {
                    Ok(Ok(Some(connection))) => match bounds.admit(connection, peer).await {
                        // The receiver is gone when the broker stops.
                        Some(held) => drop(ready.send(Ok(held)).await),
                        None => debug!(%peer, "a connection was closed: its instance or network has too many"),
                    },
                    Ok(Ok(None)) => {
                        bounds.handshakes().note();
                        debug!(%peer, "a connection was closed: too many handshakes of its network");
                    }
                    Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
                    Err(_) => debug!(%peer, "TLS handshake took too long"),
                }
                drop(slot);
            });
        }
    });
    ReceiverStream::new(stream)
}
