//! The federation's CA and the broker's own certificate.
//!
//! The CA's key rests sealed in the store. The broker's leaf is made anew, over a new key, whenever a broker starts, and
//! again at half of its life; it is never stored. What agents must trust is the [`TrustBundle`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homeward_certs::authority::{AuthorityError, CertificateAuthority, IssuedLeaf, Validity};
use homeward_certs::bundle::{BundleError, TrustBundle};
use homeward_certs::csr::{CsrPublicKey, InstanceKey, KeyError};
use homeward_certs::identity::{InstanceName, TrustDomain};
use homeward_certs::pin::SpkiPin;
use homeward_certs::tls::{self, LiveBundle, LiveIdentity, TlsError};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tracing::{error, info};

use crate::clock::{Clock, Timestamp};
use crate::secret::{KeyEncryptionKey, Purpose, Sealed, SecretError};
use crate::storage::table::{Record, Table};
use crate::storage::{Expect, Store, StoreError, Write};

/// How long the CA lasts.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(5 * 365 * 86_400);

/// How long the broker's own leaf lasts.
const LEAF_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Pause before the broker's leaf is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// The CA as it is stored, under the trust domain.
#[derive(Serialize, Deserialize)]
struct StoredAuthority {
    /// DER.
    certificate: ByteBuf,
    /// PKCS#8 (DER), sealed for [`Purpose::AuthorityKey`].
    key: Sealed,
    created_at: Timestamp,
}

impl Record for StoredAuthority {
    const TABLE: &'static str = "authority";
}

/// The CA, ready to sign, and what follows from it.
#[derive(Debug)]
pub struct Authority {
    ca: CertificateAuthority,
    bundle: TrustBundle,
    live_bundle: Arc<LiveBundle>,
    leaf: Arc<LiveIdentity>,
    leaf_pins: Mutex<LeafPins>,
    clock: Clock,
}

/// Fingerprints of the broker's leaf keys that a connection may still have seen.
#[derive(Clone, Copy, Debug)]
struct LeafPins {
    current: SpkiPin,
    previous: SpkiPin,
}

impl Authority {
    /// The write that gives a new federation its CA.
    ///
    /// # Errors
    /// When it cannot be made or sealed.
    pub fn first(
        store: &Arc<dyn Store>,
        kek: &KeyEncryptionKey,
        trust_domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<Write, CaError> {
        let ca = CertificateAuthority::generate(trust_domain.clone(), now.to_system_time(), AUTHORITY_LIFETIME)?;
        let stored = StoredAuthority {
            certificate: ByteBuf::from(ca.certificate()),
            key: kek.seal(Purpose::AuthorityKey, &ca.to_pkcs8())?,
            created_at: now,
        };
        Ok(Table::new(store.clone()).put(trust_domain.as_str(), &stored, Expect::Absent)?)
    }

    /// Loads the CA and makes a leaf for this broker.
    ///
    /// # Errors
    /// When the store holds no CA for this trust domain, or it cannot be opened.
    pub async fn load(
        store: &Arc<dyn Store>,
        kek: &KeyEncryptionKey,
        trust_domain: &TrustDomain,
        clock: Clock,
    ) -> Result<Self, CaError> {
        let stored = Table::<StoredAuthority>::new(store.clone()).get(trust_domain.as_str()).await?;
        let stored = stored.ok_or_else(|| CaError::Missing(trust_domain.clone()))?.record;
        let key = kek.open(Purpose::AuthorityKey, &stored.key)?;
        let ca = CertificateAuthority::load(trust_domain.clone(), stored.certificate.to_vec(), &key)?;
        let bundle = TrustBundle::new(1, vec![stored.certificate.into_vec()])?;
        let live_bundle = LiveBundle::new(&bundle)?;
        let (chain, key) = new_leaf(&ca, clock.now())?;
        let leaf = LiveIdentity::new(chain, &key.to_private_key())?;
        let leaf_pins = Mutex::new(LeafPins { current: key.pin(), previous: key.pin() });
        Ok(Self { ca, bundle, live_bundle, leaf, leaf_pins, clock })
    }

    /// TLS for agents.
    ///
    /// # Errors
    /// When rustls cannot be configured.
    pub fn tls(&self) -> Result<ServerConfig, CaError> {
        let (leaf, bundle) = (self.leaf.clone(), self.live_bundle.clone());
        Ok(tls::broker_config(leaf, bundle, self.ca.trust_domain().clone(), Arc::new(self.clock.clone()))?)
    }

    /// A certificate for an instance.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(
        &self,
        name: &InstanceName,
        key: &CsrPublicKey,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<IssuedLeaf, CaError> {
        Ok(self.ca.issue_instance(name, key, Validity { now: now.to_system_time(), lifetime })?)
    }

    /// The CA's certificate (DER): what follows a leaf in its chain.
    pub fn certificate(&self) -> &[u8] {
        self.ca.certificate()
    }

    /// Where the CA is.
    pub fn state(&self) -> CaState {
        let signer = self.bundle.pins().first().copied().unwrap_or_else(|| SpkiPin::from_bytes([0; 32]));
        CaState { bundle: self.bundle.clone(), signer, created_at: Timestamp::from_secs(0) }
    }

    /// The writes of a step.
    ///
    /// # Errors
    /// Always, so far.
    pub async fn transition(&self, _step: CaStep, _now: Timestamp) -> Result<Vec<Write>, CaError> {
        Err(CaError::Missing(self.trust_domain().clone()))
    }

    /// What agents must trust.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// The federation.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.ca.trust_domain()
    }

    /// Keys of the leaves that the other end of a live connection may have been shown, newest first.
    pub fn leaf_pins(&self) -> [SpkiPin; 2] {
        let pins = *self.leaf_pins.lock().unwrap_or_else(PoisonError::into_inner);
        [pins.current, pins.previous]
    }

    /// Renews the broker's leaf at half of its life, for ever. Open connections go on; later ones see the new leaf.
    pub async fn keep_leaf_fresh(self: Arc<Self>) {
        let mut pause = LEAF_LIFETIME / 2;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.renew_leaf() {
                Ok(()) => LEAF_LIFETIME / 2,
                Err(error) => {
                    error!(%error, "the broker's certificate could not be renewed; trying again in a minute");
                    RETRY
                }
            };
        }
    }

    fn renew_leaf(&self) -> Result<(), CaError> {
        let (chain, key) = new_leaf(&self.ca, self.clock.now())?;
        let mut pins = self.leaf_pins.lock().unwrap_or_else(PoisonError::into_inner);
        self.leaf.swap(chain, &key.to_private_key())?;
        *pins = LeafPins { current: key.pin(), previous: pins.current };
        info!(key = %key.pin(), "the broker's certificate was renewed");
        Ok(())
    }
}

fn new_leaf(ca: &CertificateAuthority, now: Timestamp) -> Result<(Vec<Vec<u8>>, InstanceKey), CaError> {
    let key = InstanceKey::generate()?;
    let leaf = ca.issue_broker(&key, Validity { now: now.to_system_time(), lifetime: LEAF_LIFETIME })?;
    Ok((vec![leaf.certificate, ca.certificate().to_vec()], key))
}

/// Where the CA is.
#[derive(Clone, Debug)]
pub struct CaState {
    /// What agents must trust.
    pub bundle: TrustBundle,
    /// The CA that signs instances.
    pub signer: SpkiPin,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A step of the CA's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaStep {
    /// The next one is made and trusted.
    Prepare,
    /// It signs instances.
    ActivateClients,
    /// It signs brokers.
    ActivateServers,
    /// The old one is given up.
    Retire,
    /// The old one signs again.
    RollBack,
    /// The next one is given up.
    FinishRollBack,
}

/// What can be wrong with the CA.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Another trust domain in the configuration, or no `init`.
    #[error("the store holds no CA for {0}: is trust_domain right, and was `homeward-broker init` run?")]
    Missing(TrustDomain),
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
