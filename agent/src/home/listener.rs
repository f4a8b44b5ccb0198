//! The listener of the portal: so many connections at once, and so many of them of one source; headers within a time; and an
//! end of all that lets answers finish.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::http::{self, Peer};
use super::source::is_trusted;

/// For a client to send its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers may take to finish when the agent stops, or begins anew.
const GRACE: Duration = Duration::from_secs(10);
/// Connections at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 256;
/// Connections of one source at once; further ones are closed. Of proxies and this machine there may be more: all browsers
/// come by them, as a rule, and the proxy bounds them.
const MOST_OF_ONE_SOURCE: usize = 64;
/// Connections of all strangers together: whoever has many addresses leaves room for proxies and this machine.
const MOST_OF_STRANGERS: usize = 192;
/// So long a stranger's connection may last: one that asks and takes no answers has no other end.
const LONGEST_VISIT: Duration = Duration::from_secs(300);
/// And so long what is asked then may still take.
const LAST_ANSWER: Duration = http::REQUEST_TIMEOUT;

/// Serves until `shutdown`, then lets answers finish: no connection is answered by what was configured before.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    trusted_proxies: &[IpNet],
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let mut shutdown = std::pin::pin!(shutdown);
    let (slots, ending) = (Arc::new(Semaphore::new(MOST_CONNECTIONS)), watch::Sender::new(false));
    let (sources, mut connections) = (Sources::default(), JoinSet::new());
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &slots) => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((slot, stream, peer)) => {
                let Ok(place) = sources.admit(peer.ip(), trusted_proxies) else {
                    tracing::debug!(%peer, "a connection to the portal is closed: its source has too many");
                    continue;
                };
                let (router, ended) = (router.clone(), ending.subscribe());
                let longest = place.as_ref().map_or(Duration::MAX, |_| LONGEST_VISIT);
                connections.spawn(async move {
                    serve_connection((stream, peer), router, ended, (longest, LAST_ANSWER)).await;
                    drop((slot, place));
                });
            }
            // One client that hung up early, or no file descriptors for a moment.
            Err(error) => {
                tracing::warn!(%error, "a connection to the portal could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    ending.send_replace(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!("some connections to the portal were cut because they did not end in time");
    }
    // What is left ends with the set.
    Ok(())
}

/// The next connection, as soon as there is room for one.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((slot, stream, peer))
}

async fn serve_connection(
    (stream, peer): (TcpStream, SocketAddr),
    router: Router,
    mut ending: watch::Receiver<bool>,
    (longest, last_answer): (Duration, Duration),
) {
    let service = TowerToHyperService::new(router.layer(Extension(Peer(peer.ip()))));
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(32 * 1024);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service).into_owned());
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = tokio::time::sleep(longest) => None,
        _ = ending.wait_for(|ending| *ending) => None,
    };
    let ended = match ended {
        Some(ended) => Ok(ended),
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(last_answer, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the portal ended badly"),
        Err(_) => tracing::debug!(%peer, "a connection to the portal is cut: its answers are not taken"),
    }
}

/// How many connections each source has: of those that have any.
#[derive(Clone, Debug, Default)]
struct Sources(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of a source, until this is dropped.
#[derive(Debug)]
struct Place {
    sources: Sources,
    source: IpAddr,
}

/// A source has as many connections as it may have.
#[derive(Debug)]
struct TooMany;

impl Sources {
    /// One more connection: in a place of its source, unless that is none.
    fn admit(&self, peer: IpAddr, trusted_proxies: &[IpNet]) -> Result<Option<Place>, TooMany> {
        if peer.to_canonical().is_loopback() || is_trusted(peer, trusted_proxies) {
            return Ok(None);
        }
        let source = site(peer);
        let mut all = self.all();
        let here = all.get(&source).copied().unwrap_or_default();
        if here >= MOST_OF_ONE_SOURCE || all.values().sum::<usize>() >= MOST_OF_STRANGERS {
            return Err(TooMany);
        }
        all.insert(source, here + 1);
        Ok(Some(Place { sources: self.clone(), source }))
    }

    fn all(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.sources.all();
        if let Some(here) = all.get_mut(&self.source) {
            *here -= 1;
            if *here == 0 {
                all.remove(&self.source);
            }
        }
    }
}

/// Who has one IPv6 network has many: customers get a /56 or a /48 (RFC 6177).
fn site(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 80 << 80).into(),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_source_has_its_places_and_leaves_the_others_theirs() {
        let sources = Sources::default();
        let neighbours = (0..100).map(|n| IpAddr::from([0x2001, 0xdb8, 0, n, 0, 0, 0, n]));
        let places: Vec<_> = neighbours.filter_map(|neighbour| sources.admit(neighbour, &[]).ok()).collect();
        assert_eq!(places.len(), MOST_OF_ONE_SOURCE);
        let other = sources.admit(address("192.0.2.1"), &[]).unwrap();
        drop((places, other));
        assert!(sources.all().is_empty(), "who has left is not remembered");
    }

    #[test]
    fn all_strangers_together_leave_room_for_proxies_and_this_machine() {
        let (sources, trusted) = (Sources::default(), ["192.0.2.1/32".parse().unwrap()]);
        let everywhere = (0..300u16).map(|n| IpAddr::from([198, 51, (n >> 8) as u8, n as u8]));
        let places: Vec<_> = everywhere.filter_map(|stranger| sources.admit(stranger, &trusted).ok()).collect();
        assert_eq!(places.len(), MOST_OF_STRANGERS);
        const { assert!(MOST_OF_STRANGERS + MOST_OF_ONE_SOURCE <= MOST_CONNECTIONS) };
        for known in ["192.0.2.1", "127.0.0.1"] {
            assert!(sources.admit(address(known), &trusted).is_ok(), "{known}");
        }
    }

    #[tokio::test]
    async fn who_does_not_take_his_answers_does_not_stay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut greedy = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        let router = Router::new().route("/", get(|| async { "x".repeat(1 << 16) }));
        let ending = watch::Sender::new(false);
        let longest = Duration::from_millis(500);
        tokio::spawn(serve_connection(accepted, router, ending.subscribe(), (longest, longest)));
        let asked = b"GET / HTTP/1.1\r\nhost: alpha.example\r\n\r\n".repeat(100);
        let asks = async { while greedy.write_all(&asked).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(20), asks).await.expect("he has his place for ever");
    }

    #[test]
    fn proxies_and_this_machine_may_have_more_than_others() {
        let (sources, trusted) = (Sources::default(), ["192.0.2.1/32".parse().unwrap()]);
        for (peer, limited) in [
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("192.0.2.2", true),
            ("2001:db8::1", true),
        ] {
            let places: Vec<_> = (0..100).filter_map(|_| sources.admit(address(peer), &trusted).ok()).collect();
            assert_eq!(places.len(), if limited { MOST_OF_ONE_SOURCE } else { 100 }, "{peer}");
        }
    }
}
