//! HTTPS by the broker itself, with a certificate in files that somebody else renews; and SIGHUP.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use world::federation::free_port;
use world::{Federation, Https, World};

/// What comes about by itself takes no longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate and its key, as PEM.
fn pair(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// Puts a file there as whoever renews certificates does: under another name first.
#[expect(clippy::disallowed_methods, reason = "files of a test")]
fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "files of a test")]
fn configure(federation: &Federation, text: &str) {
    std::fs::write(&federation.config, text).unwrap();
}

/// A broker with HTTPS, and where its certificate is.
struct Secure {
    federation: Federation,
    certificate: PathBuf,
    key: PathBuf,
}

impl Secure {
    async fn founded((certificate, key): &(String, String)) -> Self {
        let world = World::new().unwrap();
        let [at, key_at] = ["chain.pem", "key.pem"].map(|name| world.folder().join(name));
        put(&at, certificate);
        put(&key_at, key);
        let (https, redirect) = (free_port().unwrap(), free_port().unwrap());
        let more = format!(
            "https = \"127.0.0.1:{https}\"\nredirect = \"127.0.0.1:{redirect}\"\n\
             [tls]\ncertificate_file = {at:?}\nprivate_key_file = {key_at:?}"
        );
        Self { federation: Federation::founded_in(world, &more).await.unwrap(), certificate: at, key: key_at }
    }

    fn https(&self) -> SocketAddr {
        self.federation.listener("https").unwrap()
    }

    fn log(&self) -> String {
        self.federation.broker.as_ref().unwrap().log()
    }

    fn hang_up(&self) {
        let pid = self.federation.broker.as_ref().unwrap().pid();
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::HUP).unwrap();
    }

    async fn ready(&self) -> String {
        let http = self.federation.listener("http").unwrap();
        reqwest::get(format!("http://{http}/readyz")).await.unwrap().text().await.unwrap()
    }

    async fn logs(&self, sentence: &str) {
        let logged = async {
            while !self.log().contains(sentence) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, logged).await.is_ok(), "no {sentence:?} in {}", self.log());
    }
}

#[tokio::test]
async fn browsers_come_by_https_of_either_version_and_are_sent_there() {
    let shown = pair("localhost");
    let mut secure = Secure::founded(&shown).await;
    secure.federation.serve().await.unwrap();
    let (client, discovery) = (Https::to("localhost", &shown.0), "/.well-known/openid-configuration");
    let answer = client.get(secure.https(), discovery).await.unwrap();
    assert_eq!((answer.status, answer.protocol.as_deref()), (200, Some("http/1.1")));
    assert!(answer.body.contains("authorization_endpoint"), "{}", answer.body);
    let with_h2 = Https { protocols: vec!["h2", "http/1.1"], ..client.clone() };
    let answer = with_h2.get(secure.https(), discovery).await.unwrap();
    assert_eq!((answer.status, answer.protocol.as_deref()), (200, Some("h2")));
    let old = Https { old: true, ..client.clone() };
    assert_eq!(old.get(secure.https(), "/healthz").await.unwrap().body, "ok\n");
    // Nobody else's protocol, and no CA's question where none was asked.
    let acme = Https { protocols: vec!["acme-tls/1"], ..client.clone() };
    assert!(acme.connect(secure.https()).await.is_err());

    let redirect = secure.federation.listener("redirect").unwrap();
    let mut plain = TcpStream::connect(redirect).await.unwrap();
    let request = b"GET /authorize?a=b HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    let there = format!("location: {}/authorize?a=b\r\n", secure.federation.issuer().unwrap());
    assert!(answer.starts_with("HTTP/1.1 308 ") && answer.contains(&there), "{answer}");
    assert!(!answer.contains("evil") && !answer.contains("strict-transport-security"), "{answer}");

    let shown = secure.federation.ops_json(&["tls", "show"]).await.unwrap();
    assert_eq!((&shown["source"], &shown["valid_for_host"]), (&"files".into(), &true.into()), "{shown}");
    let brokers = secure.federation.ops_json(&["broker", "list"]).await.unwrap();
    assert!(brokers[0]["http_address"].as_str().unwrap().contains(&secure.https().to_string()), "{brokers}");
    secure.federation.stop_broker().await.unwrap();
}

/// Connections that say nothing hold nobody up, and end.
#[tokio::test]
async fn slow_handshakes_end_and_hold_nobody_up() {
    let shown = pair("localhost");
    let mut secure = Secure::founded(&shown).await;
    secure.federation.serve().await.unwrap();
    let mut slow = Vec::new();
    for n in 0..400 {
        let mut stream = TcpStream::connect(secure.https()).await.unwrap();
        if n % 2 == 0 {
            // The head of a handshake that does not go on.
            stream.write_all(&[22, 3, 1, 2]).await.unwrap();
        }
        slow.push(stream);
    }
    let client = Https::to("localhost", &shown.0);
    let asked = tokio::time::Instant::now();
    assert_eq!(client.get(secure.https(), "/healthz").await.unwrap().status, 200);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    for mut stream in slow {
        let ended = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 16])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "it goes on: {ended:?}");
    }
    // What is no TLS at all ends at once.
    let mut plain = TcpStream::connect(secure.https()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), plain.read_to_end(&mut answer)).await;
    assert!(ended.is_ok() && !answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_never() {
    let (first, second) = (pair("localhost"), pair("localhost"));
    let mut secure = Secure::founded(&first).await;
    secure.federation.serve().await.unwrap();
    let [of_first, of_second] = [&first, &second].map(|(certificate, _)| Https::to("localhost", certificate));
    // A connection from before goes on.
    let before = of_first.connect(secure.https()).await.unwrap();
    // Half of it, for longer than a moment.
    put(&secure.certificate, &second.0);
    secure.logs("the certificate of before is shown").await;
    assert!(secure.log().contains("the private key is not that of the certificate"), "{}", secure.log());
    assert_eq!(of_first.get(secure.https(), "/healthz").await.unwrap().status, 200);
    let said = secure.ready().await;
    assert_eq!(said, "ok\nthe certificate needs ops: homeward-broker tls show\n", "what strangers are told");
    let listed = secure.federation.ops_json(&["tls", "show"]).await.unwrap();
    assert!(listed["remark"].as_str().unwrap().contains("the certificate of before"), "{listed}");
    // The other half.
    put(&secure.key, &second.1);
    secure.logs("is shown from now on").await;
    assert_eq!(of_second.get(secure.https(), "/healthz").await.unwrap().status, 200);
    assert!(of_first.connect(secure.https()).await.is_err(), "the old one is shown");
    assert_eq!(secure.ready().await, "ok\n");
    drop(before);

    // A start does not get by with less: it says what is wrong, and so does the check before it.
    put(&secure.key, &first.1);
    secure.federation.stop_broker().await.unwrap();
    let refused = secure.federation.ops(&["config", "check"]).await.unwrap_err().to_string();
    assert!(refused.contains("the private key is not that of the certificate"), "{refused}");
    assert!(secure.federation.serve().await.is_err());
    put(&secure.key, &second.1);
    secure.federation.serve().await.unwrap();
    std::fs::set_permissions(&secure.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    secure.logs("chmod 600").await;
    assert_eq!(of_second.get(secure.https(), "/healthz").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_certificate_of_another_name_is_named_to_ops() {
    let shown = pair("login.example.org");
    let mut secure = Secure::founded(&shown).await;
    secure.federation.serve().await.unwrap();
    secure.logs("the certificate is not for localhost, which public_url names").await;
    assert_eq!(secure.federation.ops_json(&["tls", "show"]).await.unwrap()["valid_for_host"], false);
}

#[tokio::test]
async fn sighup_takes_up_what_can_be_and_names_what_cannot() {
    let (first, second) = (pair("localhost"), pair("localhost"));
    let mut secure = Secure::founded(&first).await;
    secure.federation.serve().await.unwrap();
    let plain = std::fs::read_to_string(&secure.federation.config).unwrap();
    configure(&secure.federation, &format!("trusted_proxies = [\"192.0.2.1\"]\n{plain}\n[lifetimes]\nid_token = 60"));
    put(&secure.certificate, &second.0);
    put(&secure.key, &second.1);
    secure.hang_up();
    secure.logs("changes the federation's settings for all brokers: lifetimes.id_token 600 -> 60").await;
    secure.logs("restart this broker for what else was changed in its file: trusted_proxies").await;
    secure.logs("is shown from now on").await;
    let client = Https::to("localhost", &second.0);
    assert_eq!(client.get(secure.https(), "/healthz").await.unwrap().status, 200);
    let all = secure.federation.ops_json(&["config", "show"]).await.unwrap();
    let shown = all.as_array().unwrap().iter().find(|setting| setting["name"] == "lifetimes.id_token").unwrap();
    assert_eq!((&shown["value"], &shown["remark"]), (&60.into(), &"".into()), "{shown}");
    let audit = secure.federation.ops(&["audit", "list", "--kind", "settings_changed"]).await.unwrap();
    assert!(audit.contains("lifetimes.id_token 600 -> 60"), "{audit}");

    // What cannot be used changes nothing, and ends nothing.
    configure(&secure.federation, &format!("colour = 1\n{plain}"));
    secure.hang_up();
    secure.logs("nothing is reloaded").await;
    configure(&secure.federation, &plain.replace("test.example", "other.example"));
    secure.hang_up();
    secure.logs("the federation's settings stay as they are").await;
    assert_eq!(client.get(secure.https(), "/healthz").await.unwrap().status, 200);
    secure.federation.stop_broker().await.unwrap();
}

#[tokio::test]
async fn plain_http_without_a_proxy_is_pointed_out() {
    let mut federation = Federation::founded("").await.unwrap();
    let plain = std::fs::read_to_string(&federation.config).unwrap();
    let open = plain.replace("http = \"127.0.0.1:", "http = \"0.0.0.0:");
    configure(&federation, &open);
    let checked = federation.ops_json(&["config", "check"]).await.unwrap();
    assert!(checked["remarks"].to_string().contains("name your reverse proxy in trusted_proxies"), "{checked}");
    federation.serve().await.unwrap();
    let log = federation.broker.as_ref().unwrap().log();
    assert!(log.contains("no proxy beyond this machine is trusted"), "{log}");
    federation.stop_broker().await.unwrap();
    configure(&federation, &format!("trusted_proxies = [\"192.0.2.1\"]\n{open}"));
    let checked = federation.ops_json(&["config", "check"]).await.unwrap();
    assert!(!checked["remarks"].to_string().contains("trusted_proxies"), "{checked}");
}
