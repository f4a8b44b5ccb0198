//! Applications on the agents' port: what an instance's certificate is good for there (RFC 8705), and what is not to be
//! had. The certificate is the one that a real agent keeps on its disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use homeward_proto::v1;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::ServiceExt as _;
use world::applicant::Applicant;
use world::{Federation, InstanceOptions};

use crate::town::{town, town_with};
use crate::watched::{METRICS, metrics};

/// What an application needs of its agent's folder.
pub(crate) struct Files {
    key: Vec<u8>,
    chain: Vec<Vec<u8>>,
    bundle: Vec<Vec<u8>>,
}

impl Files {
    pub(crate) fn of(instance: &Path) -> Self {
        let text = std::fs::read_to_string(instance.join("agent/identity.json")).unwrap();
        let identity: Value = serde_json::from_str(&text).unwrap();
        let bytes = |value: &Value| match value.as_str() {
            Some(text) => STANDARD.decode(text).unwrap(),
            None => serde_json::from_value(value.clone()).unwrap(),
        };
        let list = |value: &Value| value.as_array().unwrap().iter().map(bytes).collect();
        Self {
            key: bytes(&identity["certificate"]["key"]),
            chain: list(&identity["certificate"]["chain"]),
            bundle: list(&identity["bundle"]["certificates"]),
        }
    }

    /// TLS as any library does it: the broker is judged by its CA and its host name.
    fn tls(&self, protocols: &[&str]) -> ClientConfig {
        let chain = self.chain.iter().cloned().map(CertificateDer::from).collect();
        let builder = ClientConfig::builder().with_root_certificates(self.roots());
        let mut config =
            builder.with_client_auth_cert(chain, PrivatePkcs8KeyDer::from(self.key.clone()).into()).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// The same without a certificate of its own.
    fn stranger(&self) -> ClientConfig {
        let mut config = ClientConfig::builder().with_root_certificates(self.roots()).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.bundle.iter().cloned().map(CertificateDer::from));
        roots
    }
}

async fn exchange(federation: &Federation, tls: ClientConfig, bytes: &[u8]) -> std::io::Result<String> {
    let tcp = TcpStream::connect(federation.listener("grpc").unwrap()).await?;
    let name: ServerName<'static> = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer));
    drop(read.await);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn request(line: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n{body}")
        .into_bytes()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

/// RFC 8705 5: any HTTP client can call the endpoints, and finds no page there.
#[tokio::test]
async fn clients_reach_their_endpoints_and_nothing_else_on_the_agents_port() {
    let town = town(&["session"]).await;
    let files = Files::of(&town.beta.folder);
    let http1 = || files.tls(&["http/1.1"]);
    for (line, expected) in [
        ("GET /userinfo", "401"),
        ("POST /token", "400"),
        ("GET /token", "405"),
        ("GET /authorize", "404"),
        ("GET /.well-known/openid-configuration", "404"),
        ("GET /homeward.v1.SyncService/Sync", "404"),
        ("POST /homeward.v1.EnrolmentService/Confirm", "404"),
        ("POST /grpc.health.v1.Health/Check", "404"),
        ("GET /", "404"),
    ] {
        let answer = exchange(&town.federation, http1(), &request(line, "", "")).await.unwrap();
        assert_eq!(status(&answer), expected, "{line}: {answer}");
    }
    let stranger = exchange(&town.federation, files.stranger(), &request("GET /userinfo", "", "")).await.unwrap();
    assert_eq!(status(&stranger), "401", "{stranger}");
}

/// M21, M23: gRPC stays gRPC, over HTTP/2, behind its gate.
#[tokio::test]
async fn no_service_is_reached_over_http_1() {
    let federation = Federation::start().await.unwrap();
    let options = InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() };
    let beta = federation.instance("beta", options).await.unwrap();
    let files = Files::of(&beta.folder);
    let media_type = "Content-Type: application/grpc\r\nTE: trailers\r\n";
    for path in ["/homeward.v1.EnrolmentService/Confirm", "/homeward.v1.EnrolmentService/ListTrustBundles"] {
        let bytes = request(&format!("POST {path}"), media_type, "\0\0\0\0\0");
        let answer = exchange(&federation, files.tls(&["http/1.1"]), &bytes).await.unwrap();
        assert_eq!(status(&answer), "404", "{answer}");
        assert!(!answer.contains("grpc-status"), "{answer}");
    }
    for other in ["spdy/1", "h3"] {
        assert!(exchange(&federation, files.tls(&[other]), b"").await.is_err(), "{other}");
    }
}

/// Of these connections, opened one after the other from an address of this machine, how many the broker has left open.
async fn left_open(
    federation: &Federation,
    (from, tls): ([u8; 4], ClientConfig),
    count: usize,
) -> (usize, Vec<TlsStream<TcpStream>>) {
    let (connector, name) = (TlsConnector::from(Arc::new(tls)), ServerName::try_from("127.0.0.1").unwrap());
    let mut opened = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let tcp = socket.connect(federation.listener("grpc").unwrap()).await.unwrap();
        opened.push(connector.connect(name.clone(), tcp).await.unwrap());
    }
    let still = opened.iter_mut().map(|stream| async move {
        let mut byte = [0];
        tokio::time::timeout(Duration::from_secs(1), stream.read(&mut byte)).await.is_err()
    });
    let still = futures_util::future::join_all(still).await;
    (still.into_iter().filter(|open| *open).count(), opened)
}

/// Who comes without certificate has as many connections as his network may have; who has one, as his instance may have.
/// Neither takes the place of others, behind the same address or not.
#[tokio::test]
async fn connections_that_stay_keep_nobody_else_out() {
    let town = town_with(&["session"], METRICS).await;
    let (federation, files) = (&town.federation, Files::of(&town.beta.folder));
    let (one, other) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    let (strangers, _strangers) = left_open(federation, (one, files.stranger()), 80).await;
    assert_eq!(strangers, 64);
    let (of_others, _others) = left_open(federation, (other, files.stranger()), 2).await;
    assert_eq!(of_others, 2);

    // The agent has one of its instance's; what is too many is closed, and is not the agent's.
    let (beta, _beta) = left_open(federation, (one, files.tls(&["http/1.1"])), 80).await;
    assert!((60..64).contains(&beta), "{beta}");
    let alpha = Files::of(&town.alpha.folder);
    let answer = exchange(federation, alpha.tls(&["http/1.1"]), &request("GET /userinfo", "", "")).await.unwrap();
    assert_eq!(status(&answer), "401", "another instance: {answer}");
    let seen = metrics(federation.broker.as_ref().unwrap()).await;
    for (limit, least) in [("agent_strangers", 16), ("agent_connections", 16)] {
        let line = format!("homeward_limited_total{{limit=\"{limit}\"}} ");
        let count = seen.lines().find_map(|found| found.strip_prefix(&line)).expect(&seen);
        assert!(count.parse::<u32>().unwrap() >= least, "{limit}: {count}");
    }
}

/// A relying party that authenticates by its certificate, and the address of its endpoints.
struct ByCertificate {
    federation: Federation,
    files: Files,
    client_id: String,
}

impl ByCertificate {
    async fn enrolled() -> Self {
        let federation = Federation::start().await.unwrap();
        let applicant = Applicant::new(&federation.token("alpha", &[]).await.unwrap()).unwrap();
        let (channel, leaf) = applicant.connect().await.unwrap();
        let mut request = applicant.request(&leaf).unwrap();
        request.profile.as_mut().unwrap().client_auth_method = v1::ClientAuthMethod::Tls.into();
        let answer = EnrolmentServiceClient::new(channel).enrol(request).await.unwrap().into_inner();
        let enrolled = applicant.connect_enrolled(&answer).await.unwrap();
        EnrolmentServiceClient::new(enrolled).confirm(v1::ConfirmRequest {}).await.unwrap();
        let grant_types = "authorization_code,refresh_token,client_credentials";
        let changed = federation.ops_json(&["client", "policy", "alpha", "--grant-types", grant_types]).await.unwrap();
        let client_id = changed["client_id"].as_str().unwrap().to_owned();
        let files = Files {
            key: applicant.key.to_pkcs8().to_vec(),
            chain: answer.certificate_chain.clone(),
            bundle: answer.trust_bundle.unwrap().certificates,
        };
        Self { federation, files, client_id }
    }

    /// Its own token, over a connection of this kind.
    async fn token(&self, tls: ClientConfig) -> String {
        let form = format!("grant_type=client_credentials&client_id={}", self.client_id);
        let media_type = "Content-Type: application/x-www-form-urlencoded\r\n";
        exchange(&self.federation, tls, &request("POST /token", media_type, &form)).await.unwrap()
    }
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

/// RFC 8705 2.1 and 3, with a real handshake: who shows the certificate is the client, and its token is bound to that.
#[tokio::test]
async fn an_instance_certificate_is_a_client_credential() {
    let world = ByCertificate::enrolled().await;
    let stranger = world.token(world.files.stranger()).await;
    assert_eq!((status(&stranger), body(&stranger)["error"].as_str()), ("401", Some("invalid_client")));
    let answer = world.token(world.files.tls(&["http/1.1"])).await;
    assert_eq!(status(&answer), "200", "{answer}");
    let token = body(&answer)["access_token"].as_str().unwrap().to_owned();
    let form = format!("client_id={}&token={token}", world.client_id);
    let media_type = "Content-Type: application/x-www-form-urlencoded\r\n";
    let bytes = request("POST /introspect", media_type, &form);
    let worth = body(&exchange(&world.federation, world.files.tls(&["http/1.1"]), &bytes).await.unwrap());
    let leaf = digest(&SHA256, &world.files.chain[0]);
    assert_eq!(worth["cnf"]["x5t#S256"], URL_SAFE_NO_PAD.encode(leaf), "{worth}");
    // Over the other listener nobody shows a certificate.
    let issuer = world.federation.issuer().unwrap();
    let client = reqwest::Client::new();
    let pairs = [("grant_type", "client_credentials"), ("client_id", world.client_id.as_str())];
    assert_eq!(client.post(format!("{issuer}/token")).form(&pairs).send().await.unwrap().status().as_u16(), 401);

    // M14: an instance that is cut off is nobody, though its certificate is good for hours.
    world.federation.ops(&["instance", "quarantine", "alpha", "--reason", "test"]).await.unwrap();
    let refused = world.token(world.files.tls(&["http/1.1"])).await;
    assert_eq!((status(&refused), body(&refused)["error"].as_str()), ("401", Some("invalid_client")));
}

/// The same over HTTP/2, on a connection that carries gRPC too.
#[tokio::test]
async fn one_connection_carries_calls_of_agents_and_of_applications() {
    let federation = Federation::start().await.unwrap();
    let applicant = Applicant::new(&federation.token("alpha", &[]).await.unwrap()).unwrap();
    let answer = applicant.enrol().await.unwrap();
    let channel = applicant.connect_enrolled(&answer).await.unwrap();
    EnrolmentServiceClient::new(channel.clone()).confirm(v1::ConfirmRequest {}).await.unwrap();
    for (path, expected) in [("/userinfo", 401), ("/authorize", 404), ("/homeward.v1.EnrolmentService/Confirm", 404)] {
        let request = http::Request::get(path).body(tonic::body::Body::empty()).unwrap();
        let response = channel.clone().oneshot(request).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("grpc-status")), (expected, None), "{path}");
    }
}
