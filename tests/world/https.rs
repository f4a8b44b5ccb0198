//! A client of HTTPS that says which name, which protocols and which CAs, and what it was shown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use http::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than any handshake or answer takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a client wants.
#[derive(Clone, Debug)]
pub struct Https {
    /// Whom it believes, as PEM.
    pub roots: String,
    /// Whom it wants to speak with.
    pub name: String,
    /// What it speaks, over TLS.
    pub protocols: Vec<&'static str>,
    /// TLS 1.2 and no other.
    pub old: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
    /// The leaf that was shown, in DER.
    pub leaf: Vec<u8>,
    /// The protocol that was agreed on.
    pub protocol: Option<String>,
}

impl Https {
    /// A client like any other.
    pub fn to(name: &str, roots: &str) -> Self {
        Self { roots: roots.to_owned(), name: name.to_owned(), protocols: vec!["http/1.1"], old: false }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// Why that did not work.
    pub async fn connect(&self, address: SocketAddr) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.roots.as_bytes()) {
            roots.add(certificate?)?;
        }
        let versions: &[&SupportedProtocolVersion] = if self.old { &[&TLS12] } else { &[&TLS13, &TLS12] };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(self.name.clone())?;
        let stream = TcpStream::connect(address).await?;
        Ok(tokio::time::timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await??)
    }

    /// What is at a path, over HTTP/1.1 or, if that is agreed on, HTTP/2.
    ///
    /// # Errors
    /// As [`Https::connect`], or when there is no answer.
    pub async fn get(&self, address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
        let stream = self.connect(address).await?;
        let (_, tls) = stream.get_ref();
        let leaf = tls.peer_certificates().and_then(|chain| chain.first()).context("no certificate")?.to_vec();
        let protocol = tls.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
        let request = Request::get(format!("https://{}{path}", self.name)).header("host", &self.name);
        let (request, io) = (request.body(Body::empty())?, TokioIo::new(stream));
        let ask = async {
            if protocol.as_deref() == Some("h2") {
                let executor = hyper_util::rt::TokioExecutor::new();
                let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await?;
                tokio::spawn(connection);
                return sender.send_request(request).await;
            }
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            tokio::spawn(connection);
            sender.send_request(request).await
        };
        let (head, body) = tokio::time::timeout(PATIENCE, ask).await??.into_parts();
        let body = axum::body::to_bytes(Body::new(body), 1 << 20).await?;
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, leaf, protocol })
    }
}
