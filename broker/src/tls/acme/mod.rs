//! Certificates from a CA that is asked by ACME (RFC 8555).
//!
//! What is known is one record in the store ([`StoredAcme`]): the account and the certificate, sealed, and when the CA is
//! asked next. The broker on duty orders, or another one if that does not; all brokers follow the record, and show what is in
//! it. A try is written down before it begins, so that neither a broker that dies in it nor a second one that takes over makes
//! the pause after it shorter; what comes of it is written until the store has it. The CA's question is answered by whichever broker it meets ([`Challenges`]).

mod attempt;
mod challenge;
mod order;
mod record;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::{Mutex as Turn, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::audit::{Audit, Event, Kind};
use crate::clock::{Clock, Timestamp};
use crate::config::AcmeSettings;
use crate::outbound::Outbound;
use crate::secret::{Purpose, SealingKeys};
use crate::storage::table::Table;
use crate::storage::{Store, StoreError};
use crate::tls::Served;
use crate::tls::shown::Shown;

pub(super) use challenge::{Challenges, is_challenge};
use order::OrderError;
use record::StoredCertificate;
pub use record::{StoredAcme, StoredChallenge};

/// Between two looks at whether it is time.
const PAUSE: Duration = Duration::from_secs(1);

/// When it is time and the broker on duty does not order for so long, another one does: its file may have no [tls.acme].
const NOBODY: Duration = Duration::from_secs(600);

/// How long one answer of the CA may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Longest reason that is kept, in characters.
const REASON: usize = 500;

/// What it stands on.
#[derive(Clone, Debug)]
pub struct AcmeFoundations {
    /// Account, certificate and challenges.
    pub store: Arc<dyn Store>,
    /// Seals keys.
    pub sealing: Arc<SealingKeys>,
    /// The way to the CA.
    pub outbound: Outbound,
    /// Whether this broker does what one does for all.
    pub on_duty: watch::Receiver<bool>,
    /// Where it is noted what was got.
    pub audit: Audit,
    /// The time.
    pub clock: Clock,
}

/// The CA and what is known of it.
pub struct Acme {
    settings: AcmeSettings,
    host: String,
    table: Table<StoredAcme>,
    known: Mutex<StoredAcme>,
    /// Who reads the record: one after the other, or what was read first would be shown last.
    reading: Turn<()>,
    /// The chain in the store that was shown last, or that cannot be, and why.
    opened: Mutex<Option<Opened>>,
    shown: Arc<Shown>,
    challenges: Challenges,
    foundations: AcmeFoundations,
}

/// What came of a certificate in the store.
struct Opened {
    chain: String,
    /// Why it cannot be shown.
    problem: Option<String>,
}

/// How it is, for ops.
#[derive(Clone, Debug)]
pub struct AcmeStatus {
    /// Of the CA.
    pub directory: String,
    /// When it is asked next.
    pub next_at: Timestamp,
    /// Tries since it worked last.
    pub tries: u32,
    /// Why the last one failed.
    pub failure: Option<String>,
}

impl Acme {
    /// As it is in the store. What was got before is shown at once.
    ///
    /// # Errors
    /// When the public address has no name, or the store does not answer.
    pub(super) async fn open(
        settings: AcmeSettings,
        host: &str,
        shown: Arc<Shown>,
        mut foundations: AcmeFoundations,
    ) -> Result<Self, AcmeError> {
        if is_address(host) {
            return Err(AcmeError::NoName);
        }
        // Ops named the CA: it may be inside.
        let ca = settings.directory.origin().ascii_serialization();
        foundations.outbound = foundations.outbound.admitting(vec![ca]).within(ANSWER);
        let (store, clock) = (foundations.store.clone(), foundations.clock.clone());
        let acme = Self {
            settings,
            host: host.to_owned(),
            table: Table::new(store.clone()),
            known: Mutex::default(),
            reading: Turn::default(),
            opened: Mutex::default(),
            shown,
            challenges: Challenges::new(store, host.to_owned(), clock),
            foundations,
        };
        acme.read().await?;
        Ok(acme)
    }

    /// How it is.
    pub fn status(&self) -> AcmeStatus {
        let (known, now) = (self.known(), self.foundations.clock.now());
        AcmeStatus {
            directory: self.settings.directory.to_string(),
            next_at: self.due_at(&known, now),
            tries: known.tries,
            failure: known.failure.clone(),
        }
    }

    /// Has the CA asked as soon as possible.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn renew(&self) -> Result<(), StoreError> {
        self.table.update(StoredAcme::ID, |known| Ok::<_, StoreError>(known.unwrap_or_default().wanted())).await?;
        self.foundations.audit.note(Event::new(Kind::PublicCertificateWanted).object(self.host.clone()));
        self.read().await
    }

    /// Why there is no new certificate, and what happens next.
    pub(super) fn problem(&self, now: Timestamp) -> Option<String> {
        let (known, host, ca) = (self.known(), &self.host, &self.settings.directory);
        // The same text for as long as it is the same thing: ops are told whenever it is another one.
        let next = match self.due_at(&known, now) {
            next if next > now => format!("the next try is at {next}, or by `tls renew`"),
            _ => "it is tried again".to_owned(),
        };
        match &known.failure {
            Some(failure) => Some(format!("no certificate could be got from {ca}: {failure}; {next}")),
            None if known.certificate.is_none() => {
                Some(format!("there is no certificate for {host} yet: {ca} is asked for one"))
            }
            None => self.unopened().map(|why| format!("{why}; {ca} is asked for another one")),
        }
    }

    /// What cannot be shown is as good as none.
    fn due_at(&self, known: &StoredAcme, now: Timestamp) -> Timestamp {
        if self.unopened().is_some() {
            let none = StoredAcme { certificate: None, ..known.clone() };
            return none.due_at(&self.host, self.settings.directory.as_str(), now);
        }
        known.due_at(&self.host, self.settings.directory.as_str(), now)
    }

    /// Whether it is time also for who has not the duty. A certificate of whatever CA does for him: else two brokers whose
    /// files name two CAs would order from both in turn.
    fn is_overdue(&self, known: &StoredAcme, now: Timestamp) -> bool {
        let directory = known.certificate.as_ref().map_or(self.settings.directory.as_str(), |held| &held.directory);
        known.due_at(&self.host, directory, now) <= now
    }

    /// Why the certificate in the store cannot be shown, if that is so.
    fn unopened(&self) -> Option<String> {
        self.opened().as_ref().and_then(|opened| opened.problem.clone())
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, StoredAcme> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the record, and orders when it is time and this broker has the duty.
    pub(super) async fn run(&self) {
        loop {
            match self.follow().await {
                Ok(()) => {}
                Err(error) => warn!(%error, "what is known of the certificate cannot be read; trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&self) -> Result<(), StoreError> {
        // Begun before the record is read, so that no change falls between.
        let mut changes = self.table.watch().await?;
        self.read().await?;
        let mut waiting = None;
        loop {
            tokio::select! {
                event = changes.next() => match event {
                    Some(_) => self.read().await?,
                    None => return Ok(()),
                },
                () = tokio::time::sleep(PAUSE) => {}
            }
            if self.is_to_order(&mut waiting) {
                self.order().await?;
            }
        }
    }

    /// Whether it is time, and this broker's turn: who has not the duty waits for who has it.
    fn is_to_order(&self, waiting: &mut Option<Instant>) -> bool {
        let (known, now) = (self.known(), self.foundations.clock.now());
        if *self.foundations.on_duty.borrow() {
            *waiting = None;
            return self.due_at(&known, now) <= now;
        }
        if !self.is_overdue(&known, now) {
            *waiting = None;
            return false;
        }
        waiting.get_or_insert_with(Instant::now).elapsed() >= NOBODY
    }

    async fn read(&self) -> Result<(), StoreError> {
        let _turn = self.reading.lock().await;
        let stored = self.table.get(StoredAcme::ID).await?.map(|stored| stored.record).unwrap_or_default();
        if let Some(held) = &stored.certificate {
            self.take_up(held);
        }
        *self.known() = stored;
        Ok(())
    }

    /// Shows what is in the store, if it is another one than before.
    fn take_up(&self, held: &StoredCertificate) {
        let mut opened = self.opened();
        if opened.as_ref().is_some_and(|opened| opened.chain == held.chain) {
            return;
        }
        let problem = match self.open_certificate(held) {
            Ok(served) => {
                info!(host = held.host, until = %held.not_after, "the certificate of the CA is shown from now on");
                self.shown.show(Some(served));
                None
            }
            Err(error) => Some(format!("the certificate in the store cannot be used: {}", chain(&error))),
        };
        *opened = Some(Opened { chain: held.chain.clone(), problem });
    }

    fn open_certificate(&self, held: &StoredCertificate) -> Result<Served, OrderError> {
        let key = self.foundations.sealing.open(Purpose::ServerKey, &held.private_key)?;
        served(&held.chain, &key)
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Whether a host has no name.
pub(super) fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

fn served(chain: &str, private_key: &[u8]) -> Result<Served, OrderError> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| crate::tls::Unusable::NoCertificate)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(private_key.to_vec()));
    Ok(Served::new(chain, key)?)
}

/// An error with its causes, in one line that is not too long.
fn chain(error: &dyn std::error::Error) -> String {
    let mut lines: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    lines.dedup();
    let line = lines.join(": ");
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON).collect()
}

/// Why no CA can be asked.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// Public CAs know addresses by other means.
    #[error("[tls.acme] orders certificates for names only: public_url must have one, not an address")]
    NoName,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}
