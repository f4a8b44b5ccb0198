//! The federation's CA, which can turn, and the broker's own certificate.
//!
//! The CA rests in one record of the store, its keys sealed. [`Authority`] follows that record by a watch, so that every
//! broker has the same [`CaState`]: who signs instances, who signs brokers, who is trusted. What moves the CA is the
//! rotation flow; it asks for the writes of one [step](Authority::transition) and commits them together with its own
//! record. Every step that changes the [`TrustBundle`](homeward_certs::bundle::TrustBundle) brings a statement with it,
//! signed by a CA that the bundle before trusts: agents that were away follow the statements from whatever bundle they
//! have.
//!
//! Invariants: a step is legal or is not taken; two brokers that decide at once move the CA once; whatever signs is in
//! the bundle.

mod leaf;
mod record;
mod state;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::authority::{AuthorityError, CertificateAuthority};
use homeward_certs::bundle::{BundleError, BundleStatement};
use homeward_certs::csr::KeyError;
use homeward_certs::identity::TrustDomain;
use homeward_certs::pin::SpkiPin;
use homeward_certs::tls::{self, LiveBundle, TlsError};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use serde_bytes::ByteBuf;
use tokio::sync::watch;
use tracing::{error, info};

use crate::clock::{Clock, Timestamp};
use crate::secret::{Purpose, SealedTable, SealingKeys, SecretError};
use crate::storage::table::Table;
use crate::storage::{Expect, Revision, Store, StoreError, Watch, Write};

use leaf::BrokerLeaf;
use record::{StoredAuthority, StoredCa, StoredStatement};

pub use record::{CaPhase, CaStep, StepRefused};
pub use state::{CaState, ListedCa};

/// How long a CA lasts.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(5 * 365 * 86_400);

/// Longest wait of [`Authority::reached`].
const REACH: Duration = Duration::from_secs(5);

/// Pause before the broker's leaf is tried again.
const LEAF_RETRY: Duration = Duration::from_secs(60);

/// Pause before the CA is read again after that failed.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);

/// The CA, ready to sign, and what follows from it.
#[derive(Debug)]
pub struct Authority {
    vault: Vault,
    state: watch::Sender<Arc<CaState>>,
    live_bundle: Arc<LiveBundle>,
    leaf: BrokerLeaf,
    clock: Clock,
}

impl Authority {
    /// Where it is kept, for who seals it again.
    pub const SEALED: SealedTable = SealedTable::of::<StoredAuthority>();

    /// The writes that give a new federation its CA and the first word on whom to trust.
    ///
    /// # Errors
    /// When it cannot be made or sealed.
    pub fn first(
        store: &Arc<dyn Store>,
        sealing: &Arc<SealingKeys>,
        trust_domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<Vec<Write>, CaError> {
        let vault = Vault::new(store.clone(), sealing.clone(), trust_domain.clone());
        let (stored, ca) = vault.make(now)?;
        let stored = StoredAuthority::first(stored);
        let statement = vault.state(&stored, &ca)?;
        Ok(vec![vault.authorities.put(trust_domain.as_str(), &stored, Expect::Absent)?, statement])
    }

    /// Opens the CA and makes a leaf for this broker, which applications reach at this host. The future follows the store and keeps the leaf fresh; it must be
    /// run.
    ///
    /// # Errors
    /// When the store holds no CA for this trust domain, or it cannot be opened.
    pub async fn open(
        store: &Arc<dyn Store>,
        sealing: &Arc<SealingKeys>,
        trust_domain: &TrustDomain,
        host: Option<ServerName<'static>>,
        clock: Clock,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + use<>), CaError> {
        // Begun before the record is read, so that no change falls between.
        let changes = store.watch(&Table::<StoredAuthority>::prefix()).await?;
        let vault = Vault::new(store.clone(), sealing.clone(), trust_domain.clone());
        vault.complete().await?;
        let state = vault.read().await?;
        let live_bundle = LiveBundle::new(&state.bundle)?;
        let leaf = BrokerLeaf::new(state.server_signer(), host, clock.now())?;
        let state = watch::Sender::new(Arc::new(state));
        let authority = Arc::new(Self { vault, state, live_bundle, leaf, clock });
        Ok((authority.clone(), authority.follow(changes)))
    }

    /// TLS for agents.
    ///
    /// # Errors
    /// When rustls cannot be configured.
    pub fn tls(&self) -> Result<ServerConfig, CaError> {
        let (leaf, bundle) = (self.leaf.identity(), self.live_bundle.clone());
        Ok(tls::broker_config(leaf, bundle, self.trust_domain().clone(), Arc::new(self.clock.clone()))?)
    }

    /// The CA as it is now.
    pub fn state(&self) -> Arc<CaState> {
        self.state.borrow().clone()
    }

    /// Wakes whenever the CA has moved.
    pub fn changes(&self) -> watch::Receiver<Arc<CaState>> {
        self.state.subscribe()
    }

    /// The federation.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.vault.trust_domain
    }

    /// Why nobody can be vouched for any more, if that is so.
    pub fn problem(&self, now: Timestamp) -> Option<&'static str> {
        let signs = |ca: &ListedCa| ca.signs_instances && now < ca.expires_at;
        if !self.state().authorities().iter().any(signs) {
            return Some("the CA has ended: no agent can renew its certificate");
        }
        (self.leaf_expires_at() <= now).then_some("the broker's own certificate has ended: no agent can connect")
    }

    /// End of the certificate that this broker shows.
    pub fn leaf_expires_at(&self) -> Timestamp {
        self.leaf.expires_at()
    }

    /// Keys of the leaves that the other end of a live connection may have been shown, newest first.
    pub fn leaf_pins(&self) -> [SpkiPin; 2] {
        self.leaf.pins()
    }

    /// The writes that move the CA by one step, if nobody else has moved it when they are committed.
    ///
    /// # Errors
    /// When the step does not follow the phase that the CA is in.
    pub async fn transition(&self, step: CaStep, now: Timestamp) -> Result<Vec<Write>, CaError> {
        self.vault.transition(step, now).await
    }

    async fn follow(self: Arc<Self>, mut changes: Watch) {
        let mut pause = self.leaf.fresh_for(self.clock.now());
        loop {
            tokio::select! {
                event = changes.next() => match event {
                    Some(_) => self.reload().await,
                    None => return,
                },
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.leaf.refresh(self.state().server_signer(), self.clock.now()) {
                Ok(()) => self.leaf.fresh_for(self.clock.now()),
                Err(error) => {
                    error!(%error, "the broker's certificate could not be renewed; trying again in a minute");
                    LEAF_RETRY
                }
            };
        }
    }

    /// Waits until the CA is as the commit of this revision left it.
    ///
    /// # Errors
    /// When that takes longer than five seconds.
    pub async fn reached(&self, revision: Revision) -> Result<(), StoreError> {
        let mut state = self.state.subscribe();
        let reached = state.wait_for(|state| state.revision >= revision.as_u64());
        match tokio::time::timeout(REACH, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StoreError::Unavailable("the CA does not follow the store".into())),
        }
    }

    async fn reload(&self) {
        loop {
            match self.adopt().await {
                Ok(()) => return,
                Err(error) => {
                    error!(%error, "the CA has moved and cannot be read; going on with what is known, and trying again");
                    tokio::time::sleep(RELOAD_PAUSE).await;
                }
            }
        }
    }

    async fn adopt(&self) -> Result<(), CaError> {
        let state = self.vault.read().await?;
        self.live_bundle.swap(&state.bundle)?;
        let of = |state: &CaState| (state.phase, state.bundle.version, state.signer_pin());
        // A turn of the key-encryption key writes the same CA anew.
        if of(&state) != of(&self.state()) {
            let phase = state.phase.map(|phase| phase.to_string()).unwrap_or_default();
            info!(phase, trust_bundle = state.bundle.version, signer = %state.signer_pin(), "the CA has moved");
        }
        self.state.send_replace(Arc::new(state));
        Ok(())
    }
}

/// Where the CA rests.
#[derive(Debug)]
struct Vault {
    authorities: Table<StoredAuthority>,
    statements: Table<StoredStatement>,
    sealing: Arc<SealingKeys>,
    trust_domain: TrustDomain,
}

impl Vault {
    fn new(store: Arc<dyn Store>, sealing: Arc<SealingKeys>, trust_domain: TrustDomain) -> Self {
        Self { authorities: Table::new(store.clone()), statements: Table::new(store), sealing, trust_domain }
    }

    async fn read(&self) -> Result<CaState, CaError> {
        // An empty commit changes nothing and tells where the store is.
        let revision = self.authorities.commit(Vec::new()).await?;
        let stored = self.authorities.get(self.trust_domain.as_str()).await?;
        let stored = stored.ok_or_else(|| CaError::Missing(self.trust_domain.clone()))?.record;
        let statements = self.statements.all().await?.into_iter().map(|(_, stored)| stored.record.try_into());
        let statements = statements.collect::<Result<Vec<BundleStatement>, StoreError>>()?;
        CaState::open(&stored, statements, revision.as_u64(), (&self.sealing, &self.trust_domain))
    }

    /// Writes the first bundle's statement if a broker from before there were statements made the CA.
    async fn complete(&self) -> Result<(), CaError> {
        let stored = self.authorities.get(self.trust_domain.as_str()).await?;
        let stored = stored.ok_or_else(|| CaError::Missing(self.trust_domain.clone()))?.record;
        if !self.statements.page(None, 1).await?.is_empty() {
            return Ok(());
        }
        match self
            .statements
            .commit(vec![self.state(&stored, &state::unseal(&stored.current, &self.sealing, &self.trust_domain)?)?])
            .await
        {
            // Another broker did it.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn transition(&self, step: CaStep, now: Timestamp) -> Result<Vec<Write>, CaError> {
        let stored = self.authorities.get(self.trust_domain.as_str()).await?;
        let stored = stored.ok_or_else(|| CaError::Missing(self.trust_domain.clone()))?;
        let (before, version) = (stored.record.bundle_version, stored.version);
        let moved = match step {
            CaStep::Prepare => stored.record.prepare(self.make(now)?.0)?,
            CaStep::ActivateClients => stored.record.activate_clients()?,
            CaStep::ActivateServers => stored.record.activate_servers()?,
            CaStep::Retire => stored.record.retire()?,
            CaStep::RollBack => stored.record.roll_back()?,
            CaStep::FinishRollBack => stored.record.finish_roll_back()?,
        };
        let mut writes = vec![self.authorities.put(self.trust_domain.as_str(), &moved, Expect::Version(version))?];
        if moved.bundle_version != before {
            // The CA that stays speaks for the bundle: the one before trusts it, and whoever stole the one that goes
            // cannot speak in its place.
            writes.push(self.state(&moved, &state::unseal(&moved.current, &self.sealing, &self.trust_domain)?)?);
        }
        Ok(writes)
    }

    fn make(&self, now: Timestamp) -> Result<(StoredCa, CertificateAuthority), CaError> {
        let ca = CertificateAuthority::generate(self.trust_domain.clone(), now.to_system_time(), AUTHORITY_LIFETIME)?;
        let key = self.sealing.seal(Purpose::AuthorityKey, &ca.to_pkcs8())?;
        Ok((StoredCa { certificate: ByteBuf::from(ca.certificate()), key, created_at: now }, ca))
    }

    fn state(&self, stored: &StoredAuthority, signer: &CertificateAuthority) -> Result<Write, CaError> {
        let statement = StoredStatement::from(signer.state(stored.bundle()?)?);
        Ok(self.statements.put(&statement.key(), &statement, Expect::Absent)?)
    }
}

/// What can be wrong with the CA.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Another trust domain in the configuration, or no `init`.
    #[error("the store holds no CA for {0}: is trust_domain right, and was `homeward-broker init` run?")]
    Missing(TrustDomain),
    /// The CA is not where this step begins.
    #[error(transparent)]
    Step(#[from] StepRefused),
    /// Signing failed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The CA's certificate cannot be trusted.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// rustls refused.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key-encryption key does not fit.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
