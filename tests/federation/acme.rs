//! Certificates from a CA that the broker asks itself: a real one, which misbehaves on purpose.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use world::federation::free_port;
use world::{Etcd, Federation, Https, Manners, Pebble, World};

use crate::watched::metrics;

/// The host of the public address.
const HOST: &str = "login.test.example";

/// What comes about by itself takes no longer.
const PATIENCE: Duration = Duration::from_secs(90);

#[expect(clippy::disallowed_methods, reason = "files of a test")]
fn configure(federation: &Federation, text: &str) {
    std::fs::write(&federation.config, text).unwrap();
}

/// A broker that is not started yet, and orders from this CA; it is asked on this port.
async fn founded(pebble: &Pebble, https: u16, store: Option<&str>) -> Federation {
    let more = format!(
        "https = \"127.0.0.1:{https}\"\n[tls.acme]\ndirectory = {:?}\nca_file = {:?}\ncontact = [\"mailto:ops@test.example\"]\n\
         accept_terms = true\n[telemetry]\nmetrics = \"127.0.0.1:0\"",
        pebble.directory(),
        pebble.ca_file()
    );
    let world = World::new().unwrap();
    let federation = match store {
        Some(store) => Federation::founded_on(world, store, &more).await,
        None => Federation::founded_in(world, &more).await,
    };
    let federation = federation.unwrap();
    let text = std::fs::read_to_string(&federation.config).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    configure(&federation, &format!("public_url = \"https://{HOST}\"\n{rest}"));
    federation
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn shown(federation: &Federation) -> Value {
    federation.ops_json(&["tls", "show"]).await.unwrap()
}

/// Waits until browsers are shown a good certificate, and gives the leaf.
async fn served(pebble: &Pebble, https: u16, not: &[u8]) -> Vec<u8> {
    let client = Https::to(HOST, &pebble.root().await.unwrap());
    let got = async {
        loop {
            match client.get(at(https), "/healthz").await {
                Ok(answer) if answer.leaf != not => return answer,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, got).await.unwrap_or_else(|_| panic!("never: {}", pebble.log()));
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains_key("strict-transport-security"));
    answer.leaf
}

/// Each request is tried three times, and once in a while all three have bad luck: then ops do not wait for the pause.
async fn despite_bad_nonces<T>(federation: &Federation, wanted: impl Future<Output = T>) -> T {
    let insist = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if shown(federation).await["failure"].as_str().unwrap().contains("badNonce") {
                federation.ops(&["tls", "renew"]).await.unwrap();
            }
        }
    };
    tokio::select! {
        got = wanted => got,
        () = insist => unreachable!("it goes on for ever"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_ordered_kept_and_renewed_from_a_ca_with_bad_manners() {
    let https = free_port().unwrap();
    let mut pebble = Pebble::asking(https).await.unwrap();
    pebble.start(Manners { validity: 60, bad_nonces: 5, ..Manners::GOOD }).await.unwrap();
    let mut federation = founded(&pebble, https, None).await;
    assert_eq!(federation.ops_json(&["config", "check"]).await.unwrap()["ok"], true);
    let begun = Instant::now();
    federation.serve().await.unwrap();
    let first = Box::pin(despite_bad_nonces(&federation, served(&pebble, https, &[]))).await;
    let listed = shown(&federation).await;
    assert_eq!((&listed["source"], &listed["host"], &listed["failure"]), (&"acme".into(), &HOST.into(), &"".into()));
    // What was got is there at once after a start.
    federation.kill_broker().await.unwrap();
    federation.serve().await.unwrap();
    let again = Https::to(HOST, &pebble.root().await.unwrap()).get(at(https), "/healthz").await.unwrap();
    // On a slow machine it is time for the next one already.
    if begun.elapsed() < Duration::from_secs(35) {
        assert_eq!(again.leaf, first);
    }
    // After two thirds of 60 seconds there is another one, and connections are shown it.
    let second = Box::pin(despite_bad_nonces(&federation, served(&pebble, https, &first))).await;
    assert_ne!(first, second);
    let audit = federation.ops(&["audit", "list", "--kind", "public_certificate_obtained"]).await.unwrap();
    assert!(audit.matches(HOST).count() >= 2, "{audit}");
    // One account does for all of it, and neither its key nor the certificate's is anywhere in clear.
    assert!(!pebble.log().contains("There are now 2 accounts"), "{}", pebble.log());
    let log = federation.broker.as_ref().unwrap().log();
    assert!(!log.contains("key_pkcs8") && !log.contains("PRIVATE KEY"), "a key is in the log");
    federation.stop_broker().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_is_away_is_named_and_not_hammered_and_ops_need_not_wait() {
    let https = free_port().unwrap();
    let mut pebble = Pebble::asking(https).await.unwrap();
    let mut federation = founded(&pebble, https, None).await;
    federation.serve().await.unwrap();
    let failed = async {
        while shown(&federation).await["failure"] == "" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
    let listed = shown(&federation).await;
    assert!(listed["failure"].as_str().unwrap().contains("cannot be reached"), "{listed}");
    assert_eq!(listed["failed_tries"], 1);
    let told = metrics(federation.broker.as_ref().unwrap()).await;
    assert!(told.contains("homeward_acme_failed_tries 1\n") && !told.contains("homeward_public_certificate"), "{told}");
    let http = federation.listener("http").unwrap();
    let ready = async || reqwest::get(format!("http://{http}/readyz")).await.unwrap().text().await.unwrap();
    let remarked = async {
        while !ready().await.contains("the certificate needs ops: homeward-broker tls show") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, remarked).await.unwrap();
    assert!(ready().await.starts_with("ok\n"), "logins work by the other listener");
    assert!(!ready().await.contains("no certificate could be got"), "strangers are told why");
    let told_to_ops = async {
        let listed = async || federation.ops_json(&["broker", "list"]).await.unwrap();
        while !listed().await[0]["remark"].as_str().unwrap().contains("the next try is at") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told_to_ops).await.unwrap();
    // It comes back, and is asked neither at once nor after a restart: a minute has not passed.
    pebble.start(Manners { slow: 8, ..Manners::GOOD }).await.unwrap();
    federation.kill_broker().await.unwrap();
    federation.serve().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!pebble.log().contains("new-order") && !pebble.log().contains("POST"), "{}", pebble.log());

    // Killed while the CA thinks: the account is kept, and the next order is another one.
    federation.ops(&["tls", "renew"]).await.unwrap();
    let ordered = async {
        while !pebble.log().contains("Pulled a task from the Tasks queue") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ordered).await.unwrap_or_else(|_| panic!("no order: {}", pebble.log()));
    federation.kill_broker().await.unwrap();
    federation.serve().await.unwrap();
    federation.ops(&["tls", "renew"]).await.unwrap();
    served(&pebble, https, &[]).await;
    assert!(!pebble.log().contains("There are now 2 accounts"), "{}", pebble.log());
    assert_eq!(shown(&federation).await["failure"], "");
    let told = metrics(federation.broker.as_ref().unwrap()).await;
    for metric in ["homeward_public_certificate_expiry", "homeward_public_certificate_issued"] {
        assert!(told.contains(&format!("\n{metric}_timestamp_seconds ")), "{told}");
    }
    assert!(told.contains("homeward_acme_failed_tries 0\n"), "{told}");

    // A CA that has forgotten the account is asked for another one.
    pebble.kill().unwrap();
    pebble.start(Manners::GOOD).await.unwrap();
    federation.ops(&["tls", "renew"]).await.unwrap();
    let forgotten = async {
        while !shown(&federation).await["failure"].as_str().unwrap().contains("accountDoesNotExist") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.unwrap();
    federation.ops(&["tls", "renew"]).await.unwrap();
    served(&pebble, https, &[]).await;
    federation.stop_broker().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_elsewhere_is_what_ops_are_told() {
    let (https, elsewhere) = (free_port().unwrap(), free_port().unwrap());
    let mut pebble = Pebble::asking(elsewhere).await.unwrap();
    pebble.start(Manners::GOOD).await.unwrap();
    let mut federation = founded(&pebble, https, None).await;
    federation.serve().await.unwrap();
    let failed = async {
        while shown(&federation).await["failure"] == "" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
    let failure = shown(&federation).await["failure"].as_str().unwrap().to_owned();
    assert!(failure.contains("does not find this broker at the public address, port 443"), "{failure}");
}

/// The CA comes to the broker that did not order.
#[cfg(feature = "etcd")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_orders_and_any_other_answers_and_shows_it() {
    let etcd = Etcd::one().await.unwrap();
    let (orders, answers) = (free_port().unwrap(), free_port().unwrap());
    let mut pebble = Pebble::asking(answers).await.unwrap();
    let mut first = founded(&pebble, orders, Some(&etcd.address("acme"))).await;
    first.serve().await.unwrap();
    // It has the duty, and has failed once: nobody is there yet.
    let failed = async {
        while shown(&first).await["failure"] == "" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
    // The same federation on another machine: the store and the key are the same.
    let text = std::fs::read_to_string(&first.config).unwrap();
    let (folder, log) = (first.world.folder().join("second"), first.world.folder().join("second.log"));
    let ports = [first.listener("http"), first.listener("grpc")].map(|at| at.unwrap().to_string());
    let second = ports.iter().fold(text, |text, at| text.replace(&format!("= \"{at}\""), "= \"127.0.0.1:0\""));
    let second = second.replace(&format!("127.0.0.1:{orders}"), &format!("127.0.0.1:{answers}"));
    let kek = first.world.folder().join("broker/kek");
    let text_of_second = second.replace(
        &format!("data_dir = {:?}", first.world.folder().join("broker")),
        &format!("data_dir = {folder:?}\nkey_encryption_key_file = {kek:?}"),
    );
    std::fs::create_dir(&folder).unwrap();
    let config = first.world.folder().join("second.toml");
    let mut second = Federation { world: World::new().unwrap(), broker: None, log, config };
    configure(&second, &text_of_second);
    second.serve().await.unwrap();
    pebble.start(Manners::GOOD).await.unwrap();
    // Asked of the broker that has not the duty.
    second.ops(&["tls", "renew"]).await.unwrap();
    let leaf = served(&pebble, answers, &[]).await;
    assert_eq!(served(&pebble, orders, &[]).await, leaf);
    let log = second.broker.as_ref().unwrap().log();
    assert!(!log.contains("a certificate is ordered"), "the second one ordered, too");
}
