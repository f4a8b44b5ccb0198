//! Servers that say what they are told to, whatever that is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One on loopback, as long as the test.
pub(super) struct Server {
    port: u16,
    visits: Arc<AtomicUsize>,
    request: Arc<Mutex<String>>,
    answer: Arc<Mutex<&'static str>>,
}

#[derive(Clone, Copy)]
enum Manner {
    Answer,
    Endless(&'static str),
    Silent,
    Dripping,
}

impl Server {
    /// Answers so, and closes.
    pub(super) async fn answering(answer: &'static str) -> Self {
        Self::start(answer, Manner::Answer, None).await
    }

    /// Begins so, and never stops.
    pub(super) async fn endless(head: &'static str, more: &'static str) -> Self {
        Self::start(head, Manner::Endless(more), None).await
    }

    /// Listens, and says nothing.
    pub(super) async fn silent() -> Self {
        Self::start("", Manner::Silent, None).await
    }

    /// Says a byte now and then.
    pub(super) async fn dripping(head: &'static str) -> Self {
        Self::start(head, Manner::Dripping, None).await
    }

    /// Answers so over TLS, with a certificate for this name that is its own CA.
    pub(super) async fn with_tls(name: &str, answer: &'static str) -> (Self, CertificateDer<'static>) {
        let own = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let certificate = own.cert.der().clone();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
        (Self::start(answer, Manner::Answer, Some(TlsAcceptor::from(Arc::new(tls)))).await, certificate)
    }

    /// A port that nobody listens on any more.
    pub(super) async fn closed_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    async fn start(answer: &'static str, manner: Manner, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            visits: Arc::default(),
            request: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
        };
        let (visits, request, answer) = (server.visits.clone(), server.request.clone(), server.answer.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                visits.fetch_add(1, Ordering::SeqCst);
                let (tls, request, answer) = (tls.clone(), request.clone(), *answer.lock().unwrap());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, answer, manner, &request).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, answer, manner, &request).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// How many connections there were.
    pub(super) fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }

    pub(super) fn last_request(&self) -> String {
        self.request.lock().unwrap().clone()
    }

    /// Answers so from now on.
    pub(super) fn change(&self, answer: String) {
        *self.answer.lock().unwrap() = answer.leak();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &'static str,
    manner: Manner,
    request: &Mutex<String>,
) {
    let mut read = vec![0; 4096];
    let length = stream.read(&mut read).await.unwrap_or(0);
    *request.lock().unwrap() = String::from_utf8_lossy(&read[..length]).into_owned();
    let mut alive = stream.write_all(answer.as_bytes()).await.is_ok();
    match manner {
        Manner::Answer => drop(stream.shutdown().await),
        Manner::Silent => std::future::pending().await,
        Manner::Endless(more) => {
            let more = more.repeat(100);
            while alive {
                alive = stream.write_all(more.as_bytes()).await.is_ok();
            }
        }
        Manner::Dripping => {
            while alive {
                tokio::time::sleep(Duration::from_millis(200)).await;
                alive = stream.write_all(b"x").await.is_ok();
            }
        }
    }
}
