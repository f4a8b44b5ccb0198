//! The trust registry: instances, what they are to each other, and the picture of it that every request reads.
//!
//! Records live in the store; [`Registry`] keeps a [`Snapshot`] of all of them in memory, renewed by a watch, so that no
//! login waits for the store to learn who it deals with. A writer who needs his own write in the snapshot waits for its
//! revision with [`Registry::reached`].
//!
//! Beside it, [`Liveness`] has what agents said over their streams: who is there and what its application uses.

mod account_key;
mod claims;
mod client;
mod client_jwks;
mod client_key;
mod client_policy;
mod consents;
mod console;
mod held_name;
mod home;
mod home_user;
mod identity;
mod instance;
mod link;
mod liveness;
mod look_alike;
mod look_up;
mod profile;
mod registration;
mod report;
mod session_id;
mod snapshot;
mod subject;
#[cfg(test)]
pub(crate) mod tests;
mod token_signer;
mod transaction_id;
mod trust;
mod upstream;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use tokio::sync::{broadcast, watch};
use tracing::{error, info};

use crate::config::Issuer;
use crate::storage::table::Table;
use crate::storage::{Expect, Revision, Store, StoreError, Watch, WatchEvent, Write};

pub use account_key::{AccountKey, AccountKeyConflict};
pub use claims::{
    Asked, ClaimMapping, Claims, ClaimsParameter, ClaimsParameterError, ClaimsRequest, GroupMap, GroupMapError,
    GroupMapping, Person, ReleaseTerms, Scope, ScopeError, Scopes, UsernameTemplate, UsernameTemplateError,
};
pub use client::{
    Client, ClientKeys, ClientPages, ClientPolicy, GrantType, LogoutAddresses, RegisteredClient, Registration,
    SecurityProfile,
};
pub use client_jwks::{CLIENT_SIGNING_ALGS, ClientJwks, ClientJwksError, alg_name};
pub use client_key::{ClientKeyError, JwkError, PublicJwk};
pub use client_policy::{ClientPolicyChange, ClientPolicyError, PolicyConflict, sector};
pub use consents::{Consents, TrustSide, TrustTerms};
pub use console::{CONSOLE, CONSOLE_RETURN};
pub use held_name::{HeldName, HeldNames, KnownName};
pub use home::{Home, Reachability, Way};
pub use home_user::{CutOffs, Departure, HomeUser, HomeUsers, Standing};
pub use identity::{AssertedIdentity, IdentityError, VerifiedIdentity};
pub use instance::{
    Certificate, ClientAuthMethod, ClientCredential, ClientId, ClientKey, ClientSecret, Instance, InstanceId,
    InstanceState, Portal, QuarantineCause, RecoveryPolicy, RecoveryPolicyError, RelyingParty, SigningKeyChoice,
};
pub use link::{
    FoundLink, HomeStanding, KnownAs, Link, LinkError, LinkId, LinkIdError, LinkTrust, LinkVoid, LinkedAccount,
    LinkedTo, Links, UserLinks, UserOfHome, judge_link,
};
pub use liveness::{Acknowledged, Claim, HomeStatus, KeySetProof, Liveness, Refusal, Resource, Sighting};
pub use profile::{Profile, ProfileError, RESPONSE_PARAMETERS, is_readable, is_seen};
pub use registration::{INITIAL_TOKEN_PREFIX, REGISTRATION_TOKEN_PREFIX, RegistrationError};
pub use session_id::SessionId;
pub use snapshot::{Snapshot, Touched};
pub use subject::{Subject, SubjectKey, SubjectKeyError, SubjectType, UserId};
pub use token_signer::TokenSigner;
pub use transaction_id::TransactionId;
pub use trust::{ConsentPolicy, EmailDomain, EmailDomainError, TrustEdge, TrustEdgeId, TrustEpoch, TrustError};
pub use upstream::{
    AddressRule, FIELDS, OauthDialect, TENANT, Upstream, UpstreamProtocol, UpstreamRuleError, UpstreamSecret,
    check_address,
};

use look_up::LookUps;

/// What the names of the registry's tables begin with: one watch sees them all, and no commit of a login.
const TABLES: &str = "registry-";

/// Longest wait of [`Registry::reached`]: the watch delivers in microseconds or not at all.
const REACH: Duration = Duration::from_secs(5);

/// Changes that whoever listens to [`Registry::touched`] may lag behind.
const TOUCHED_BACKLOG: usize = 64;

/// Pause before the store is listed again after it failed.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);

/// The registry's tables and their snapshot.
#[derive(Clone, Debug)]
pub struct Registry {
    /// For flows that change instances.
    pub instances: Table<Instance>,
    /// For flows that change edges.
    pub edges: Table<TrustEdge>,
    /// For who opens relying parties without agent.
    pub registrations: Table<Registration>,
    /// For who registers clients of them.
    pub clients: Table<RegisteredClient>,
    /// For who makes homes of providers without agent.
    pub upstreams: Table<Upstream>,
    /// Whether those providers answer.
    pub reachability: Reachability,
    /// For who completes logins, and for homes that take back their word.
    pub home_users: HomeUsers,
    /// For users with accounts at two homes.
    pub links: Links,
    look_ups: LookUps,
    /// The broker's own client.
    console: Option<Arc<RegisteredClient>>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    touched: broadcast::Sender<Arc<Touched>>,
}

impl Registry {
    /// Loads the registry. The future keeps the snapshot fresh and must be run.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn open(store: Arc<dyn Store>) -> Result<(Self, impl Future<Output = ()> + Send), StoreError> {
        Self::open_with(store, None).await
    }

    /// The same of a broker that has a web console below this issuer.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub async fn open_with_console(
        store: Arc<dyn Store>,
        issuer: &Issuer,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), StoreError> {
        Self::open_with(store, console::client_below(issuer).map(Arc::new)).await
    }

    async fn open_with(
        store: Arc<dyn Store>,
        console: Option<Arc<RegisteredClient>>,
    ) -> Result<(Self, impl Future<Output = ()> + Send), StoreError> {
        let instances = Table::new(store.clone());
        let edges = Table::new(store.clone());
        let (registrations, clients) = (Table::new(store.clone()), Table::new(store.clone()));
        let (upstreams, reachability) = (Table::new(store.clone()), Reachability::default());
        let (home_users, links) = (HomeUsers::new(store.clone()), Links::new(store.clone()));
        // Begun before the tables are read, so that no change falls between.
        let changes = store.watch(TABLES).await?;
        let (publish, snapshot) = watch::channel(Arc::default());
        let touched = broadcast::Sender::new(TOUCHED_BACKLOG);
        let registry = Self {
            instances,
            edges,
            registrations,
            clients,
            upstreams,
            reachability,
            home_users,
            links,
            look_ups: LookUps::new(),
            console,
            snapshot,
            touched,
        };
        publish.send_replace(Arc::new(Snapshot::load(&registry).await?));
        Ok((registry.clone(), registry.follow(changes, publish)))
    }

    /// Takes in what the watch says. All that is ready goes into one picture: when ten thousand agents renew their
    /// certificates at once, readers see some hundred pictures and not twenty thousand.
    async fn follow(self, mut changes: Watch, publish: watch::Sender<Arc<Snapshot>>) {
        let mut event = changes.next().await;
        while let Some(first) = event {
            let mut next = Snapshot::clone(&publish.borrow());
            let mut agents = HashSet::new();
            let mut applied = take(&mut next, first, &mut agents);
            while applied.is_ok()
                && let Some(another) = ready(&mut changes).await
            {
                applied = take(&mut next, another, &mut agents);
            }
            let touched = match applied {
                Ok(()) => Touched::Agents(agents),
                Err(_) => {
                    next = self.reload().await;
                    Touched::Everyone
                }
            };
            publish.send_replace(Arc::new(next));
            if touched != Touched::Agents(HashSet::new()) {
                // Fails only when nobody listens.
                drop(self.touched.send(Arc::new(touched)));
            }
            event = changes.next().await;
        }
    }

    async fn reload(&self) -> Snapshot {
        loop {
            match Snapshot::load(self).await {
                Ok(loaded) => return loaded,
                Err(error) => {
                    error!(%error, "the registry cannot be read; trying again");
                    tokio::time::sleep(RELOAD_PAUSE).await;
                }
            }
        }
    }

    /// The registry as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Wakes whenever the registry has changed.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Whose agents each later change concerns, told when it is in the snapshot. Whoever lags behind has to take it that
    /// everyone was concerned.
    pub fn touched(&self) -> broadcast::Receiver<Arc<Touched>> {
        self.touched.subscribe()
    }

    /// Lets a relying party accept a home's users, or changes what that home may vouch for: both of them consent.
    ///
    /// # Errors
    /// When one of the two is not enrolled or has not the role, or the relying party could take two users for one.
    pub async fn allow_trust(&self, edge: TrustEdge) -> Result<TrustEdge, TrustError> {
        let both = TrustEdge { consents: Consents::Both, ..edge };
        self.put_trust(&both.id, |old| both.clone().in_place_of(old)).await
    }

    /// Puts what is made of the edge as it is, or of nothing.
    async fn put_trust(
        &self,
        id: &TrustEdgeId,
        make: impl Fn(Option<&TrustEdge>) -> TrustEdge,
    ) -> Result<TrustEdge, TrustError> {
        let snapshot = self.snapshot();
        snapshot.check_ends(id)?;
        let checked = |old: Option<TrustEdge>| {
            let edge = make(old.as_ref());
            // One that is not in force hinders no other: it is checked when it is completed.
            if edge.is_in_force() {
                for key in snapshot.account_keys(&id.relying_party) {
                    key.check(&edge, snapshot.edges_of(&id.relying_party))?;
                }
            }
            Ok::<_, TrustError>(edge)
        };
        let revision = self.edges.update(&id.key(), checked).await?;
        self.reached(revision).await?;
        // One of them may have gone at another broker: whoever comes under its name has nothing to do with this.
        if let Err(gone) = self.snapshot().check_ends(id) {
            let write = self.edges.delete(&id.key(), Expect::Version(revision.version()));
            return match self.edges.commit(vec![write]).await {
                Ok(_) | Err(StoreError::Conflict) => Err(gone),
                Err(error) => Err(error.into()),
            };
        }
        // Whoever took it away at the same moment came last.
        let stored = self.snapshot().known_edge(id).cloned().ok_or_else(|| TrustError::NoEdge(id.clone()))?;
        stored.log();
        Ok(TrustEdge::clone(&stored))
    }

    /// Takes an edge away: what rests on it is dead by that.
    ///
    /// # Errors
    /// When there is none.
    pub async fn deny_trust(&self, id: &TrustEdgeId) -> Result<(), TrustError> {
        let stored = self.edges.get(&id.key()).await?.ok_or_else(|| TrustError::NoEdge(id.clone()))?;
        let write = self.edges.delete(&id.key(), Expect::Version(stored.version));
        self.reached(self.edges.commit(vec![write]).await?).await?;
        info!(relying_party = %id.relying_party, home = %id.home, "trust denied");
        Ok(())
    }

    /// The writes that take away all edges of a name that is about to go, as the store has them: another broker may have put
    /// one a moment ago.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn without_edges_of(&self, name: &InstanceName) -> Result<Vec<Write>, StoreError> {
        let all = self.edges.all().await?.into_iter();
        let of_name = |edge: &TrustEdge| edge.id.relying_party == *name || edge.id.home == *name;
        let own = all.filter(|(_, stored)| of_name(&stored.record));
        Ok(own.map(|(key, _)| self.edges.delete(&key, Expect::Any)).collect())
    }

    /// Takes away what was put while a name went.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn forget_edges_of(&self, name: &InstanceName) -> Result<(), StoreError> {
        let left = self.without_edges_of(name).await?;
        if !left.is_empty() {
            self.reached(self.edges.commit_after(left, Vec::new()).await?).await?;
        }
        Ok(())
    }

    /// Waits until the snapshot contains the commit of this revision.
    ///
    /// # Errors
    /// When that takes longer than five seconds.
    pub async fn reached(&self, revision: Revision) -> Result<(), StoreError> {
        let mut snapshot = self.snapshot.clone();
        let reached = snapshot.wait_for(|snapshot| snapshot.contains(revision));
        match tokio::time::timeout(REACH, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StoreError::Unavailable("the registry does not follow the store".into())),
        }
    }
}

fn take(snapshot: &mut Snapshot, event: WatchEvent, touched: &mut HashSet<InstanceName>) -> Result<(), StoreError> {
    match event {
        WatchEvent::Changed { key, value, revision } => snapshot.apply(&key, value.as_deref(), revision, touched),
        // As after a lost race: what was known no longer counts.
        WatchEvent::Reload => Err(StoreError::Conflict),
    }
}

/// The next event, if there is one already.
async fn ready(changes: &mut Watch) -> Option<WatchEvent> {
    tokio::select! {
        biased;
        event = changes.next() => event,
        () = std::future::ready(()) => None,
    }
}
