//! TLS for browsers and applications: the certificate of the public address, and handshakes by it.
//!
//! The certificate comes out of files that somebody else renews (`files`), or from a CA that the broker asks itself
//! ([`acme`]). Either way it changes while the broker runs: from the next handshake on the new one is shown. Whatever is
//! wrong with a new one, the old one stays; [`PublicTls::remark`] says what ops are to do.
//!
//! The agents' port has nothing to do with this: its certificate is the federation's own CA's.

pub mod acme;
mod files;
mod shown;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::clock::{Clock, Timestamp};
use crate::config::{CertificateSource, Issuer};
use crate::outbound::{self, CaFileError};
use crate::storage::StoreError;
use acme::{Acme, AcmeError, AcmeFoundations, Challenges, is_address};
use files::Files;
use shown::Shown;

pub use files::FilesError;
pub(crate) use shown::ends_soon;
pub use shown::{Served, Unusable};

/// How often ops are told again of what has not been mended.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

/// Where anybody can read it.
const NEEDS_OPS: &str = "the certificate needs ops: homeward-broker tls show";

/// TLS at the public address. Copies are the same.
#[derive(Clone)]
pub struct PublicTls(Arc<Known>);

struct Known {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    /// Of the CA that is asked for certificates.
    challenges: Option<Challenges>,
    acme: Option<Acme>,
    remark: watch::Sender<Option<String>>,
    told: std::sync::Mutex<Option<Instant>>,
    /// Somebody wants the files to be looked at now.
    look: Notify,
    clock: Clock,
}

impl PublicTls {
    /// From this source, if there is one, for this address; and a future that follows the source, and must be run.
    ///
    /// # Errors
    /// When there are files and they cannot be used, or TLS cannot be set up.
    pub async fn open(
        source: Option<&CertificateSource>,
        issuer: &Issuer,
        foundations: AcmeFoundations,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), TlsError> {
        let clock = foundations.clock.clone();
        let (shown, host) = (Arc::new(Shown::default()), issuer.host());
        let (mut files, mut acme) = (None, None);
        match source {
            Some(CertificateSource::Files { certificate, private_key }) => {
                let (opened, served) = Files::open(certificate.clone(), private_key.clone()).await?;
                shown.show(Some(served));
                files = Some(opened);
            }
            Some(CertificateSource::Acme(settings)) => {
                acme = Some(Acme::open(settings.clone(), &host, shown.clone(), foundations.clone()).await?);
            }
            None => {}
        }
        let known = Known {
            config: Arc::new(config(shown.clone(), &clock)?),
            shown,
            challenges: acme.as_ref().map(|_| Challenges::new(foundations.store, host.clone(), clock.clone())),
            acme,
            remark: watch::Sender::default(),
            told: std::sync::Mutex::default(),
            look: Notify::new(),
            clock,
        };
        let tls = Self(Arc::new(known));
        Ok((tls.clone(), tls.follow(files, host)))
    }

    /// Shakes hands. Nothing comes back from a handshake that is a CA's question, and answered by it.
    ///
    /// # Errors
    /// When the other side does not speak TLS as it should, or goes away.
    pub async fn accept<S>(&self, stream: S) -> io::Result<Option<TlsStream<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let asked = self.0.challenges.as_ref().filter(|_| acme::is_challenge(&hello.client_hello()));
        if let Some(challenges) = asked {
            let name = hello.client_hello().server_name().map(str::to_owned);
            let answer = challenges.answer(name.as_deref()).await.map_err(io::Error::other)?;
            hello.into_stream(answer).await?;
            return Ok(None);
        }
        hello.into_stream(self.0.config.clone()).await.map(Some)
    }

    /// What ops are to do about the certificate; nothing as a rule.
    pub fn remark(&self) -> Option<String> {
        self.0.remark.borrow().clone()
    }

    /// What strangers may know of that: no path, and no reason.
    pub fn public_remark(&self) -> Option<String> {
        self.0.remark.borrow().as_ref().map(|_| NEEDS_OPS.to_owned())
    }

    /// Does this whenever there is another remark.
    pub async fn on_change(&self, act: impl Fn(&Self)) {
        let mut changes = self.0.remark.subscribe();
        while changes.changed().await.is_ok() {
            act(self);
        }
    }

    /// Has the CA asked, or the files looked at, now.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn renew(&self) -> Result<(), StoreError> {
        self.look_now();
        match &self.0.acme {
            Some(acme) => acme.renew().await,
            None => Ok(()),
        }
    }

    /// Has the files looked at now.
    pub fn look_now(&self) {
        self.0.look.notify_one();
    }

    /// The certificate that is shown.
    pub fn served(&self) -> Option<Arc<Served>> {
        self.0.shown.served()
    }

    /// Whether there is TLS here: with files, a certificate is shown from the start on.
    pub fn has_source(&self) -> bool {
        self.0.acme.is_some() || self.served().is_some()
    }

    /// How it is got from a CA, if it is.
    pub fn acme(&self) -> Option<&Acme> {
        self.0.acme.as_ref()
    }

    async fn follow(self, mut files: Option<Files>, host: String) {
        let order = async {
            match &self.0.acme {
                Some(acme) => acme.run().await,
                None => std::future::pending().await,
            }
        };
        let look = async {
            loop {
                let wrong = match (&mut files, &self.0.acme) {
                    (Some(files), _) => {
                        if let Some(served) = files.look().await {
                            info!(until = %served.not_after(), "the certificate in the files of [tls] is shown from now on");
                            self.0.shown.show(Some(served));
                        }
                        files.problem().map(str::to_owned)
                    }
                    (None, Some(acme)) => acme.problem(self.0.clock.now()),
                    (None, None) => None,
                };
                let served = self.0.shown.served();
                let old = served.and_then(|served| served.remark(&host, self.0.clock.now()));
                self.tell([wrong, old].into_iter().flatten().reduce(|a, b| format!("{a}; {b}")));
                tokio::select! {
                    () = tokio::time::sleep(files::PAUSE) => {}
                    () = self.0.look.notified() => files.iter_mut().for_each(Files::look_at_once),
                }
            }
        };
        tokio::join!(order, look);
    }

    /// Ops hear of it once, and again every day for as long as it is so.
    fn tell(&self, remark: Option<String>) {
        let changed = self.0.remark.send_if_modified(|known| {
            let changed = *known != remark;
            known.clone_from(&remark);
            changed
        });
        let mut told = self.0.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let again = told.is_none_or(|told| told.elapsed() >= AGAIN);
        match remark {
            Some(remark) if changed || again => {
                warn!("{remark}");
                *told = Some(Instant::now());
            }
            None if changed => info!("nothing is wrong with the certificate of the public address any more"),
            _ => {}
        }
    }
}

impl fmt::Debug for PublicTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicTls").field("shown", &self.0.shown).finish_non_exhaustive()
    }
}

/// For browsers, and for servers of relying parties: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
fn config(shown: Arc<Shown>, clock: &Clock) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_details(provider, Arc::new(clock.clone()));
    let mut config = builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Says how a CA that is asked for certificates is known, to whoever makes the way to it.
///
/// # Errors
/// When the file of CAs cannot be used.
pub fn roots_of(source: Option<&CertificateSource>) -> Result<RootCertStore, CaFileError> {
    match source {
        Some(CertificateSource::Acme(settings)) => outbound::roots("tls.acme.ca_file", settings.ca_file.as_deref()),
        Some(CertificateSource::Files { .. }) | None => Ok(RootCertStore::empty()),
    }
}

/// Whether a source could be used, and what there is to say of it, if it is for this host.
///
/// # Errors
/// When a broker would not start with it.
pub async fn check(source: &CertificateSource, host: Option<&str>, now: Timestamp) -> Result<Option<String>, TlsError> {
    match source {
        CertificateSource::Files { certificate, private_key } => {
            let (_, served) = Files::open(certificate.clone(), private_key.clone()).await?;
            Ok(host.and_then(|host| served.remark(host, now)))
        }
        CertificateSource::Acme(_) if host.is_some_and(is_address) => Err(AcmeError::NoName.into()),
        CertificateSource::Acme(_) => Ok(roots_of(Some(source)).map(|_| None)?),
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// What was got from a CA before.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// The file of CAs by which the CA's server is known.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// rustls.
    #[error("TLS cannot be configured: {0}")]
    Configuration(#[from] rustls::Error),
}
