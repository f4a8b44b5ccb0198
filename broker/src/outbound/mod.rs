//! What the broker fetches from applications and posts to them: key sets, request objects, sector identifiers, logout
//! tokens. Their addresses come from whoever registered a client, so every one of them may be an attempt to make the
//! broker speak to something that only the broker can reach (RFC 7591 5, OpenID Connect Core 16.21):
//!
//! * https only; http where the broker itself is one for trying things out on loopback.
//! * A name is resolved here, and the connection goes to an address that was judged, not to the name: what a second
//!   look-up would answer is nobody's concern (DNS rebinding). Addresses that are not public are refused, but for origins
//!   of enrolled instances, whom ops have let in, those of identity providers, and networks that ops name.
//! * No redirects, no proxies, no cookies, no credentials; a new connection each time.
//! * A few seconds and a bounded answer, whatever the other side does.

mod address;
mod client_keys;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::request::Builder;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use url::{Host, Url};

use crate::clock::Clock;
use crate::config::Issuer;
use crate::registry::Registry;

pub use client_keys::ClientKeySets;

/// Until there is a connection: name, address and TLS.
const CONNECT: Duration = Duration::from_secs(3);

/// Until the answer has been read, as a rule.
const TOTAL: Duration = Duration::from_secs(5);

/// How many names are looked up at once. The system's resolver blocks a thread, for half a minute if a name server plays
/// dead: one of its own, because those that tokio keeps for what blocks are the store's. One name takes one of them, however
/// often it is asked for: a client with such a name holds up nobody but itself, and one with many such names look-ups only.
const LOOKUPS: usize = 16;

/// How many addresses of one name are tried.
const ADDRESSES: usize = 4;

/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The one client for everything that the broker asks others.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: Arc<Client>,
    /// Origins that ops have named beside those of instances.
    admitted: Arc<[String]>,
    /// Until an answer has been read.
    total: Duration,
}

/// What the client goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker's own address: an http one is a broker for trying things out.
    pub issuer: Issuer,
    /// Networks that are not public and may be spoken to all the same.
    pub private_networks: Vec<IpNet>,
    /// Who may vouch for the name of a server.
    pub roots: RootCertStore,
}

/// What asks the system for the addresses of a name, and blocks.
type Resolve = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

struct Client {
    settings: Settings,
    registry: Registry,
    tls: TlsConnector,
    lookups: Arc<Semaphore>,
    resolve: Resolve,
    /// Names that are being looked up, each for one at a time.
    names: std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Outbound {
    /// The client.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: Settings, registry: Registry, clock: Clock) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls =
            ClientConfig::builder_with_details(provider, Arc::new(clock)).with_safe_default_protocol_versions()?;
        let mut tls = tls.with_root_certificates(settings.roots.clone()).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (tls, lookups) = (TlsConnector::from(Arc::new(tls)), Arc::new(Semaphore::new(LOOKUPS)));
        let resolve: Resolve = |name, port| Ok((name, port).to_socket_addrs()?.collect());
        let client = Client { settings, registry, tls, lookups, resolve, names: std::sync::Mutex::default() };
        Ok(Self { client: Arc::new(client), admitted: Arc::default(), total: TOTAL })
    }

    /// The same, that also speaks to these origins where they are not public: ops have named them one by one.
    pub fn admitting(&self, origins: Vec<String>) -> Self {
        Self { admitted: origins.into(), ..self.clone() }
    }

    /// The same, that waits for an answer until this.
    pub fn within(&self, total: Duration) -> Self {
        Self { total, ..self.clone() }
    }

    /// Sends a request as it is, and gives the answer whatever its status, if that is at most so many bytes.
    ///
    /// # Errors
    /// When the address may not be asked, or does not answer in time.
    pub async fn ask(&self, request: Request<Vec<u8>>, limit: usize) -> Result<Response<Vec<u8>>, OutboundError> {
        let (head, body) = request.into_parts();
        let url = self.client.checked(&head.uri.to_string())?;
        let mut builder = Request::builder().method(head.method).uri(target(&url));
        if let Some(headers) = builder.headers_mut() {
            *headers = head.headers;
        }
        let answered = async {
            let Answer { response, connection } = self.send(&url, builder, body.into()).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(unread)?.to_bytes();
            drop(connection);
            Ok(Response::from_parts(head, body.to_vec()))
        };
        tokio::time::timeout(self.total, answered).await.map_err(|_| OutboundError::TimedOut)?
    }

    /// What is at an address, if that is at most so many bytes.
    ///
    /// # Errors
    /// When it may not be asked, or does not answer 200 in time.
    pub async fn fetch(&self, address: &str, limit: usize) -> Result<Bytes, OutboundError> {
        let url = self.client.checked(address)?;
        let request = Request::get(target(&url)).header(ACCEPT, "*/*");
        let fetched = async {
            let Answer { response, connection } = self.send(&url, request, Bytes::new()).await?;
            if response.status() != StatusCode::OK {
                return Err(OutboundError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), limit).collect().await.map_err(unread)?.to_bytes();
            drop(connection);
            Ok(body)
        };
        tokio::time::timeout(self.total, fetched).await.map_err(|_| OutboundError::TimedOut)?
    }

    /// The JSON that is at an address.
    ///
    /// # Errors
    /// As [`Outbound::fetch`], or when it is none.
    pub async fn fetch_json(&self, address: &str, limit: usize) -> Result<Value, OutboundError> {
        let body = self.fetch(address, limit).await?;
        serde_json::from_slice(&body).map_err(|_| OutboundError::NotJson)
    }

    /// Posts a form and gives the status of the answer, whatever it is. Of its body nothing is of use.
    ///
    /// # Errors
    /// When the address may not be asked, or does not answer in time.
    pub async fn post_form(&self, address: &str, fields: &[(&str, &str)]) -> Result<StatusCode, OutboundError> {
        let url = self.client.checked(address)?;
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(target(&url)).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answered = tokio::time::timeout(self.total, self.send(&url, request, form.into())).await;
        Ok(answered.map_err(|_| OutboundError::TimedOut)??.response.status())
    }

    async fn send(&self, url: &Url, request: Builder, body: Bytes) -> Result<Answer, OutboundError> {
        self.client.send((url, &self.admitted), request, body).await
    }
}

impl Client {
    fn checked(&self, address: &str) -> Result<Url, OutboundError> {
        let url = Url::parse(address).map_err(|_| OutboundError::Address)?;
        let trying_out = self.settings.issuer.as_str().starts_with("http:");
        let scheme = url.scheme() == "https" || (trying_out && url.scheme() == "http");
        // Credentials in an address would be sent to whoever it names.
        let plain = url.username().is_empty() && url.password().is_none();
        if scheme && plain { Ok(url) } else { Err(OutboundError::Address) }
    }

    async fn send(
        &self,
        (url, admitted): (&Url, &[String]),
        request: Builder,
        body: Bytes,
    ) -> Result<Answer, OutboundError> {
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let request = request.header(HOST, authority).header(USER_AGENT, "homeward-broker");
        let request = request.body(Full::new(body)).map_err(|_| OutboundError::Address)?;
        let stream =
            tokio::time::timeout(CONNECT, self.connect(url, admitted)).await.map_err(|_| OutboundError::TimedOut)??;
        let mut builder = http1::Builder::new();
        let (mut sender, connection) =
            builder.max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await.map_err(OutboundError::Http)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let response = sender.send_request(request).await.map_err(OutboundError::Http)?;
        Ok(Answer { response, connection })
    }

    /// A connection to the address that the host has now and that may be spoken to.
    async fn connect(&self, url: &Url, admitted: &[String]) -> Result<Box<dyn Stream>, OutboundError> {
        let stream = self.reach(&self.addresses(url, admitted).await?).await?;
        if url.scheme() == "http" {
            return Ok(Box::new(stream));
        }
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|_| OutboundError::Address)?;
        Ok(Box::new(self.tls.connect(name, stream).await.map_err(OutboundError::Unreachable)?))
    }

    async fn addresses(&self, url: &Url, admitted: &[String]) -> Result<Vec<SocketAddr>, OutboundError> {
        let port = url.port_or_known_default().ok_or(OutboundError::Address)?;
        let found: Vec<SocketAddr> = match url.host().ok_or(OutboundError::Address)? {
            Host::Ipv4(address) => vec![(address, port).into()],
            Host::Ipv6(address) => vec![(address, port).into()],
            // Some resolvers ask the network, or know nothing. Judged like any other address afterwards.
            Host::Domain(name) if address::is_local_name(name) => {
                vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
            }
            Host::Domain(name) => self.look_up(name.to_owned(), port).await.map_err(OutboundError::Unreachable)?,
        };
        let trusted = || self.is_of_an_instance(url) || admitted.contains(&url.origin().ascii_serialization());
        let allowed = |found: &SocketAddr| self.may_reach(found.ip()) || trusted();
        let allowed: Vec<_> = found.iter().copied().filter(allowed).take(ADDRESSES).collect();
        match (allowed.is_empty(), found.first()) {
            (true, Some(refused)) => Err(OutboundError::Internal(refused.ip())),
            _ => Ok(allowed),
        }
    }

    async fn look_up(&self, name: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        let name_turn = self.turn_of(&name).lock_owned().await;
        let turn = self.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        let resolve = self.resolve;
        let (found, finding) = oneshot::channel();
        let look_up = move || {
            // Kept until the resolver returns, also when nobody waits for it any more.
            let _turns = (name_turn, turn);
            drop(found.send(resolve(&name, port)));
        };
        std::thread::Builder::new().name("look-up".to_owned()).spawn(look_up)?;
        finding.await.map_err(io::Error::other)?
    }

    /// What whoever looks this name up holds meanwhile.
    fn turn_of(&self, name: &str) -> Arc<Mutex<()>> {
        // Nothing panics while it is held; what is in there is right in any case.
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|_, turn| Arc::strong_count(turn) > 1);
        names.entry(name.to_owned()).or_default().clone()
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address::is_public(address) || self.settings.private_networks.iter().any(|network| network.contains(&address))
    }

    /// Ops have let the instance in, under this origin: scheme, name and port.
    fn is_of_an_instance(&self, url: &Url) -> bool {
        let origin = url.origin().ascii_serialization();
        self.registry.snapshot().instances().any(|instance| instance.is_active() && instance.public_url == origin)
    }

    async fn reach(&self, addresses: &[SocketAddr]) -> Result<TcpStream, OutboundError> {
        let mut failure = io::ErrorKind::AddrNotAvailable.into();
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(OutboundError::Unreachable(failure))
    }
}

/// An answer whose body has not been read. The connection ends with it.
struct Answer {
    response: Response<Incoming>,
    connection: AbortOnDropHandle<hyper::Result<()>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Path and query: what is asked for. A fragment is never sent.
fn target(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}

fn unread(error: Box<dyn Error + Send + Sync>) -> OutboundError {
    if error.is::<LengthLimitError>() { OutboundError::TooLarge } else { OutboundError::Unread(error) }
}

/// The CAs that this machine trusts, as OpenSSL would find them, and those of the file that an option names.
///
/// # Errors
/// When the file cannot be read or holds something else. A machine that trusts nobody is only warned about: a broker
/// need not fetch anything.
pub fn roots(option: &'static str, ca_file: Option<&Path>) -> Result<RootCertStore, CaFileError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() && ca_file.is_none() {
        warn!("this machine trusts no CA: nothing can be fetched until {option} names one");
    }
    let Some(path) = ca_file else { return Ok(roots) };
    let refused = || CaFileError(option, path.to_owned());
    for certificate in CertificateDer::pem_file_iter(path).map_err(|_| refused())? {
        roots.add(certificate.map_err(|_| refused())?).map_err(|_| refused())?;
    }
    Ok(roots)
}

/// A file of CA certificates that is none.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {path} must hold CA certificates as PEM", path = .1.display())]
pub struct CaFileError(&'static str, PathBuf);

/// Why something was not fetched or posted.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// No address that is ever asked.
    #[error("the address is no https URL without credentials")]
    Address,
    /// Only the broker can reach it, and nobody said that it should.
    #[error("the host is at {0}, which is no public address: [outbound] private_networks can allow it")]
    Internal(IpAddr),
    /// No such name, nobody there, or the wrong certificate.
    #[error("the host cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// In any phase.
    #[error("the host does not answer in time")]
    TimedOut,
    /// Not HTTP, or broken off.
    #[error("the host does not speak HTTP: {0}")]
    Http(#[source] hyper::Error),
    /// Broken off in the body.
    #[error("the answer breaks off: {0}")]
    Unread(#[source] Box<dyn Error + Send + Sync>),
    /// Not 200; redirects are not followed.
    #[error("the host answers {0}")]
    Status(StatusCode),
    /// More than anybody needs.
    #[error("the answer is too large")]
    TooLarge,
    /// Not JSON.
    #[error("the answer is no JSON")]
    NotJson,
}
