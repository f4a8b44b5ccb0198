//! What is fetched and what never is, with servers on loopback that count who comes.

mod client_keys;
mod server;

use std::net::Ipv4Addr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::clock::Timestamp;
use crate::registry::tests::World;
use crate::storage::{Key, Store as _};
use server::Server;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A client of a broker for trying things out, which may speak to loopback if `networks` says so.
async fn client(world: &World, networks: &[&str]) -> Outbound {
    outbound(world, "http://localhost:8080", networks, RootCertStore::empty())
}

fn outbound(world: &World, issuer: &str, networks: &[&str], roots: RootCertStore) -> Outbound {
    let private_networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    let settings = Settings { issuer: Issuer::parse(issuer).unwrap(), private_networks, roots };
    Outbound::new(settings, world.registry.clone(), Clock::manual(NOW).0).unwrap()
}

// A6, B20
#[tokio::test]
async fn internal_hosts_are_never_spoken_to() {
    let (world, server) =
        (World::new().await, Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await);
    let outbound = client(&world, &["10.0.0.0/8", "127.0.0.2/32"]).await;
    let port = server.port();
    for address in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://rp.localhost:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.0.0.1:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://[::ffff:7f00:1]:{port}/"),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://192.168.0.1/".to_owned(),
        "https://[fd00::1]/".to_owned(),
        "https://[fe80::1]/".to_owned(),
        "https://[64:ff9b::7f00:1]/".to_owned(),
    ] {
        let refused = outbound.fetch(&address, 100).await.unwrap_err();
        // A name that this machine does not know is as good.
        assert!(matches!(refused, OutboundError::Internal(_) | OutboundError::Unreachable(_)), "{address}: {refused}");
        assert!(outbound.post_form(&address, &[("a", "b")]).await.is_err(), "{address}");
    }
    assert_eq!(server.visits(), 0);
}

#[tokio::test]
async fn other_schemes_and_credentials_are_no_addresses() {
    let world = World::new().await;
    let real = outbound(&world, "https://login.example", &["127.0.0.0/8"], RootCertStore::empty());
    for address in [
        "http://rp.example/",
        "http://127.0.0.1/",
        "https://user@rp.example/",
        "https://user:secret@rp.example/",
        "file:///etc/passwd",
        "ftp://rp.example/",
        "gopher://rp.example/",
        "unix:/run/x.sock",
        "rp.example",
        "/x",
        "",
    ] {
        assert!(matches!(real.fetch(address, 100).await, Err(OutboundError::Address)), "{address}");
    }
}

#[tokio::test]
async fn networks_that_ops_name_and_enrolled_instances_are_spoken_to() {
    let (world, server) =
        (World::new().await, Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await);
    let allowed = client(&world, &["127.0.0.0/8"]).await;
    assert_eq!(allowed.fetch(&server.address(), 2).await.unwrap().as_ref(), b"{}");
    let only_instances = client(&world, &[]).await;
    world.enrol("alpha").await;
    assert!(only_instances.fetch(&server.address(), 2).await.is_err());
    let origin = format!("http://127.0.0.1:{}", server.port());
    world.change("alpha", |alpha| alpha.public_url = origin.clone()).await;
    assert!(only_instances.fetch(&server.address(), 2).await.is_ok());
    // Another port of the same host is none of the instance's.
    let other = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    assert!(only_instances.fetch(&other.address(), 2).await.is_err());
    world.quarantine("alpha").await;
    assert!(only_instances.fetch(&server.address(), 2).await.is_err());
    assert_eq!((server.visits(), other.visits()), (2, 0));
}

#[tokio::test]
async fn requests_say_what_they_should_and_no_more() {
    let (world, server) = (World::new().await, Server::answering("HTTP/1.1 204 No Content\r\n\r\n").await);
    let outbound = client(&world, &["127.0.0.0/8"]).await;
    let address = format!("{}logout?a=b#fragment", server.address());
    assert_eq!(outbound.post_form(&address, &[("logout_token", "a.b+c")]).await.unwrap(), 204);
    let request = server.last_request();
    assert!(request.starts_with("POST /logout?a=b HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nhost: 127.0.0.1:{}\r\n", server.port())), "{request}");
    assert!(request.contains("\r\ncontent-type: application/x-www-form-urlencoded\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nlogout_token=a.b%2Bc"), "{request}");
    assert!(!request.to_lowercase().contains("cookie") && !request.to_lowercase().contains("authorization"));
}

#[tokio::test]
async fn redirects_and_failures_are_no_answers() {
    let world = World::new().await;
    let outbound = client(&world, &["127.0.0.0/8"]).await;
    let target = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent", "404 Not Found", "500 No", "204 None"] {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", target.address());
        let server = Server::answering(answer.leak()).await;
        let refused = outbound.fetch(&server.address(), 100).await.unwrap_err();
        assert!(matches!(refused, OutboundError::Status(_)), "{status}: {refused}");
    }
    assert_eq!(target.visits(), 0);
    for rubbish in ["", "hello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "SSH-2.0-OpenSSH\r\n"] {
        let server = Server::answering(rubbish).await;
        assert!(outbound.fetch(&server.address(), 100).await.is_err(), "{rubbish}");
    }
    let text = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<a/>").await;
    assert!(matches!(outbound.fetch_json(&text.address(), 100).await, Err(OutboundError::NotJson)));
    let deep = format!("HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{}", "[".repeat(9000));
    let deep = Server::answering(deep.leak()).await;
    assert!(matches!(outbound.fetch_json(&deep.address(), 10_000).await, Err(OutboundError::NotJson)));
    let nobody = format!("http://127.0.0.1:{}/", Server::closed_port().await);
    assert!(matches!(outbound.fetch(&nobody, 100).await, Err(OutboundError::Unreachable(_))));
}

// A6
#[tokio::test]
async fn large_answers_are_not_read_to_the_end() {
    let world = World::new().await;
    let outbound = client(&world, &["127.0.0.0/8"]).await;
    let large = Server::endless("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", "x").await;
    assert!(matches!(outbound.fetch(&large.address(), 1000).await, Err(OutboundError::TooLarge)));
    let chunked = Server::endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nxxxx\r\n").await;
    assert!(matches!(outbound.fetch(&chunked.address(), 1000).await, Err(OutboundError::TooLarge)));
    let head = Server::endless("HTTP/1.1 200 OK\r\n", "X-Header: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n").await;
    assert!(outbound.fetch(&head.address(), 1000).await.is_err());
    let exact = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd").await;
    assert!(outbound.fetch(&exact.address(), 4).await.is_ok());
    assert!(matches!(outbound.fetch(&exact.address(), 3).await, Err(OutboundError::TooLarge)));
}

#[tokio::test]
async fn slow_servers_are_left() {
    let world = World::new().await;
    let outbound = client(&world, &["127.0.0.0/8"]).await;
    let silent = Server::silent().await;
    let dripping = Server::dripping("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
    let began = tokio::time::Instant::now();
    let (silent, dripping) = (silent.address(), dripping.address());
    let (fetched, posted, dripped) =
        tokio::join!(outbound.fetch(&silent, 100), outbound.post_form(&silent, &[]), outbound.fetch(&dripping, 10_000));
    assert!(matches!(fetched, Err(OutboundError::TimedOut)));
    assert!(matches!(posted, Err(OutboundError::TimedOut)));
    assert!(matches!(dripped, Err(OutboundError::TimedOut)));
    assert!(began.elapsed() < TOTAL * 2);
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate_for_its_name_only() {
    let world = World::new().await;
    let (server, ca) = Server::with_tls("rp.localhost", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    let port = server.port();
    let mut roots = RootCertStore::empty();
    roots.add(ca).unwrap();
    let knowing = outbound(&world, "https://login.example", &["127.0.0.0/8", "::1/128"], roots);
    let fetched = knowing.fetch(&format!("https://rp.localhost:{port}/"), 10).await.unwrap();
    assert_eq!(fetched.as_ref(), b"{}");
    for wrong in [format!("https://localhost:{port}/"), format!("https://{}:{port}/", Ipv4Addr::LOCALHOST)] {
        assert!(matches!(knowing.fetch(&wrong, 10).await, Err(OutboundError::Unreachable(_))), "{wrong}");
    }
    let ignorant = outbound(&world, "https://login.example", &["127.0.0.0/8", "::1/128"], RootCertStore::empty());
    assert!(ignorant.fetch(&format!("https://rp.localhost:{port}/"), 10).await.is_err());
}

/// S9: a name whose server plays dead keeps one look-up busy, however many logouts wait for it, and not those of others.
#[tokio::test]
async fn a_name_that_is_never_found_holds_up_nobody_else() {
    let world = World::new().await;
    let outbound = client(&world, &[]).await;
    let slow = outbound.client.turn_of("dead.example").lock_owned().await;
    let asked = (0..2 * LOOKUPS).map(|_| {
        let outbound = outbound.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { outbound.fetch("https://dead.example/", 10).await }))
    });
    let asked: Vec<_> = asked.collect();
    tokio::task::yield_now().await;
    assert_eq!(outbound.client.lookups.available_permits(), LOOKUPS);
    for one in asked {
        assert!(matches!(one.await.unwrap(), Err(OutboundError::TimedOut)));
    }
    drop(slow);
    assert!(
        Arc::strong_count(&outbound.client.turn_of("other.example")) == 2
            && outbound.client.names.lock().unwrap().len() == 1
    );
}

#[tokio::test]
async fn a_file_of_cas_is_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    assert!(roots("outbound.ca_file", Some(&path)).is_err());
    std::fs::File::create_new(&path).unwrap();
    let (_, ca) = Server::with_tls("rp.localhost", "").await;
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(&ca)
    });
    let before = roots("outbound.ca_file", None).unwrap().len();
    io::Write::write_all(&mut std::fs::File::options().write(true).open(&path).unwrap(), pem.as_bytes()).unwrap();
    assert_eq!(roots("outbound.ca_file", Some(&path)).unwrap().len(), before + 1);
}

/// Names of which there are as many as look-ups, whose servers play dead: the store does not wait for any of them.
#[test]
fn names_that_are_never_found_keep_nobody_from_the_store() {
    static HANGING: AtomicUsize = AtomicUsize::new(0);
    static END: Barrier = Barrier::new(LOOKUPS + 1);
    // One thread for all that blocks is fewer than a broker has.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        let mut outbound = client(&world, &[]).await;
        Arc::get_mut(&mut outbound.client).unwrap().resolve = |_, _| {
            HANGING.fetch_add(1, Ordering::SeqCst);
            END.wait();
            Err(io::ErrorKind::NotFound.into())
        };
        let asked: Vec<_> = (0..2 * LOOKUPS)
            .map(|n| {
                let (outbound, address) = (outbound.clone(), format!("https://a{n}.dead.example/"));
                AbortOnDropHandle::new(tokio::spawn(async move { outbound.fetch(&address, 10).await }))
            })
            .collect();
        let patience = Duration::from_secs(10);
        let all_hang = async {
            while HANGING.load(Ordering::SeqCst) < LOOKUPS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(patience, all_hang).await.expect("look-ups wait for each other");
        let key = Key::new("session", "nobody's");
        let read = tokio::time::timeout(patience, world.store.get(&key)).await;
        assert!(read.expect("what reads the store waits for a name server").unwrap().is_none());
        for one in asked {
            assert!(matches!(one.await.unwrap(), Err(OutboundError::TimedOut)));
        }
        assert_eq!(HANGING.load(Ordering::SeqCst), LOOKUPS, "more look-ups than there may be");
        END.wait();
    });
}
