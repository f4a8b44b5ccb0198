//! The trust registry: instances, what they are to each other, and the picture of it that every request reads.
//!
//! Records live in the store; [`Registry`] keeps a [`Snapshot`] of all of them in memory, renewed by a watch, so that no
//! login waits for the store to learn who it deals with. A writer who needs his own write in the snapshot waits for its
//! revision with [`Registry::reached`].

mod claims;
mod identity;
mod instance;
mod liveness;
mod profile;
mod subject;
mod trust;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use tokio::sync::watch;
use tracing::{error, info};

use crate::storage::table::{self, Record, Table};
use crate::storage::{Expect, Key, Revision, Store, StoreError, WatchEvent};

pub use claims::{Claims, Scope, Scopes};
pub use identity::{AssertedIdentity, IdentityError, VerifiedIdentity};
pub use instance::{
    Certificate, ClientAuthMethod, ClientCredential, ClientId, ClientKey, ClientSecret, Home, Instance, InstanceId,
    InstanceState, QuarantineCause, RecoveryPolicy, RecoveryPolicyError, RelyingParty, SigningKeyChoice,
};
pub use liveness::{Acknowledged, HomeStatus, KeySetProof, Liveness, Refusal, Resource, Sighting};
pub use profile::{Profile, ProfileError};
pub use subject::{Subject, SubjectKey, SubjectKeyError};
pub use trust::{EmailDomain, EmailDomainError, TrustEdge, TrustEdgeId, TrustError};

/// What the names of the registry's tables begin with: one watch sees them all, and no commit of a login.
const TABLES: &str = "registry-";

/// Longest wait of [`Registry::reached`]: the watch delivers in microseconds or not at all.
const REACH: Duration = Duration::from_secs(5);

/// Pause before the store is listed again after it failed.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);

/// All of the registry at one revision.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    revision: Option<Revision>,
    instances: HashMap<InstanceName, Arc<Instance>>,
    clients: HashMap<ClientId, InstanceName>,
    edges: HashMap<TrustEdgeId, Arc<TrustEdge>>,
}

impl Snapshot {
    /// The store's revision when the registry last changed, or when this broker started.
    pub fn revision(&self) -> u64 {
        self.revision.map_or(0, Revision::as_u64)
    }

    /// An instance by name, in whatever state it is.
    pub fn instance(&self, name: &InstanceName) -> Option<&Arc<Instance>> {
        self.instances.get(name)
    }

    /// All instances, in no order.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values()
    }

    /// The instance behind a client id, if it may log anybody in: unknown, unconfirmed and quarantined look the same.
    pub fn client(&self, id: &str) -> Option<&Arc<Instance>> {
        let instance = self.instances.get(self.clients.get(id)?)?;
        instance.is_active().then_some(instance)
    }

    /// The edge from a relying party to a home.
    pub fn edge(&self, relying_party: &InstanceName, home: &InstanceName) -> Option<&Arc<TrustEdge>> {
        self.edges.get(&TrustEdgeId { relying_party: relying_party.clone(), home: home.clone() })
    }

    /// All edges, in no order.
    pub fn edges(&self) -> impl Iterator<Item = &Arc<TrustEdge>> {
        self.edges.values()
    }

    /// The homes that a relying party accepts and that may vouch now, by display name.
    pub fn homes_for(&self, relying_party: &InstanceName) -> Vec<&Arc<Instance>> {
        let accepted = self.edges.values().filter(|edge| edge.id.relying_party == *relying_party);
        let homes = accepted.filter_map(|edge| self.instances.get(&edge.id.home));
        let mut homes: Vec<_> = homes.filter(|home| home.is_active() && home.home.is_some()).collect();
        homes.sort_by(|a, b| (&a.display_name, &a.name).cmp(&(&b.display_name, &b.name)));
        homes
    }

    /// The home and the edge, if this very installation may vouch to this relying party now: nobody quarantined it,
    /// withdrew the edge or enrolled another installation under its name since.
    pub fn vouching(
        &self,
        relying_party: &InstanceName,
        home: &InstanceName,
        id: InstanceId,
    ) -> Option<(&Arc<Instance>, &Arc<TrustEdge>)> {
        let edge = self.edge(relying_party, home)?;
        let home = self.instance(home).filter(|home| home.is_active() && home.home.is_some() && home.id == id)?;
        Some((home, edge))
    }

    fn apply(&mut self, key: &Key, value: Option<&[u8]>) -> Result<(), StoreError> {
        let table = key.as_str().split('/').next().unwrap_or_default();
        match (table, value) {
            (Instance::TABLE, Some(value)) => {
                let instance = table::decode::<Instance>(value)?;
                self.forget(&instance.name);
                self.insert(instance);
            }
            (Instance::TABLE, None) => {
                if let Ok(name) = key.id().parse() {
                    self.forget(&name);
                }
            }
            (TrustEdge::TABLE, Some(value)) => {
                let edge = Arc::new(table::decode::<TrustEdge>(value)?);
                self.edges.insert(edge.id.clone(), edge);
            }
            (TrustEdge::TABLE, None) => self.edges.retain(|id, _| id.key() != key.id()),
            _ => {}
        }
        Ok(())
    }

    fn insert(&mut self, instance: Instance) {
        if let Some(relying_party) = &instance.relying_party {
            self.clients.insert(relying_party.client_id.clone(), instance.name.clone());
        }
        self.instances.insert(instance.name.clone(), Arc::new(instance));
    }

    fn forget(&mut self, name: &InstanceName) {
        let gone = self.instances.remove(name);
        if let Some(relying_party) = gone.as_ref().and_then(|instance| instance.relying_party.as_ref()) {
            self.clients.remove(&relying_party.client_id);
        }
    }
}

/// The registry's tables and their snapshot.
#[derive(Clone, Debug)]
pub struct Registry {
    /// For flows that change instances.
    pub instances: Table<Instance>,
    /// For flows that change edges.
    pub edges: Table<TrustEdge>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl Registry {
    /// Loads the registry. The future keeps the snapshot fresh and must be run.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn open(store: Arc<dyn Store>) -> Result<(Self, impl Future<Output = ()> + Send), StoreError> {
        let instances = Table::new(store.clone());
        let edges = Table::new(store.clone());
        // Begun before the tables are read, so that no change falls between.
        let mut changes = store.watch(TABLES);
        let first = load(&instances, &edges).await?;
        let (sender, snapshot) = watch::channel(Arc::new(first));
        let registry = Self { instances, edges, snapshot };
        let (instances, edges) = (registry.instances.clone(), registry.edges.clone());
        let keep_fresh = async move {
            while let Some(event) = changes.next().await {
                let mut next = Snapshot::clone(&sender.borrow());
                let applied = match event {
                    WatchEvent::Changed { key, value, revision } => {
                        next.revision = Some(revision);
                        next.apply(&key, value.as_deref())
                    }
                    WatchEvent::Reload => Err(StoreError::Conflict),
                };
                while applied.is_err() {
                    match load(&instances, &edges).await {
                        Ok(loaded) => {
                            next = loaded;
                            break;
                        }
                        Err(error) => {
                            error!(%error, "the registry cannot be read; trying again");
                            tokio::time::sleep(RELOAD_PAUSE).await;
                        }
                    }
                }
                sender.send_replace(Arc::new(next));
            }
        };
        Ok((registry, keep_fresh))
    }

    /// The registry as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Wakes whenever the registry has changed.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Lets a relying party accept a home's users, or changes what that home may vouch for.
    ///
    /// # Errors
    /// When one of the two is not enrolled or has not the role.
    pub async fn allow_trust(&self, edge: TrustEdge) -> Result<TrustEdge, TrustError> {
        let snapshot = self.snapshot();
        let find = |name: &InstanceName| {
            snapshot.instance(name).cloned().ok_or_else(|| TrustError::UnknownInstance(name.clone()))
        };
        if find(&edge.id.relying_party)?.relying_party.is_none() {
            return Err(TrustError::NoRelyingParty(edge.id.relying_party));
        }
        if find(&edge.id.home)?.home.is_none() {
            return Err(TrustError::NoHome(edge.id.home));
        }
        let write = self.edges.put(&edge.id.key(), &edge, Expect::Any)?;
        let revision = self.edges.commit(vec![write]).await?;
        self.reached(revision).await?;
        info!(relying_party = %edge.id.relying_party, home = %edge.id.home, domains = ?edge.email_domains, "trust allowed");
        Ok(edge)
    }

    /// Waits until the snapshot contains the commit of this revision.
    ///
    /// # Errors
    /// When that takes longer than five seconds.
    pub async fn reached(&self, revision: Revision) -> Result<(), StoreError> {
        let mut snapshot = self.snapshot.clone();
        let reached = snapshot.wait_for(|snapshot| snapshot.revision.is_some_and(|seen| seen >= revision));
        match tokio::time::timeout(REACH, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StoreError::Unavailable("the registry does not follow the store".into())),
        }
    }
}

async fn load(instances: &Table<Instance>, edges: &Table<TrustEdge>) -> Result<Snapshot, StoreError> {
    // An empty commit changes nothing and tells where the store is.
    let mut snapshot = Snapshot { revision: Some(instances.commit(Vec::new()).await?), ..Snapshot::default() };
    for (_, stored) in instances.all().await? {
        snapshot.insert(stored.record);
    }
    for (_, stored) in edges.all().await? {
        snapshot.edges.insert(stored.record.id.clone(), Arc::new(stored.record));
    }
    Ok(snapshot)
}
