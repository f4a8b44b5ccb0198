//! HTTP towards a provider: one connection for each request, no redirects, no proxies of the environment, no cookies; a few
//! seconds and a bounded answer, whatever the other side does. Codes, secrets and tokens go this way and no other.
//!
//! Whose certificates count: those that this machine trusts, and the operator's `ca_file`. The federation's trust bundle
//! does not: what browsers reach has a certificate for browsers.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use openidconnect::AsyncHttpClient;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Origin, Position, Url};

use crate::config::PublicUrl;

/// Until the whole answer is here: a user is waiting.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// The way to a provider.
#[derive(Clone)]
pub(crate) struct Wire {
    tls: TlsConnector,
    detour: Option<Detour>,
    timeout: Duration,
}

/// The application's own origin is reached where the agent reaches the application: its provider may answer on this
/// machine only, and the way through the public address may not lead back here.
#[derive(Clone)]
struct Detour {
    origin: Origin,
    to: SocketAddr,
    scheme: HeaderValue,
}

/// Why there is no answer. None of them quotes what was sent or received.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    /// A file of CA certificates that is none.
    #[error("ca_file: {} must hold CA certificates as PEM", .0.display())]
    CaFile(PathBuf),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// Neither https nor this machine.
    #[error("the address is neither https nor on this machine")]
    Address,
    /// No such name, nobody there, or the wrong certificate.
    #[error("it cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// In any phase.
    #[error("it does not answer in time")]
    TimedOut,
    /// Not HTTP, or broken off.
    #[error("it does not speak HTTP: {0}")]
    Http(#[source] hyper::Error),
    /// Broken off, or longer than anything of use.
    #[error("its answer breaks off or is too long")]
    Body,
}

impl WireError {
    /// Whether the way may lead there for others only: no such name, or nobody who answers. Whoever answers with the wrong
    /// certificate is there.
    pub(crate) fn is_nobody(&self) -> bool {
        match self {
            // In which TLS ends that does not come about.
            Self::Unreachable(error) => {
                !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
            }
            Self::TimedOut => true,
            _ => false,
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Wire {
    /// Over TLS to anywhere, and in clear on this machine.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, WireError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut tls = tls.with_root_certificates(roots(ca_file)?).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), detour: None, timeout: TIMEOUT })
    }

    /// And to the application's own origin by the address where the agent reaches it.
    pub(crate) fn beside(self, public_url: &PublicUrl, application: &Url) -> Result<Self, WireError> {
        let origin = Url::parse(&public_url.origin()).map_err(|_| WireError::Address)?.origin();
        let to = application.socket_addrs(|| None).ok().and_then(|found| found.first().copied());
        let scheme = HeaderValue::from_str(public_url.scheme()).map_err(|_| WireError::Address)?;
        let detour = Detour { origin, to: to.ok_or(WireError::Address)?, scheme };
        Ok(Self { detour: Some(detour), ..self })
    }

    /// And to what listens at this address of this very machine, in clear.
    pub(crate) fn here(self, to: SocketAddr) -> Result<Self, WireError> {
        let origin = Url::parse(&format!("http://{to}")).map_err(|_| WireError::Address)?.origin();
        Ok(Self { detour: Some(Detour { origin, to, scheme: HeaderValue::from_static("http") }), ..self })
    }

    /// And answers may take so long.
    #[must_use]
    pub(crate) fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sends a request to the absolute address in it.
    pub(crate) async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, WireError> {
        tokio::time::timeout(self.timeout, self.exchange(request)).await.map_err(|_| WireError::TimedOut)?
    }

    async fn exchange(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, WireError> {
        let url = Url::parse(&request.uri().to_string()).map_err(|_| WireError::Address)?;
        let stream = self.connect(&url).await?;
        let request = self.in_origin_form(&url, request)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(WireError::Http)?;
        let connection = tokio::spawn(connection);
        let answered = async {
            let response = sender.send_request(request).await.map_err(WireError::Http)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|_| WireError::Body)?;
            Ok(Response::from_parts(parts, body.to_bytes().to_vec()))
        };
        let answered = answered.await;
        connection.abort();
        answered
    }

    /// RFC 9112 3.2.1.
    fn in_origin_form(&self, url: &Url, request: Request<Vec<u8>>) -> Result<Request<Full<Bytes>>, WireError> {
        let (mut parts, body) = request.into_parts();
        parts.uri = url[Position::BeforePath..Position::AfterQuery].parse().map_err(|_| WireError::Address)?;
        let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]);
        parts.headers.insert(HOST, host.map_err(|_| WireError::Address)?);
        parts
            .headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("homeward-agent/", env!("CARGO_PKG_VERSION"))));
        if let Some(detour) = self.detour_of(url) {
            parts.headers.insert(HeaderName::from_static("x-forwarded-proto"), detour.scheme.clone());
        }
        Ok(Request::from_parts(parts, Full::new(body.into())))
    }

    fn detour_of(&self, url: &Url) -> Option<&Detour> {
        self.detour.as_ref().filter(|detour| detour.origin == url.origin())
    }

    async fn connect(&self, url: &Url) -> Result<Box<dyn Stream>, WireError> {
        if let Some(detour) = self.detour_of(url) {
            return Ok(Box::new(TcpStream::connect(detour.to).await.map_err(WireError::Unreachable)?));
        }
        let secure = url.scheme() == "https";
        if !secure && PublicUrl::try_from(origin_of(url)).is_err() {
            return Err(WireError::Address);
        }
        let port = url.port_or_known_default().ok_or(WireError::Address)?;
        let stream = match url.host().ok_or(WireError::Address)? {
            Host::Ipv4(address) => TcpStream::connect((address, port)).await,
            Host::Ipv6(address) => TcpStream::connect((address, port)).await,
            // RFC 6761 6.3: some resolvers do not know these, and none needs to.
            Host::Domain(name) if name == "localhost" || name.ends_with(".localhost") => {
                TcpStream::connect(("localhost", port)).await
            }
            Host::Domain(name) => TcpStream::connect((name, port)).await,
        };
        let stream = stream.map_err(WireError::Unreachable)?;
        if !secure {
            return Ok(Box::new(stream));
        }
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|_| WireError::Address)?;
        Ok(Box::new(self.tls.connect(name, stream).await.map_err(WireError::Unreachable)?))
    }
}

/// What the library's requests go over.
impl<'c> AsyncHttpClient<'c> for Wire {
    type Error = WireError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, WireError>> + Send + 'c>>;

    fn call(&'c self, request: Request<Vec<u8>>) -> Self::Future {
        Box::pin(self.send(request))
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire(…)")
    }
}

fn origin_of(url: &Url) -> Url {
    let mut origin = url.clone();
    origin.set_path("/");
    origin.set_query(None);
    origin.set_fragment(None);
    origin
}

/// The CAs that this machine trusts, as OpenSSL would find them, and those of a file.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, WireError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let Some(path) = ca_file else { return Ok(roots) };
    let refused = || WireError::CaFile(path.to_owned());
    for certificate in CertificateDer::pem_file_iter(path).map_err(|_| refused())? {
        roots.add(certificate.map_err(|_| refused())?).map_err(|_| refused())?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::{get, post};
    use http::HeaderMap;
    use http::header::LOCATION;
    use tokio::net::TcpListener;

    use super::*;

    async fn here(routes: Router) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        origin
    }

    fn get_of(address: &str) -> Request<Vec<u8>> {
        Request::get(address).body(Vec::new()).unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_read_and_a_redirect_is_one() {
        let routes = Router::new()
            .route("/", get(|| async { (http::StatusCode::FOUND, [(LOCATION, "/other")], "moved") }))
            .route("/echo", post(|body: String| async move { body }))
            .route("/long", get(|| async { "x".repeat(LARGEST_ANSWER + 1) }));
        let (origin, wire) = (here(routes).await, Wire::new(None).unwrap());
        let moved = wire.send(get_of(&format!("{origin}/"))).await.unwrap();
        assert_eq!((moved.status().as_u16(), moved.body().as_slice()), (302, &b"moved"[..]));
        let echo = Request::post(format!("{origin}/echo?x=1")).body(b"hello".to_vec()).unwrap();
        assert_eq!(wire.send(echo).await.unwrap().body(), b"hello");
        assert!(matches!(wire.send(get_of(&format!("{origin}/long"))).await, Err(WireError::Body)));
    }

    #[tokio::test]
    async fn nothing_goes_over_the_network_in_clear() {
        let wire = Wire::new(None).unwrap();
        for address in ["http://login.example/", "http://10.0.0.1/", "http://localhost.example/", "ftp://127.0.0.1/"] {
            assert!(matches!(wire.send(get_of(address)).await, Err(WireError::Address)), "{address}");
        }
    }

    #[tokio::test]
    async fn the_applications_own_origin_is_reached_beside_it() {
        let told = |headers: HeaderMap| async move {
            let header = |name: &str| headers[name].to_str().unwrap().to_owned();
            format!("{} {}", header("host"), header("x-forwarded-proto"))
        };
        let application = here(Router::new().route("/o/token", get(told))).await;
        let public_url = PublicUrl::try_from("https://alpha.example".parse::<Url>().unwrap()).unwrap();
        let wire = Wire::new(None).unwrap().beside(&public_url, &application.parse().unwrap()).unwrap();
        let answer = wire.send(get_of("https://alpha.example/o/token")).await.unwrap();
        assert_eq!(answer.body(), b"alpha.example https");
    }

    #[test]
    fn a_file_without_certificates_is_no_ca_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file.as_file(), b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap();
        assert!(matches!(Wire::new(Some(file.path())), Err(WireError::CaFile(_))));
    }
}
