//! Applications on the agents' port: what an instance's certificate is good for there (RFC 8705), and what is not to be
//! had. The certificate is the one that a real agent keeps on its disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use world::{Federation, InstanceOptions};

use crate::town::town;

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
